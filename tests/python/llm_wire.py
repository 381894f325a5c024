"""Asks the LLM test server over plain http.client, in each wire form; reads streams by hand."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stepwell.testing.llm_server import LlmServer

SCHEMA = {
    "type": "object",
    "properties": {"label": {"type": "string", "enum": ["Billing", "Other"]}, "confidence": {"type": "number"}},
    "required": ["label", "confidence"],
}
TOOL = {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 3}}}
#: Azure is chat completions under another path and key.
FORMS = ("chat", "azure", "responses", "anthropic", "gemini")


@dataclass
class Answered:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def events(self) -> list[tuple[str, Any]]:
        """The events of a stream as (name, value), whatever ends their lines."""
        found = []
        for block in self.body.decode().replace("\r\n", "\n").split("\n\n"):
            lines = [line.partition(": ") for line in block.split("\n")]
            data = "\n".join(value for name, _, value in lines if name == "data")
            name = next((value for name, _, value in lines if name == "event"), "")
            if data:
                found.append((name, data if data == "[DONE]" else json.loads(data)))
        return found


def send(
    server: LlmServer, path: str, body: object, headers: Mapping[str, str] | None = None, *, timeout: float = 20
) -> Answered:
    """POST `body` and read the whole answer."""
    connection = http.client.HTTPConnection(server.url.split("/")[2], timeout=timeout)
    try:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        connection.request("POST", path, data, dict(headers or {}))
        answer = connection.getresponse()
        given = {name.lower(): value for name, value in answer.getheaders()}
        return Answered(answer.status, given, answer.read())
    finally:
        connection.close()


def request_of(
    form: str,
    text: str,
    *,
    model: str = "test",
    stream: bool = False,
    schema: Any = None,
    tool: Any = None,
    max_tokens: int = 500,
    key: str = "k",
) -> tuple[str, dict[str, Any], dict[str, str]]:
    """Return path, body and headers that ask `text` in a form."""
    body: dict[str, Any]
    if form in ("chat", "azure"):
        body = {"model": model, "messages": [{"role": "user", "content": text}], "max_completion_tokens": max_tokens}
        body |= {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
        if schema:
            body["response_format"] = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
        if tool:
            body["tools"] = [{"type": "function", "function": {"name": "look_up", "parameters": tool}}]
        if form == "chat":
            return "/v1/chat/completions", body, {"Authorization": f"Bearer {key}"}
        del body["model"]
        return f"/openai/deployments/{model}/chat/completions?api-version=2024-10-21", body, {"api-key": key}
    if form == "responses":
        body = {"model": model, "input": text, "max_output_tokens": max_tokens, **({"stream": True} if stream else {})}
        if schema:
            body["text"] = {"format": {"type": "json_schema", "name": "a", "schema": schema}}
        if tool:
            body["tools"] = [{"type": "function", "name": "look_up", "parameters": tool}]
        return "/v1/responses", body, {"Authorization": f"Bearer {key}"}
    if form == "anthropic":
        body = {"model": model, "max_tokens": max_tokens, "messages": [{"role": "user", "content": text}]}
        body |= {"stream": True} if stream else {}
        if schema:
            body["output_config"] = {"format": {"type": "json_schema", "schema": schema}}
        if tool:
            body["tools"] = [{"name": "look_up", "input_schema": tool}]
        return "/v1/messages", body, {"x-api-key": key, "anthropic-version": "2023-06-01"}
    config: dict[str, Any] = {"maxOutputTokens": max_tokens}
    if schema:
        config |= {"responseMimeType": "application/json", "responseJsonSchema": schema}
    body = {"contents": [{"role": "user", "parts": [{"text": text}]}], "generationConfig": config}
    if tool:
        body["tools"] = [{"functionDeclarations": [{"name": "look_up", "parameters": tool}]}]
    verb = "streamGenerateContent?alt=sse" if stream else "generateContent"
    return f"/v1beta/models/{model}:{verb}", body, {"x-goog-api-key": key}


def ask(server: LlmServer, form: str, text: str, *, idempotency: str = "", **more: Any) -> Answered:
    """Ask `text` in a form."""
    path, body, headers = request_of(form, text, **more)
    return send(server, path, body, headers | ({"Idempotency-Key": idempotency} if idempotency else {}))


@dataclass
class Read:
    """An answer, read as a client of its form reads it."""

    text: str
    calls: list[tuple[str, Any]]
    finish: str
    tokens: tuple[int, int, int, int]  # in, out, cached, reasoning; the first two as the provider counts them whole


def read(form: str, answer: Any) -> Read:
    """Read an answer that is no stream."""
    if form in ("chat", "azure"):
        choice = answer["choices"][0]
        message, usage = choice["message"], answer["usage"]
        calls = [
            (each["function"]["name"], json.loads(each["function"]["arguments"]))
            for each in message.get("tool_calls", [])
        ]
        cached = usage["prompt_tokens_details"]["cached_tokens"]
        thought = usage["completion_tokens_details"]["reasoning_tokens"]
        tokens = (usage["prompt_tokens"], usage["completion_tokens"], cached, thought)
        return Read(message["content"] or "", calls, choice["finish_reason"], tokens)
    if form == "responses":
        usage = answer["usage"]
        texts = [part.get("text", "") for item in answer["output"] for part in item.get("content", [])]
        calls = [
            (item["name"], json.loads(item["arguments"]))
            for item in answer["output"]
            if item["type"] == "function_call"
        ]
        cached, thought = (
            usage["input_tokens_details"]["cached_tokens"],
            usage["output_tokens_details"]["reasoning_tokens"],
        )
        reason = (answer["incomplete_details"] or {}).get("reason")
        finish = reason or answer["status"]
        return Read("".join(texts), calls, finish, (usage["input_tokens"], usage["output_tokens"], cached, thought))
    if form == "anthropic":
        usage, blocks = answer["usage"], answer["content"]
        calls = [(block["name"], block["input"]) for block in blocks if block["type"] == "tool_use"]
        cached = usage["cache_read_input_tokens"]
        text = "".join(block.get("text", "") for block in blocks)
        return Read(
            text, calls, answer["stop_reason"], (usage["input_tokens"] + cached, usage["output_tokens"], cached, 0)
        )
    candidate, usage = answer["candidates"][0], answer["usageMetadata"]
    parts = candidate.get("content", {}).get("parts", [])
    calls = [(part["functionCall"]["name"], part["functionCall"]["args"]) for part in parts if "functionCall" in part]
    thought = usage.get("thoughtsTokenCount", 0)
    tokens = (
        usage["promptTokenCount"],
        usage["candidatesTokenCount"] + thought,
        usage.get("cachedContentTokenCount", 0),
        thought,
    )
    return Read("".join(part.get("text", "") for part in parts), calls, candidate["finishReason"], tokens)


def read_stream(form: str, events: list[tuple[str, Any]]) -> Read:
    """Put the events of a stream together and read them; asserts what the form promises about their order."""
    if form in ("chat", "azure"):
        return _read_chat(events)
    if form == "responses":
        assert [value["sequence_number"] for _, value in events] == list(range(len(events)))
        assert all(name == value["type"] for name, value in events)
        assert events[0][0] == "response.created"
        whole = events[-1][1]["response"]
        assert events[-1][0] == f"response.{whole['status']}"
        text = "".join(value["delta"] for name, value in events if name == "response.output_text.delta")
        found = read(form, whole)
        assert text == found.text
        return found
    if form == "anthropic":
        return _read_anthropic(events)
    parts = [part for _, value in events for part in value["candidates"][0].get("content", {}).get("parts", [])]
    last = events[-1][1]
    assert all("finishReason" not in value["candidates"][0] for _, value in events[:-1])
    last["candidates"][0]["content"] = {"parts": parts}
    return read(form, last)


def _read_chat(events: list[tuple[str, Any]]) -> Read:
    assert events[-1] == ("", "[DONE]")
    usage = events[-2][1]
    assert usage["choices"] == []
    assert all(value["usage"] is None for _, value in events[:-2])
    choices = [value["choices"][0] for _, value in events[:-2]]
    deltas = [choice["delta"] for choice in choices]
    assert deltas[0]["role"] == "assistant"
    pieces = [each for delta in deltas for each in delta.get("tool_calls", [])]
    calls = [
        {"function": {"name": each["function"]["name"], "arguments": "".join(
            piece["function"]["arguments"] for piece in pieces if piece["index"] == each["index"])}}
        for each in pieces if "id" in each
    ]  # fmt: skip
    text = "".join(delta.get("content") or "" for delta in deltas)
    message = {"content": text, "tool_calls": calls}
    assert [choice["finish_reason"] for choice in choices[:-1]] == [None] * (len(choices) - 1)
    finish = choices[-1]["finish_reason"]
    return read("chat", {"choices": [{"message": message, "finish_reason": finish}], "usage": usage["usage"]})


def _read_anthropic(events: list[tuple[str, Any]]) -> Read:
    assert all(name == value["type"] for name, value in events)
    names = [name for name, _ in events]
    assert names[0] == "message_start"
    assert names[-2:] == ["message_delta", "message_stop"]
    assert ("ping" in names) == ("content_block_start" in names)
    message = events[0][1]["message"]
    partial: dict[int, str] = {}
    for name, value in events:
        if name == "content_block_start":
            assert value["index"] == len(message["content"])
            message["content"].append(value["content_block"])
        elif name == "content_block_delta":
            block, delta = message["content"][value["index"]], value["delta"]
            if delta["type"] == "text_delta":
                block["text"] += delta["text"]
            elif delta["type"] == "input_json_delta":
                partial[value["index"]] = partial.get(value["index"], "") + delta["partial_json"]
        elif name == "content_block_stop" and value["index"] in partial:
            message["content"][value["index"]]["input"] = json.loads(partial[value["index"]])
        elif name == "message_delta":
            message |= {"stop_reason": value["delta"]["stop_reason"], "usage": value["usage"]}
    return read("anthropic", message)
