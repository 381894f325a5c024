"""SIGKILL at random moments of a triage: every row once, and no call repeated whose result was recorded.

The short form runs with the other tests. The long one: `./dev kill-test --rows 5000 --rounds 20`.
"""

from __future__ import annotations

import csv
import os
import random
import signal
import sqlite3
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from stepwell.testing.llm_server import Faults, LlmServer, predict

if TYPE_CHECKING:
    from pathlib import Path

LABELS = ["Billing", "Technical", "General"]
FAULTS = {"429": 1.0, "500": 1.0, "503": 1.0, "reset": 1.0, "truncated": 1.0, "malformed": 1.0}


def recorded_texts(store: Path) -> set[str]:
    """Return the texts of the tickets whose call is recorded, read from the store's file as the killed process left it."""
    with sqlite3.connect(f"file:{store}?mode=ro", uri=True) as db:
        rows = db.execute("SELECT r.input FROM events e JOIN runs r ON r.run = e.run WHERE e.kind = 1").fetchall()
    return {bytes(row[0]).decode() for row in rows}


@pytest.mark.kill
@pytest.mark.timeout(600)
def test_kill_and_resume(tmp_path: Path) -> None:
    rows = int(os.environ.get("STEPWELL_KILL_ROWS", "600"))
    rounds = int(os.environ.get("STEPWELL_KILL_ROUNDS", "2"))
    for number in range(rounds):
        folder = tmp_path / str(number)
        folder.mkdir()
        one_round(folder, rows, seed=1000 + number)


def one_round(folder: Path, rows: int, seed: int) -> None:
    texts = [f"ticket {n} of round {seed}: {'billing' if n % 2 else 'technical'} trouble" for n in range(rows)]
    with (folder / "in.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["id", "body"], *([n, text] for n, text in enumerate(texts))])
    draw = random.Random(seed)
    with LlmServer(latency="5ms", faults=Faults(share=0.1, kinds=FAULTS), seed=seed) as server:
        command = [sys.executable, "-m", "stepwell", "triage", "in.csv", "--labels", ",".join(LABELS), "--model", "test"]
        command += ["--base-url", server.url, "--text-columns", "body", "--out", "out.csv", "--store", "s.db", "--quiet"]
        killed_at: list[int] = []
        while True:
            child = subprocess.Popen(command, cwd=folder)
            done_before = len(server.journal())
            target = done_before + draw.randint(1, max(2, rows // 2))
            while child.poll() is None and len(killed_at) < 4 and len(server.journal()) < target:
                try:
                    child.wait(0.02)
                except subprocess.TimeoutExpired:
                    continue
            if child.poll() is None and len(killed_at) < 4:
                child.send_signal(signal.SIGKILL)
            code = child.wait()
            if code == 0:
                break
            assert code == -signal.SIGKILL
            killed_at.append(len(server.journal()))
        journal = [entry for entry in server.journal() if "chat" in entry["path"]]
    check_output(folder / "out.csv", texts)
    check_journal(journal, rows, kills=len(killed_at))


def check_output(out: Path, texts: list[str]) -> None:
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["id"]) for row in rows] == list(range(len(texts)))
    for row, text in zip(rows, texts, strict=True):
        assert row["status"] == "ok", row
        assert row["label"] == predict(text, LABELS)[0]


def check_journal(journal: list[dict[str, object]], rows: int, kills: int) -> None:
    good: dict[str, int] = {}
    for entry in journal:
        if entry["answer"] == "ok":
            good[str(entry["fingerprint"])] = good.get(str(entry["fingerprint"]), 0) + 1
    assert len(good) == rows
    repeated = sum(count - 1 for count in good.values())
    # A good answer may be lost between the socket and the disk once for each call in flight at a kill, never otherwise.
    assert repeated <= kills * 200
