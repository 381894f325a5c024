"""A process that is made to be killed: schedules that fire each second, one for each policy on missed fires.

schedules_program.py STORE JOURNAL [end]    Each fire is a line of the journal: schedule, when it was due, its step's key.
With "end" it pauses the schedules, brings what has begun to its end, and prints how many runs there are.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path

from flows import until

import stepwell as sw

journal = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


@sw.step
def note(tick: sw.Tick) -> None:
    os.write(journal, json.dumps([tick.name, int(tick.scheduled_at.timestamp()), sw.step_key()]).encode() + b"\n")


@sw.workflow
def notes(tick: sw.Tick) -> None:
    note(tick)


def main() -> None:
    with sw.Engine(Path(sys.argv[1])) as engine:
        if sys.argv[3:] == ["end"]:
            for each in engine.schedules():
                each.pause()
            engine.serve(notes)
            names = ("stepwell.schedule", "notes")
            until(lambda: all(row[1] == sw.RunStatus.SUCCEEDED for row in rows(engine, *names)))
            print(len(rows(engine, "notes")))
            return
        engine.apply_schedules(
            [sw.Schedule(name, notes, "* * * * * *", missed=name) for name in ("all", "one", "skip")]
        )
        threading.Event().wait()


def rows(engine: sw.Engine, *names: str) -> list[tuple]:
    return [row for name in names for row in engine._core.find(workflow=name, count_max=100_000)]


if __name__ == "__main__":
    main()
