"""Celery's canvas tutorial in Stepwell: a chain is one call after the other, a chord is a map and what follows it.

Celery's own program: theirs/celery_chord.py, with a Redis, a worker and a client. Here it is one process and a file.
"""

import asyncio
from pathlib import Path

import stepwell as sw

TASKS = 40


async def done(unit: str, value: int) -> int:
    """Stand for the work; `done.txt` is what the world sees of it."""
    await asyncio.sleep(0.05)
    with Path("done.txt").open("a") as file:
        file.write(unit + "\n")
    return value


@sw.step
async def add(x: int, y: int) -> int:
    """Add two numbers."""
    return await done(f"add {x} {y}", x + y)


@sw.step
async def mul(x: int, y: int) -> int:
    """Multiply two numbers."""
    return await done(f"mul {x} {y}", x * y)


@sw.step
async def tsum(numbers: list[int]) -> int:
    """Sum numbers."""
    return await done("tsum", sum(numbers))


@sw.workflow
async def canvas(count: int) -> list[int]:
    """A chain, then a chord, four at once."""
    doubled = sw.map(lambda i: add(i, i), range(100, 100 + count), concurrency=4)
    return [await mul(await add(2, 2), 8), await tsum(await doubled)]


def main() -> None:
    """Start, or find the run that was started before; wait."""
    with sw.Engine("canvas.db") as engine:
        print("result", engine.start(canvas, TASKS, key="monday").result(timeout=60))


if __name__ == "__main__":
    main()
