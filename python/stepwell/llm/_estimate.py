"""What a batch of classifications would take, before a cent is spent."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from stepwell._errors import InputError
from stepwell.llm._classify import Classifier
from stepwell.llm._policies import AnyModel, Cascade, Endpoint, Fallback, Policy, endpoint_of
from stepwell.llm._usage import price_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

# Bytes of a request for a token: English prose in JSON has about four; other languages, code and numbers fewer.
_BYTES_A_TOKEN = (6.0, 4.0, 2.5)
# Tokens of an answer: a label and a number; a model that wraps it in prose; one that reasons before.
_TOKENS_OUT = (8, 25, 200)
# How much of what is around the words, the schema above all, a provider counts.
_FRAME_SHARE = (0.0, 0.5, 1.0)
_ESCALATED_DEFAULT = 0.2


class Range(NamedTuple):
    """A number that is not known yet."""

    low: float
    likely: float
    high: float

    def __str__(self) -> str:
        """Show the likely one, and the bounds."""
        return f"{self.likely:,.6g} ({self.low:,.6g} to {self.high:,.6g})"


@dataclass(frozen=True, slots=True)
class Estimate:
    """What calls would take. `usd`: None when the price of a model is unknown; `seconds`: None without any limit given.

    Low and high are for the tokens that texts of this length may have and, with a policy, for no or for every escalation;
    calls that fail and are made again are not in it.
    """

    texts: int
    calls: Range
    tokens_in: Range
    tokens_out: Range
    usd: Range | None
    seconds: float | None

    def __str__(self) -> str:
        """Show it as a table."""
        rows = {
            "texts": f"{self.texts:,}",
            "calls": str(self.calls),
            "tokens in": str(self.tokens_in),
            "tokens out": str(self.tokens_out),
            "usd": "unknown: no price for a model" if self.usd is None else str(self.usd),
            "seconds": "unknown: no limits given" if self.seconds is None else f"{self.seconds:,.1f}",
        }
        return "\n".join(f"{name:<11} {text}" for name, text in rows.items())


def estimate(
    texts: Iterable[str],
    *,
    labels: Sequence[str],
    model: AnyModel,
    base_url: str | None = None,
    api_key: str | None = None,
    prompt: str = "",
    escalated: float = _ESCALATED_DEFAULT,
    requests_per_minute: float | None = None,
    tokens_per_minute: float | None = None,
    concurrency: int | None = None,
    latency_s: float = 1.0,
) -> Estimate:
    """Return what classifying `texts` would take. Nothing is sent.

    `escalated`: the share of texts that a Cascade hands to its strong model, and a Fallback to each next one. The limits are
    those of the provider, for all models together; with `concurrency` calls at once, each takes `latency_s`. Raises what
    `classify` raises before a call, and InputError SW-E2158 for numbers that make no sense.
    """
    _check(escalated, requests_per_minute, tokens_per_minute, concurrency, latency_s)
    weighed = list(_weighed(model, Range(1, 1, 1), escalated))
    asked = [
        (
            weight,
            Classifier(
                labels,
                model=leaf.model,
                base_url=leaf.base_url or base_url,
                api_key=leaf.api_key or api_key,
                prompt=prompt,
            ),
        )
        for leaf, weight in weighed
    ]
    remote = [(weight, each) for weight, each in asked if not each.is_local]
    found = list(texts)
    bytes_of = [_bytes_of(each, found) for _, each in remote]
    calls, tokens_in, tokens_out, usd = [], [], [], list[float | None]()
    for case in range(3):
        weights = [weight[case] for weight, _ in remote]
        ins = [
            (words + frame * _FRAME_SHARE[case]) / _BYTES_A_TOKEN[case] * weight
            for (words, frame), weight in zip(bytes_of, weights, strict=True)
        ]
        outs = [len(found) * _TOKENS_OUT[case] * weight for weight in weights]
        prices = [price_of(each.model) for _, each in remote]
        calls.append(len(found) * sum(weights))
        tokens_in.append(math.ceil(sum(ins)))
        tokens_out.append(math.ceil(sum(outs)))
        costs = [
            None if price is None else given * price.tokens_in + said * price.tokens_out
            for given, said, price in zip(ins, outs, prices, strict=True)
        ]
        usd.append(None if None in costs else sum(cost for cost in costs if cost is not None))
    times = [
        None if requests_per_minute is None else calls[1] / requests_per_minute * 60,
        None if tokens_per_minute is None else (tokens_in[1] + tokens_out[1]) / tokens_per_minute * 60,
        None if concurrency is None else calls[1] * latency_s / concurrency,
    ]
    known = [each for each in times if each is not None]
    low, likely, high = usd
    return Estimate(
        len(found), Range(*calls), Range(*tokens_in), Range(*tokens_out),
        None if low is None or likely is None or high is None else Range(low, likely, high),
        max(known) if known else None,
    )  # fmt: skip


def _bytes_of(classifier: Classifier, texts: Sequence[str]) -> tuple[int, int]:
    """Return how many bytes of words the requests hold, and how many around them."""
    told, frame = len(classifier.system.encode()), len(classifier.request("")[0][3])
    whole = sum(len(classifier.request(text)[0][3]) for text in texts)
    around = max(0, frame - told) * len(texts)
    return whole - around, around


def _weighed(model: AnyModel, weight: Range, escalated: float) -> Iterator[tuple[Endpoint, Range]]:
    """Give each model that may be asked, and how often for one text."""
    if not isinstance(model, Policy):
        yield endpoint_of(model), weight
        return
    parts = model.parts()
    for at, part in enumerate(parts):
        share = weight
        if isinstance(model, Fallback):
            share = Range(0.0 if at else weight.low, weight.likely * escalated**at, weight.high)
        elif isinstance(model, Cascade) and at == len(parts) - 1:
            share = Range(0.0, weight.likely * escalated, weight.high)
        yield from _weighed(part, share, escalated)


def _check(escalated: float, *positive: float | None) -> None:
    numbers = [each for each in positive if each is not None]
    is_good = all(type(each) in (int, float) and 0 < each < math.inf for each in numbers)
    if not is_good or type(escalated) not in (int, float) or not 0 <= escalated <= 1:
        raise InputError(
            "SW-E2158", "these numbers make no estimate", got=f"escalated={escalated!r}, limits {numbers}"[:200],
            expected="escalated from 0 to 1, the others more than 0",
        )  # fmt: skip
