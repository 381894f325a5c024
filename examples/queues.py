"""A mailing queue: one mail at a time per customer, twenty in any half second, urgent ones first; bursts become one run.

Run it, kill it wherever you like, run it again: what was accepted is worked off, and no mail is sent twice.
"""

from __future__ import annotations

import stepwell as sw


@sw.step
async def send(mail: dict[str, str]) -> str:
    """Stand for a mail server."""
    return f"to {mail['customer']}: {mail['text']}"


@sw.workflow
async def deliver(mail: dict[str, str]) -> str:
    """Send one mail."""
    return await send(mail)


@sw.workflow
async def refresh_index(ticket: int) -> str:
    """Stand for something costly that need not follow every change."""
    return f"index of ticket {ticket} is fresh"


@sw.workflow
async def book(clicks: list[int]) -> int:
    """Take many small things at once."""
    return len(clicks)


def main() -> None:
    """Fill the queue while it is paused, look at it, let it go."""
    with sw.Engine("mails.db") as engine:
        mails = engine.queue("mails", per_group=1, concurrency=10, rate=sw.Rate(20, "500ms"), fair=True)
        mails.pause()  # starts are accepted all the same
        runs = [
            engine.start(
                deliver,
                {"customer": f"customer {n % 3}", "text": f"news {n}"},
                key=f"mail-{n}",
                queue="mails",
                group=f"customer {n % 3}",
                priority=-1 if n % 10 == 0 else 0,
            )
            for n in range(30)
        ]
        print(mails.info())
        mails.resume()
        for run in runs:
            run.result(timeout=30)
        mails.limit(rate=None)  # limits change while the queue is worked off
        print(mails.info())

        for _ in range(5):  # five changes in a row refresh the index once
            fresh = engine.start(refresh_index, 7, collapse=sw.Debounce("ticket-7", wait="200ms", max_wait="5s"))
        clicks = [engine.start(book, n, collapse=sw.Collect(size=4, wait="100ms")) for n in range(10)]
        alone = engine.start(refresh_index, 8, collapse=sw.Singleton("index"))
        print(fresh.result(timeout=30), [click.result(timeout=30) for click in clicks], alone.result(timeout=30))


if __name__ == "__main__":
    main()
