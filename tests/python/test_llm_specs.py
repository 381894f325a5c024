"""The official documents of the providers judge what we send, and what our own test server answers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from llm_wire import SCHEMA, TOOL, ask, request_of, send

import stepwell as sw
from stepwell.testing._llm_anthropic import AnthropicForm
from stepwell.testing._llm_embed import embed, openai_embeddings
from stepwell.testing._llm_openai import ChatForm
from stepwell.testing._llm_say import say
from stepwell.testing.llm_server import Faults, LlmServer

pytest.importorskip("jsonschema")
from spec_server import SPECS, Spec, SpecServer, plain_schema  # - needs jsonschema

if TYPE_CHECKING:
    from stepwell.testing._llm_forms import Form

needs_specs = pytest.mark.skipif(not SPECS.is_dir(), reason=f"the providers' documents are not here: {SPECS}")
LABELS = ["Billing", "Technical", "General"]
QUICK = sw.Retry(max_attempts=2, base="1ms", cap="2ms")
CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"


def said(form: Form) -> Any:
    """Answer with the words of our own test server, which the document judges, too."""

    def answer(target: str, headers: dict[str, str], body: bytes) -> Any:
        path, _, query = target.partition("?")
        request = form.read(path, query, headers, body)
        return form.answer(say(request, "", "abc", None))

    return answer


@pytest.fixture(scope="module")
def openai() -> Spec:
    return Spec.load("openai")


@pytest.fixture(scope="module")
def anthropic() -> Spec:
    return Spec.load("anthropic")


# --- what we send ---


@dataclass
class Person:
    name: str
    age: int


def look_up(city: str, days: int = 3) -> str:
    """Tell the weather."""
    raise AssertionError("never called")


@needs_specs
@pytest.mark.parametrize("provider", ["openai", "anthropic"])
def test_what_we_send_is_accepted(provider: str, openai: Spec, anthropic: Spec) -> None:
    spec, form = (openai, ChatForm()) if provider == "openai" else (anthropic, AnthropicForm())
    with SpecServer(spec, said(form)) as server:
        place = {"base_url": f"{server.origin}/v1", "api_key": "sk-test", "model": f"{provider}:m"}
        to: dict[str, Any] = {**place, "retry": QUICK}
        assert sw.llm.chat_blocking("hello", temperature=0.2, max_tokens=50, **to).text == "You said: hello"
        talk = [
            {"role": "user", "content": "hello"},
            {"role": "assistant", "content": "Hi."},
            {"role": "user", "content": [{"type": "text", "text": "and now?"}]},
        ]
        assert sw.llm.chat_blocking(talk, system="Be brief.", **to).text == "You said: and now?"
        person = sw.llm.extract_blocking("Ada", into=Person, **to)
        assert person.value == Person("Ada", 1)
        assert sw.llm.chat_blocking("Ada", returns=list[Person], **to).value == [Person("Ada", 1)]
        asked = sw.llm.chat_blocking("Bonn", tools=[look_up], **to)
        assert asked.tool_calls[0].arguments == {"city": "Bonn", "days": 1}
        told = {"role": "tool", "tool_call_id": asked.tool_calls[0].id, "name": "look_up", "content": "rain"}
        more = sw.llm.chat_blocking([*talk, asked.message, told], tools=[look_up], **to)
        assert more.text == "The tool said: rain"
        label = sw.llm.classify_blocking("a billing question", labels=LABELS, **place)
        assert (label.label, label.status) == ("Billing", "ok")
        assert [(each.status, each.reason) for each in server.seen] == [(200, "")] * 7


@needs_specs
def test_openai_accepts_embed(openai: Spec) -> None:
    def answer(_target: str, _headers: dict[str, str], body: bytes) -> Any:
        request = json.loads(body)
        return openai_embeddings(request, request["model"])[0]

    with SpecServer(openai, answer) as server:
        to = {"base_url": f"{server.origin}/v1", "api_key": "sk-test", "model": "openai:text-embedding-3-small"}
        found = sw.llm.embed_blocking(["one", "two"], retry=QUICK, **to)
        assert found.vectors == [pytest.approx(embed("one")), pytest.approx(embed("two"))]
        assert [(each.status, each.reason) for each in server.seen] == [(200, "")]


@needs_specs
def test_what_openai_refuses_fails_and_says_why(openai: Spec) -> None:
    with SpecServer(openai) as server:
        to = {"base_url": f"{server.origin}/v1", "api_key": "sk-test", "model": "m", "retry": QUICK}
        with pytest.raises(sw.RunFailed, match="answered 400"):
            sw.llm.chat_blocking("hello", temperature="hot", **to)
        assert [each.status for each in server.seen] == [400], "a request that is wrong is not sent again"
        assert "temperature" in server.seen[0].reason


# --- the document judges at all ---


def post(server: SpecServer, path: str, body: Any, headers: dict[str, str]) -> tuple[int, str]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    status, _ = server.take("POST", path, headers, data)
    return status, server.seen[-1].reason


@needs_specs
def test_openai_refuses_what_is_wrong(openai: Spec) -> None:
    path, good, _ = request_of("chat", "hello", schema=SCHEMA, tool=TOOL)
    good["response_format"]["json_schema"]["strict"] = True
    headers = {"authorization": "Bearer sk-x", "content-type": "application/json"}
    refused: list[tuple[str, Any, str]] = [
        ("no messages", {"model": "m"}, "messages"),
        ("empty messages", good | {"messages": []}, "messages"),
        ("hot", good | {"temperature": "hot"}, "temperature"),
        ("too hot", good | {"temperature": 2.5}, "temperature"),
        ("unknown role", good | {"messages": [{"role": "king", "content": "a"}]}, "messages"),
        ("no content", good | {"messages": [{"role": "user"}]}, "messages"),
        ("a name nobody knows", good | {"max_tokns": 5}, "max_tokns"),
        ("a tool without a name", good | {"tools": [{"type": "function", "function": {}}]}, "tools"),
        ("a schema without a name", good | {"response_format": {"type": "json_schema", "json_schema": {}}}, "format"),
        ("no model", {name: value for name, value in good.items() if name != "model"}, "model"),
        ("not JSON", b"{", "JSON"),
    ]
    with SpecServer(openai, said(ChatForm())) as server:
        assert post(server, path, good, headers) == (200, "")
        for name, body, word in refused:
            status, reason = post(server, path, body, headers)
            assert status == 400, name
            assert word in reason, (name, reason)
        assert post(server, path, good, {"content-type": "application/json"})[0] == 401
        assert post(server, path, good, headers | {"content-type": "text/plain"})[0] == 400
        assert post(server, "/v1/chat/completion", good, headers)[0] == 404
        assert post(server, f"{path}?a=b", good, headers)[0] == 400
        assert server.take("GET", path, headers, b"")[0] == 405


@needs_specs
def test_anthropic_refuses_what_is_wrong(anthropic: Spec) -> None:
    path, good, given = request_of("anthropic", "hello", tool=TOOL)
    headers = {"content-type": "application/json", **given}
    refused: list[Any] = [
        {name: value for name, value in good.items() if name != "max_tokens"},
        {name: value for name, value in good.items() if name != "messages"},
        good | {"max_tokens": 0},
        good | {"temperature": "hot"},
        good | {"temperature": 1.5},
        good | {"messages": [{"role": "system", "content": "a"}]},
        good | {"messages": [{"role": "user", "content": 7}]},
        good | {"stop_sequences": "a"},
    ]
    with SpecServer(anthropic, said(AnthropicForm())) as server:
        assert post(server, path, good, headers) == (200, "")
        for body in refused:
            assert post(server, path, body, headers)[0] == 400, body
        for name in ("x-api-key", "anthropic-version"):
            bare = {each: value for each, value in headers.items() if each != name}
            assert post(server, path, good, bare)[0] in (400, 401), name


@needs_specs
def test_an_answer_that_does_not_fit_is_no_answer(openai: Spec) -> None:
    path, good, _ = request_of("chat", "hello")
    headers = {"authorization": "Bearer sk-x", "content-type": "application/json"}
    with SpecServer(openai, lambda *_: {"choices": "none"}) as server:
        assert post(server, path, good, headers)[0] == 500
    with SpecServer(openai) as server:
        assert post(server, path, good, headers) == (200, ""), "the example of the document itself"


@needs_specs
@pytest.mark.parametrize("name", sorted(each.name.split(".")[0] for each in SPECS.glob("*.openapi.json")))
def test_every_document_can_judge(name: str) -> None:
    assert Spec.load(name).operations


def test_openapi_3_0_is_read_as_json_schema() -> None:
    old = {
        "properties": {
            "a": {"type": "string", "nullable": True},
            "b": {"$ref": "#/x", "nullable": True},
            "c": {"type": "number", "minimum": 0, "exclusiveMinimum": True},
        }
    }
    assert plain_schema(old)["properties"] == {
        "a": {"type": ["string", "null"]},
        "b": {"anyOf": [{"$ref": "#/x"}, {"type": "null"}]},
        "c": {"type": "number", "exclusiveMinimum": 0},
    }


# --- what our own test server answers ---


@needs_specs
def test_our_test_server_answers_as_openai_does(openai: Spec) -> None:
    schemas = "#/components/schemas"
    with LlmServer(require_key="k") as server:
        for more in ({}, {"tool": TOOL}, {"schema": SCHEMA}, {"model": "test-reasoning-cached"}, {"max_tokens": 2}):
            openai.check(ask(server, "chat", "hello", **more).json, f"{schemas}/CreateChatCompletionResponse")
            events = ask(server, "chat", "hello", stream=True, **more).events
            assert len(events) > 3
            for _, chunk in events[:-1]:
                openai.check(chunk, f"{schemas}/CreateChatCompletionStreamResponse")
        answer = send(server, "/v1/embeddings", {"model": "e", "input": ["a", "b"]}, {"Authorization": "Bearer k"})
        openai.check(answer.json, f"{schemas}/CreateEmbeddingResponse")
        openai.check(ask(server, "chat", "a", key="wrong").json, f"{schemas}/ErrorResponse")
        for kind in ("429", "500", "quota", "refusal", "empty", "two_choices", "content_filter"):
            server.set_faults(Faults(share=1.0, kinds={kind: 1.0}, max_faults_per_call=1))
            found = ask(server, "chat", kind)
            name = "CreateChatCompletionResponse" if found.status == 200 else "ErrorResponse"
            openai.check(found.json, f"{schemas}/{name}")


@needs_specs
def test_our_test_server_answers_as_anthropic_does(anthropic: Spec) -> None:
    responses = anthropic.operations[0].responses
    with LlmServer(require_key="k") as server:
        for more in ({}, {"tool": TOOL}, {"schema": SCHEMA}, {"model": "test-reasoning-cached"}, {"max_tokens": 2}):
            anthropic.check(ask(server, "anthropic", "hello", **more).json, responses["200"])
            _, begun = ask(server, "anthropic", "hello", stream=True, **more).events[0]
            anthropic.check(begun["message"], responses["200"])
        anthropic.check(ask(server, "anthropic", "a", key="wrong").json, responses["401"])
        for kind, status in (("429", "429"), ("529", "529"), ("refusal", "200"), ("empty", "200")):
            server.set_faults(Faults(share=1.0, kinds={kind: 1.0}, max_faults_per_call=1))
            anthropic.check(ask(server, "anthropic", kind).json, responses[status])
