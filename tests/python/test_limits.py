"""Limits of calls: set, learned from headers, changed while they hold; real HTTP against the LLM test server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from flows import until

import stepwell as sw
from stepwell._limits import admission_names
from stepwell.llm import Classifier
from stepwell.testing import Engine as JumpingEngine
from stepwell.testing.llm_server import LlmServer

if TYPE_CHECKING:
    from collections.abc import Iterator

LABELS = ["Billing", "Technical", "General"]
QUICK = sw.Retry(max_attempts=12, base="1ms", cap="20ms", max_elapsed="30s")
MODELS = "openai-compatible:*"


@pytest.fixture(scope="module")
def server() -> Iterator[LlmServer]:
    with LlmServer(latency="5ms") as running:
        yield running


def flow_of(server: LlmServer, name: str = "limited", **options: object) -> sw.Workflow[..., object]:
    one = Classifier(LABELS, model="m", base_url=server.url, retry=QUICK, **options)  # type: ignore[arg-type]

    @sw.workflow(name=name)
    async def limited(text: str) -> str | None:
        return (await one.classify(text)).label

    return limited


def bucket(engine: sw.Engine) -> sw.Bucket:
    (only,) = engine.limits().values()
    return only


def waiting(engine: sw.Engine) -> int:
    return sum(each.waiting for each in engine.limits().values())


def test_calls_pass_their_bucket_and_settle_what_they_used(server: LlmServer) -> None:
    with sw.Engine(limits={MODELS: sw.Limit(concurrency=2)}) as engine:
        runs = engine.start_many(flow_of(server), [f"bill {i}" for i in range(20)])
        assert all(run.result(20) in LABELS for run in runs)
        seen = bucket(engine)
        assert seen.name.startswith("openai-compatible:m#")
        assert (seen.sent, seen.in_flight, seen.waiting, seen.throttled) == (20, 0, 0, 0)
        assert seen.limit == sw.Limit(concurrency=2)
        assert seen.window == 2
        assert 20 <= seen.tokens_used < 20 * 1_000, "as the server counted them, not as they were estimated"
        counters = engine._core.counters()
        assert (counters["calls_sent"], counters["calls_waiting"]) == (20, 0)


def test_limits_are_learned_from_the_headers() -> None:
    with LlmServer(requests_per_minute=6_000, tokens_per_minute=900_000) as limited, sw.Engine() as engine:
        assert engine.start(flow_of(limited), "a bill").result(20) in LABELS
        learned = bucket(engine).learned
        assert (learned.requests_per_minute, learned.tokens_per_minute) == (6_000, 900_000)
        runs = engine.start_many(flow_of(limited), [f"bill {i}" for i in range(100)])
        assert all(run.result(30) in LABELS for run in runs)
        assert bucket(engine).throttled <= 1


def test_a_call_larger_than_its_limit_fails_and_is_not_tried_again(server: LlmServer) -> None:
    before = len(server.journal())
    with sw.Engine(limits={"*": sw.Limit(tokens_per_minute=5)}) as engine:
        run = engine.start(flow_of(server), "a text that needs more than five tokens, whatever is counted")
        with pytest.raises(sw.RunFailed, match="limited to 5 a minute") as caught:
            run.result(20)
    assert "SW-E1330" in str(caught.value)
    assert len(server.journal()) == before


def test_two_keys_of_one_model_do_not_share(server: LlmServer) -> None:
    with sw.Engine() as engine:
        for key in ("first-key", "second-key"):
            assert (
                engine.start(flow_of(server, name=f"limited by {key}", api_key=key), f"bill of {key}").result(20)
                in LABELS
            )
        names = sorted(engine.limits())
        assert len(names) == 2
        assert not any("first-key" in name or "second-key" in name for name in names)


def test_names_tell_hosts_and_keys_apart_and_hold_no_key() -> None:
    key = (("content-type", "application/json"), ("authorization", "Bearer sk-secret"))
    bucket, circuit = admission_names("openai", "gpt-4o-mini", "https://api.openai.com/v1/chat/completions", key)
    assert bucket.rpartition("#")[0] == "openai:gpt-4o-mini"
    assert circuit.rpartition("#")[0] == "api.openai.com/gpt-4o-mini"
    assert "secret" not in bucket + circuit
    assert admission_names("openai", "gpt-4o-mini", "https://api.openai.com/v1/embeddings", key)[0] == bucket
    assert admission_names("openai", "gpt-4o-mini", "http://localhost:8000/v1/chat/completions", key)[0] != bucket
    assert admission_names("openai", "gpt-4o-mini", "https://api.openai.com/v1/chat/completions", ())[0] != bucket


def test_a_long_wait_is_in_the_store_and_ends(server: LlmServer) -> None:
    with JumpingEngine() as engine:
        engine.limit(MODELS, requests_per_minute=1)
        begun = engine.clock.time()
        runs = engine.start_many(flow_of(server), [f"bill {i}" for i in range(4)])
        assert all(run.result(60) in LABELS for run in runs)
        assert engine.clock.time() - begun >= 180, "one a minute"
        assert bucket(engine).held >= 3
        assert engine._core.counters()["calls_held"] >= 3


def test_limits_may_change_while_calls_wait(server: LlmServer) -> None:
    with sw.Engine(limits={MODELS: sw.Limit(requests_per_minute=3)}) as engine:
        runs = engine.start_many(flow_of(server), ["a bill", "another bill"])
        until(lambda: waiting(engine) == 1)
        engine.limit(MODELS, requests_per_minute=60_000)
        assert all(run.result(15) in LABELS for run in runs)


def test_a_cancelled_run_leaves_the_line(server: LlmServer) -> None:
    with sw.Engine(limits={MODELS: sw.Limit(requests_per_minute=3)}) as engine:
        runs = engine.start_many(flow_of(server), ["a bill", "another bill"])
        until(lambda: waiting(engine) == 1)
        for run in runs:
            run.cancel()
        assert waiting(engine) == 0


@pytest.mark.parametrize(
    "make",
    [
        lambda: sw.Limit(requests_per_minute=0),
        lambda: sw.Limit(tokens_per_minute=-1),
        lambda: sw.Limit(concurrency=1.5),  # type: ignore[arg-type]
        lambda: sw.Limit(requests_per_minute=10**12),
        lambda: sw.Limit(burst="2m"),
        lambda: sw.Limit(per_tenant=sw.Limit(per_tenant=sw.Limit())),
        lambda: sw.Breaker(window=65),
        lambda: sw.Breaker(window=10, failures=0),
        lambda: sw.Breaker(failure_percent=0),
        lambda: sw.Breaker(retries_per_second=0),
    ],
)
def test_numbers_that_make_no_sense_are_refused(make: object) -> None:
    with pytest.raises(sw.InputError, match="SW-E1331"):
        make()  # type: ignore[operator]
