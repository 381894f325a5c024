"""One workflow over many items, durably: stop it with Ctrl-C, start it again, and it goes on where it was."""

import stepwell as sw


@sw.step(retry=sw.Retry(max_attempts=3, base="10ms"))
def shout(text: str) -> str:
    """Stands for anything that is slow, costs money or fails now and then."""
    return text.upper()


@sw.workflow
def greet(person: dict[str, str]) -> str:
    """Greet one person."""
    return shout(f"hello {person['name']}")


def main() -> None:
    """Run the batch and print what came of it."""
    people = [{"id": str(number), "name": f"person {number}"} for number in range(1000)]
    with sw.Engine("batch.db") as engine:
        batch = engine.map(greet, people, key="id", concurrency=100)
        print(batch.results()[:3])
        print(batch.progress())


if __name__ == "__main__":
    main()
