"""What the tests that end processes with SIGKILL share: when to strike, and how to read what is left behind."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
import subprocess
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

LOOK_S = 0.02


def run_and_kill(
    command: Sequence[str], draw: random.Random | None, count: Callable[[], int], more_max: int, looks: tuple[int, int]
) -> int:
    """Run a program and return its exit code. With `draw`, end it with SIGKILL.

    It is struck when `count` has grown by a random number of at most `more_max`, or after a random number of `looks`: a
    program that sleeps does not count on.
    """
    child = subprocess.Popen(command)
    try:
        if draw is None:
            return child.wait()
        target = count() + draw.randint(0, more_max)
        for _ in range(draw.randint(*looks)):
            if child.poll() is not None or count() > target:
                break
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(LOOK_S)
    finally:
        child.kill()
        child.wait()
    return child.returncode


def journalled(journal: Path) -> list[Any]:
    """Return the lines of a journal. One that is being written is no line yet: a reader may see a part of it."""
    if not journal.exists():
        return []
    whole, _, _ = journal.read_text().rpartition("\n")
    return [json.loads(line) for line in whole.splitlines()]


@contextlib.contextmanager
def left_behind(store: Path) -> Iterator[sqlite3.Connection | None]:
    """Open a copy of a store that a killed process left behind; None when it had not come so far as to make one."""
    copy = store.parent / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir()
    for name in (store.name, f"{store.name}-wal"):
        if (store.parent / name).exists():
            shutil.copy(store.parent / name, copy / name)
    if not (copy / store.name).exists():
        yield None
        return
    with contextlib.closing(sqlite3.connect(copy / store.name)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        yield db if db.execute("SELECT 1 FROM sqlite_master WHERE name = 'events'").fetchall() else None
