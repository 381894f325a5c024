"""`raw`: a provider's own JSON, in and out, for what the typed calls do not know; judged, retried, recorded all the same."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from stepwell import _codec
from stepwell._errors import InputError
from stepwell._types import Duration, Retry, duration_ms
from stepwell.llm._call import call_request, converse, converse_blocking, estimate_tokens, parsed
from stepwell.llm._models import DEFAULT_RETRY, Model, resolve_model
from stepwell.llm._usage import price_of

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

_PATH = re.compile(r"(?:/[A-Za-z0-9_.:%~-]+)+")


def _request(
    model: Model, body: Mapping[str, Any], path: str | None, retry: Retry, timeout: Duration, tenant: str
) -> Any:
    if not isinstance(body, dict) or body.get("stream"):
        raise InputError(
            "SW-E2120", "raw wants a body and gives whole answers", got=repr(body)[:120], expected="a dict"
        )
    if path is not None and (not _PATH.fullmatch(path) or ".." in path):
        raise InputError(
            "SW-E2120", "not a path below the base URL", got=repr(path)[:120], expected="e.g. /moderations"
        )
    named = {"model": model.name, **body} if model.adapter.takes_model else body
    encoded = _codec.encode(named, "request")
    return call_request(
        model,
        encoded,
        retry,
        duration_ms(timeout, "timeout"),
        model.adapter.required_pointer if path is None else "",
        url="" if path is None else model.url_of(path),
        tokens_estimate=estimate_tokens(len(encoded), None),
        usage_pointers=model.adapter.usage_pointers,
        price=price_of(model),
        tenant=tenant,
    )


def _conversation(model: Model, request: Any) -> Generator[tuple[str, Any], tuple[bytes, int], dict[str, Any]]:
    body, _ = yield "llm.raw", request
    return parsed(body, model)


async def raw(
    model: str,
    body: Mapping[str, Any],
    *,
    path: str | None = None,
    base_url: str | None = None,
    api_key: str | None = None,
    retry: Retry = DEFAULT_RETRY,
    timeout: Duration = "60s",
    tenant: str = "",
) -> dict[str, Any]:
    """POST `body` and return the provider's JSON object as it is. `path`: below the base URL, if not where questions go.

    Raises InputError SW-E2120 before anything is sent, LlmError SW-E2122 for an answer that is no object, StepFailed (in a
    run) or RunFailed when the call failed for good.
    """
    resolved = resolve_model(model, base_url, api_key)
    return await converse(_conversation(resolved, _request(resolved, body, path, retry, timeout, tenant)))


def raw_blocking(
    model: str,
    body: Mapping[str, Any],
    *,
    path: str | None = None,
    base_url: str | None = None,
    api_key: str | None = None,
    retry: Retry = DEFAULT_RETRY,
    timeout: Duration = "60s",
    tenant: str = "",
) -> dict[str, Any]:
    """Do the same from plain code, waiting without the GIL."""
    resolved = resolve_model(model, base_url, api_key)
    return converse_blocking(_conversation(resolved, _request(resolved, body, path, retry, timeout, tenant)))
