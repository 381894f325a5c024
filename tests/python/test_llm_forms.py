"""Our client and our server, which were written apart: each form, each kind of question, the server's faults."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import pytest
from llm_answers import FORMS, QUICK

import stepwell as sw
from stepwell.testing.llm_server import Faults, LlmServer, predict
from stepwell.triage import triage_table

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LABELS = ["Billing", "Technical", "General"]


@dataclass
class Record:
    topic: Literal["billing", "printers"]
    count: int
    tags: list[str]
    note: str | None = None


def pay(amount: int, currency: Literal["EUR", "USD"]) -> None:
    """Pay somebody."""
    raise AssertionError("no tool is ever called")


@pytest.fixture(scope="module")
def server() -> Iterator[LlmServer]:
    with LlmServer() as running:
        yield running


def place(form: str, server: LlmServer, name: str = "test") -> dict[str, Any]:
    return {"model": name if form == "compatible" else f"{form}:{name}", "base_url": server.url, "retry": QUICK}


@pytest.mark.parametrize("form", FORMS)
def test_each_kind_of_question(form: str, server: LlmServer) -> None:
    where = place(form, server)
    assert sw.llm.chat_blocking("hello", **where).text == "You said: hello"
    found = sw.llm.Classifier(LABELS, **where).classify_blocking("a technical question")
    assert (found.label, found.status, found.repaired) == ("Technical", "ok", False)
    record = sw.llm.extract_blocking("a billing matter", Record, **where)
    assert (record.value.topic, record.repaired) == ("billing", False)
    asked = sw.llm.chat_blocking("pay me", tools=[pay], **where)
    assert [call.name for call in asked.tool_calls] == ["pay"]
    talk = [{"role": "user", "content": "pay me"}, asked.message, asked.tool_calls[0].result({"paid": True})]
    assert sw.llm.chat_blocking(talk, tools=[pay], **where).text
    if form != "anthropic":
        vectors = asyncio.run(sw.llm.embed(["a", "b", "a"], **where)).vectors
        assert vectors[0] == vectors[2] != vectors[1]
        assert len({len(vector) for vector in vectors}) == 1


@pytest.mark.parametrize("form", FORMS)
def test_cached_and_thought_tokens_and_cut_answers(form: str, server: LlmServer) -> None:
    plain = sw.llm.chat_blocking("hello " * 50, **place(form, server)).usage
    cached = sw.llm.chat_blocking("hello " * 50, **place(form, server, "cached-test")).usage
    assert 0 == plain.cached_tokens < cached.cached_tokens < cached.tokens_in
    assert abs(cached.tokens_in - plain.tokens_in) <= 2, "cached tokens are a part of the input, whatever the form says"
    thought = sw.llm.chat_blocking("hello", **place(form, server, "reasoning-test")).usage
    assert thought.tokens_out >= 64
    assert thought.reasoning_tokens == (0 if form == "anthropic" else 64)
    assert not thought.is_doubtful
    cut = sw.llm.chat_blocking("hello", max_tokens=5, **place(form, server, "numbers-200-tokens"))
    assert cut.finish_reason == "length"
    assert cut.usage.tokens_out <= 5


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["fenced", "wrong_label", "empty", "unknown_tool", "two_choices", "nan", "529"])
def test_a_fault_of_the_server_ends_in_a_label(form: str, kind: str) -> None:
    """One fault in all: it is passed over, retried by the core, or repaired in the second round."""
    with LlmServer(faults=Faults(share=1.0, kinds={kind: 1.0}, max_faults=1)) as spoiling:
        found = sw.llm.Classifier(LABELS, **place(form, spoiling)).classify_blocking("a technical question")
    assert (found.label, found.status) == ("Technical", "ok")
    assert found.label == predict("a technical question", LABELS)[0]


@pytest.mark.parametrize("form", FORMS)
def test_a_cut_off_answer_goes_to_review(form: str) -> None:
    """It is a result, not a fault: another answer would be cut off as well."""
    with LlmServer(faults=Faults(share=1.0, kinds={"cut_json": 1.0}, max_faults=1)) as spoiling:
        found = sw.llm.Classifier(LABELS, **place(form, spoiling)).classify_blocking("a technical question")
        assert (found.label, found.reason, spoiling.count()) == (None, "the answer was cut off", 1)


@pytest.mark.parametrize("form", FORMS)
def test_a_key_that_the_server_wants(form: str) -> None:
    key = "the-key-that-is-wanted"
    with LlmServer(require_key=key) as server:
        assert sw.llm.chat_blocking("hello", api_key=key, **place(form, server)).text == "You said: hello"
        with pytest.raises(sw.RunFailed, match="401"):
            sw.llm.chat_blocking("hello", api_key="another-key-entirely", **place(form, server))


@pytest.mark.parametrize("form", FORMS)
def test_a_table_is_sorted_by_a_model_of_each_form(form: str, server: LlmServer, tmp_path: Path) -> None:
    table = tmp_path / "tickets.csv"
    table.write_text("text\na billing matter\na technical matter\nsomething general\n")
    where = place(form, server)
    found = triage_table(table, labels=LABELS, model=where["model"], base_url=server.url, store=None, quiet=True)
    assert [outcome.label for outcome in found.outcomes if outcome] == LABELS
