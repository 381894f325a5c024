"""A provider's limits, as the LLM test server enforces them: requests and tokens a minute, refilled all the time."""

from __future__ import annotations

import datetime
import math
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

#: What a request is taken to ask for when it sets no bound on its answer.
DEFAULT_MAX_TOKENS = 16
_ALMOST = 1e-9
_PAIRS_MAX = 10_000


class Bucket:
    """Fills at `per_minute`, holds what flows in within `burst_s`. Times are the provider's, in seconds."""

    def __init__(self, per_minute: float, burst_s: float, least: float = 0.0) -> None:
        self.per_minute = per_minute
        self.rate = per_minute / 60
        self.capacity = max(self.rate * burst_s, least)
        self.level = self.capacity
        self._at: float | None = None

    def refill(self, now: float) -> None:
        """Let in what has come since the last time."""
        if self._at is not None:
            self.level = min(self.capacity, self.level + (now - self._at) * self.rate)
        self._at = now

    def wait(self, amount: float) -> float:
        """Return after how many seconds `amount` may pass. More than it holds passes when it is full, on credit."""
        missing = min(amount, self.capacity) - self.level
        return missing / self.rate if missing > _ALMOST else 0.0


class Verdict(NamedTuple):
    """May a request pass? `wait_s`: after so many of the client's seconds; inf: never. `of`: requests or tokens."""

    wait_s: float
    of: str
    requests: Bucket | None
    tokens: Bucket | None


class Limits:
    """Two buckets for each key and model; `clock_rate`: seconds of the provider that pass in one of the client's."""

    def __init__(self, requests: float, tokens: float, burst_s: float, clock_rate: float) -> None:
        self.is_on = requests > 0 or tokens > 0
        self.clock_rate = clock_rate
        self._limits = f"{requests * clock_rate:.0f}", f"{tokens * clock_rate:.0f}"
        self._make: Callable[[], tuple[Bucket | None, Bucket | None]] = lambda: (
            Bucket(requests, burst_s, least=1.0) if requests > 0 else None,
            Bucket(tokens, burst_s) if tokens > 0 else None,
        )
        self._buckets: dict[tuple[str, str], tuple[Bucket | None, Bucket | None]] = {}

    def admit(self, key: str, model: str, tokens: int, now: float) -> Verdict:
        """Let a request of so many tokens pass at `now` (client's seconds), or say how long it has to wait."""
        pair = self._buckets.get((key, model))
        if pair is None:
            if len(self._buckets) >= _PAIRS_MAX:
                del self._buckets[next(iter(self._buckets))]
            pair = self._buckets[key, model] = self._make()
        by_requests, by_tokens = pair
        wait, of = 0.0, "requests"
        if by_requests is not None:
            by_requests.refill(now * self.clock_rate)
            wait = by_requests.wait(1.0)
        if by_tokens is not None:
            by_tokens.refill(now * self.clock_rate)
            if tokens > by_tokens.per_minute:
                return Verdict(math.inf, "tokens", *pair)
            wait, of = max((wait, of), (by_tokens.wait(tokens), "tokens"))
        if wait == 0:
            if by_requests is not None:
                by_requests.level -= 1
            if by_tokens is not None:
                by_tokens.level -= tokens
        return Verdict(wait / self.clock_rate, of, *pair)

    def openai_headers(self, verdict: Verdict) -> str:
        """Return the x-ratelimit lines: limits a minute of the client's clock, resets as durations."""
        lines = ""
        for name, limit, bucket in (
            ("requests", self._limits[0], verdict.requests),
            ("tokens", self._limits[1], verdict.tokens),
        ):
            if bucket is not None:
                level = bucket.level
                until_full = (bucket.capacity - level) / bucket.rate / self.clock_rate
                lines += (
                    f"x-ratelimit-limit-{name}: {limit}\r\nx-ratelimit-remaining-{name}: "
                    f"{int(level) if level > 0 else 0}\r\nx-ratelimit-reset-{name}: {go_duration(until_full)}\r\n"
                )
        return lines

    def anthropic_headers(self, verdict: Verdict, wall: float) -> str:
        """Return the anthropic-ratelimit lines: resets as times. `wall`: now, in seconds since 1970."""
        lines = ""
        for name, bucket in (("requests", verdict.requests), ("tokens", verdict.tokens)):
            if bucket is not None:
                reset = datetime.datetime.fromtimestamp(wall + self._until_full(bucket), datetime.UTC)
                lines += (
                    f"anthropic-ratelimit-{name}-limit: {bucket.per_minute * self.clock_rate:.0f}\r\n"
                    f"anthropic-ratelimit-{name}-remaining: {max(0, int(bucket.level))}\r\n"
                    f"anthropic-ratelimit-{name}-reset: {reset.isoformat(timespec='milliseconds')[:-6]}Z\r\n"
                )
        return lines

    def _until_full(self, bucket: Bucket) -> float:
        return (bucket.capacity - bucket.level) / bucket.rate / self.clock_rate

    def retry_after(self, wait_s: float) -> str:
        """Return a Retry-After: whole seconds, as providers send; with a quicker clock, to the millisecond."""
        if self.clock_rate == 1:
            return str(math.ceil(wait_s))
        return f"{math.ceil(wait_s * 1000) / 1000:g}"


def go_duration(seconds: float) -> str:
    """Return seconds as OpenAI writes them: "6m0s", "1.5s", "12ms"."""
    ms = max(0, math.ceil(seconds * 1000 - _ALMOST))
    if ms < 1000:
        return f"{ms}ms"
    minutes, rest = divmod(ms, 60_000)
    hours, minutes = divmod(minutes, 60)
    head = (f"{hours}h" if hours else "") + (f"{minutes}m" if hours or minutes else "")
    return f"{head}{rest / 1000:g}s"
