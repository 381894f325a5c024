"""Queues with limits, and starts that become one run. Limits live in the store: they outlive the engine that set them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, TypedDict, Unpack

from stepwell._errors import InputError, WaitTimeout
from stepwell._types import Duration, check_text, duration_ms, is_count

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stepwell._engine import Engine

_COUNT_MAX = 1_000_000
_LOOK_S = 0.02
# CollapseKind of the core.
_DEBOUNCE, _SINGLETON, _BATCH = 1, 2, 3


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `count` runs are taken up in any time span of length `per`; over all engines, restarts included."""

    count: int
    per: Duration


@dataclass(frozen=True, slots=True)
class Debounce:
    """Starts with the same key become one run with the last input, `wait` after the last of them.

    Not later than `max_wait` after the first, if that is given.
    """

    key: str
    wait: Duration
    max_wait: Duration | None = None


@dataclass(frozen=True, slots=True)
class Singleton:
    """While a run with this key has not ended, a start gives that run and changes nothing."""

    key: str


@dataclass(frozen=True, slots=True)
class Collect:
    """Starts become one run over a list of their inputs: when `size` have come, or `wait` after the first."""

    size: int
    wait: Duration
    key: str = ""


Collapse = Debounce | Singleton | Collect


def collapse_request(collapse: Collapse | None) -> tuple[tuple[Any, ...], Duration | None]:
    """Return a collapse in the core's form, and how long its run waits at first."""
    if collapse is None:
        return (), None
    key = collapse.key
    check_text(key, "key", least=0 if isinstance(collapse, Collect) else 1)
    if isinstance(collapse, Debounce):
        max_ms = -1 if collapse.max_wait is None else duration_ms(collapse.max_wait, "max_wait")
        return (_DEBOUNCE, key, max_ms, 0), collapse.wait
    if isinstance(collapse, Singleton):
        return (_SINGLETON, key, -1, 0), None
    return (_BATCH, key, -1, _count(collapse.size, "size", least=2)), collapse.wait


def _count(value: int, what: str, *, least: int = 1) -> int:
    if not is_count(value, _COUNT_MAX, least=least):
        raise InputError("SW-E1023", f"{what} is out of range", got=repr(value), expected=f"{least} to {_COUNT_MAX}")
    return value


def check_concurrency(value: int, what: str = "concurrency") -> None:
    """Raise InputError SW-E1014 for what is no number of things at once."""
    if not is_count(value, _COUNT_MAX):
        raise InputError("SW-E1014", f"{what} is out of range", got=repr(value)[:80], expected=f"1 to {_COUNT_MAX}")


class Limits(TypedDict, total=False):
    """What a queue lets through. None lifts a limit; what is not named stays as it is."""

    #: Runs driven at once, over all engines of the store. (Per engine: `Engine.serve(..., concurrency=)`.)
    concurrency: int | None
    #: Runs of one group driven at once; a start names its group with `group=`.
    per_group: int | None
    rate: Rate | None
    #: Groups take turns, however many runs one of them has queued.
    fair: bool


@dataclass(frozen=True, slots=True)
class QueueInfo:
    """How a queue stands. Of the `queued` runs, `held` are held back by their group's limit."""

    name: str
    queued: int
    held: int
    running: int
    concurrency: int | None
    per_group: int | None
    rate: Rate | None
    fair: bool
    paused: bool


class Queue:
    """A queue of an engine: its limits, and how it stands. Runs that sleep or wait have given their place back."""

    def __init__(self, engine: Engine, name: str) -> None:
        check_text(name, "name of a queue")
        self._engine = engine
        self.name = name

    def limit(self, **limits: Unpack[Limits]) -> Self:
        """Change limits, also while runs are queued and running; durable when it returns.

        A lowered limit ends nothing: it holds for what is taken up from now on.
        """
        unknown = limits.keys() - Limits.__annotations__.keys()
        if unknown:
            raise InputError(
                "SW-E1023", "unknown limit", got=", ".join(sorted(unknown)), expected=", ".join(Limits.__annotations__)
            )
        total, group, rate_count, rate_ms, fair, paused = self._look()[0]
        if "concurrency" in limits:
            total = -1 if limits["concurrency"] is None else _count(limits["concurrency"], "concurrency")
        if "per_group" in limits:
            group = -1 if limits["per_group"] is None else _count(limits["per_group"], "per_group")
        if "rate" in limits:
            rate = limits["rate"]
            rate_count = 0 if rate is None else _count(rate.count, "rate")
            rate_ms = 0 if rate is None else duration_ms(rate.per, "rate")
        self._set((total, group, rate_count, rate_ms, limits.get("fair", fair), paused))
        return self

    def pause(self) -> None:
        """Take up nothing more until `resume`, restarts included. Starts are still accepted; what runs goes on."""
        self._set((*self._look()[0][:5], True))

    def resume(self) -> None:
        """Take up runs again."""
        self._set((*self._look()[0][:5], False))

    def drain(self, timeout: Duration = "1m") -> None:
        """Pause, and return when nothing of the queue is running any more. Raises WaitTimeout SW-E1004."""
        self.pause()
        for _ in _until(timeout):
            if self.info().running == 0:
                return
        raise WaitTimeout("SW-E1004", f"queue {self.name!r} still has {self.info().running} runs under way")

    def info(self) -> QueueInfo:
        """Return its limits and how many runs wait and run."""
        (total, group, rate_count, rate_ms, fair, paused), queued, held, running = self._look()
        return QueueInfo(
            self.name,
            queued,
            held,
            running,
            concurrency=None if total < 0 else total,
            per_group=None if group < 0 else group,
            rate=Rate(rate_count, f"{rate_ms}ms") if rate_count else None,
            fair=fair,
            paused=paused,
        )

    def _look(self) -> tuple[tuple[int, int, int, int, bool, bool], int, int, int]:
        view: tuple[tuple[int, int, int, int, bool, bool], int, int, int] = self._engine._core.look(self.name)  # noqa: SLF001
        return view

    def _set(self, limits: tuple[int, int, int, int, bool, bool]) -> None:
        self._engine._core.set_limits(self.name, limits)  # noqa: SLF001

    def __repr__(self) -> str:
        """Name the queue."""
        return f"<queue {self.name}>"


def _until(timeout: Duration) -> Iterator[None]:
    end = time.monotonic() + duration_ms(timeout, "timeout") / 1000
    while True:
        yield
        if time.monotonic() >= end:
            return
        time.sleep(_LOOK_S)
