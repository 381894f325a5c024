"""OpenAI's responses API: `openai-responses:model`. Nothing is kept at the provider (`store: false`) unless asked for."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from stepwell._errors import LlmError
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
    dicts,
    split_system,
    text_of,
)
from stepwell.llm._json_schema import openai_form
from stepwell.llm._openai_chat import _REASONING, OPENAI_CHAT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class OpenAiResponses:
    """POST /responses."""

    required_pointer = "/output"
    usage_pointers: UsagePointers = (
        ("/usage/input_tokens",),
        ("/usage/output_tokens",),
        "/usage/input_tokens_details/cached_tokens",
    )
    stream_rule = StreamRule(
        text_pointers=("/delta",),
        text_events=("response.output_text.delta",),
        end_events=("response.completed", "response.incomplete", "response.failed"),
        error_pointers=("/error", "/response/error"),
    )
    models_path = "/models"
    takes_model = True
    embeds: EmbedForm | None = OPENAI_CHAT.embeds

    def path(self, model_name: str, *, stream: bool = False) -> str:  # noqa: ARG002 - the contract of adapters
        """Return what follows the base URL."""
        return "/responses"

    def headers(self, key: str) -> tuple[tuple[str, str], ...]:
        """Return the headers of a request."""
        return OPENAI_CHAT.headers(key)

    def body(self, ask: Ask, *, stream: bool = False) -> dict[str, Any]:
        """Return the request's body."""
        system, messages = split_system(ask)
        body: dict[str, Any] = {
            "model": ask.model,
            "input": [item for m in messages for item in _items(m)],
            "store": False,
        }
        if system:
            body["instructions"] = system
        if ask.temperature is not None and not _REASONING.match(ask.model):
            body["temperature"] = ask.temperature
        if ask.max_tokens is not None:
            body["max_output_tokens"] = ask.max_tokens
        if ask.tools:
            body["tools"] = [
                {
                    "type": "function",
                    "name": t.name,
                    "description": t.description,
                    "parameters": t.schema,
                    "strict": False,
                }
                for t in ask.tools
            ]
        if ask.tool_choice:
            is_word = ask.tool_choice in ("auto", "none", "required")
            body["tool_choice"] = ask.tool_choice if is_word else {"type": "function", "name": ask.tool_choice}
        if ask.schema is not None:
            schema, is_strict = openai_form(ask.schema)
            body["text"] = {"format": {"type": "json_schema", "name": "answer", "schema": schema, "strict": is_strict}}
        if stream:
            body["stream"] = True
        return body | dict(ask.options)

    def read(self, answer: dict[str, Any]) -> Reply:
        """Read a response. Raises LlmError SW-E2122 for one that says it failed."""
        if answer.get("status") == "failed":
            error = a_dict(answer.get("error"))
            raise LlmError(
                "SW-E2122",
                f"the provider answered 200 and says that it failed: {a_text(error.get('message'))[:300]!r}",
                got=a_text(error.get("code"))[:80],
                hint="ask again later",
            )
        text, refusal = "", ""
        calls = []
        for item in dicts(answer.get("output")):
            if item.get("type") == "function_call":
                call_id = a_text(item.get("call_id")) or a_text(item.get("id"))
                calls.append(RawToolCall(call_id, a_text(item.get("name")), item.get("arguments")))
            elif item.get("type") == "message":
                for part in dicts(item.get("content")):
                    text += a_text(part.get("text")) if part.get("type") == "output_text" else ""
                    refusal += a_text(part.get("refusal"))
        reason = _finish(answer, calls, refusal)
        return Reply(text, reason, _counts(answer.get("usage")), calls, refusal, a_text(answer.get("model")))

    def read_stream(self, text: str, events: Sequence[dict[str, Any]]) -> Reply:
        """Read a stream: its last event holds the whole response."""
        for event in reversed(events):
            if isinstance(event.get("response"), dict) and event.get("type") in self.stream_rule.end_events:
                reply = self.read(event["response"])
                reply.text = reply.text or text
                return reply
        return Reply(text, "other", Counts())


def _items(message: Message) -> Iterator[dict[str, Any]]:
    """Translate one message of a chat into items of an input."""
    content, role = message.get("content"), message["role"]
    if role == "tool":
        yield {"type": "function_call_output", "call_id": message.get("tool_call_id", ""), "output": text_of(content)}
        return
    if content:
        kind = "output_text" if role == "assistant" else "input_text"
        parts = [{"type": kind, "text": p.get("text", "")} if p.get("type") == "text" else p for p in dicts(content)]
        yield {"role": role, "content": parts if isinstance(content, list) else content}
    for call in dicts(message.get("tool_calls")):
        function = a_dict(call.get("function"))
        written = function.get("arguments")
        yield {
            "type": "function_call",
            "call_id": call.get("id", ""),
            "name": function.get("name", ""),
            "arguments": written if isinstance(written, str) else json.dumps(written),
        }


def _finish(answer: dict[str, Any], calls: list[RawToolCall], refusal: str) -> FinishReason:
    if refusal:
        return "refusal"
    if answer.get("status") == "incomplete":
        why = a_dict(answer.get("incomplete_details")).get("reason")
        return "length" if why == "max_output_tokens" else "content_filter" if why == "content_filter" else "other"
    if calls:
        return "tool_calls"
    return "stop" if answer.get("status") in ("completed", None) else "other"


def _counts(given: object) -> Counts:
    if not isinstance(given, dict):
        return Counts()
    return Counts(
        given.get("input_tokens"),
        given.get("output_tokens"),
        a_dict(given.get("input_tokens_details")).get("cached_tokens", 0),
        0,
        a_dict(given.get("output_tokens_details")).get("reasoning_tokens", 0),
    )


OPENAI_RESPONSES = OpenAiResponses()
