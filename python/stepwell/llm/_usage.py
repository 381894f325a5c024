"""What a call used, and what that costs by the price list of genai-prices."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from stepwell.llm._adapter import Counts
    from stepwell.llm._models import Model

# No answer has that many; a count beyond it is nonsense.
_COUNT_MAX = 1_000_000_000
# Long prompts have prices of their own with some providers; below this many tokens none has.
_TIER_TOKENS = 100_000
# What the price list calls a provider, where that differs.
_PRICE_NAMES = {"openai-responses": "openai", "gemini": "google"}


@dataclass(frozen=True, slots=True)
class Usage:
    """What a call used: tokens as the provider counted them, US dollars by the price list (None: price unknown).

    `tokens_in` includes `cached_tokens` (read from the provider's prompt cache) and `cache_write_tokens`, `tokens_out`
    includes `reasoning_tokens`. `is_doubtful`: counts were missing or nonsense (negative, no whole number) and count as 0.
    """

    tokens_in: int = 0
    tokens_out: int = 0
    cost_usd: float | None = None
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    is_doubtful: bool = False

    def __add__(self, other: Usage) -> Usage:
        """Return what two calls used together; the cost is unknown as soon as one of them is."""
        costs = (self.cost_usd, other.cost_usd)
        return Usage(
            self.tokens_in + other.tokens_in,
            self.tokens_out + other.tokens_out,
            None if costs[0] is None or costs[1] is None else costs[0] + costs[1],
            self.cached_tokens + other.cached_tokens,
            self.cache_write_tokens + other.cache_write_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
            self.is_doubtful or other.is_doubtful,
        )


class Price(NamedTuple):
    """US dollars for one token of each kind."""

    tokens_in: float
    tokens_out: float
    cached: float
    cache_write: float


def price_of(model: Model) -> Price | None:
    """Return a model's price; None when the price list does not know the model."""
    return _price_of(model.provider, model.name)


def _calculate(provider: str, name: str, tokens_in: int, tokens_out: int, cached: int, written: int) -> float:
    """Ask the price list. Raises ImportError, LookupError or ValueError."""
    from genai_prices import Usage as PriceUsage
    from genai_prices import calc_price

    usage = PriceUsage(
        input_tokens=tokens_in, output_tokens=tokens_out, cache_read_tokens=cached, cache_write_tokens=written
    )
    provider_id = None if provider == "openai-compatible" else _PRICE_NAMES.get(provider, provider)
    return float(calc_price(usage, name, provider_id=provider_id).total_price)


@functools.lru_cache(maxsize=256)
def _price_of(provider: str, name: str) -> Price | None:
    try:
        return Price(
            _calculate(provider, name, 1000, 0, 0, 0) / 1000,
            _calculate(provider, name, 0, 1000, 0, 0) / 1000,
            _calculate(provider, name, 1000, 0, 1000, 0) / 1000,
            _calculate(provider, name, 1000, 0, 0, 1000) / 1000,
        )
    except (ImportError, LookupError, ValueError):
        return None


def usage_of(counts: Counts, model: Model) -> Usage:
    """Check counts and price them. Nonsense counts as nothing, never as negative money."""
    tokens_in, tokens_out, cached, written = numbers = checked(counts)
    reasoning = _count(counts.reasoning)
    is_doubtful = (*numbers, reasoning) != (
        counts.tokens_in, counts.tokens_out, counts.cached, counts.cache_write, counts.reasoning
    )  # fmt: skip
    if reasoning > tokens_out:
        reasoning, is_doubtful = 0, True
    cost = cost_of(model, *numbers)
    return Usage(tokens_in, tokens_out, cost, cached, written, reasoning, is_doubtful)


def checked(counts: Counts) -> tuple[int, int, int, int]:
    """Return input, output, cached and written tokens, where nonsense is 0 and no part is more than the whole."""
    tokens_in, cached, written = _count(counts.tokens_in), _count(counts.cached), _count(counts.cache_write)
    if cached + written > tokens_in:
        cached = written = 0
    return tokens_in, _count(counts.tokens_out), cached, written


def cost_of(model: Model, tokens_in: int, tokens_out: int, cached: int, written: int) -> float | None:
    """Return what that costs in US dollars; None when the price is unknown."""
    price = price_of(model)
    if price is None:
        return None
    if tokens_in > _TIER_TOKENS:
        return _calculate(model.provider, model.name, tokens_in, tokens_out, cached, written)
    if not cached and not written:
        return tokens_in * price.tokens_in + tokens_out * price.tokens_out
    plain = tokens_in - cached - written
    return plain * price.tokens_in + tokens_out * price.tokens_out + cached * price.cached + written * price.cache_write


def _count(value: object) -> int:
    return value if type(value) is int and 0 <= value <= _COUNT_MAX else 0
