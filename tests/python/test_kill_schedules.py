"""SIGKILL of a process whose schedules fire each second: each second fires as its policy says, none twice.

The short form runs with the other tests. The long one: `./dev kill-test --rounds 20`.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from flows import until
from kills import journalled

PROGRAM = Path(__file__).with_name("schedules_program.py")
KILLS = 5


def fires(journal: Path) -> list[tuple[str, int, str]]:
    return [tuple(line) for line in journalled(journal)]


@pytest.mark.kill
@pytest.mark.timeout(7200)
def test_kill_schedules(tmp_path: Path) -> None:
    store, journal = tmp_path / "s.db", tmp_path / "journal"
    command = [sys.executable, str(PROGRAM), str(store), str(journal)]
    draw = random.Random(7)
    away: list[tuple[float, float]] = []
    for _ in range(KILLS * int(os.environ.get("STEPWELL_KILL_ROUNDS", "1"))):
        if away:
            back_at = away[-1][0] + (2.5, 0, 3.5, 1)[len(away) % 4]
            until(lambda back_at=back_at: time.time() >= back_at)
            away[-1] = (away[-1][0], time.time())
        before = len(fires(journal))
        child = subprocess.Popen(command)
        until(lambda before=before: len(fires(journal)) > before)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(draw.choice((0.02, 1.5)) * draw.random())
        child.kill()
        assert child.wait() == -signal.SIGKILL
        away.append((time.time(), 0.0))
    done = subprocess.run([*command, "end"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    made = set(fires(journal))
    # A step that was not yet recorded runs again after a crash, with the same key: it belongs to the same run.
    assert len({(name, at) for name, at, _ in made}) == len(made) == int(done.stdout), "a second fired twice"
    by_name = {name: sorted(at for fired, at, _ in made if fired == name) for name in ("all", "one", "skip")}
    everything = by_name["all"]
    assert everything == list(range(everything[0], everything[-1] + 1)), "a second was lost"
    for killed, started in away[:-1]:
        missed = [at for at in everything if killed < at and at + 0.5 < started]
        assert len(set(missed) & set(by_name["one"])) <= 1, "one for all that were missed"
        assert not set(missed) & set(by_name["skip"]), "none of those that were missed"
    counts = {name: len(at) for name, at in by_name.items()}
    print(f"schedules: {len(away)} kills, fires {counts}, {len(fires(journal)) - len(made)} unrecorded steps repeated")
