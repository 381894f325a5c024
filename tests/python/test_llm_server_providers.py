"""Our own providers and the LLM test server, form by form: what one says, the other reads, faults included."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

import stepwell as sw
from stepwell.testing._llm_embed import embed
from stepwell.testing.llm_server import STREAM_KINDS, Faults, LlmServer, predict

if TYPE_CHECKING:
    from collections.abc import Iterator

LABELS = ["Billing", "Technical", "General"]
QUICK = sw.Retry(max_attempts=12, base="1ms", cap="20ms", max_elapsed="30s")
BASES = {"openai": "/v1", "openai-responses": "/v1", "azure": "", "anthropic": "/v1", "gemini": "/v1beta"}
needs_streams = pytest.mark.skipif(not hasattr(sw.llm, "stream_blocking"), reason="sw.llm.stream is not there")
forms = pytest.mark.parametrize("form", BASES)


@dataclass
class Order:
    customer: str
    amount: float
    items: list[str]


def look_up(city: str) -> str:
    """Tell the weather."""
    raise AssertionError("never called")


@pytest.fixture(scope="module")
def server() -> Iterator[LlmServer]:
    with LlmServer(require_key="right-key") as running:
        yield running


def to(server: LlmServer, form: str, model: str = "test") -> dict[str, Any]:
    return {
        "model": f"{form}:{model}",
        "base_url": server.origin + BASES[form],
        "api_key": "right-key",
        "retry": QUICK,
    }


@forms
def test_text_usage_and_tools(server: LlmServer, form: str) -> None:
    server.set_faults(Faults())
    answer = sw.llm.chat_blocking("Grüße 🎈", **to(server, form, "test-cached-reasoning"))
    entry = server.journal()[-1]
    assert (answer.text, answer.finish_reason) == ("You said: Grüße 🎈", "stop")
    usage = answer.usage
    assert (usage.tokens_in, usage.tokens_out) == (entry["tokens_in"], entry["tokens_out"])
    assert usage.cached_tokens == entry["tokens_cached"] > 0
    assert usage.reasoning_tokens == (0 if form == "anthropic" else entry["tokens_reasoning"])
    cut = sw.llm.chat_blocking("a long answer", max_tokens=2, **to(server, form))
    assert (cut.text, cut.finish_reason) == ("You said", "length")
    asked = sw.llm.chat_blocking("Bonn", tools=[look_up], **to(server, form))
    assert [(call.name, call.arguments) for call in asked.tool_calls] == [("look_up", {"city": "Bonn"})]
    told = {"role": "tool", "tool_call_id": asked.tool_calls[0].id, "name": "look_up", "content": "rain"}
    talk = [{"role": "user", "content": "Bonn"}, asked.message, told]
    assert "rain" in sw.llm.chat_blocking(talk, tools=[look_up], **to(server, form)).text


@forms
def test_structure(server: LlmServer, form: str) -> None:
    server.set_faults(Faults())
    order = sw.llm.extract_blocking("three pears for Ada", into=Order, **to(server, form))
    assert (order.value, order.repaired) == (Order("three pears for Ada", 1, ["three pears for Ada"]), False)
    place = {name: value for name, value in to(server, form).items() if name != "retry"}
    for text in ("my billing", "none of these words"):
        assert sw.llm.classify_blocking(text, labels=LABELS, **place).label == predict(text, LABELS)[0]


@forms
def test_a_bad_answer_is_repaired_once(server: LlmServer, form: str) -> None:
    for kind in ("empty", "nan", "cut_json"):
        server.set_faults(Faults(share=1.0, kinds={kind: 1.0}, max_faults=1))
        ask = functools.partial(sw.llm.extract_blocking, f"{kind} {form}", into=Order, **to(server, form))
        if kind == "cut_json":
            with pytest.raises(sw.LlmError, match="cut off"):
                ask()
            continue
        found = ask()
        assert (found.repaired, found.value.customer) == (True, f"{kind} {form}")
        spent = [each for each in server.journal() if each["charged"]][-2:]
        assert found.usage.tokens_in == sum(each["tokens_in"] for each in spent)
        assert found.usage.tokens_out == sum(each["tokens_out"] for each in spent)
    server.set_faults(Faults(share=1.0, kinds={"fenced": 1.0}, max_faults=1))
    found = sw.llm.extract_blocking(f"fenced {form}", into=Order, **to(server, form))
    assert found.value.customer == f"fenced {form}"


@forms
def test_faults_are_retried_and_what_was_lost_was_charged(form: str) -> None:
    kinds = dict.fromkeys(
        ("429", "500", "503", "529", "reset", "slow", "500_done", "reset_done", "reset_body", "html"), 1.0
    )
    with LlmServer(require_key="right-key", faults=Faults(share=0.5, kinds=kinds), seed=5) as server:
        for number in range(40):
            text = f"{form} ticket {number}"
            assert sw.llm.chat_blocking(text, **to(server, form)).text == f"You said: {text}"
        entries = server.journal()
    assert {each["answer"] for each in entries if each["charged"]} <= {
        "ok",
        "slow",
        "500_done",
        "reset_done",
        "reset_body",
    }
    assert len(entries) > 45


@pytest.mark.parametrize("form", ["openai", "azure", "gemini"])
def test_embeddings(server: LlmServer, form: str) -> None:
    server.set_faults(Faults())
    found = sw.llm.embed_blocking(["one apple", "two"], **to(server, form))
    assert found.vectors == [pytest.approx(embed(text)) for text in ("one apple", "two")]


@forms
def test_the_wrong_key_and_a_model_that_is_not_there(server: LlmServer, form: str) -> None:
    server.set_faults(Faults())
    with pytest.raises(sw.RunFailed, match="answered 401"):
        sw.llm.chat_blocking("a", **(to(server, form) | {"api_key": "wrong-key"}))
    with pytest.raises(sw.RunFailed, match="answered 404"):
        sw.llm.chat_blocking("a", **to(server, form, "missing-model"))


@needs_streams
@forms
def test_a_stream_is_what_the_whole_answer_is(server: LlmServer, form: str) -> None:
    server.set_faults(Faults())
    for model, more in (
        ("test", {}),
        ("test-cached-reasoning", {}),
        ("test-60-tokens", {}),
        ("test", {"tools": [look_up]}),
    ):
        whole = sw.llm.chat_blocking("Grüße 🎈", **more, **to(server, form, model))
        answer = sw.llm.stream_blocking("Grüße 🎈", **more, **to(server, form, model))
        assert "".join(answer) == whole.text
        found = answer.result()
        assert [(call.name, call.arguments) for call in found.tool_calls] == [
            (call.name, call.arguments) for call in whole.tool_calls
        ]
        assert (found.usage, found.finish_reason) == (whole.usage, whole.finish_reason)


@needs_streams
@forms
@pytest.mark.parametrize("kind", [kind for kind in STREAM_KINDS if kind not in ("stream_endless", "stream_silent")])
def test_a_stream_that_goes_wrong_is_asked_for_again_or_read_all_the_same(form: str, kind: str) -> None:
    faults = Faults(share=1.0, kinds={kind: 1.0}, max_faults_per_call=2)
    with LlmServer(require_key="right-key", faults=faults) as server:
        answer = sw.llm.stream_blocking("Grüße 🎈 again", **to(server, form)).result()
        assert answer.text == "You said: Grüße 🎈 again"
        is_broken = kind in ("stream_reset", "stream_cut", "stream_error", "stream_no_end")
        assert [each["answer"] for each in server.journal()] == ([kind, kind, "ok"] if is_broken else [kind])
