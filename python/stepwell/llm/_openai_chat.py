"""OpenAI's chat completions, which Azure and every OpenAI-compatible server speak as well, and its embeddings."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from stepwell.llm._adapter import (
    Ask,
    Counts,
    EmbedForm,
    FinishReason,
    RawToolCall,
    Reply,
    StreamRule,
    UsagePointers,
    a_dict,
    a_text,
    dicts,
    text_of,
)
from stepwell.llm._json_schema import openai_form

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_FINISH: dict[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}
# They take no temperature but their own.
_REASONING = re.compile(r"(?:o\d|gpt-[5-9])(?!.*chat)")


def _embed_body(model: str, texts: Sequence[str], options: Mapping[str, Any]) -> dict[str, Any]:
    return {"model": model, "input": list(texts), "encoding_format": "float", **options}


def _embed_read(answer: dict[str, Any]) -> tuple[list[Any], Counts]:
    usage = a_dict(answer.get("usage"))
    given = dicts(answer.get("data"))
    vectors: list[Any] = [None] * len(given)
    for position, each in enumerate(given):
        index = each.get("index", position)
        if isinstance(index, int) and 0 <= index < len(vectors):
            vectors[index] = each.get("embedding")
    return vectors, Counts(usage.get("prompt_tokens", usage.get("total_tokens")), 0)


class OpenAiChat:
    """POST /chat/completions."""

    required_pointer = "/choices/0/message"
    usage_pointers: UsagePointers = (
        ("/usage/prompt_tokens",),
        ("/usage/completion_tokens",),
        "/usage/prompt_tokens_details/cached_tokens",
    )
    stream_rule = StreamRule(text_pointers=("/choices/0/delta/content",), end_data="[DONE]")
    models_path = "/models"
    takes_model = True
    embeds: EmbedForm | None = EmbedForm(lambda _: "/embeddings", 2048, _embed_body, "/data", _embed_read)

    def __init__(
        self, *, max_tokens: str = "max_tokens", key_header: str = "authorization", lists: bool = True
    ) -> None:
        self._max_tokens = max_tokens
        self._key_header = key_header
        self.models_path = "/models" if lists else ""

    def path(self, model_name: str, *, stream: bool = False) -> str:  # noqa: ARG002 - the contract of adapters
        """Return what follows the base URL."""
        return "/chat/completions"

    def headers(self, key: str) -> tuple[tuple[str, str], ...]:
        """Return the headers of a request."""
        shown = f"Bearer {key}" if self._key_header == "authorization" else key
        return (("content-type", "application/json"), *(((self._key_header, shown),) if key else ()))

    def body(self, ask: Ask, *, stream: bool = False) -> dict[str, Any]:
        """Return the request's body."""
        system = [{"role": "system", "content": ask.system}] if ask.system else []
        body: dict[str, Any] = {"model": ask.model, "messages": [*system, *ask.messages]}
        if ask.temperature is not None and not _REASONING.match(ask.model):
            body["temperature"] = ask.temperature
        if ask.max_tokens is not None:
            body[self._max_tokens] = ask.max_tokens
        if ask.tools:
            body["tools"] = [
                {"type": "function", "function": {"name": t.name, "description": t.description, "parameters": t.schema}}
                for t in ask.tools
            ]
        if ask.tool_choice:
            is_word = ask.tool_choice in ("auto", "none", "required")
            named = {"type": "function", "function": {"name": ask.tool_choice}}
            body["tool_choice"] = ask.tool_choice if is_word else named
        if ask.schema is not None:
            schema, is_strict = openai_form(ask.schema)
            body["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": "answer", "schema": schema, "strict": is_strict},
            }
        if stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        return body | dict(ask.options)

    def read(self, answer: dict[str, Any]) -> Reply:
        """Read a chat completion; of several choices the first one counts."""
        choices = answer.get("choices")
        choice = a_dict(choices[0]) if isinstance(choices, list) and choices else {}
        message = a_dict(choice.get("message"))
        wanted = message.get("tool_calls")
        calls = [_tool_call(each) for each in dicts(wanted)] if wanted else []
        return _reply(
            answer, text_of(message.get("content")), choice.get("finish_reason"), calls, message.get("refusal")
        )

    def read_stream(self, text: str, events: Sequence[dict[str, Any]]) -> Reply:
        """Read a stream of chunks."""
        usage: dict[str, Any] = {}
        finish, refusal, model = None, "", ""
        calls: dict[int, RawToolCall] = {}
        for event in events:
            usage = a_dict(event.get("usage")) or usage
            model = a_text(event.get("model")) or model
            for choice in dicts(event.get("choices"))[:1]:
                finish = choice.get("finish_reason") or finish
                delta = a_dict(choice.get("delta"))
                refusal += a_text(delta.get("refusal"))
                for part in dicts(delta.get("tool_calls")):
                    _add_part(calls, part)
        return _reply({"usage": usage or None, "model": model}, text, finish, list(calls.values()), refusal)


def _add_part(calls: dict[int, RawToolCall], part: dict[str, Any]) -> None:
    index = part.get("index")
    function = a_dict(part.get("function"))
    if not isinstance(index, int):
        index = len(calls)
    call = calls.setdefault(index, RawToolCall("", "", ""))
    call.id = a_text(part.get("id")) or call.id
    call.name = call.name or a_text(function.get("name"))
    call.arguments += a_text(function.get("arguments"))


def _tool_call(call: dict[str, Any]) -> RawToolCall:
    function = a_dict(call.get("function"))
    return RawToolCall(a_text(call.get("id")), a_text(function.get("name")), function.get("arguments"))


def _reply(answer: dict[str, Any], text: str, finish: object, calls: list[RawToolCall], refusal: object) -> Reply:
    said = a_text(refusal)
    # Several compatible servers say "stop" although tools were called.
    reason: FinishReason = "refusal" if said else _FINISH.get(finish if isinstance(finish, str) else "", "other")
    if calls and reason in ("stop", "other"):
        reason = "tool_calls"
    return Reply(text, reason, _counts(answer.get("usage")), calls, said, a_text(answer.get("model")))


def _counts(given: object) -> Counts:
    if not isinstance(given, dict):
        return Counts()
    more_in, more_out = given.get("prompt_tokens_details"), given.get("completion_tokens_details")
    return Counts(
        given.get("prompt_tokens"),
        given.get("completion_tokens"),
        more_in.get("cached_tokens", 0) if isinstance(more_in, dict) else 0,
        0,
        more_out.get("reasoning_tokens", 0) if isinstance(more_out, dict) else 0,
    )


OPENAI_CHAT = OpenAiChat(max_tokens="max_completion_tokens")
AZURE_CHAT = OpenAiChat(max_tokens="max_completion_tokens", key_header="api-key", lists=False)
COMPATIBLE_CHAT = OpenAiChat()
