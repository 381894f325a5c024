"""Calls that may not be sent for a long time: their runs wait in the store, in nobody's memory, and lose no attempt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from flows import comes_to

import stepwell as sw
from stepwell import testing
from stepwell.llm import Classifier
from stepwell.testing.llm_server import Faults, LlmServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LABELS = ["Billing", "Technical"]
PATIENT = sw.Retry(max_attempts=3, max_elapsed="1d")


@pytest.fixture
def server() -> Iterator[LlmServer]:
    """A server that first asks for an hour of patience."""
    faults = Faults(share=1, kinds={"429": 1}, max_faults_per_call=1, retry_after_s=3600)
    with LlmServer(faults=faults) as opened:
        yield opened


def flow_of(server: LlmServer, *, is_async: bool) -> sw.Workflow[..., Any]:
    classifier = Classifier(LABELS, model="test", base_url=server.url, retry=PATIENT)

    async def label(text: str) -> list[Any]:
        answer = await classifier.classify(text)
        return [answer.label, answer.attempts]

    def label_plain(text: str) -> list[Any]:
        answer = classifier.classify_blocking(text)
        return [answer.label, answer.attempts]

    flow: sw.Workflow[..., Any] = sw.workflow(label if is_async else label_plain)
    return flow


@pytest.mark.parametrize("is_async", [True, False])
def test_a_peer_that_asks_for_an_hour_keeps_no_run_in_memory(server: LlmServer, *, is_async: bool) -> None:
    flow = flow_of(server, is_async=is_async)
    with testing.Engine(auto=False) as engine:
        run = engine.start(flow, "billing question", key="k")
        comes_to(run, sw.RunStatus.WAITING)
        assert engine.counters()["runs_in_flight"] == 0
        engine.clock.advance("59m")
        assert run.status() is sw.RunStatus.WAITING
        engine.clock.advance("2m")
        assert run.result(30) == ["Billing", 2]
    assert [entry["answer"] for entry in server.journal()] == ["429", "ok"]


def test_a_held_call_is_made_in_the_next_life_of_the_process(server: LlmServer, tmp_path: Path) -> None:
    flow = flow_of(server, is_async=True)
    with testing.Engine(tmp_path / "s.db", auto=False) as engine:
        comes_to(engine.start(flow, "billing question", key="k"), sw.RunStatus.WAITING)
    with testing.Engine(tmp_path / "s.db", auto=False, workflows=[flow]) as engine:
        run = engine.find(flow, "k")
        assert run is not None
        assert run.status() is sw.RunStatus.WAITING
        engine.clock.advance("61m")
        assert run.result(30) == ["Billing", 2]
        # Which calls had to wait is no part of what a workflow is: without the waits it is still the same one.
        assert "held:llm.classify" in [entry.name for entry in run.history()]
        report = testing.replay(engine, [flow])
        assert (report.replayed, report.ok, report.mismatched) == (1, 1, ())
