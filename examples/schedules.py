"""Work that begins by the clock, and a time that was agreed on: who is told when it is not kept.

Run it, kill it, run it again: no fire is lost and none comes twice.
"""

from __future__ import annotations

import threading

import stepwell as sw

_three_fires = threading.Semaphore(0)
_told = threading.Event()


@sw.step
def count_tickets(tick: sw.Tick) -> str:
    """Stand for a query."""
    return f"{tick.name}: tickets of the second {tick.scheduled_at:%H:%M:%S}"


@sw.workflow
def report(tick: sw.Tick) -> str:
    """Run at each fire; the tick says which one it is, however late it comes."""
    line = count_tickets(tick)
    print(" ", line)
    _three_fires.release()
    return line


@sw.workflow
def page_somebody(breach: sw.Breach) -> None:
    """Run once for each agreed time that was not kept."""
    print(f"  late: {breach.workflow} took longer than {breach.sla_ms} ms")
    _told.set()


@sw.workflow(sla="100ms", on_breach=page_somebody)
def answers_a_customer(customer: str) -> str:
    """Take too long; the answer counts all the same."""
    sw.sleep_blocking("200ms")
    return f"{customer} has an answer"


def main() -> None:
    """Let a report fire three times, look at it, and miss an agreed time."""
    with sw.Engine("schedules.db") as engine:
        done = engine.apply_schedules(
            [
                sw.Schedule("each second", report, "* * * * * *", missed="one"),
                sw.Schedule("each morning", report, "0 7 * * MON-FRI", tz="Europe/Berlin", missed="one"),
            ]
        )
        print(f"created {list(done.created)}, unchanged {list(done.unchanged)}")
        for _ in range(3):
            _three_fires.acquire(timeout=30)
        for each in engine.schedules():
            print(f"{each.name!r} fires next at {each.next_fire}")
        print(engine.schedule("each morning").trigger().result(timeout=30))
        print(engine.start(answers_a_customer, "Ms Sand").result(timeout=30))
        _told.wait(30)
        print(f"{len(engine.breaches(answers_a_customer, last='1m'))} breach in the last minute")


if __name__ == "__main__":
    main()
