"""The wire forms of the LLM test server: the same answer and the same usage in each of them, whole and as a stream."""

from __future__ import annotations

import base64
import json
import struct
from typing import TYPE_CHECKING, Any

import pytest
from llm_wire import FORMS, SCHEMA, TOOL, ask, read, read_stream, request_of, send

from stepwell.testing._llm_embed import embed
from stepwell.testing._llm_sample import sample
from stepwell.testing.llm_server import LlmServer, predict

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

STOPPED = {"chat": "stop", "azure": "stop", "responses": "completed", "anthropic": "end_turn", "gemini": "STOP"}
CUT = {
    "chat": "length",
    "azure": "length",
    "responses": "max_output_tokens",
    "anthropic": "max_tokens",
    "gemini": "MAX_TOKENS",
}
CALLED = STOPPED | {"chat": "tool_calls", "azure": "tool_calls", "anthropic": "tool_use"}


@pytest.fixture(scope="module")
def server() -> Iterator[LlmServer]:
    with LlmServer() as running:
        yield running


def both(server: LlmServer, form: str, text: str, **more: Any) -> Any:
    """Ask for the answer whole and as a stream; they must be the same."""
    whole, streamed = ask(server, form, text, **more), ask(server, form, text, stream=True, **more)
    assert (whole.status, streamed.status) == (200, 200)
    assert streamed.headers["content-type"].startswith("text/event-stream")
    found = read(form, whole.json)
    assert read_stream(form, streamed.events) == found
    return found


@pytest.mark.parametrize("form", FORMS)
def test_text_and_usage_are_the_same_whole_and_streamed(server: LlmServer, form: str) -> None:
    text = "Grüße 🎈 " * 5
    found = both(server, form, text)
    assert found.text == f"You said: {text}"
    assert found.finish == STOPPED[form]
    assert found.tokens == (len(text) // 4 + 1, -(-len(found.text) // 4), 0, 0)
    entries = server.journal()[-2:]
    assert [(each["tokens_in"], each["tokens_out"], each["stream"]) for each in entries] == [
        (*found.tokens[:2], False),
        (*found.tokens[:2], True),
    ]


@pytest.mark.parametrize("form", FORMS)
def test_cached_and_reasoning_tokens(server: LlmServer, form: str) -> None:
    text = "x" * 400
    tokens = both(server, form, text, model="test-cached-reasoning").tokens
    assert tokens[:3] == (101, 64 + -(-210 // 4), 50)
    assert tokens[3] == (0 if form == "anthropic" else 64), "anthropic does not say how many of them were thought"
    entry = server.journal()[-1]
    assert (entry["tokens_cached"], entry["tokens_reasoning"]) == (50, 64)


@pytest.mark.parametrize("form", FORMS)
def test_a_schema_is_answered_by_a_value_that_fits(server: LlmServer, form: str) -> None:
    found = both(server, form, "about billing", schema=SCHEMA)
    assert json.loads(found.text) == {"label": "Billing", "confidence": 0.9}


@pytest.mark.parametrize("form", FORMS)
def test_a_tool_is_called_with_arguments_that_fit(server: LlmServer, form: str) -> None:
    found = both(server, form, "Bonn, please", tool=TOOL)
    assert found.calls == [("look_up", {"city": "Bonn, please", "days": 3})]
    assert (found.text, found.finish) == ("", CALLED[form])


@pytest.mark.parametrize("form", FORMS)
def test_an_answer_is_cut_off_at_the_bound(server: LlmServer, form: str) -> None:
    found = both(server, form, "a" * 100, max_tokens=3)
    assert (found.text, found.finish) == ("You said: aa", CUT[form])
    assert found.tokens[1] == 3


@pytest.mark.parametrize("form", FORMS)
def test_numbered_tokens(server: LlmServer, form: str) -> None:
    found = both(server, form, "go", model="test-150-tokens")
    assert found.text.split() == [f"t{number}" for number in range(150)]
    assert found.tokens[1] == 150


def test_the_result_of_a_tool_is_answered_by_text(server: LlmServer) -> None:
    path, body, headers = request_of("chat", "Bonn", tool=TOOL)
    body["messages"] += [
        {"role": "assistant", "content": None, "tool_calls": []},
        {"role": "tool", "tool_call_id": "c", "content": "rain"},
    ]
    assert read("chat", send(server, path, body, headers).json).text == "The tool said: rain"
    path, body, headers = request_of("responses", "Bonn", tool=TOOL)
    body["input"] = [
        {"role": "user", "content": [{"type": "input_text", "text": "Bonn"}]},
        {"type": "function_call_output", "call_id": "c", "output": "rain"},
    ]
    assert read("responses", send(server, path, body, headers).json).text == "The tool said: rain"
    path, body, headers = request_of("anthropic", "Bonn", tool=TOOL)
    body["messages"][0]["content"] = [{"type": "tool_result", "tool_use_id": "c", "content": "rain"}]
    assert read("anthropic", send(server, path, body, headers).json).text == "The tool said: rain"
    path, body, headers = request_of("gemini", "Bonn", tool=TOOL)
    body["contents"][0]["parts"] = [{"functionResponse": {"name": "look_up", "response": {"sky": "rain"}}}]
    assert read("gemini", send(server, path, body, headers).json).text == 'The tool said: {"sky": "rain"}'


def test_which_tool_is_called(server: LlmServer) -> None:
    path, body, headers = request_of("chat", "Bonn", tool=TOOL)
    body["tools"].append({"type": "function", "function": {"name": "other", "parameters": {"type": "object"}}})

    def called(**more: Any) -> list[str]:
        return [name for name, _ in read("chat", send(server, path, body | more, headers).json).calls]

    assert called() == called(tool_choice="required") == ["look_up"]
    assert called(tool_choice={"type": "function", "function": {"name": "other"}}) == ["other"]
    assert called(tool_choice="none") == []
    assert called(model="test-parallel") == ["look_up", "other"]
    assert send(server, path, body | {"tool_choice": {"type": "function", "function": {"name": "x"}}}).status == 400
    path, body, headers = request_of("anthropic", "Bonn", tool=TOOL)
    body["tools"].append({"name": "other", "input_schema": {"type": "object"}})
    forced = body | {"tool_choice": {"type": "tool", "name": "other"}}
    assert read("anthropic", send(server, path, forced, headers).json).calls == [("other", {})]
    path, body, headers = request_of("gemini", "Bonn", tool=TOOL)
    calling = {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["look_up"]}}
    assert read("gemini", send(server, path, body | {"toolConfig": calling}, headers).json).calls[0][0] == "look_up"


@pytest.mark.parametrize("form", FORMS)
def test_the_right_key_is_wanted(form: str) -> None:
    with LlmServer(require_key="right") as server:
        wrong, right = ask(server, form, "a", key="wrong"), ask(server, form, "a", key="right")
        assert (wrong.status, right.status) == (401, 200)
        assert "right" not in wrong.body.decode()
        path, body, _ = request_of(form, "a")
        version = {"anthropic-version": "2023-06-01"} if form == "anthropic" else {}
        assert send(server, path, body, version).status == 401
        if form == "gemini":
            assert send(server, f"{path}?key=right", body).status == 200
        if form == "anthropic":
            assert wrong.json["error"]["type"] == "authentication_error"


@pytest.mark.parametrize("form", FORMS)
def test_what_is_no_request_is_refused_in_the_words_of_its_form(server: LlmServer, form: str) -> None:
    path, body, headers = request_of(form, "a")
    asked = {
        "chat": "messages",
        "azure": "messages",
        "responses": "input",
        "anthropic": "messages",
        "gemini": "contents",
    }
    empty = {name: value for name, value in body.items() if name != asked[form]}
    for bad in (b"{not json", b"[]", empty, body | {asked[form]: [{"role": "king", "content": 7}]}):
        if form == "responses" and isinstance(bad, dict) and "input" in bad:
            continue  # whose items have any role
        answer = send(server, path, bad, headers)
        assert answer.status == 400, bad
        assert answer.json["error"]["message"]
    assert ask(server, form, "a", model="missing-one").status == 404
    assert ask(server, form, "a", max_tokens=0).status == 400


def test_what_each_provider_insists_on(server: LlmServer) -> None:
    path, body, headers = request_of("anthropic", "a")
    assert send(server, path, body, {"x-api-key": "k"}).status == 400
    assert send(server, path, {**body, "max_tokens": None}, headers).json["error"]["type"] == "invalid_request_error"
    path, body, headers = request_of("azure", "a")
    assert send(server, path.partition("?")[0], body, headers).status == 404
    path, body, headers = request_of("gemini", "a", stream=True)
    assert send(server, path.partition("?")[0], body, headers).status == 400
    path, body, headers = request_of("gemini", "a", schema=SCHEMA)
    del body["generationConfig"]["responseMimeType"]
    assert send(server, path, body, headers).status == 400


def test_embeddings(server: LlmServer) -> None:
    texts = ["red apple", "a red apple", "quarterly report"]
    answer = send(server, "/v1/embeddings", {"model": "e", "input": texts, "dimensions": 64}).json
    vectors = [each["embedding"] for each in answer["data"]]
    assert vectors == [embed(text, 64) for text in texts]
    assert answer["usage"]["prompt_tokens"] == sum(len(text) // 4 + 1 for text in texts)

    def near(one: list[float], other: list[float]) -> float:
        return sum(a * b for a, b in zip(one, other, strict=True))

    assert near(vectors[0], vectors[0]) == pytest.approx(1, abs=1e-4)
    assert near(vectors[0], vectors[1]) > 0.7 > near(vectors[0], vectors[2])
    packed = send(server, "/v1/embeddings", {"model": "e", "input": "red apple", "encoding_format": "base64"}).json
    data = base64.b64decode(packed["data"][0]["embedding"])
    assert struct.unpack("<16f", data) == pytest.approx(embed("red apple"))
    for bad in (
        {"model": "e", "input": []},
        {"model": "e", "input": [""]},
        {"input": "a"},
        {"model": "missing", "input": "a"},
    ):
        assert send(server, "/v1/embeddings", bad).status in (400, 404)
    content = {"content": {"parts": [{"text": "red apple"}]}}
    path = "/v1beta/models/e"
    assert send(server, f"{path}:embedContent", content).json["embedding"]["values"] == embed("red apple")
    batch = send(server, f"{path}:batchEmbedContents", {"requests": [content, content]}).json
    assert [each["values"] for each in batch["embeddings"]] == [embed("red apple")] * 2


def test_recorded_answers(tmp_path: Path) -> None:
    file = tmp_path / "answers.jsonl"
    records = [
        {"model": "big", "text": "my card", "content": "Billing", "confidence": 0.7},
        {"model": "small", "text": "my card", "content": "Other"},
        {"model": "big", "text": "my card was lost", "content": {"label": "Other", "confidence": 0.1}},
        {"model": "big", "text": "plain", "content": "as it was said"},
    ]
    file.write_text("\n".join(json.dumps(each) for each in records), encoding="utf-8")
    with LlmServer(answers=file) as server:

        def said(model: str, text: str, form: str = "chat") -> Any:
            return json.loads(both(server, form, text, model=model, schema=SCHEMA).text)

        for form in FORMS:
            assert said("big", "my card", form) == {"label": "Billing", "confidence": 0.7}
        assert said("small", "my card")["label"] == "Other"
        assert said("big", "<ticket>my card was lost</ticket>") == {"label": "Other", "confidence": 0.1}
        assert said("big", "<ticket>my card</ticket>")["label"] == "Billing"
        assert both(server, "chat", "plain", model="big").text == "as it was said"
        assert ask(server, "chat", "never heard", model="big").status == 404
        assert ask(server, "chat", "my card", model="other").status == 404
    file.write_text('{"model": "big"}\n', encoding="utf-8")
    with pytest.raises(RuntimeError, match="did not start"):
        LlmServer(answers=file)


def test_samples_fit_their_schemas() -> None:
    schema = {
        "$defs": {"Line": {"type": "object", "properties": {"sku": {"type": "string", "minLength": 60}}}},
        "type": "object",
        "properties": {
            "lines": {"type": "array", "items": {"$ref": "#/$defs/Line"}, "minItems": 2},
            "when": {"type": "string", "format": "date"},
            "paid": {"type": "boolean"},
            "note": {"anyOf": [{"type": "null"}, {"type": "string"}]},
            "count": {"type": "integer", "exclusiveMinimum": 4},
            "share": {"type": "number", "maximum": 0.5},
            "kind": {"const": "order"},
            "mood": {"enum": ["good", None]},
        },
    }
    jsonschema = pytest.importorskip("jsonschema")
    value = sample(schema, "text")
    jsonschema.validate(value, schema)
    assert set(value) == set(schema["properties"])  # type: ignore[arg-type]
    assert sample({"type": "OBJECT", "properties": {"n": {"type": "INTEGER"}}}, "") == {"n": 1}
    assert sample({"$ref": "#"}, "") is None, "a schema that never ends"
    assert predict("good", ["good", "bad"]) == ("good", 0.9)
