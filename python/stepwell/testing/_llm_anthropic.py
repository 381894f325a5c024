"""Anthropic's messages."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from stepwell.testing._llm_forms import (
    Ask,
    Event,
    RefusedError,
    Said,
    limit_of,
    parsed,
    sse,
    text_of,
    texts,
    to_json,
    tools_chars,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

_STOP = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}
_KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    529: "overloaded_error",
}


class AnthropicForm:
    """POST .../messages."""

    name = "anthropic"
    usage_key = "usage"
    many_key = "content"

    def key(self, headers: Mapping[str, str], query: str) -> str:  # noqa: ARG002
        """Return the API key."""
        return headers.get("x-api-key", "")

    def read(self, path: str, query: str, headers: Mapping[str, str], body: bytes) -> Ask:  # noqa: ARG002
        """Read a request. Raises RefusedError."""
        if not headers.get("anthropic-version"):
            raise RefusedError(400, "anthropic-version: header is required")
        request = parsed(body)
        for name in ("model", "max_tokens", "messages"):
            if not request.get(name):
                raise RefusedError(400, f"{name}: Field required")
        turns = [("system", text_of(request["system"]))] if request.get("system") else []
        for number, message in enumerate(request["messages"]):
            if message.get("role") not in ("user", "assistant"):
                raise RefusedError(400, f"messages.{number}.role: Input should be 'user' or 'assistant'")
            turns.append((message["role"], text_of(message.get("content"))))
        wanted = (request.get("output_config") or {}).get("format") or request.get("output_format") or {}
        schema = wanted.get("schema") if wanted.get("type") == "json_schema" else None
        text, chars = texts(turns, is_structured=schema is not None)
        tools = {each["name"]: each.get("input_schema") for each in request.get("tools") or ()}
        choice = request.get("tool_choice") or {"type": "auto"}
        last = request["messages"][-1].get("content")
        return Ask(
            str(request["model"]),
            text,
            chars + tools_chars(tools),
            limit_of(request["max_tokens"], "max_tokens"),
            bool(request.get("stream")),
            schema,
            tools,
            choice["name"] if choice["type"] == "tool" else choice["type"],
            isinstance(last, list) and any(part.get("type") == "tool_result" for part in last),
        )

    def _usage(self, said: Said) -> dict[str, int]:
        # What came from the cache is no part of input_tokens; what was thought is part of output_tokens.
        return {
            "input_tokens": said.usage.tokens_in - said.usage.cached,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": said.usage.cached,
            "output_tokens": said.usage.tokens_out,
        }

    def _blocks(self, said: Said) -> list[dict[str, Any]]:
        blocks: list[dict[str, Any]] = []
        if said.usage.reasoning:
            blocks.append({"type": "thinking", "thinking": "Let me think.", "signature": "c2lnbmF0dXJl"})
        blocks += [
            {"type": "tool_use", "id": call.id, "name": call.name, "input": json.loads(call.arguments)}
            for call in said.calls
        ]
        if said.refusal is None and not said.calls and said.content:
            blocks.append({"type": "text", "text": said.content})
        return blocks

    def answer(self, said: Said) -> dict[str, Any]:
        """Return the answer's JSON."""
        return {
            "id": f"msg_{said.id}",
            "type": "message",
            "role": "assistant",
            "model": said.model,
            "content": self._blocks(said),
            "stop_reason": _STOP.get(said.finish, said.finish),
            "stop_sequence": None,
            "usage": self._usage(said),
        }

    def events(self, said: Said, ask: Ask) -> list[Event]:  # noqa: ARG002
        """Return the events of a stream; `message_stop` is the last."""
        whole = self.answer(said)
        begun = {**whole, "content": [], "stop_reason": None, "usage": {**whole["usage"], "output_tokens": 1}}
        events = [self._event("message_start", message=begun)]
        for index, block in enumerate(whole["content"]):
            hollow: dict[str, dict[str, Any]] = {
                "thinking": {"thinking": "", "signature": ""},
                "tool_use": {"input": {}},
                "text": {"text": ""},
            }
            start = {**block, **hollow[block["type"]]}
            events.append(self._event("content_block_start", index=index, content_block=start))
            if index == 0:
                events.append(self._event("ping"))
            events += [
                self._event("content_block_delta", is_token=True, index=index, delta=delta)
                for delta in self._deltas(block, said)
            ]
            events.append(self._event("content_block_stop", index=index))
        delta = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
        events.append(self._event("message_delta", delta=delta, usage=whole["usage"]))
        return [*events, self._event("message_stop")]

    def _deltas(self, block: dict[str, Any], said: Said) -> list[dict[str, Any]]:
        if block["type"] == "thinking":
            return [
                {"type": "thinking_delta", "thinking": block["thinking"]},
                {"type": "signature_delta", "signature": block["signature"]},
            ]
        if block["type"] == "tool_use":
            text = to_json(block["input"])
            return [{"type": "input_json_delta", "partial_json": text[at : at + 4]} for at in range(0, len(text), 4)]
        return [{"type": "text_delta", "text": piece} for piece in said.pieces]

    def _event(self, kind: str, *, is_token: bool = False, **fields: object) -> Event:
        return Event(sse({"type": kind, **fields}, kind), is_token)

    def error(self, status: int, message: str, kind: str) -> dict[str, Any]:  # noqa: ARG002
        """Return the JSON of an error."""
        error = {"type": _KINDS.get(status, "api_error"), "message": message}
        return {"type": "error", "error": error, "request_id": "req_test"}

    def error_event(self, message: str) -> bytes:
        """Return the event `error`."""
        return sse({"type": "error", "error": {"type": "overloaded_error", "message": message}}, "error")
