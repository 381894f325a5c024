"""The one place where an LLM call takes the core's form, and where calls that follow from each other are made.

A conversation is a generator: it yields (name, request) and is sent (body, attempts); its return value is the answer.
Inside a run each of its calls is recorded under its name; outside of one they are made directly.
"""

from __future__ import annotations

import json
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeVar

from stepwell._errors import LlmError
from stepwell._limits import admission_names
from stepwell._workflow import current_activation
from stepwell.llm._cache import current_keeper
from stepwell.llm._costing import Costing

if TYPE_CHECKING:
    from collections.abc import Generator

    from stepwell._types import Retry
    from stepwell.llm._adapter import UsagePointers
    from stepwell.llm._models import Model
    from stepwell.llm._usage import Price

T = TypeVar("T")
Request = tuple[Any, ...]
Conversation = "Generator[tuple[str, Request], tuple[bytes, int], T]"
_CONNECT_MS = 10_000
#: Whether another model will be asked if this call fails: then it does not wait for a provider that is down.
has_next: ContextVar[bool] = ContextVar("has_next", default=False)
# What is reserved for an answer of which nobody says how long it may be.
_TOKENS_OUT_GUESS = 1_000


def call_request(
    model: Model,
    body: bytes,
    retry: Retry,
    timeout_ms: int,
    pointer: str,
    *,
    url: str = "",
    tokens_estimate: int = 0,
    usage_pointers: UsagePointers | None = None,
    price: Price | None = None,
    tenant: str = "",
) -> Request:
    """Return a call in the core's form. A completion may be repeated: the worst is to pay twice, so it is declared so.

    `url`: where it goes, if not to where questions go. The rest is for admission and accounting: `tokens_estimate` what
    may be used at most, `usage_pointers` where an answer says what was used, `price` dollars a token, `tenant` whose it is.
    """
    request = ("POST", url or model.url, model.headers, body, _CONNECT_MS, timeout_ms)
    costing = Costing.of(model, usage_pointers, price, tenant)
    bucket, circuit = admission_names(model.provider, model.name, request[1], model.headers)
    admission = (bucket, circuit, tenant, tokens_estimate, *(usage_pointers or ((), (), "")), has_next.get())
    return (request, retry.to_core(), True, True, pointer, admission, costing, ())


def estimate_tokens(body_bytes: int, max_tokens: int | None) -> int:
    """Return what a request may use at most: a token for each four characters, and the longest answer."""
    return body_bytes // 4 + 1 + (max_tokens or _TOKENS_OUT_GUESS)


def parsed(body: bytes, model: Model) -> dict[str, Any]:
    """Return an answer's JSON. Raises LlmError SW-E2122 for one that is no object, which the core's judge lets through."""
    try:
        answer = json.loads(body.decode())
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        raise LlmError(
            "SW-E2122", f"the answer of {model!r} is no JSON object", got=body[:120].decode("utf-8", "replace")
        )
    return answer


async def converse(conversation: Generator[tuple[str, Request], tuple[bytes, int], T]) -> T:
    """Make the calls of a conversation, and return what it returns."""
    activation, keeper = current_activation.get(), current_keeper.get()
    try:
        name, request = next(conversation)
        while True:
            if activation is None:
                from stepwell.llm._direct import call_directly

                hit = None if keeper is None else await keeper.afind(request)
                answer = (hit, 0) if hit is not None else await call_directly(request)
            else:
                answer = await activation.call(name, request, keeper)
            if keeper is not None:
                keeper.note(name, request, answer)
            name, request = conversation.send(answer)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]


def converse_blocking(conversation: Generator[tuple[str, Request], tuple[bytes, int], T]) -> T:
    """Do the same from plain code, waiting without the GIL."""
    activation, keeper = current_activation.get(), current_keeper.get()
    try:
        name, request = next(conversation)
        while True:
            if activation is None:
                from stepwell.llm._direct import call_directly_blocking

                hit = None if keeper is None else keeper.find(request)
                answer = (hit, 0) if hit is not None else call_directly_blocking(request)
            else:
                answer = activation.call_blocking(name, request, keeper)
            if keeper is not None:
                keeper.note(name, request, answer)
            name, request = conversation.send(answer)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
