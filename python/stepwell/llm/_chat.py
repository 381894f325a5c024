"""`chat`: messages in, text or a typed object out, recorded."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stepwell import _codec
from stepwell._errors import LlmError
from stepwell._types import Duration, Retry, duration_ms
from stepwell._workflow import current_activation
from stepwell.llm._providers import DEFAULT_RETRY, Model, Usage, call_request, resolve_model, usage_of

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Chat:
    """A model's answer: its text, the typed value when one was asked for, and what it used."""

    text: str
    value: Any
    usage: Usage
    finish_reason: str


def _request(
    model: Model,
    messages: Sequence[dict[str, str]] | str,
    returns: Any,
    retry: Retry,
    timeout: Duration,
    options: dict[str, Any],
) -> tuple[Any, ...]:
    if isinstance(messages, str):
        messages = [{"role": "user", "content": messages}]
    body: dict[str, Any] = {"model": model.name, "messages": list(messages), **options}
    if returns is not str:
        import pydantic

        schema = pydantic.TypeAdapter(returns).json_schema()
        body["response_format"] = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    return call_request(
        model, _codec.encode(body, "request"), retry, duration_ms(timeout, "timeout"), "/choices/0/message"
    )


def _read(body: bytes, model: Model, returns: Any) -> Chat:
    answer = json.loads(body.decode())
    choice = answer["choices"][0]
    message = choice.get("message") or {}
    usage = usage_of(answer, model)
    if message.get("refusal"):
        raise LlmError("SW-E2107", f"{model!r} refused: {str(message['refusal'])[:200]}")
    text = message.get("content") or ""
    value = text if returns is str else _codec.decode(text.encode(), returns, f"answer of {model!r}")
    return Chat(text, value, usage, str(choice.get("finish_reason") or ""))


async def chat(
    messages: Sequence[dict[str, str]] | str,
    *,
    model: str,
    returns: Any = str,
    base_url: str | None = None,
    api_key: str | None = None,
    retry: Retry = DEFAULT_RETRY,
    timeout: Duration = "60s",
    **options: Any,
) -> Chat:
    """Ask a model. `returns` (a pydantic model, dataclass or JSON type) asks for structured output and validates it.

    `options` go into the request as they are (temperature, max_tokens, ...). Raises InputError SW-E1211 when the answer does
    not fit `returns`, LlmError SW-E2107 for a refusal, StepFailed when the call failed for good.
    """
    resolved = resolve_model(model, base_url, api_key)
    request = _request(resolved, messages, returns, retry, timeout, options)
    activation = current_activation.get()
    if activation is None:
        from stepwell.llm._direct import call_directly

        return _read((await call_directly(request))[0], resolved, returns)
    return _read((await activation.call("llm.chat", request))[0], resolved, returns)


def chat_blocking(
    messages: Sequence[dict[str, str]] | str,
    *,
    model: str,
    returns: Any = str,
    base_url: str | None = None,
    api_key: str | None = None,
    retry: Retry = DEFAULT_RETRY,
    timeout: Duration = "60s",
    **options: Any,
) -> Chat:
    """Ask a model from plain code, waiting without the GIL."""
    resolved = resolve_model(model, base_url, api_key)
    request = _request(resolved, messages, returns, retry, timeout, options)
    activation = current_activation.get()
    if activation is None:
        from stepwell.llm._direct import call_directly_blocking

        return _read(call_directly_blocking(request)[0], resolved, returns)
    return _read(activation.call_blocking("llm.chat", request)[0], resolved, returns)
