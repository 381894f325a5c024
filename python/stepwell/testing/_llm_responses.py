"""OpenAI's responses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stepwell.testing._llm_forms import (
    Ask,
    Event,
    RefusedError,
    Said,
    bearer,
    limit_of,
    parsed,
    sse,
    text_of,
    texts,
    tools_chars,
)
from stepwell.testing._llm_openai import error_json

if TYPE_CHECKING:
    from collections.abc import Mapping

_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}


class _Events:
    """Collects events; each carries its type and its number."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def add(self, kind: str, *, is_token: bool = False, **fields: object) -> None:
        value = {"type": kind, "sequence_number": len(self.events), **fields}
        self.events.append(Event(sse(value, kind), is_token))


class ResponsesForm:
    """POST .../responses."""

    name = "responses"
    usage_key = "usage"
    many_key = "output"

    def key(self, headers: Mapping[str, str], query: str) -> str:  # noqa: ARG002
        """Return the API key: a bearer, or Azure's api-key."""
        return headers.get("api-key") or bearer(headers)

    def read(self, path: str, query: str, headers: Mapping[str, str], body: bytes) -> Ask:  # noqa: ARG002
        """Read a request. Raises RefusedError."""
        request = parsed(body)
        model, given = request.get("model"), request.get("input")
        items = [{"role": "user", "content": given}] if isinstance(given, str) else given
        if not isinstance(model, str) or not isinstance(items, list) or not items:
            raise RefusedError(400, "Missing required parameter: model and input are expected.")
        turns = [("system", str(request["instructions"]))] if request.get("instructions") else []
        for item in items:
            if not isinstance(item, dict) or not ("role" in item or "type" in item):
                raise RefusedError(400, "Invalid value in input: an item has neither role nor type.")
            content = item.get("content", item.get("output", item.get("arguments", "")))
            turns.append((str(item.get("role", item.get("type"))), text_of(content)))
        wanted = (request.get("text") or {}).get("format") or {}
        schema = wanted.get("schema") if wanted.get("type") == "json_schema" else None
        text, chars = texts(turns, is_structured=schema is not None)
        functions = [each for each in request.get("tools") or () if each.get("type") == "function"]
        tools = {each["name"]: each.get("parameters") for each in functions}
        choice = request.get("tool_choice", "auto")
        return Ask(
            model,
            text,
            chars + tools_chars(tools),
            limit_of(request.get("max_output_tokens"), "max_output_tokens"),
            bool(request.get("stream")),
            schema,
            tools,
            choice["name"] if isinstance(choice, dict) else {"required": "any"}.get(choice, choice),
            turns[-1][0] == "function_call_output",
        )

    def answer(self, said: Said) -> dict[str, Any]:
        """Return the answer's JSON."""
        reason = _INCOMPLETE.get(said.finish)
        tokens_in, tokens_out, cached, reasoning = said.usage
        return {
            **self._frame(said, "incomplete" if reason else "completed"),
            "incomplete_details": {"reason": reason} if reason else None,
            "output": self._items(said),
            "usage": {
                "input_tokens": tokens_in,
                "input_tokens_details": {"cached_tokens": cached},
                "output_tokens": tokens_out,
                "output_tokens_details": {"reasoning_tokens": reasoning},
                "total_tokens": tokens_in + tokens_out,
            },
        }

    def _frame(self, said: Said, status: str) -> dict[str, Any]:
        return {
            "id": f"resp_{said.id}",
            "object": "response",
            "created_at": 1,
            "status": status,
            "error": None,
            "incomplete_details": None,
            "instructions": None,
            "metadata": {},
            "model": said.model,
            "output": [],
            "parallel_tool_calls": True,
            "temperature": 1.0,
            "tool_choice": "auto",
            "tools": [],
            "top_p": 1.0,
            "usage": None,
        }

    def _items(self, said: Said) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = []
        if said.usage.reasoning:
            items.append({"id": f"rs_{said.id}", "type": "reasoning", "summary": []})
        for call in said.calls:
            item = {"type": "function_call", "call_id": call.id, "name": call.name, "arguments": call.arguments}
            items.append({"id": f"fc_{call.id}", **item, "status": "completed"})
        if not said.calls:
            status = "incomplete" if said.finish in _INCOMPLETE else "completed"
            message = {"id": f"msg_{said.id}", "type": "message", "status": status, "role": "assistant"}
            items.append({**message, "content": [self._part(said)]})
        return items

    def _part(self, said: Said) -> dict[str, Any]:
        if said.refusal is not None:
            return {"type": "refusal", "refusal": said.refusal}
        return {"type": "output_text", "text": said.content, "annotations": []}

    def events(self, said: Said, ask: Ask) -> list[Event]:  # noqa: ARG002
        """Return the events of a stream; the last one is response.completed or response.incomplete."""
        out, whole = _Events(), self.answer(said)
        out.add("response.created", response=self._frame(said, "in_progress"))
        out.add("response.in_progress", response=self._frame(said, "in_progress"))
        for index, item in enumerate(whole["output"]):
            begun = dict(item)
            if item["type"] == "message":
                begun |= {"status": "in_progress", "content": []}
            elif item["type"] == "function_call":
                begun |= {"status": "in_progress", "arguments": ""}
            out.add("response.output_item.added", output_index=index, item=begun)
            if item["type"] == "message":
                self._message_events(out, said, item, index)
            elif item["type"] == "function_call":
                self._call_events(out, item, index)
            out.add("response.output_item.done", output_index=index, item=item)
        out.add(f"response.{whole['status']}", response=whole)
        return out.events

    def _message_events(self, out: _Events, said: Said, item: dict[str, Any], index: int) -> None:
        part = item["content"][0]
        kind = "output_text" if part["type"] == "output_text" else "refusal"
        field = "text" if kind == "output_text" else "refusal"
        where = {"item_id": item["id"], "output_index": index, "content_index": 0}
        out.add("response.content_part.added", **where, part={**part, field: ""})
        for piece in said.pieces if kind == "output_text" else [part["refusal"]]:
            out.add(f"response.{kind}.delta", is_token=True, **where, delta=piece)
        out.add(f"response.{kind}.done", **where, **{field: part[field]})
        out.add("response.content_part.done", **where, part=part)

    def _call_events(self, out: _Events, item: dict[str, Any], index: int) -> None:
        where = {"item_id": item["id"], "output_index": index}
        arguments = item["arguments"]
        for at in range(0, len(arguments), 4):
            delta = arguments[at : at + 4]
            out.add("response.function_call_arguments.delta", is_token=True, **where, delta=delta)
        out.add("response.function_call_arguments.done", **where, arguments=arguments)

    def error(self, status: int, message: str, kind: str) -> dict[str, Any]:  # noqa: ARG002
        """Return the JSON of an error."""
        return error_json(message, kind)

    def error_event(self, message: str) -> bytes:
        """Return the event `error`."""
        value = {"type": "error", "code": "server_error", "message": message, "param": None, "sequence_number": 9}
        return sse(value, "error")
