"""The ledger against a server's own journal: faults, kills, and a cap that nothing passes, to the picodollar."""

from __future__ import annotations

import json
import random
import signal
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from kills import left_behind, run_and_kill
from ledger_program import PRICE

import stepwell as sw
from stepwell.testing.llm_server import Faults, LlmServer

PROGRAM = Path(__file__).with_name("ledger_program.py")
KILLS = 3
COUNT = 500
CAP = Decimal(5)
# Not wrong_usage: that is settled at the estimate, and flagged.
FAULTS = (
    "429", "500", "503", "reset", "malformed", "html", "wrong_label", "truncated",
    "500_done", "reset_done", "reset_body",
)  # fmt: skip
PICO = 10**12


def charged(journal: list[dict[str, Any]]) -> int:
    """What the server charged, in picodollars."""
    price_in, price_out = (int(Decimal(each) * PICO) // 1_000_000 for each in PRICE)
    return sum(entry["tokens_in"] * price_in + entry["tokens_out"] * price_out for entry in journal if entry["charged"])


def account(store: Path) -> tuple[int, int, int] | None:
    """Spent, reserved and in doubt, as a killed process left them."""
    with left_behind(store) as db:
        if db is None or not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'budgets'").fetchall():
            return None
        return db.execute("SELECT spent_usd, reserved_usd, doubt_usd FROM budgets WHERE name = 'cap'").fetchone()


@pytest.mark.timeout(600)
def test_ledger_equals_the_servers_journal_and_the_cap_is_never_passed(tmp_path: Path) -> None:
    store = tmp_path / "s.db"
    draw = random.Random(7)
    with LlmServer(faults=Faults(share=0.15, kinds=dict.fromkeys(FAULTS, 1.0)), seed=5) as server:
        command = [sys.executable, str(PROGRAM), str(store), server.url, str(COUNT), str(CAP)]
        kills = 0
        while True:
            strikes = draw if kills < KILLS else None
            code = run_and_kill(command, strikes, lambda: server.counts()["requests"], 120, (20, 150))
            seen = account(store)
            if seen is not None:
                assert sum(seen) <= CAP * PICO, "the cap was passed"
            # What the server charged is spent, reserved or in doubt: nothing was sent that was not accounted for before.
            assert charged(server.journal()) <= (sum(seen) if seen else 0)
            if code == 0:
                break
            assert code == -signal.SIGKILL
            kills += 1
        journal = server.journal()
        assert kills == KILLS
        kinds = {entry["answer"] for entry in journal}
        assert len(kinds) > 3, f"too few faults: {kinds}"
        with sw.Engine(store) as engine:
            cap = engine.budget("cap")
        assert cap.waiting > 0, "the cap was not reached"
        assert cap.reserved_usd == 0
        assert cap.in_doubt_usd == 0
        assert int(cap.spent_usd * PICO) == charged(journal)
        assert cap.spent_usd <= CAP
        assert cap.left_usd is not None
        print(
            f"ledger: {len(journal)} requests, {KILLS} kills, {cap.calls} calls settled, ${cap.spent_usd} spent of ${CAP} ="
            f" the server's journal, {cap.waiting} calls wait, faults {sorted(kinds - {'ok'})}"
        )
    with left_behind(store) as db:
        assert db is not None
        settled = db.execute("SELECT payload FROM events WHERE kind = 10").fetchall()
    spent = [json.loads(payload) for (payload,) in settled]
    assert sum(each["usd"] for each in spent if each["as"] == "spent") == int(cap.spent_usd * PICO)
