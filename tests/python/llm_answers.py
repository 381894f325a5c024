"""What the providers answer, form by form, for scripted servers; and the schemas of their own specifications."""

from __future__ import annotations

import functools
import itertools
import json
import os
from pathlib import Path
from typing import Any, Self

import pytest

import stepwell as sw
from stepwell.testing.http_server import Answer, HttpServer

QUICK = sw.Retry(max_attempts=3, base="1ms", cap="2ms", max_elapsed="30s")
ROUTES = {
    "compatible": "POST /chat/completions",
    "openai": "POST /chat/completions",
    "openai-responses": "POST /responses",
    "azure": "POST /openai/deployments/m/chat/completions",
    "anthropic": "POST /messages",
    "gemini": "POST /models/m:generateContent",
}
FORMS = list(ROUTES)
#: Text, cached and reasoning counts can be told apart.
USED = {"tokens_in": 100, "cached": 40, "tokens_out": 30, "reasoning": 20}


def chat(text: Any = "hello", *, calls: Any = (), finish: str = "", usage: Any = None, **more: Any) -> dict[str, Any]:
    wants = [{"id": i, "type": "function", "function": {"name": n, "arguments": a}} for i, n, a in calls]
    reasons = {"tool_calls": "tool_calls", "length": "length", "content_filter": "content_filter"}
    message = {"role": "assistant", "content": text, **({"tool_calls": wants} if wants else {})}
    if finish == "refusal":
        message |= {"content": None, "refusal": text}
    used = {
        "prompt_tokens": USED["tokens_in"],
        "completion_tokens": USED["tokens_out"],
        "prompt_tokens_details": {"cached_tokens": USED["cached"]},
        "completion_tokens_details": {"reasoning_tokens": USED["reasoning"]},
    }
    choice = {"index": 0, "message": message, "finish_reason": reasons.get(finish, "stop")}
    return {"model": "m-1", "choices": [choice], "usage": used if usage is None else usage, **more}


def responses(text: Any = "hello", *, calls: Any = (), finish: str = "", usage: Any = None) -> dict[str, Any]:
    part = {"type": "refusal", "refusal": text} if finish == "refusal" else {"type": "output_text", "text": text}
    output: list[Any] = [{"type": "reasoning", "summary": []}]
    if text is not None:
        output.append({"type": "message", "role": "assistant", "content": [part]})
    output += [{"type": "function_call", "call_id": i, "name": n, "arguments": a} for i, n, a in calls]
    why = {"length": "max_output_tokens", "content_filter": "content_filter"}.get(finish)
    used = {
        "input_tokens": USED["tokens_in"],
        "output_tokens": USED["tokens_out"],
        "input_tokens_details": {"cached_tokens": USED["cached"]},
        "output_tokens_details": {"reasoning_tokens": USED["reasoning"]},
    }
    status = {"status": "incomplete", "incomplete_details": {"reason": why}} if why else {"status": "completed"}
    return {"model": "m-1", "output": output, "usage": used if usage is None else usage, **status}


def anthropic(text: Any = "hello", *, calls: Any = (), finish: str = "", usage: Any = None) -> dict[str, Any]:
    content: list[Any] = [{"type": "text", "text": text}] if text is not None else []
    content += [{"type": "tool_use", "id": i, "name": n, "input": _object(a)} for i, n, a in calls]
    # The API has no word for its filter but this one.
    reasons = {"tool_calls": "tool_use", "length": "max_tokens", "refusal": "refusal", "content_filter": "refusal"}
    used = {
        "input_tokens": USED["tokens_in"] - USED["cached"],
        "cache_read_input_tokens": USED["cached"],
        "cache_creation_input_tokens": 0,
        "output_tokens": USED["tokens_out"],
    }
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m-1",
        "content": content,
        "stop_reason": reasons.get(finish, "end_turn"),
        "stop_sequence": None,
        "usage": used if usage is None else usage,
    }


def gemini(text: Any = "hello", *, calls: Any = (), finish: str = "", usage: Any = None) -> dict[str, Any]:
    parts: list[Any] = [{"text": "let me think", "thought": True}]
    parts += [{"text": text}] if text is not None else []
    parts += [{"functionCall": {"id": i, "name": n, "args": _object(a)}} for i, n, a in calls]
    reason = {"length": "MAX_TOKENS", "content_filter": "SAFETY"}.get(finish, "STOP")
    used = {
        "promptTokenCount": USED["tokens_in"],
        "cachedContentTokenCount": USED["cached"],
        "candidatesTokenCount": USED["tokens_out"] - USED["reasoning"],
        "thoughtsTokenCount": USED["reasoning"],
    }
    candidate = {"content": {"role": "model", "parts": parts}, "finishReason": reason}
    return {"candidates": [candidate], "modelVersion": "m-1", "usageMetadata": used if usage is None else usage}


def _object(arguments: str) -> Any:
    """These providers send objects; what is no JSON comes as text, as a broken proxy would send it."""
    try:
        return json.loads(arguments)
    except ValueError:
        return arguments


_SAYS = {"openai-responses": responses, "anthropic": anthropic, "gemini": gemini}


def says(form: str, text: Any = "hello", **more: Any) -> dict[str, Any]:
    """Return an answer in a form."""
    return _SAYS.get(form, chat)(text, **more)


@functools.cache
def _shared_server() -> HttpServer:
    """One server for all tests of a process; it ends with the process."""
    return HttpServer()


class Provider:
    """A server that answers in one form, one answer after the other, under a path of its own."""

    _numbers = itertools.count()

    def __init__(self, form: str, *answers: Any) -> None:
        self.form = form
        method, path = ROUTES[form].split()
        self.prefix = f"/p{next(self._numbers)}"
        self.route = f"{method} {self.prefix}{path}"
        given = [each if isinstance(each, (dict, Answer)) else says(form, each) for each in answers]
        _shared_server().answer(self.route, given or [says(form)])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    @property
    def url(self) -> str:
        """The base URL."""
        return _shared_server().url + self.prefix

    @property
    def settings(self) -> dict[str, Any]:
        """What a call needs to come here."""
        name = "m" if self.form == "compatible" else f"{self.form}:m"
        return {"model": name, "base_url": self.url, "retry": QUICK}

    def journal(self) -> list[dict[str, Any]]:
        """What came, in order."""
        return [entry for entry in _shared_server().journal() if entry["path"].startswith(self.prefix + "/")]

    def bodies(self) -> list[Any]:
        """The requests that came, in order."""
        return [entry["body"] for entry in self.journal()]


def spec(name: str) -> dict[str, Any]:
    """A provider's own specification; skips where it is absent."""
    shared = Path(os.environ.get("STEPWELL_SHARED") or Path(__file__).resolve().parents[2].parent / "shared")
    path = shared / "specs" / f"{name}.openapi.json"
    if not path.exists():
        pytest.skip(f"{name}.openapi.json is not here")
    loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return loaded


def problems(document: dict[str, Any], schema: dict[str, Any], value: Any) -> list[str]:
    """What a specification's schema finds wrong with a value. `nullable` is OpenAPI 3.0's word for null."""
    import jsonschema

    schema = _without_nullable({**schema, "components": document.get("components", {})})
    jsonschema.Draft202012Validator.check_schema(schema)
    return [error.message[:300] for error in jsonschema.Draft202012Validator(schema).iter_errors(value)]


def _without_nullable(node: Any) -> Any:
    if isinstance(node, list):
        return [_without_nullable(each) for each in node]
    if not isinstance(node, dict):
        return node
    out = {name: _without_nullable(each) for name, each in node.items() if name != "nullable"}
    return {"anyOf": [out, {"type": "null"}]} if node.get("nullable") is True else out
