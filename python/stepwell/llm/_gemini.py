"""Google's generateContent: `gemini:model`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

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
from stepwell.llm._json_schema import gemini_form

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_FINISH: dict[str, FinishReason] = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "SAFETY": "content_filter",
    "RECITATION": "content_filter",
    "BLOCKLIST": "content_filter",
    "PROHIBITED_CONTENT": "content_filter",
    "SPII": "content_filter",
    "LANGUAGE": "content_filter",
    "IMAGE_SAFETY": "content_filter",
}
_MODES = {"auto": "AUTO", "none": "NONE", "required": "ANY"}


def _embed_body(model: str, texts: Sequence[str], options: Mapping[str, Any]) -> dict[str, Any]:
    # The name that other providers give to the length of a vector.
    more = {("outputDimensionality" if name == "dimensions" else name): value for name, value in options.items()}
    one = {"model": f"models/{model}", **more}
    return {"requests": [{**one, "content": {"parts": [{"text": text}]}} for text in texts]}


def _embed_read(answer: dict[str, Any]) -> tuple[list[Any], Counts]:
    usage = a_dict(answer.get("usageMetadata"))
    return [each.get("values") for each in dicts(answer.get("embeddings"))], Counts(usage.get("promptTokenCount"), 0)


class Gemini:
    """POST /models/NAME:generateContent."""

    # An answer to a blocked prompt has no candidates, and asking again would not help; but each answer has this.
    required_pointer = "/usageMetadata"
    usage_pointers: UsagePointers = (
        ("/usageMetadata/promptTokenCount", "/usageMetadata/toolUsePromptTokenCount"),
        ("/usageMetadata/candidatesTokenCount", "/usageMetadata/thoughtsTokenCount"),
        "/usageMetadata/cachedContentTokenCount",
    )
    stream_rule = StreamRule(
        text_pointers=("/candidates/0/content/parts/0/text",),
        last_pointers=("/candidates/0/finishReason", "/promptFeedback/blockReason"),
    )
    models_path = "/models"
    takes_model = False
    embeds: EmbedForm | None = EmbedForm(
        lambda name: f"/models/{quote(name, safe='')}:batchEmbedContents", 100, _embed_body, "/embeddings", _embed_read
    )

    def path(self, model_name: str, *, stream: bool = False) -> str:
        """Return what follows the base URL."""
        verb = "streamGenerateContent?alt=sse" if stream else "generateContent"
        return f"/models/{quote(model_name, safe='')}:{verb}"

    def headers(self, key: str) -> tuple[tuple[str, str], ...]:
        """Return the headers of a request."""
        return (("content-type", "application/json"), *((("x-goog-api-key", key),) if key else ()))

    def body(self, ask: Ask, *, stream: bool = False) -> dict[str, Any]:  # noqa: ARG002 - here the path says it
        """Return the request's body; options that it does not know belong to `generationConfig`."""
        system, messages = split_system(ask)
        config: dict[str, Any] = {}
        if ask.temperature is not None:
            config["temperature"] = ask.temperature
        if ask.max_tokens is not None:
            config["maxOutputTokens"] = ask.max_tokens
        if ask.schema is not None:
            config |= {"responseMimeType": "application/json", "responseJsonSchema": gemini_form(ask.schema)}
        names = {
            call.get("id"): a_dict(call.get("function")).get("name")
            for m in messages
            for call in dicts(m.get("tool_calls"))
        }
        body: dict[str, Any] = {"contents": [_content(each, names) for each in messages]}
        if system:
            body["systemInstruction"] = {"parts": [{"text": system}]}
        if ask.tools:
            functions = [
                {"name": t.name, "description": t.description, "parametersJsonSchema": gemini_form(t.schema)}
                for t in ask.tools
            ]
            body["tools"] = [{"functionDeclarations": functions}]
        if ask.tool_choice:
            mode = _MODES.get(ask.tool_choice)
            calling = {"mode": mode} if mode else {"mode": "ANY", "allowedFunctionNames": [ask.tool_choice]}
            body["toolConfig"] = {"functionCallingConfig": calling}
        for name, value in ask.options.items():
            (body if name in _BODY_FIELDS else config)[name] = value
        if config:
            body["generationConfig"] = {**config, **a_dict(body.get("generationConfig"))}
        return body

    def read(self, answer: dict[str, Any]) -> Reply:
        """Read an answer; of several candidates the first one counts."""
        return self.read_stream("", [answer])

    def read_stream(self, text: str, events: Sequence[dict[str, Any]]) -> Reply:
        """Read a stream of chunks, each of which has the form of an answer."""
        usage: dict[str, Any] = {}
        finish, model, blocked = "", "", ""
        calls: list[RawToolCall] = []
        read = ""
        for event in events:
            usage |= a_dict(event.get("usageMetadata"))
            model = a_text(event.get("modelVersion")) or model
            blocked = a_text(a_dict(event.get("promptFeedback")).get("blockReason")) or blocked
            for candidate in dicts(event.get("candidates"))[:1]:
                finish = a_text(candidate.get("finishReason")) or finish
                for part in dicts(a_dict(candidate.get("content")).get("parts")):
                    read += "" if part.get("thought") is True else a_text(part.get("text"))
                    if isinstance(part.get("functionCall"), dict):
                        calls.append(_tool_call(part["functionCall"], len(calls)))
        reason: FinishReason = "content_filter" if blocked else _FINISH.get(finish, "other")
        if calls and reason in ("stop", "other"):
            reason = "tool_calls"
        return Reply(text or read, reason, _counts(usage), calls, "", model)


#: What stands beside `generationConfig` in a request.
_BODY_FIELDS = {
    "safetySettings",
    "cachedContent",
    "labels",
    "generationConfig",
    "toolConfig",
    "systemInstruction",
    "tools",
}


def _content(message: Message, names: Mapping[Any, Any]) -> dict[str, Any]:
    """Translate one message of a chat. `names`: the tools' names by the ids of their calls."""
    content = message.get("content")
    if message["role"] == "tool":
        name = message.get("name") or names.get(message.get("tool_call_id")) or ""
        response = {"name": name, "response": {"result": _json_or_text(text_of(content))}}
        return {"role": "user", "parts": [{"functionResponse": response}]}
    parts: list[dict[str, Any]] = [{"text": content}] if isinstance(content, str) and content else []
    parts += [{"text": p.get("text", "")} if p.get("type") == "text" else p for p in dicts(content)]
    for call in dicts(message.get("tool_calls")):
        parts.append(
            {"functionCall": {"name": a_dict(call.get("function")).get("name", ""), "args": arguments_of(call)}}
        )
    return {"role": "model" if message["role"] == "assistant" else "user", "parts": parts or [{"text": ""}]}


def _json_or_text(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _tool_call(call: dict[str, Any], number: int) -> RawToolCall:
    # Older models give no ids; then the position is one.
    return RawToolCall(a_text(call.get("id")) or f"call_{number}", a_text(call.get("name")), call.get("args", {}))


def _counts(usage: dict[str, Any]) -> Counts:
    if not usage:
        return Counts()
    given, more = usage.get("promptTokenCount"), usage.get("toolUsePromptTokenCount")
    thoughts = usage.get("thoughtsTokenCount")
    return Counts(
        None if given is None else plus(given, more),
        # An answer without a word has no count of its words.
        plus(usage.get("candidatesTokenCount"), thoughts),
        usage.get("cachedContentTokenCount", 0),
        0,
        0 if thoughts is None else thoughts,
    )


GEMINI = Gemini()
