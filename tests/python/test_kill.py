"""SIGKILL at random moments of a triage: every row once, and no call repeated whose result was recorded.

The short form runs with the other tests. The long one: `./dev kill-test --rows 5000 --rounds 20`.
"""

from __future__ import annotations

import contextlib
import csv
import json
import os
import random
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from kills import left_behind

from stepwell.testing.llm_server import Faults, LlmServer, predict

if TYPE_CHECKING:
    from pathlib import Path

LABELS = ["Billing", "Technical", "General"]
KILLS = 4
FAULTS = {"429": 1.0, "500": 1.0, "503": 1.0, "reset": 1.0, "truncated": 1.0, "malformed": 1.0}


def recorded_texts(store: Path) -> set[str]:
    """Return the texts of the tickets whose call is recorded, read from a copy of what the killed process left behind."""
    with left_behind(store) as db:
        if db is None:
            return set()
        # Not "held:llm.classify": a call that was held has not been made.
        made = "SELECT r.input FROM events e JOIN runs r USING(run) WHERE e.kind = 1 AND e.step = 'llm.classify'"
        rows = db.execute(made).fetchall()
    return {json.loads(row[0])[1] for row in rows}


@pytest.mark.kill
@pytest.mark.timeout(7200)  # for the long form; the short one takes seconds
def test_kill_and_resume(tmp_path: Path) -> None:
    rows = int(os.environ.get("STEPWELL_KILL_ROWS", "600"))
    rounds = int(os.environ.get("STEPWELL_KILL_ROUNDS", "2"))
    first = 1000 + int(os.environ.get("STEPWELL_KILL_SEED", "0"))
    for seed in range(first, first + rounds):
        folder = tmp_path / str(seed)
        folder.mkdir()
        one_round(folder, rows, seed)


def one_round(folder: Path, rows: int, seed: int) -> int:
    """Return how many processes were killed."""
    texts = [f"ticket {n} of round {seed}: {'billing' if n % 2 else 'technical'} trouble" for n in range(rows)]
    with (folder / "in.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["id", "body"], *([n, text] for n, text in enumerate(texts))])
    draw = random.Random(seed)
    with LlmServer(latency="5ms", faults=Faults(share=0.1, kinds=FAULTS), seed=seed) as server:
        command = [sys.executable, "-m", "stepwell", "triage", "in.csv", "--labels", ",".join(LABELS)]
        command += ["--model", "test", "--base-url", server.url, "--text-columns", "body"]
        command += ["--out", "out.csv", "--store", "s.db", "--quiet"]
        kills: list[tuple[int, set[str]]] = []
        while (code := run_and_kill(command, folder, server, rows, draw if len(kills) < KILLS else None)) != 0:
            assert code == -signal.SIGKILL
            kills.append((server.count(), recorded_texts(folder / "s.db")))
        journal = server.journal()
    print(
        f"round {seed}: {rows} rows, {len(kills)} kills after {[received for received, _ in kills]} calls", flush=True
    )
    assert kills, "nothing was killed: more rows are needed"
    check_output(folder / "out.csv", texts)
    assert {entry["text"] for entry in journal} >= set(texts)
    for received, recorded in kills:
        repeated = [entry["text"] for entry in journal if entry["number"] > received and entry["text"] in recorded]
        assert not repeated, f"{len(repeated)} calls were repeated although their results were recorded: {repeated[:3]}"
    return len(kills)


def run_and_kill(command: list[str], folder: Path, server: LlmServer, rows: int, draw: random.Random | None) -> int:
    """Run the job; with `draw`, end it with SIGKILL once it has made a random number of calls. Return its exit code."""
    child = subprocess.Popen(command, cwd=folder)
    if draw is not None:
        target = server.count() + draw.randint(1, max(2, rows // 3))
        while child.poll() is None and server.count() < target:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(0.01)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(draw.random() * 0.05)
        child.kill()
    return child.wait()


def check_output(out: Path, texts: list[str]) -> None:
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["id"]) for row in rows] == list(range(len(texts)))
    for row, text in zip(rows, texts, strict=True):
        assert row["status"] == "ok", row
        assert row["label"] == predict(text, LABELS)[0]
