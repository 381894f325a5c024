"""Every wire form over real HTTP: what is sent, what is read, whose key and URL; held against the providers' own specs."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pydantic
import pytest
from llm_answers import FORMS, QUICK, ROUTES, USED, Provider, problems, says, spec

import stepwell as sw
from stepwell.llm import resolve_model
from stepwell.llm._adapter import Ask
from stepwell.llm._anthropic import ANTHROPIC
from stepwell.llm._openai_chat import OPENAI_CHAT
from stepwell.testing.http_server import Answer, HttpServer

if TYPE_CHECKING:
    from pathlib import Path

LABELS = ["Billing", "Technical", "General"]


@dataclass
class Person:
    name: str
    age: int = 0


def weather(city: str, unit: str = "C") -> str:
    """Tell the weather."""
    raise AssertionError("never called")


TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "What is the weather?"},
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Ulm"}'}}
        ],
    },
    {"role": "tool", "tool_call_id": "c1", "name": "weather", "content": "rain"},
    {"role": "user", "content": [{"type": "text", "text": "and tomorrow?"}]},
]


@pytest.mark.parametrize("form", FORMS)
def test_text_usage_and_names(form: str) -> None:
    with Provider(form) as server:
        answer = sw.llm.chat_blocking("hi", system="Be brief.", max_tokens=9, temperature=0.5, **server.settings)
        again = asyncio.run(sw.llm.chat("hi", **server.settings))
    assert (answer.text, answer.value, answer.finish_reason, answer.attempts) == ("hello", "hello", "stop", 1)
    assert again.text == "hello"
    usage = answer.usage
    assert (usage.tokens_in, usage.tokens_out, usage.cached_tokens) == (100, 30, 40)
    assert usage.reasoning_tokens == (0 if form == "anthropic" else USED["reasoning"])
    assert not usage.is_doubtful
    assert answer.model == "m-1"


@pytest.mark.parametrize(
    ("form", "finish"),
    [
        (form, finish)
        for form in FORMS
        for finish in ("stop", "length", "content_filter")
        if (form, finish) != ("anthropic", "content_filter")  # this API knows refusals only
    ],
)
def test_finish_reasons_have_one_name(form: str, finish: str) -> None:
    with Provider(form, says(form, "so far", finish=finish)) as server:
        answer = sw.llm.chat_blocking("hi", **server.settings)
    assert (answer.text, answer.finish_reason) == ("so far", finish)


@pytest.mark.parametrize("form", [form for form in FORMS if form != "gemini"])
def test_a_refusal_is_an_error_of_its_own(form: str) -> None:
    with Provider(form, says(form, "I would rather not", finish="refusal")) as server:
        with pytest.raises(sw.LlmError, match=r"SW-E2107.*I would rather not"):
            sw.llm.chat_blocking("hi", **server.settings)
        answer = sw.llm.classify_blocking("hi", labels=LABELS, model=server.settings["model"], base_url=server.url)
        assert (answer.status, answer.reason) == ("review", "the model refused")
        assert len(server.bodies()) == 2, "no repair round: nothing to mend"


def test_a_blocked_prompt_of_gemini_is_a_result_and_not_retried() -> None:
    blocked = {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 5}}
    with Provider("gemini", blocked) as server:
        answer = sw.llm.chat_blocking("hi", **server.settings)
        assert (answer.text, answer.finish_reason, answer.usage.tokens_in) == ("", "content_filter", 5)
        with pytest.raises(sw.LlmError, match="SW-E2115"):
            sw.llm.chat_blocking("hi", returns=Person, **server.settings)
        assert len(server.bodies()) == 2


@pytest.mark.parametrize("form", FORMS)
def test_structured_output_each_in_its_own_way(form: str) -> None:
    with Provider(form, '{"name": "Ada", "age": 36}') as server:
        answer = sw.llm.chat_blocking("who?", returns=Person, **server.settings)
        body = server.bodies()[0]
    assert answer.value == Person("Ada", 36)
    if form == "anthropic":
        sent = body["output_config"]["format"]
        assert sent["type"] == "json_schema"
        sent = sent["schema"]
    elif form == "gemini":
        assert body["generationConfig"]["responseMimeType"] == "application/json"
        sent = body["generationConfig"]["responseJsonSchema"]
    elif form == "openai-responses":
        assert (body["text"]["format"]["type"], body["text"]["format"]["strict"]) == ("json_schema", True)
        sent = body["text"]["format"]["schema"]
    else:
        assert body["response_format"]["json_schema"]["strict"] is True
        sent = body["response_format"]["json_schema"]["schema"]
    assert set(sent["properties"]) == {"name", "age"}
    if form not in ("gemini", "anthropic"):
        assert (sent["additionalProperties"], sent["required"]) == (False, ["name", "age"])


@pytest.mark.parametrize("form", FORMS)
def test_tools_and_their_results(form: str) -> None:
    wants = says(form, None, calls=[("c1", "weather", '{"city": "Ulm"}')], finish="tool_calls")
    with Provider(form, wants, "rain in Ulm") as server:
        first = sw.llm.chat_blocking("weather?", tools=[weather], tool_choice="weather", **server.settings)
        (call,) = first.tool_calls
        assert (call.id, call.name, call.arguments, first.value) == ("c1", "weather", {"city": "Ulm"}, None)
        assert first.finish_reason == "tool_calls"
        talk = [{"role": "user", "content": "weather?"}, first.message, call.result({"sky": "rain"})]
        assert sw.llm.chat_blocking(talk, tools=[weather], **server.settings).text == "rain in Ulm"
        sent = server.bodies()[1]
    if form == "anthropic":
        assert sent["messages"][1]["content"] == [
            {"type": "tool_use", "id": "c1", "name": "weather", "input": {"city": "Ulm"}}
        ]
        assert sent["messages"][2]["content"][0]["tool_use_id"] == "c1"
        assert sent["tools"][0]["input_schema"]["required"] == ["city"]
    elif form == "gemini":
        assert sent["contents"][1] == {
            "role": "model",
            "parts": [{"functionCall": {"name": "weather", "args": {"city": "Ulm"}}}],
        }
        result = {"name": "weather", "response": {"result": {"sky": "rain"}}}
        assert sent["contents"][2] == {"role": "user", "parts": [{"functionResponse": result}]}
    elif form == "openai-responses":
        kinds = [item.get("type", "message") for item in sent["input"]]
        assert kinds == ["message", "function_call", "function_call_output"]
        assert sent["tools"][0]["name"] == "weather"
    else:
        assert [message["role"] for message in sent["messages"]] == ["user", "assistant", "tool"]
        assert sent["tools"][0]["function"]["description"] == "Tell the weather."


@pytest.mark.parametrize("form", FORMS)
def test_classify_and_extract(form: str) -> None:
    label = '{"label": "Billing", "confidence": 0.9}'
    with Provider(form, label, '{"value": ["a", "b"]}') as server:
        settings = server.settings
        found = sw.llm.Classifier(LABELS, **settings).classify_blocking("charged twice")
        assert (found.label, found.status, found.tokens_in, found.repaired) == ("Billing", "ok", 100, False)
        listed = sw.llm.extract_blocking("a and b", list[str], **settings)
        assert (listed.value, listed.repaired, listed.attempts) == (["a", "b"], False, 1)
        for body in server.bodies():
            assert "untrusted_text" in str(body)


@pytest.mark.parametrize("form", FORMS)
def test_calls_in_a_run_are_recorded_under_their_names(form: str, tmp_path: Path) -> None:
    with Provider(form, "not a label", '{"label": "Billing", "confidence": 1}', '{"name": "Ada"}') as server:
        one = sw.llm.Classifier(LABELS, **server.settings)
        settings = server.settings

        @sw.workflow
        async def flow(text: str) -> list[Any]:
            found = await one.classify(text)
            person = await sw.llm.extract(text, Person, **settings)
            return [found.label, found.repaired, found.tokens_in, person.value.name]

        with sw.Engine(tmp_path / "s.db") as engine:
            run = engine.start(flow, "a bill for Ada", key="k")
            result = run.result(20)
            names = [entry.name for entry in run.history() if entry.name and entry.name.startswith("llm.")]
        with sw.Engine(tmp_path / "s.db") as engine:
            assert engine.start(flow, "a bill for Ada", key="k").result(20) == result
        assert result == ["Billing", True, 200, "Ada"]
        assert list(dict.fromkeys(names)) == ["llm.classify", "llm.classify.repair", "llm.extract"]
        assert len(server.bodies()) == 3


def test_raw_passes_both_ways() -> None:
    with HttpServer({"POST /chat/completions": says("openai"), "POST /moderations": {"flagged": False}}) as server:
        place = {"base_url": server.url, "retry": QUICK}
        answer = sw.llm.raw_blocking("m", {"messages": [{"role": "user", "content": "x"}], "seed": 7}, **place)
        assert answer["choices"][0]["message"]["content"] == "hello"
        assert asyncio.run(sw.llm.raw("m", {"input": "x"}, path="/moderations", **place)) == {"flagged": False}
        assert [entry["body"]["model"] for entry in server.journal()] == ["m", "m"]
        for path in ("moderations", "/../secret", "//host", "/a?b=c", "/a b"):
            with pytest.raises(sw.InputError, match="SW-E2120"):
                sw.llm.raw_blocking("m", {}, path=path, **place)
        with pytest.raises(sw.InputError, match="SW-E2120"):
            sw.llm.raw_blocking("m", {"stream": True}, **place)
    with Provider("gemini") as server:
        body = {"contents": [{"parts": [{"text": "x"}]}]}
        assert "candidates" in sw.llm.raw_blocking(body=body, **server.settings)
        assert "model" not in server.bodies()[0]


# --- where, and with which key ---


@pytest.mark.parametrize("name", ["vllm", "ollama", "llamacpp"])
def test_servers_of_ones_own_need_no_key(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    model = resolve_model(f"{name}:llama3:8b")
    assert (model.provider, model.name) == (name, "llama3:8b")
    assert model.url.startswith("http://127.0.0.1:")
    assert model.url.endswith("/v1/chat/completions")
    assert model.headers == (("content-type", "application/json"),)


def test_a_name_with_a_colon_at_ones_own_url_is_a_name() -> None:
    assert resolve_model("llama3:8b", "http://127.0.0.1:9/v1").name == "llama3:8b"
    assert resolve_model("openai:ft:gpt-4o:org::id", api_key="k" * 20).name == "ft:gpt-4o:org::id"


def test_each_provider_gets_its_key_in_its_own_header(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {
        "OPENAI_API_KEY": ("openai:m", "authorization", "Bearer "),
        "ANTHROPIC_API_KEY": ("anthropic:m", "x-api-key", ""),
        "GEMINI_API_KEY": ("gemini:m", "x-goog-api-key", ""),
        "AZURE_OPENAI_API_KEY": ("azure:m", "api-key", ""),
    }
    for variable in names:
        monkeypatch.setenv(variable, "the-" + variable.lower())
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", "https://x.openai.azure.com/")
    for variable, (name, header, before) in names.items():
        model = resolve_model(name)
        assert dict(model.headers)[header] == before + "the-" + variable.lower()
        assert "the-" not in repr(model)
        assert sum("the-" in value for _, value in model.headers) == 1
    assert dict(resolve_model("anthropic:m").headers)["anthropic-version"] == "2023-06-01"
    for name in names.values():
        monkeypatch.delenv(next(variable for variable, each in names.items() if each == name))
        with pytest.raises(sw.LlmError, match="SW-E2101"):
            resolve_model(name[0])


def test_places_of_azure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AZURE_OPENAI_ENDPOINT", raising=False)
    monkeypatch.delenv("OPENAI_API_VERSION", raising=False)
    with pytest.raises(sw.LlmError, match=r"SW-E2101.*endpoint"):
        resolve_model("azure:dep", api_key="k" * 20)
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", "https://x.openai.azure.com/")
    base = "https://x.openai.azure.com/openai"

    def url(base_url: str | None = None, **more: Any) -> str:
        return resolve_model("azure:my dep".replace(" ", "-"), base_url, "k" * 20, **more).url

    assert url() == f"{base}/deployments/my-dep/chat/completions?api-version=2024-10-21"
    assert url(api_version="2025-01-01-preview").endswith("?api-version=2025-01-01-preview")
    portal = f"{base}/deployments/other/chat/completions?api-version=2025-03-01-preview"
    assert url(portal) == f"{base}/deployments/my-dep/chat/completions?api-version=2025-03-01-preview"
    assert url(f"{base}/v1/") == f"{base}/v1/chat/completions"
    monkeypatch.setenv("OPENAI_API_VERSION", "2024-12-01-preview")
    assert url().endswith("?api-version=2024-12-01-preview")
    with pytest.raises(sw.InputError, match="SW-E2102"):
        url(api_version="latest&x=y")
    with Provider("azure") as server:
        sw.llm.chat_blocking("hi", **server.settings)
        assert (
            server.journal()[0]["path"]
            == server.prefix + ROUTES["azure"].split()[1] + "?api-version=2024-12-01-preview"
        )


def test_urls_that_are_none() -> None:
    for url in (
        "https://h/v1?key=x",
        "https://h/v1#f",
        "https://u:p@h/v1",
        "file:///v1",
        "https:///v1",
        "https://h:0/v1",
        "h",
    ):
        with pytest.raises(sw.InputError, match="SW-E2102"):
            resolve_model("m", url, "k" * 20)
    with pytest.raises(sw.InputError) as caught:
        resolve_model("m", "ftp://h/sk-abcdefghijklmnopqrstuvwx/v1")
    assert "abcdefghijklmnop" not in str(caught.value)
    for path in ("/chat/completions", "/responses", "/messages", "/"):
        assert resolve_model("m", "https://h/v1" + path, "k" * 20).base == "https://h/v1"


@pytest.mark.parametrize(
    ("name", "has_one"),
    [
        ("claude-3-5-haiku-20241022", True),
        ("claude-2.1", True),
        ("claude-sonnet-4-20250514", True),
        ("claude-sonnet-4-5-20250929", True),
        ("claude-opus-4-6", True),
        ("claude-opus-4-7", False),
        ("claude-sonnet-5", False),
        ("claude-opus-4-10", False),
        ("my-proxy", True),
    ],
)
def test_models_of_anthropic_that_take_no_temperature(name: str, *, has_one: bool) -> None:
    body = ANTHROPIC.body(Ask(name, [{"role": "user", "content": "x"}], temperature=0))
    assert ("temperature" in body) is has_one


def test_reasoning_models_are_not_given_a_temperature() -> None:
    for name, has_one in (("o3-mini", False), ("gpt-5", False), ("gpt-5-chat-latest", True), ("gpt-4o", True)):
        ask = Ask(name, [{"role": "user", "content": "x"}], temperature=0)
        assert ("temperature" in OPENAI_CHAT.body(ask)) is has_one


def test_options_go_through_and_win() -> None:
    for form in FORMS:
        with Provider(form) as server:
            sw.llm.chat_blocking("hi", temperature=0.1, seed=7, **server.settings)
            sent = server.bodies()[0]
            assert sent.get("generationConfig", sent)["seed"] == 7


# --- against the providers' own specifications ---


class Address(pydantic.BaseModel):
    street: str = pydantic.Field(min_length=1, max_length=80, description="with number")
    lines: list[str] = []
    parent: Address | None = None


def asks() -> list[Ask]:
    from stepwell.llm._json_schema import schema_of
    from stepwell.llm._tools import tools_of

    tools = tools_of([weather])
    return [
        Ask("m", [{"role": "user", "content": "hi"}]),
        Ask("m", TALK, "Be kind.", tools, "weather", max_tokens=50, temperature=0.5),
        Ask("m", TALK, tools=tools, tool_choice="required", schema=schema_of(Person)[0]),
        Ask("m", TALK, schema=schema_of(Address)[0]),
        Ask("m", TALK, schema=schema_of(list[dict[str, int]])[0]),
    ]


@pytest.mark.parametrize("number", range(5))
@pytest.mark.parametrize("stream", [False, True])
def test_chat_bodies_fit_openais_specification(number: int, *, stream: bool) -> None:
    document = spec("openai")
    schema = {"$ref": "#/components/schemas/CreateChatCompletionRequest"}
    body = OPENAI_CHAT.body(asks()[number], stream=stream)
    assert problems(document, schema, body) == []
    for broken in ({"messages": []}, {"messages": [{"role": "nobody", "content": "x"}]}, {"temperature": 3}):
        assert problems(document, schema, {**body, **broken}), f"the validator sees {broken}"
    assert problems(document, schema, {"model": "m"})


@pytest.mark.parametrize("number", range(5))
@pytest.mark.parametrize("stream", [False, True])
def test_bodies_fit_anthropics_specification(number: int, *, stream: bool) -> None:
    document = spec("anthropic")
    schema = document["paths"]["/v1/messages"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    body = ANTHROPIC.body(asks()[number], stream=stream)
    assert problems(document, schema, body) == []
    for broken in ({"max_tokens": 0}, {"messages": [{"role": "system", "content": "x"}]}, {"temperature": 2}):
        assert problems(document, schema, {**body, **broken}), f"the validator sees {broken}"
    assert problems(document, schema, {name: value for name, value in body.items() if name != "max_tokens"})
    answer = document["paths"]["/v1/messages"]["post"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert problems(document, answer, says("anthropic")) == []
    assert problems(document, answer, {**says("anthropic"), "content": "text"})


def test_embedding_bodies_fit_openais_specification() -> None:
    document = spec("openai")
    schema = {"$ref": "#/components/schemas/CreateEmbeddingRequest"}
    assert OPENAI_CHAT.embeds is not None
    body = OPENAI_CHAT.embeds.body("m", ["a", "b"], {"dimensions": 8})
    assert problems(document, schema, body) == []
    assert problems(document, schema, {**body, "dimensions": 0})
    assert problems(document, schema, {**body, "unknown": 1})


def test_an_overloaded_provider_is_asked_again_by_the_core() -> None:
    for form in FORMS:
        with Provider(form, Answer(529, {"error": {"message": "overloaded"}}), Answer(503), "good") as server:
            answer = sw.llm.chat_blocking("hi", **server.settings)
        assert (answer.text, answer.attempts) == ("good", 3)
