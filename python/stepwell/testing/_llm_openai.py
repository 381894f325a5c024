"""OpenAI's chat completions, as OpenAI, Azure and the many that copy it serve them."""

from __future__ import annotations

import re
from json.encoder import encode_basestring_ascii as quoted
from typing import TYPE_CHECKING, Any

from stepwell.testing._llm_forms import (
    Ask,
    Event,
    RefusedError,
    Said,
    Usage,
    bearer,
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

_ROLES = {"system", "developer", "user", "assistant", "tool", "function"}
_AZURE = re.compile(r"/openai/deployments/([^/]+)/")
_FINISH = {"refusal": "stop"}  # a refusal ends as any answer does
_HOLE = "text goes here"
DONE = b"data: [DONE]\n\n"


def usage_json(usage: Usage) -> dict[str, Any]:
    """Return the usage of chat completions."""
    return {
        "prompt_tokens": usage.tokens_in,
        "completion_tokens": usage.tokens_out,
        "total_tokens": usage.tokens_in + usage.tokens_out,
        "prompt_tokens_details": {"cached_tokens": usage.cached, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning, "audio_tokens": 0},
    }


def deployment(path: str, query: str) -> str:
    """Return the deployment that an Azure path names, "" for another path. Raises RefusedError without api-version."""
    found = _AZURE.search(path)
    if found is None:
        return ""
    if "api-version=" not in query:
        raise RefusedError(404, "Resource not found")  # what Azure says then
    return found[1]


def error_json(message: str, kind: str) -> dict[str, Any]:
    """Return an error as OpenAI words it."""
    code = {"insufficient_quota": "insufficient_quota", "tokens": "rate_limit_exceeded"}.get(kind)
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


class ChatForm:
    """POST .../chat/completions."""

    name = "chat"
    usage_key = "usage"
    many_key = "choices"

    def key(self, headers: Mapping[str, str], query: str) -> str:  # noqa: ARG002 - every form has this shape
        """Return the API key: a bearer, or Azure's api-key."""
        return headers.get("api-key") or bearer(headers)

    def read(self, path: str, query: str, headers: Mapping[str, str], body: bytes) -> Ask:  # noqa: ARG002
        """Read a request. Raises RefusedError."""
        request = parsed(body)
        model = (deployment(path, query) if "/deployments/" in path else "") or request.get("model")
        messages = request.get("messages")
        if not isinstance(model, str) or not isinstance(messages, list) or not messages:
            raise RefusedError(
                400, "We could not parse the JSON body of your request: model and messages are required."
            )
        turns = []
        for message in messages:
            role = message.get("role") if isinstance(message, dict) else None
            if role not in _ROLES:
                raise RefusedError(400, f"Invalid value: {str(role)[:40]!r}. Supported values are: {sorted(_ROLES)}.")
            turns.append((role, text_of(message.get("content"))))
        wanted = request.get("response_format") or {}
        schema = (wanted.get("json_schema") or {}).get("schema") if wanted.get("type") == "json_schema" else None
        text, chars = texts(turns, is_structured=schema is not None)
        tools = {each["function"]["name"]: each["function"].get("parameters") for each in request.get("tools") or ()}
        choice = request.get("tool_choice", "auto")
        max_tokens = request.get("max_completion_tokens", request.get("max_tokens"))
        return Ask(
            model,
            text,
            chars + tools_chars(tools),
            limit_of(max_tokens, "max_tokens"),
            bool(request.get("stream")),
            schema,
            tools,
            choice["function"]["name"] if isinstance(choice, dict) else {"required": "any"}.get(choice, choice),
            turns[-1][0] == "tool",
            bool((request.get("stream_options") or {}).get("include_usage")),
        )

    def fast(self, said: Said) -> bytes:
        """Return a plain answer without building it twice: most answers of a load test are this one."""
        tokens_in, tokens_out, cached, reasoning = said.usage
        return (
            b'{"id":"chatcmpl-%b","object":"chat.completion","created":1,"model":%b,"choices":[{"index":0,"message":'
            b'{"role":"assistant","content":%b,"refusal":null},"logprobs":null,"finish_reason":"%b"}],"usage":'
            b'{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d,"prompt_tokens_details":{"cached_tokens":%d,'
            b'"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":%d,"audio_tokens":0}}}'
            % (
                said.id.encode(),
                quoted(said.model).encode(),
                quoted(said.content).encode(),
                _FINISH.get(said.finish, said.finish).encode(),
                tokens_in,
                tokens_out,
                tokens_in + tokens_out,
                cached,
                reasoning,
            )
        )

    def answer(self, said: Said) -> dict[str, Any]:
        """Return the answer's JSON."""
        message: dict[str, Any] = {"role": "assistant", "content": said.content, "refusal": said.refusal}
        if said.refusal is not None or said.calls:
            message["content"] = None
        if said.calls:
            message["tool_calls"] = [
                {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
                for call in said.calls
            ]
        finish = _FINISH.get(said.finish, said.finish)
        return {
            **self._frame(said, "chat.completion"),
            "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": finish}],
            "usage": usage_json(said.usage),
        }

    def _frame(self, said: Said, kind: str) -> dict[str, Any]:
        return {"id": f"chatcmpl-{said.id}", "object": kind, "created": 1, "model": said.model}

    def events(self, said: Said, ask: Ask) -> list[Event]:
        """Return the chunks of a stream, `[DONE]` last."""
        frame = self._frame(said, "chat.completion.chunk")
        more = {"usage": None} if ask.include_usage else {}

        def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
            return sse({**frame, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **more})

        events = [Event(chunk({"role": "assistant", "content": "" if said.refusal is None else None}))]
        for index, call in enumerate(said.calls):
            function = {"name": call.name, "arguments": ""}
            events.append(
                Event(
                    chunk({"tool_calls": [{"index": index, "id": call.id, "type": "function", "function": function}]})
                )
            )
            for at in range(0, len(call.arguments), 4):
                part = {"index": index, "function": {"arguments": call.arguments[at : at + 4]}}
                events.append(Event(chunk({"tool_calls": [part]}), is_token=True))
        name = "content" if said.refusal is None else "refusal"
        pieces = said.pieces if said.refusal is None else [said.refusal]
        if not said.calls:
            # Everything but the text is the same in each of them.
            before, _, after = chunk({name: _HOLE}).rpartition(to_json(_HOLE).encode())
            events += [Event(b"%b%b%b" % (before, to_json(piece).encode(), after), is_token=True) for piece in pieces]
        events.append(Event(chunk({}, _FINISH.get(said.finish, said.finish))))
        if ask.include_usage:
            events.append(Event(sse({**frame, "choices": [], "usage": usage_json(said.usage)})))
        return [*events, Event(DONE)]

    def error(self, status: int, message: str, kind: str) -> dict[str, Any]:  # noqa: ARG002
        """Return the JSON of an error."""
        return error_json(message, kind)

    def error_event(self, message: str) -> bytes:
        """Return the chunk that compatible servers send when they fail after 200."""
        return sse(error_json(message, "server_error"))
