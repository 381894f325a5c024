"""The virtual clock of a test engine: real time plus what was jumped over.

A jump happens only when everything is at rest: nothing on its way to or from the store, a peer or user code. The core counts
whatever enters or leaves it, and refuses a jump if that number has moved since it was asked. So no run misses its time.
"""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from stepwell._errors import ClosedError, InputError, WaitTimeout
from stepwell._types import Duration, duration_ms

if TYPE_CHECKING:
    from collections.abc import Callable

# A timer further away than this is none: leases of a test engine never end.
_NEVER_MS = 10 * 365 * 86_400_000
_LOOK_S_MIN, _LOOK_S_MAX = 0.0005, 0.02
_PROBE_S = 1.0


class View(NamedTuple):
    """TestView of the core."""

    activity: int
    is_idle: bool
    is_cut: bool
    is_awaited: bool
    active_count: int
    asking_count: int
    commit_count: int
    wall_ms: int
    next_in_ms: int


class Cut(Exception):
    """The engine was cut off from its store."""


class Clock:
    """The time of a test engine. It flows like the machine's, and jumps when told to, or by itself (`auto`).

    With `auto`, while somebody waits for a run's end and nothing is under way, it jumps to the next time that a run waits
    for. A test that sends signals before it asks for the result is therefore free of races.
    """

    def __init__(self, core: Any, worker: Any, *, auto: bool, on_cut: Callable[[], None]) -> None:
        #: Whether the clock jumps by itself; may be changed at any time.
        self.auto = auto
        self._core = core
        self._worker = worker
        self._on_cut = on_cut
        self._hops = threading.Lock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._drive, name="stepwell-clock", daemon=True)
        self._thread.start()

    def now(self) -> datetime:
        """Return the engine's time (UTC): what `sw.now()` gives in its runs."""
        return datetime.fromtimestamp(self.time(), UTC)

    def time(self) -> float:
        """Return the same in seconds since 1970."""
        return time.time() + self.ahead_ms / 1000

    @property
    def ahead_ms(self) -> int:
        """The engine's time minus the machine's."""
        return self._core.for_test_ahead_ms()  # type: ignore[no-any-return]

    @property
    def commit_count(self) -> int:
        """How many transitions the engine has committed."""
        return self._view().commit_count

    def advance(self, by: Duration) -> None:
        """Move the time forward by "3d", "90s" or a timedelta; runs whose time comes on the way are run at their time.

        Returns when all of that has come to rest. Raises WaitTimeout SW-E1401 when it does not within 30 real seconds.
        """
        self._advance_to(self._view().wall_ms + duration_ms(by, "advance"))

    def advance_to(self, when: datetime) -> None:
        """Move the time forward to a moment (with a time zone); nothing happens if that has passed."""
        if when.tzinfo is None:
            raise InputError("SW-E2010", "a time without a zone", got=repr(when), hint="datetime(..., tzinfo=UTC)")
        self._advance_to(int(when.timestamp() * 1000))

    def settle(self, timeout: float = 30.0) -> None:
        """Wait until no run is under way: each has ended, or waits. Time does not jump meanwhile (unless `auto` does it).

        Raises WaitTimeout SW-E1401 after `timeout` real seconds.
        """
        with self._hops:
            self._rest(timeout)

    def run_until_quiet(self, hops_max: int = 10_000, timeout: float = 30.0) -> None:
        """Jump from one time that a run waits for to the next, until none is left: runs have ended, or wait for signals.

        Raises WaitTimeout SW-E1401 for runs that are under way for `timeout` real seconds, or jump more than `hops_max`
        times.
        """
        with self._hops:
            for _ in range(hops_max):
                view = self._rest(timeout)
                if view.next_in_ms < 0:
                    return
                self._jump(view, view.next_in_ms)
        raise WaitTimeout(
            "SW-E1401",
            f"runs still wait for times after {hops_max} jumps",
            hint="a workflow that sleeps in an endless loop? advance the clock by a duration instead",
        )

    # -- how it is done -------------------------------------------------------------------------------------------------

    def _advance_to(self, until_ms: int) -> None:
        with self._hops:
            while True:
                view = self._rest()
                left_ms = until_ms - view.wall_ms
                if left_ms <= 0:
                    return
                self._jump(view, left_ms if view.next_in_ms < 0 else min(left_ms, view.next_in_ms))

    def _view(self) -> View:
        view = View(*self._core.for_test_view())
        return view._replace(next_in_ms=-1) if view.next_in_ms > _NEVER_MS else view

    def _jump(self, view: View, by_ms: int) -> bool:
        return bool(self._core.for_test_jump(view.activity, max(by_ms, 1)))

    def _rest(self, timeout: float = 30.0) -> View:
        """Return the view of an engine at rest."""
        end = time.monotonic() + timeout
        pause = _LOOK_S_MIN
        while True:
            view = self._view()
            if view.is_cut:
                raise Cut
            if view.next_in_ms != 0 and self._is_at_rest(view):
                # User code may have handed something in between the view and the look at it.
                again = self._view()
                if again.is_idle and again.activity == view.activity:
                    return again
            if time.monotonic() > end:
                raise WaitTimeout(
                    "SW-E1401",
                    f"the engine did not come to rest in {timeout:g} s: {view.active_count} run(s) are under way",
                    hint="a step that never returns? its thread or task is what to look at",
                )
            self._stopped.wait(pause)
            pause = min(2 * pause, _LOOK_S_MAX)

    def _is_at_rest(self, view: View) -> bool:
        if not view.is_idle:
            return False
        answers: list[bool] = []
        answered = threading.Event()

        def look() -> None:
            answers.append(self._worker.is_at_rest(view.active_count, view.asking_count))
            answered.set()

        try:
            self._worker.loop.call_soon_threadsafe(look)
        except RuntimeError:  # the loop is closed
            return False
        return answered.wait(_PROBE_S) and answers[0]

    def _drive(self) -> None:
        """Jump when that is wanted, and notice a cut. The clock's own thread."""
        pause, seen = _LOOK_S_MIN, -1
        while not self._stopped.wait(pause):
            try:
                view = self._view()
                if view.is_cut:
                    self._on_cut()
                    return
                pause = _LOOK_S_MIN if view.activity != seen else min(2 * pause, _LOOK_S_MAX)
                seen = view.activity
                wants = self.auto and view.is_awaited and view.next_in_ms > 0
                if wants and not self._hops.locked() and self._is_at_rest(view) and self._jump(view, view.next_in_ms):
                    pause = _LOOK_S_MIN
            except ClosedError:
                return

    def stop(self) -> None:
        """Stop the clock's thread."""
        self._stopped.set()
        if threading.current_thread() is not self._thread:
            self._thread.join(10)
