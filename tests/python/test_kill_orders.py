"""SIGKILL at random moments of workflows that sleep, wait for signals and have children: nothing is lost or done again.

The short form runs with the other tests. The long one: `./dev kill-test --rounds 20`.
"""

from __future__ import annotations

import os
import random
import signal
import sys
from pathlib import Path

import pytest
from kills import journalled, left_behind, run_and_kill

PROGRAM = Path(__file__).with_name("orders_program.py")
STEPS = {"reserve": "reserve", "gather/0/pack": "pack", "label": "label"}
ORDERS = 150
KILLS = 6


def recorded_effects(store: Path) -> set[tuple[int, str]]:
    """Return the effects whose step is recorded, read from a copy of what the killed process left behind."""
    with left_behind(store) as db:
        if db is None:
            return set()
        rows = db.execute("SELECT r.input, e.step FROM events e JOIN runs r USING(run) WHERE e.kind = 1").fetchall()
    return {(int(order), STEPS[step]) for order, step in rows if step in STEPS}


def effects(journal: Path) -> list[tuple[int, str, str]]:
    return [tuple(line) for line in journalled(journal)]


@pytest.mark.kill
@pytest.mark.timeout(7200)
def test_kill_orders(tmp_path: Path) -> None:
    rounds = int(os.environ.get("STEPWELL_KILL_ROUNDS", "2"))
    first = int(os.environ.get("STEPWELL_KILL_SEED", "0"))
    kills, repeated = kill_orders(tmp_path, rounds, first)
    print(
        f"orders: {rounds} rounds of {ORDERS} from seed {first}, {kills} kills, 0 lost, 0 recorded steps repeated, "
        f"{repeated} unrecorded ones"
    )


def kill_orders(folder: Path, rounds: int, first: int) -> tuple[int, int]:
    """Return how many processes were killed, and how many steps that were not yet recorded were done again."""
    kills = repeated = 0
    for number in range(first, first + rounds):
        (folder / str(number)).mkdir()
        killed, again = one_round(folder / str(number), random.Random(number))
        kills += killed
        repeated += again
    assert kills >= rounds
    return kills, repeated


def one_round(folder: Path, draw: random.Random) -> tuple[int, int]:
    store, journal = folder / "s.db", folder / "journal"
    command = [sys.executable, str(PROGRAM), str(store), str(journal), str(ORDERS)]
    states: list[tuple[int, set[tuple[int, str]]]] = []
    while True:
        strikes = draw if len(states) < KILLS else None
        code = run_and_kill(command, strikes, lambda: len(effects(journal)), ORDERS, (10, 120))
        if code == 0:
            break
        assert code == -signal.SIGKILL
        states.append((len(effects(journal)), recorded_effects(store)))
    done = effects(journal)
    assert {(order, what) for order, what, _ in done} == {(n, what) for n in range(ORDERS) for what in STEPS.values()}
    for length, recorded in states:
        again = [entry for entry in done[length:] if entry[:2] in recorded]
        assert not again, f"done again although recorded: {again[:3]}"
    keys: dict[tuple[int, str], set[str]] = {}
    for order, what, key in done:
        keys.setdefault((order, what), set()).add(key)
    assert all(len(each) == 1 for each in keys.values()), "a step done again carries the same key"
    return len(states), len(done) - len(keys)
