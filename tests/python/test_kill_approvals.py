"""SIGKILL at random moments of runs that ask people: no decision that was acknowledged is lost, none counts twice.

The short form runs with the other tests. The long one: `./dev kill-test --rounds 20`.
"""

from __future__ import annotations

import os
import random
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from kills import journalled, run_and_kill

import stepwell as sw

PROGRAM = Path(__file__).with_name("approvals_program.py")
COUNT = 40
KILLS = 5


def lines(journal: Path) -> list[Any]:
    return journalled(journal)


@pytest.mark.kill
@pytest.mark.timeout(7200)
def test_kill_approvals(tmp_path: Path) -> None:
    kills = 0
    rounds = int(os.environ.get("STEPWELL_KILL_ROUNDS", "2"))
    for number in range(rounds):
        folder = tmp_path / str(number)
        folder.mkdir()
        kills += one_round(folder, random.Random(number))
    print(f"approvals: {rounds} rounds of {COUNT}, {kills} kills, no decision lost, none counted twice")
    assert kills >= rounds


def one_round(folder: Path, draw: random.Random) -> int:
    store, journal = folder / "s.db", folder / "journal"
    kills = 0
    command = [sys.executable, str(PROGRAM), str(store), str(journal), str(COUNT)]
    while True:
        strikes = draw if kills < KILLS else None
        code = run_and_kill(command, strikes, lambda: len(lines(journal)), COUNT, (10, 120))
        if code == 0:
            break
        assert code == -signal.SIGKILL
        kills += 1
    look(store, lines(journal))
    return kills


def look(store: Path, journal: list[Any]) -> None:
    results = {number: by for what, number, by, *_ in journal if what == "result"}
    assert sorted(results) == list(range(COUNT))
    # Whoever was told that a decision counts is one of the two who made it count, and was told once.
    counted = Counter((number, by) for what, number, by, *_ in journal if what == "counted")
    assert all(by in results[number].split(", ") for number, by in counted)
    assert set(counted.values()) == {1}
    for effect in ("pay", "page"):
        keys: dict[int, set[str]] = {}
        for what, number, key, *_ in journal:
            if what == effect:
                keys.setdefault(number, set()).add(key)
        assert all(len(each) == 1 for each in keys.values()), f"a {effect} that was done again carries the same key"
        assert effect == "page" or len(keys) == COUNT
    with sw.Engine(store) as engine:
        approvals = engine.approvals(pending=False)
        assert len(approvals) == COUNT
        for approval in approvals:
            assert approval.status == "approved"
            entries = approval.audit()
            assert sum(entry.what == "approved" for entry in entries) == 2
            assert sum(entry.what == "escalated" for entry in entries) <= 1
            assert ", ".join(entry.by for entry in approval.decisions) == results[approval.payload["number"]]
