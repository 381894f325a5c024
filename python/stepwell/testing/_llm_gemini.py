"""Gemini's generateContent."""

from __future__ import annotations

import json
import re
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
    tools_chars,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

PATH = re.compile(r"/models/([^/:]+):(generateContent|streamGenerateContent|embedContent|batchEmbedContents)$")
_FINISH = {"length": "MAX_TOKENS", "content_filter": "SAFETY", "refusal": "SAFETY"}
_STATUS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
}
_END = "\r\n\r\n"  # its events end so


class GeminiForm:
    """POST .../models/NAME:generateContent and :streamGenerateContent?alt=sse."""

    name = "gemini"
    usage_key = "usageMetadata"
    many_key = "candidates"

    def key(self, headers: Mapping[str, str], query: str) -> str:
        """Return the API key: of the header, or of the query."""
        found = re.search(r"(?:^|&)key=([^&]*)", query)
        return headers.get("x-goog-api-key") or (found[1] if found else "")

    def read(self, path: str, query: str, headers: Mapping[str, str], body: bytes) -> Ask:  # noqa: ARG002
        """Read a request. Raises RefusedError."""
        found = PATH.search(path)
        request = parsed(body)
        contents = request.get("contents")
        if found is None or not isinstance(contents, list) or not contents:
            raise RefusedError(400, "* GenerateContentRequest.contents: contents is not specified")
        is_stream = found[2] == "streamGenerateContent"
        if is_stream and "alt=sse" not in query.split("&"):
            raise RefusedError(400, "this test server streams with alt=sse only")
        system = request.get("systemInstruction") or {}
        turns = [("system", text_of(system.get("parts")))] if system else []
        for content in contents:
            if content.get("role", "user") not in ("user", "model", "function") or not content.get("parts"):
                raise RefusedError(400, "Please use a valid role: user, model; and parts.")
            turns.append((content.get("role", "user"), text_of(content["parts"])))
        config = request.get("generationConfig") or {}
        schema = config.get("responseJsonSchema") or config.get("responseSchema")
        if schema and config.get("responseMimeType") != "application/json":
            raise RefusedError(400, "a response schema needs response_mime_type application/json")
        text, chars = texts(turns, is_structured=schema is not None)
        declared = [each for tool in request.get("tools") or () for each in tool.get("functionDeclarations") or ()]
        tools = {each["name"]: each.get("parametersJsonSchema") or each.get("parameters") for each in declared}
        calling = (request.get("toolConfig") or {}).get("functionCallingConfig") or {}
        names = calling.get("allowedFunctionNames") or ["any"]
        mode = str(calling.get("mode", "AUTO")).lower()
        return Ask(
            found[1],
            text,
            chars + tools_chars(tools),
            limit_of(config.get("maxOutputTokens"), "maxOutputTokens"),
            is_stream,
            schema,
            tools,
            names[0] if mode == "any" else mode,
            any("functionResponse" in part for part in contents[-1]["parts"]),
        )

    def _usage(self, said: Said) -> dict[str, Any]:
        tokens_in, tokens_out, cached, reasoning = said.usage
        usage = {
            "promptTokenCount": tokens_in,
            "candidatesTokenCount": tokens_out - reasoning,
            "totalTokenCount": tokens_in + tokens_out,
        }
        # Zero counts are left out, as protobuf does.
        usage |= {"cachedContentTokenCount": cached} if cached else {}
        return usage | ({"thoughtsTokenCount": reasoning} if reasoning else {})

    def _chunk(self, said: Said, parts: list[dict[str, Any]], finish: str | None) -> dict[str, Any]:
        candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"}} if parts else {}
        candidate |= {"finishReason": finish} if finish else {}
        return {
            "candidates": [{**candidate, "index": 0}],
            "usageMetadata": self._usage(said),
            "modelVersion": said.model,
            "responseId": said.id,
        }

    def answer(self, said: Said) -> dict[str, Any]:
        """Return the answer's JSON."""
        parts: list[dict[str, Any]] = [
            {"functionCall": {"name": call.name, "args": json.loads(call.arguments)}} for call in said.calls
        ]
        if not said.calls and said.refusal is None and said.content:
            parts = [{"text": said.content}]
        return self._chunk(said, parts, _FINISH.get(said.finish, "STOP"))

    def events(self, said: Said, ask: Ask) -> list[Event]:  # noqa: ARG002
        """Return the chunks of a stream. Nothing marks its end but finishReason; function calls come whole."""
        if said.calls or said.refusal is not None or not said.content:
            return [Event(sse(self.answer(said), end=_END), is_token=True)]
        pieces = said.pieces
        finish = _FINISH.get(said.finish, "STOP")
        ends = [None] * (len(pieces) - 1) + [finish]
        return [
            Event(sse(self._chunk(said, [{"text": piece}], end), end=_END), is_token=True)
            for piece, end in zip(pieces, ends, strict=True)
        ]

    def error(self, status: int, message: str, kind: str) -> dict[str, Any]:
        """Return the JSON of an error; one about a quota names it."""
        error: dict[str, Any] = {"code": status, "message": message, "status": _STATUS.get(status, "UNKNOWN")}
        if status == 429:
            limit = "PerDay" if kind == "insufficient_quota" else "PerMinute"
            metadata = {
                "service": "generativelanguage.googleapis.com",
                "quota_limit": f"GenerateRequests{limit}PerProject",
            }
            info = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "RATE_LIMIT_EXCEEDED"}
            error["details"] = [{**info, "metadata": metadata}]
        return {"error": error}

    def error_event(self, message: str) -> bytes:
        """Return the chunk that tells of an error after 200."""
        return sse(self.error(503, message, ""), end=_END)
