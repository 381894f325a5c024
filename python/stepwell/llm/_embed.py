"""`embed`: texts in, vectors out, recorded."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from stepwell import _codec
from stepwell._budgets.policy import counted
from stepwell._errors import InputError, LlmError
from stepwell._types import Duration, Retry, duration_ms
from stepwell.llm._asking import governed, governed_blocking
from stepwell.llm._call import call_request, converse, converse_blocking, estimate_tokens, parsed
from stepwell.llm._models import DEFAULT_RETRY, Model, resolve_model
from stepwell.llm._prompt import clean
from stepwell.llm._usage import Usage, price_of, usage_of

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from stepwell._budgets.policy import Budget
    from stepwell.llm._adapter import EmbedForm
    from stepwell.llm._cache import Cache
    from stepwell.llm._policies import AnyModel, Endpoint
    from stepwell.llm._redact import Redact

_TEXTS_MAX = 100_000


@dataclass(frozen=True, slots=True)
class Embeddings:
    """One vector a text, in the order of the texts, all of one length; and what they used."""

    vectors: list[list[float]]
    usage: Usage
    cached: bool = False
    redacted: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Work:
    model: Model
    form: EmbedForm
    texts: list[str]
    retry: Retry
    timeout_ms: int
    tenant: str
    options: Mapping[str, Any]

    def request(self, texts: Sequence[str]) -> tuple[Any, ...]:
        body = _codec.encode(self.form.body(self.model.name, texts, self.options), "request")
        return call_request(
            self.model,
            body,
            self.retry,
            self.timeout_ms,
            self.form.required_pointer,
            url=self.model.url_of(self.form.path(self.model.name)),
            tokens_estimate=estimate_tokens(len(body), 1),
            usage_pointers=self.model.adapter.usage_pointers,
            price=price_of(self.model),
            tenant=self.tenant,
        )

    def conversation(self) -> Generator[tuple[str, tuple[Any, ...]], tuple[bytes, int], Embeddings]:
        vectors: list[list[float]] = []
        usage: Usage | None = None
        for begin in range(0, len(self.texts), self.form.texts_max):
            part = self.texts[begin : begin + self.form.texts_max]
            body, _ = yield "llm.embed", self.request(part)
            found, counts = self.form.read(parsed(body, self.model))
            vectors += _checked(found, len(part), vectors[0] if vectors else None, self.model)
            used = usage_of(counts, self.model)
            usage = used if usage is None else usage + used
        return Embeddings(vectors, usage or Usage(cost_usd=0.0))


def _checked(found: list[Any], count: int, first: list[float] | None, model: Model) -> list[list[float]]:
    length = len(first) if first else len(found[0]) if found and isinstance(found[0], list) else 0
    is_good = len(found) == count and length > 0 and all(_is_vector(each, length) for each in found)
    if not is_good:
        raise LlmError(
            "SW-E2121",
            f"{model!r} did not answer with one vector for each text",
            got=f"{len(found)} vectors for {count} texts",
            expected="as many as texts, of one length, of finite numbers",
            hint="check that the model is one for embeddings",
        )
    return [[float(number) for number in each] for each in found]


def _is_vector(value: Any, length: int) -> bool:
    return (
        isinstance(value, list)
        and len(value) == length
        and all(type(number) in (int, float) and math.isfinite(number) for number in value)
    )


def _work(
    texts: Sequence[str] | str,
    model: AnyModel,
    base_url: str | None,
    api_key: str | None,
    retry: Retry,
    timeout: Duration,
    tenant: str,
    options: Mapping[str, Any],
) -> _Work:
    resolved = resolve_model(model, base_url, api_key)
    if resolved.adapter.embeds is None:
        raise InputError(
            "SW-E2120", f"provider {resolved.provider!r} has no embeddings", hint="choose a model of another provider"
        )
    given = [texts] if isinstance(texts, str) else list(texts)
    if len(given) > _TEXTS_MAX or not all(isinstance(text, str) and text.strip() for text in given):
        raise InputError(
            "SW-E2120",
            "these texts cannot be embedded",
            got=f"{len(given)} texts" if len(given) > _TEXTS_MAX else "one that is empty or none",
            expected=f"at most {_TEXTS_MAX:,} texts, none of them empty",
        )
    cleaned = [clean(text) or " " for text in given]
    return _Work(resolved, resolved.adapter.embeds, cleaned, retry, duration_ms(timeout, "timeout"), tenant, options)


@governed("llm.embed", policies=False)
async def embed(
    texts: Sequence[str] | str,
    *,
    model: str | Endpoint,
    base_url: str | None = None,
    api_key: str | None = None,
    retry: Retry = DEFAULT_RETRY,
    timeout: Duration = "60s",
    tenant: str = "",
    cache: Cache | None = None,
    redact: Redact | None = None,
    budget: Budget | None = None,
    **options: Any,
) -> Embeddings:
    """Return one vector a text. Many texts become several calls, each recorded; `dimensions=...` where the model takes it.

    Raises InputError SW-E2120 for texts or providers that cannot be, LlmError SW-E2121 for an answer without the vectors,
    StepFailed (in a run) or RunFailed when a call failed for good.
    """
    del cache, redact  # see `governed`
    work = _work(texts, model, base_url, api_key, retry, timeout, tenant, options)
    with counted(budget):
        return await converse(work.conversation()) if work.texts else Embeddings([], Usage(cost_usd=0.0))


@governed_blocking("llm.embed", policies=False)
def embed_blocking(
    texts: Sequence[str] | str,
    *,
    model: str | Endpoint,
    base_url: str | None = None,
    api_key: str | None = None,
    retry: Retry = DEFAULT_RETRY,
    timeout: Duration = "60s",
    tenant: str = "",
    cache: Cache | None = None,
    redact: Redact | None = None,
    budget: Budget | None = None,
    **options: Any,
) -> Embeddings:
    """Do the same from plain code, waiting without the GIL."""
    del cache, redact  # see `governed`
    work = _work(texts, model, base_url, api_key, retry, timeout, tenant, options)
    with counted(budget):
        return converse_blocking(work.conversation()) if work.texts else Embeddings([], Usage(cost_usd=0.0))
