"""LLM calls through the core, against the test server: real HTTP, seeded faults."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import TYPE_CHECKING

import pydantic
import pytest

import stepwell as sw
from stepwell.llm import Classifier, _direct, resolve_model
from stepwell.testing.llm_server import Faults, LlmServer, predict

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LABELS = ["Billing", "Technical", "General"]
QUICK = sw.Retry(max_attempts=12, base="1ms", cap="20ms", max_elapsed="30s")


@pytest.fixture(scope="module")
def server() -> Iterator[LlmServer]:
    with LlmServer() as running:
        yield running


def classifier(server: LlmServer, **options: object) -> Classifier:
    return Classifier(LABELS, model="test-model", base_url=server.url, retry=QUICK, **options)  # type: ignore[arg-type]


def test_classify_outside_of_a_run(server: LlmServer) -> None:
    text = "I was charged twice, billing problem"
    answer = classifier(server).classify_blocking(text)
    assert (answer.label, answer.status) == (predict(text, LABELS)[0], "ok")
    assert answer.tokens_in > 0
    assert asyncio.run(classifier(server).classify(text)).label == answer.label


def test_a_recorded_response_is_not_asked_for_again(server: LlmServer, tmp_path: Path) -> None:
    one = classifier(server)

    @sw.workflow
    async def flow(text: str) -> list[object]:
        first = await one.classify(text)
        second = await one.classify(text + " again")
        return [first.label, second.label, first.attempts]

    before = len(server.journal())
    with sw.Engine(tmp_path / "s.db") as engine:
        result = engine.start(flow, "a technical question", key="k").result(20)
    with sw.Engine(tmp_path / "s.db") as engine:
        assert engine.start(flow, "a technical question", key="k").result(20) == result
    assert len(server.journal()) == before + 2


def test_faults_are_retried_until_an_answer_is_good() -> None:
    texts = [f"ticket number {n}" for n in range(200)]
    with LlmServer(faults=Faults(share=0.5), seed=11) as server:
        one = classifier(server, timeout="1s")

        @sw.workflow
        async def flow(text: str) -> list[object]:
            answer = await one.classify(text)
            return [answer.label, answer.status, answer.attempts]

        with sw.Engine() as engine:
            results = engine.map(flow, texts, concurrency=64).results()
    assert sum(1 for result in results if result[2] > 1) > 20, "faults were met"  # type: ignore[operator]
    for text, (label, status, _) in zip(texts, results, strict=True):
        if status == "ok":
            assert label == predict(text, LABELS)[0]
        else:
            assert label is None


@pytest.mark.parametrize(
    ("kind", "reason"), [("wrong_label", "not in the taxonomy"), ("refusal", "refused"), ("empty", "not the JSON")]
)
def test_a_bad_answer_goes_to_review(kind: str, reason: str) -> None:
    with LlmServer(faults=Faults(share=1.0, kinds={kind: 1.0}, max_faults_per_call=100)) as server:
        answer = classifier(server).classify_blocking("hello")
    assert (answer.label, answer.status) == (None, "review")
    assert reason in answer.reason


def test_a_call_that_fails_for_good_fails_the_step() -> None:
    with LlmServer(faults=Faults(share=1.0, kinds={"500": 1.0}, max_faults_per_call=100)) as server:
        one = Classifier(LABELS, model="m", base_url=server.url, retry=sw.Retry(max_attempts=3, base="1ms", cap="2ms"))
        with pytest.raises(sw.RunFailed, match="answered 500"):
            one.classify_blocking("hello")
        assert len(server.journal()) == 3


class Extracted(pydantic.BaseModel):
    label: str
    confidence: float


def test_chat_text_and_typed(server: LlmServer) -> None:
    answer = sw.llm.chat_blocking("hello", model="m", base_url=server.url)
    assert answer.text
    assert answer.usage.tokens_out > 0
    schema_text = "which one?"
    typed = asyncio.run(sw.llm.chat(schema_text, model="m", base_url=server.url, returns=Extracted))
    assert isinstance(typed.value, Extracted)


def test_models_keys_and_urls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    cases = {
        "SW-E2101": {"model": "openai:gpt-4o-mini"},
        "SW-E2102": {"model": "m", "base_url": "ftp://x/v1"},
        "SW-E2103": {"model": "gpt-4o-mini"},
        "SW-E2104": {"model": "openai:sk-abcdefghijklmnopqrstuv"},
        "SW-E2105": {"model": "openai:m", "api_key": "a b c"},
    }
    for code, options in cases.items():
        with pytest.raises(sw.WorkflowError) as caught:
            resolve_model(**options)
        assert caught.value.code == code
        assert "abcdefghijklmnop" not in str(caught.value)
    with pytest.raises(sw.InputError, match="SW-E2102"):
        resolve_model("m", "http://user:secret@host/v1")
    key = "sk-" + "x" * 30
    assert key not in repr(resolve_model("openai:m", api_key=key))


@pytest.mark.parametrize("labels", [[], ["one"], ["a", "A"], ["a", " "], ["a", 3]])
def test_bad_taxonomies(labels: list[str]) -> None:
    with pytest.raises(sw.InputError, match="SW-E2106"):
        Classifier(labels, model="m", base_url="http://127.0.0.1:1/v1")


def test_a_local_classification_is_recorded_in_a_run(tmp_path: Path) -> None:
    """A newer model must not change what a replay sees."""

    @sw.workflow
    async def label(text: str) -> str | None:
        found = await sw.llm.classify(text, labels=LABELS, model="local")
        return found.label

    @sw.workflow
    def label_plain(text: str) -> str | None:
        return sw.llm.classify_blocking(text, labels=LABELS, model="local").label

    with sw.Engine(tmp_path / "s.db") as engine:
        for flow in (label, label_plain):
            run = engine.start(flow, "I was charged twice on my invoice")
            assert run.result() == "Billing"
            events = engine._core.find(run=run._run, with_events=True)[0][10]
            assert [(event[2], json.loads(event[3])["label"]) for event in events] == [("llm.classify", "Billing")]


def test_calls_inside_a_step_belong_to_the_step(server: LlmServer, tmp_path: Path) -> None:
    """A replay skips the step with all that is in it, so nothing in it may be counted: names would shift."""

    @sw.step
    async def inner(text: str) -> str:
        return text.upper()

    @sw.step
    async def outer(text: str) -> str:
        found = await classifier(server).classify(await inner(text))
        return str(found.label)

    @sw.workflow
    async def flow(text: str) -> list[str]:
        return [await outer(text), await inner(text)]

    before = server.count()
    with sw.Engine(tmp_path / "s.db") as engine:
        run = engine.start(flow, "my billing")
        assert run.result() == ["Billing", "MY BILLING"]
        events = engine._core.find(run=run._run, with_events=True)[0][10]
        assert [event[2] for event in events] == ["outer", "inner"]
    assert server.count() == before + 1


def test_direct_calls_share_an_engine_and_replace_it(server: LlmServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_direct, "_CALLS_MAX", 10)
    before = threading.active_count()

    async def many() -> list[str | None]:
        texts = [f"billing {n}" for n in range(35)]
        return [found.label for found in await asyncio.gather(*(classifier(server).classify(text) for text in texts))]

    assert asyncio.run(many()) == ["Billing"] * 35
    assert classifier(server).classify_blocking("billing").label == "Billing"
    assert threading.active_count() <= before + 8
    assert not _direct._requests
