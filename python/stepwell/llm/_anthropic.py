"""Anthropic's messages API: `anthropic:model`."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from stepwell.llm._adapter import (
    Ask,
    Counts,
    EmbedForm,
    FinishReason,
    Message,
    RawToolCall,
    Reply,
    StreamRule,
    UsagePointers,
    a_dict,
    a_text,
    arguments_of,
    dicts,
    plus,
    split_system,
    text_of,
)
from stepwell.llm._json_schema import anthropic_form

if TYPE_CHECKING:
    from collections.abc import Sequence

#: The API wants a limit; this one is given when the caller names none.
MAX_TOKENS = 4096
_VERSION = "2023-06-01"
# From 4.7 on they take no temperature but their own.
_NO_TEMPERATURE = re.compile(r"claude-(?!\d|instant|[a-z]+-4-(?:[0-6](?!\d)|20\d{6}))")
_FINISH: dict[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "refusal",
}
_CHOICES = {"auto": "auto", "none": "none", "required": "any"}


class Anthropic:
    """POST /messages."""

    required_pointer = "/content"
    # What was read from the cache and what was written to it are not part of input_tokens.
    usage_pointers: UsagePointers = (
        ("/usage/input_tokens", "/usage/cache_creation_input_tokens", "/usage/cache_read_input_tokens"),
        ("/usage/output_tokens",),
        "/usage/cache_read_input_tokens",
    )
    stream_rule = StreamRule(text_pointers=("/delta/text",), end_events=("message_stop",))
    models_path = "/models"
    takes_model = True
    embeds: EmbedForm | None = None

    def path(self, model_name: str, *, stream: bool = False) -> str:  # noqa: ARG002 - the contract of adapters
        """Return what follows the base URL."""
        return "/messages"

    def headers(self, key: str) -> tuple[tuple[str, str], ...]:
        """Return the headers of a request."""
        head = (("content-type", "application/json"), ("anthropic-version", _VERSION))
        return (*head, *((("x-api-key", key),) if key else ()))

    def body(self, ask: Ask, *, stream: bool = False) -> dict[str, Any]:
        """Return the request's body."""
        system, messages = split_system(ask)
        body: dict[str, Any] = {
            "model": ask.model,
            "max_tokens": ask.max_tokens or MAX_TOKENS,
            "messages": [_message(each) for each in messages],
        }
        if ask.schema is not None:
            schema = anthropic_form(ask.schema)
            if schema is None:  # objects of any shape and recursion are nothing that the API's own way knows
                system += "\n\nAnswer with JSON only, which fits this JSON schema: " + json.dumps(dict(ask.schema))
            else:
                body["output_config"] = {"format": {"type": "json_schema", "schema": schema}}
        if system:
            body["system"] = system.strip()
        if ask.temperature is not None and not _NO_TEMPERATURE.match(ask.model):
            body["temperature"] = ask.temperature
        if ask.tools:
            body["tools"] = [
                {"name": t.name, "description": t.description, "input_schema": t.schema} for t in ask.tools
            ]
        if ask.tool_choice:
            word = _CHOICES.get(ask.tool_choice)
            body["tool_choice"] = {"type": word} if word else {"type": "tool", "name": ask.tool_choice}
        if stream:
            body["stream"] = True
        return body | dict(ask.options)

    def read(self, answer: dict[str, Any]) -> Reply:
        """Read a message."""
        text = ""
        calls = []
        for block in dicts(answer.get("content")):
            if block.get("type") == "text":
                text += a_text(block.get("text"))
            elif block.get("type") == "tool_use":
                calls.append(RawToolCall(a_text(block.get("id")), a_text(block.get("name")), block.get("input")))
        return _reply(answer, text, answer.get("stop_reason"), calls)

    def read_stream(self, text: str, events: Sequence[dict[str, Any]]) -> Reply:
        """Read a stream: its head, the tool calls in parts, its end."""
        head: dict[str, Any] = {}
        usage: dict[str, Any] = {}
        stop: object = None
        calls: dict[object, RawToolCall] = {}
        for event in events:
            kind, delta = event.get("type"), a_dict(event.get("delta"))
            if kind == "message_start":
                head = a_dict(event.get("message"))
                usage |= a_dict(head.get("usage"))
            elif kind == "content_block_start" and a_dict(event.get("content_block")).get("type") == "tool_use":
                block = event["content_block"]
                calls[str(event.get("index"))] = RawToolCall(a_text(block.get("id")), a_text(block.get("name")), "")
            elif kind == "content_block_delta" and str(event.get("index")) in calls:
                calls[str(event.get("index"))].arguments += a_text(delta.get("partial_json"))
            elif kind == "message_delta":
                stop = delta.get("stop_reason") or stop
                usage |= a_dict(event.get("usage"))
        for call in calls.values():
            call.arguments = call.arguments or "{}"
        return _reply({"usage": usage or None, "model": head.get("model")}, text, stop, list(calls.values()))


def _message(message: Message) -> dict[str, Any]:
    """Translate one message of a chat."""
    content = message.get("content")
    if message["role"] == "tool":
        block = {"type": "tool_result", "tool_use_id": message.get("tool_call_id", ""), "content": text_of(content)}
        return {"role": "user", "content": [block]}
    calls = [
        {
            "type": "tool_use",
            "id": c.get("id", ""),
            "name": a_dict(c.get("function")).get("name", ""),
            "input": arguments_of(c),
        }
        for c in dicts(message.get("tool_calls"))
    ]
    if not calls:
        return {"role": message["role"], "content": content}
    parts = content if isinstance(content, list) else [{"type": "text", "text": content}] if content else []
    return {"role": message["role"], "content": [*parts, *calls]}


def _reply(answer: dict[str, Any], text: str, stop: object, calls: list[RawToolCall]) -> Reply:
    reason: FinishReason = _FINISH.get(stop if isinstance(stop, str) else "", "other")
    refusal = (text or "no reason given") if reason == "refusal" else ""
    usage = answer.get("usage")
    counts = Counts()
    if isinstance(usage, dict):
        read, written = usage.get("cache_read_input_tokens"), usage.get("cache_creation_input_tokens")
        given = usage.get("input_tokens")
        counts = Counts(
            None if given is None else plus(given, read, written), usage.get("output_tokens"), read or 0, written or 0
        )
    return Reply(text, reason, counts, calls, refusal, a_text(answer.get("model")))


ANTHROPIC = Anthropic()
