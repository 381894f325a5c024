"""A peer that is down: its circuit opens, calls wait in the store and burn no attempt, and go on when it is back."""

from __future__ import annotations

import pytest

import stepwell as sw
from stepwell.llm import Classifier
from stepwell.testing import Engine
from stepwell.testing.llm_server import Faults, LlmServer

LABELS = ["Billing", "Technical", "General"]
PATIENT = sw.Retry(max_attempts=12, base="1ms", cap="20ms", max_elapsed="1h")
SMALL = sw.Breaker(window=8, failures=4, cool_down="10s", cool_down_max="1m")


def flow_of(server: LlmServer) -> sw.Workflow[..., object]:
    one = Classifier(LABELS, model="m", base_url=server.url, retry=PATIENT)

    @sw.workflow
    async def breaking(text: str) -> str | None:
        return (await one.classify(text)).label

    return breaking


def test_failures_open_the_circuit_and_it_closes_again() -> None:
    # Each call fails once before it is answered, so that the peer recovers only by being asked.
    faults = Faults(share=1.0, kinds={"500": 1.0}, max_faults_per_call=1)
    with LlmServer(faults=faults) as server, Engine() as engine:
        engine.breaker("*", SMALL)
        runs = engine.start_many(flow_of(server), [f"bill {i}" for i in range(12)])
        assert all(run.result(60) in LABELS for run in runs)
        (circuit,) = engine.circuits().values()
        assert circuit.name.startswith("127.0.0.1/m#")
        assert circuit.openings >= 1
        assert circuit.held >= 1
        assert len(server.journal()) == 24, "each call was sent twice, and no attempt burned against an open circuit"


def test_our_own_mistakes_open_nothing() -> None:
    with LlmServer(require_key="another-key") as server, Engine() as engine:
        engine.breaker("*", SMALL)
        for run in engine.start_many(flow_of(server), [f"bill {i}" for i in range(12)]):
            with pytest.raises(sw.RunFailed):
                run.result(30)
        (circuit,) = engine.circuits().values()
        assert (circuit.state, circuit.openings, circuit.failures) == ("closed", 0, 0)
