"""Limits of the calls that the core makes: requests and tokens a minute, calls at once; and the breakers of its peers."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from stepwell._errors import InputError
from stepwell._types import Duration, check_text, duration_ms

if TYPE_CHECKING:
    from collections.abc import Mapping

_COUNT_MAX = 1_000_000_000
_BURST_MS_MAX = 60_000
_STATES = ("closed", "open", "half-open")
_Rates = tuple[int, int, int]


def _check(name: str, value: object, low: int, high: int) -> None:
    if not isinstance(value, int) or not low <= value <= high:
        raise InputError("SW-E1331", f"{name} is out of range", got=repr(value), expected=f"{low} to {high}")


@dataclass(frozen=True, slots=True)
class Limit:
    """What a provider lets through for one model and key; None: no such limit.

    `requests_per_minute` and `tokens_per_minute` are spread evenly over the minute; after a rest, what `burst` (1 s) would
    let through may go at once. `concurrency`: calls in flight. `per_tenant`: the same for each tenant, within these.
    Numbers that make no sense are refused with InputError SW-E1331.
    """

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrency: int | None = None
    per_tenant: Limit | None = None
    burst: Duration = "1s"

    def __post_init__(self) -> None:
        """Refuse numbers that make no sense."""
        for name in ("requests_per_minute", "tokens_per_minute", "concurrency"):
            if getattr(self, name) is not None:
                _check(f"Limit.{name}", getattr(self, name), 1, _COUNT_MAX)
        if duration_ms(self.burst, "Limit.burst") > _BURST_MS_MAX:
            raise InputError(
                "SW-E1331", "Limit.burst is out of range", got=repr(self.burst), expected="at most a minute"
            )
        if self.per_tenant is not None and self.per_tenant.per_tenant is not None:
            raise InputError("SW-E1331", "a tenant's limit has tenants of its own", expected="per_tenant=None in it")

    def to_core(self) -> tuple[_Rates, _Rates, int]:
        """Return the limits of all and of a tenant in the core's form, and the burst in milliseconds."""
        return _rates(self), _rates(self.per_tenant), duration_ms(self.burst, "Limit.burst")


def _rates(limit: Limit | None) -> _Rates:
    if limit is None:
        return 0, 0, 0
    return limit.requests_per_minute or 0, limit.tokens_per_minute or 0, limit.concurrency or 0


@dataclass(frozen=True, slots=True)
class Breaker:
    """When a peer counts as down, and how long it is left alone.

    It opens when at least `failures` of the last `window` calls (64 at most), and `failure_percent` of them, failed by the
    peer's fault: 5xx, no connection, no answer in time. `failures` above `window`: never. With `slow`, calls that take so
    long count too, at `slow_percent`.

    Open, it lets nothing through for `cool_down`, which doubles up to `cool_down_max`; calls wait in the store and burn no
    attempt. Then `probes` at once may try, and `successes` good ones close it.

    Retries may be `retry_percent` of the first attempts, and `retries_per_second` in any case; more of them wait.
    """

    window: int = 64
    failures: int = 20
    failure_percent: int = 50
    slow: Duration | None = None
    slow_percent: int = 80
    cool_down: Duration = "5s"
    cool_down_max: Duration = "5m"
    probes: int = 1
    successes: int = 2
    retry_percent: int = 20
    retries_per_second: int = 10

    def __post_init__(self) -> None:
        """Refuse numbers that make no sense."""
        _check("Breaker.window", self.window, 1, 64)
        _check("Breaker.failures", self.failures, 1, _COUNT_MAX)
        for name in ("failure_percent", "slow_percent", "probes", "successes"):
            _check(f"Breaker.{name}", getattr(self, name), 1, 100)
        _check("Breaker.retry_percent", self.retry_percent, 0, 1_000)
        _check("Breaker.retries_per_second", self.retries_per_second, 1, 1_000_000)
        self.to_core()

    def to_core(self) -> list[int]:
        """Return the policy in the core's form, times in milliseconds."""
        slow = 0 if self.slow is None else duration_ms(self.slow, "Breaker.slow")
        cool_down = duration_ms(self.cool_down, "Breaker.cool_down")
        most = duration_ms(self.cool_down_max, "Breaker.cool_down_max")
        return [
            *(self.window, self.failures, self.failure_percent, slow, self.slow_percent, cool_down, most),
            *(self.probes, self.successes, self.retry_percent, self.retries_per_second),
        ]


@dataclass(frozen=True, slots=True)
class Bucket:
    """The limits of one model and key as they stand; None: no limit is known. Counts are since the engine was opened.

    `learned`: from the provider's headers. `requests_room` and `tokens_room` may go now. `window`: calls in flight that it
    lets through at present, fewer after each 429. `held`: calls that waited in the store. `throttled`: answered 429.
    `paused_until`, in seconds since 1970: the provider asked to be left alone until then.
    """

    name: str
    limit: Limit
    learned: Limit
    requests_room: int | None
    tokens_room: int | None
    window: int | None
    in_flight: int
    waiting: int
    tenants: int
    sent: int
    held: int
    throttled: int
    tokens_used: int
    paused_until: float | None


@dataclass(frozen=True, slots=True)
class Circuit:
    """The breaker of one host and key as it stands: "closed", "open" or "half-open".

    `open_until`: seconds since 1970. `calls` and `failures` are those that count at present; the others since open.
    """

    name: str
    state: str
    open_until: float | None
    calls: int
    failures: int
    openings: int
    held: int
    retries_held: int


class LimitVerbs:
    """What an engine adds to its core to limit calls."""

    _core: Any

    def limit(
        self,
        name: str,
        limit: Limit | None = None,
        *,
        requests_per_minute: int | None = None,
        tokens_per_minute: int | None = None,
        concurrency: int | None = None,
        per_tenant: Limit | None = None,
        burst: Duration = "1s",
    ) -> None:
        """Limit the calls to a model: "openai:gpt-4o-mini", or "openai:*" for all others of a provider, or "*".

        Holds at once, also for calls that wait, and for this engine alone. Two keys of one model do not share. What the
        provider tells in its headers lowers these limits and never raises them; without any, it is what holds. A call that
        reserves more tokens than there are in a minute fails with SW-E1330.
        """
        check_text(name, "name of a limit")
        if limit is None:
            limit = Limit(requests_per_minute, tokens_per_minute, concurrency, per_tenant, burst)
        self._core.set_call_limits(name, *limit.to_core())

    def breaker(self, host: str, breaker: Breaker) -> None:
        """Say when a model counts as down, by "api.openai.com/gpt-4o", its host alone, or "*". Holds at once."""
        check_text(host, "name of a host")
        self._core.set_breaker(host, breaker.to_core())

    def limits(self) -> dict[str, Bucket]:
        """Return the buckets that calls have met, by name: "provider:model#" and a digest of host and key."""
        return {row[0]: _bucket(row) for row in self._core.look_at_calls()[0]}

    def circuits(self) -> dict[str, Circuit]:
        """Return the circuits that calls have met, by name: host, "/", model, "#" and a digest of the key."""
        return {
            row[0]: Circuit(row[0], _STATES[row[1]], _seconds(row[2]), *row[3:])
            for row in self._core.look_at_calls()[1]
        }

    def _limit_all(self, limits: Mapping[str, Limit] | None) -> None:
        for name, limit in (limits or {}).items():
            self.limit(name, limit)


def _bucket(row: tuple[Any, ...]) -> Bucket:
    name, of_all, of_tenant, learned, requests, tokens, window, *counts, paused_until = row
    tenant = _limit(of_tenant, None)
    limit = _limit(of_all, None if tenant == Limit() else tenant)
    in_flight, waiting, tenants, sent, held, throttled, used = counts
    room = (None if requests < 0 else requests, None if tokens < 0 else tokens)
    bounds = (*room, None if window < 0 else window)
    now = (in_flight, waiting, tenants)
    return Bucket(
        name, limit, _limit(learned, None), *bounds, *now, sent, held, throttled, used, _seconds(paused_until)
    )


def _limit(rates: _Rates, per_tenant: Limit | None) -> Limit:
    requests, tokens, concurrency = (min(each, _COUNT_MAX) or None for each in rates)
    return Limit(requests, tokens, concurrency, per_tenant)


def _seconds(at_ms: int) -> float | None:
    return None if at_ms < 0 else at_ms / 1000


@functools.lru_cache(maxsize=1024)
def admission_names(provider: str, name: str, url: str, headers: tuple[tuple[str, str], ...]) -> tuple[str, str]:
    """Return the bucket and the circuit of a model: who shares its limits, and who goes down with it.

    The key stands in them as a digest of 32 bits: enough to tell keys apart, too short to find one by.
    """
    parts = urlsplit(url)
    key = hashlib.blake2b(digest_size=4)
    for each in (parts.netloc, *(value for header, value in headers if header != "content-type")):
        key.update(each.encode("utf-8", "surrogateescape") + b"\0")
    digest = key.hexdigest()
    return f"{provider}:{name}#{digest}", f"{parts.hostname}/{name}#{digest}"
