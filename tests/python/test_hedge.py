"""Hedged calls: a slow request is sent once more beside itself, and one answer is recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import stepwell as sw
from stepwell.testing.llm_server import Faults, LlmServer

if TYPE_CHECKING:
    from pathlib import Path

LABELS = ["Billing", "Technical"]
HEDGED = sw.Retry(max_attempts=1, hedge="50ms")


def labelling(server: LlmServer, **options: Any) -> sw.Workflow[..., str]:
    @sw.workflow(name="labels")
    async def labels(text: str) -> str:
        place = {"model": "test-model", "base_url": server.url, "timeout": "60s"}
        answer = await sw.llm.classify(text, labels=LABELS, **place, retry=HEDGED, **options)
        return f"{answer.label} {answer.attempts}"

    return labels


def test_a_request_that_hangs_is_answered_by_its_hedge(tmp_path: Path) -> None:
    hangs = Faults(share=1.0, kinds={"hang": 1.0}, max_faults_per_call=1)
    with LlmServer(faults=hangs) as server, sw.Engine(tmp_path / "s.db") as engine:
        runs = [engine.start(labelling(server), f"billing {number}", key=str(number)) for number in range(5)]
        assert [run.result(30) for run in runs] == ["Billing 1"] * 5
        assert engine._core.counters()["calls_hedged"] == 5
        entries = server.journal()
        assert sorted(entry["answer"] for entry in entries) == ["hang"] * 5 + ["ok"] * 5
        keys = {entry["text"]: set() for entry in entries}
        for entry in entries:
            keys[entry["text"]].add(entry["key"])
        assert all(len(found) == 1 and "" not in found for found in keys.values()), "one key for both"


def test_calls_that_a_budget_pays_for_are_not_hedged(tmp_path: Path) -> None:
    slow = LlmServer(latency="200ms")
    with slow as server, sw.Engine(tmp_path / "s.db", budget=sw.Budget(usd=1, name="b", price=(1, 1))) as engine:
        assert engine.start(labelling(server), "billing").result(30) == "Billing 1"
        assert engine._core.counters()["calls_hedged"] == 0
        assert server.counts()["requests"] == 1


def test_what_cannot_be_hedged_is_refused() -> None:
    with pytest.raises(sw.InputError, match="SW-E1011"):
        sw.step(retry=HEDGED)(len)
    with pytest.raises(sw.InputError, match="SW-E1010"):
        sw.Retry(hedge="0s")
    with pytest.raises(sw.InputError, match="SW-E2120"):
        sw.llm.stream_blocking("hello", model="test", base_url="http://127.0.0.1:9", retry=HEDGED)
