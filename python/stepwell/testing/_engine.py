"""The engine under test: the real one, with a clock that can be moved, faults, and a journal of its steps."""

from __future__ import annotations

import contextlib
import threading
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from stepwell import Engine as RealEngine
from stepwell._errors import InputError
from stepwell._types import RunStatus, run_name
from stepwell.testing._clock import Clock
from stepwell.testing._faults import Faults, InjectedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path
    from types import TracebackType

    from stepwell._step_context import StepContext
    from stepwell._workflow import Step, Workflow
    from stepwell.testing._journal import Journal

# Run ids begin to count here.
_EPOCH = datetime(2024, 1, 1, tzinfo=UTC)
_RUNS_LOOKED_AT = 10_000


class Engine(RealEngine):
    """A real engine for tests: `engine.clock` moves its time, so a run that sleeps for a week ends in milliseconds.

    `path`: a SQLite file, or None for memory. `auto`: while somebody waits for a result and nothing is under way, the clock
    jumps to the next time that a run waits for. `start_at`: what time it is at first (default: now). `faults`: what goes
    wrong. `journal`: gets every attempt of a step. Time limits of steps and HTTP calls keep the machine's time.
    """

    def __init__(
        self,
        path: str | Path | None = None,
        *,
        workflows: Iterable[Workflow[..., Any]] = (),
        auto: bool = True,
        start_at: datetime | None = None,
        faults: Faults | None = None,
        journal: Journal | None = None,
        durability: str = "relaxed",
        _ahead_ms: int = 0,
        _cut: tuple[int, bool] = (0, False),
    ) -> None:
        if start_at is not None:
            if start_at.tzinfo is None or start_at < _EPOCH:
                raise InputError(
                    "SW-E1402",
                    "start_at is not usable",
                    got=repr(start_at),
                    expected=f"a time with a zone from {_EPOCH}",
                )
            _ahead_ms = int((start_at.timestamp() - time.time()) * 1000)
        self.faults = faults
        self.journal = journal
        self._runs_met: dict[int, int] = {}
        self._cut_lock = threading.Lock()
        slow, busy = (round(100 * faults.slow_commit), round(100 * faults.busy)) if faults else (0, 0)
        self._test_world = (_ahead_ms, *_cut, faults.seed if faults else 1, slow, busy)
        super().__init__(path, durability=durability, lease="36500d")
        #: The engine's time.
        self.clock = Clock(self._core, self._worker, auto=auto, on_cut=self.cut)
        self._worker.time = self.clock.time
        self._worker.watch_attempt = self._watch_attempt
        for flow in workflows:
            self.serve(flow)

    @contextlib.contextmanager
    def _watch_attempt(self, step: Step[..., Any], context: StepContext) -> Iterator[None]:
        if self.journal is not None:
            self.journal.enter_attempt(context)
        where = ""
        if self.faults is not None:
            where = self.faults.draw(step, context, self._runs_met.setdefault(context.run, len(self._runs_met)))
        if where == "before":
            raise InjectedError(f"step {context.name!r}, attempt {context.attempt}: a fault before its code")
        yield
        if where == "after":
            raise InjectedError(f"step {context.name!r}, attempt {context.attempt}: a fault after its code")

    def unfinished(self) -> list[str]:
        """Return the runs of served workflows that have neither ended nor wait for a time, a signal or a child.

        Call `clock.settle()` first. Each line names run, workflow and status.
        """
        left = []
        for name in self._worker.flows:
            for row in self._core.find(workflow=name, count_max=_RUNS_LOOKED_AT):
                status = RunStatus(row[1])
                if status in (RunStatus.QUEUED, RunStatus.RUNNING):
                    left.append(f"{run_name(row[0])} of {name}: {status.name.lower()}")
        return left

    def cut(self) -> None:
        """End as a killed process would: nothing more is written, user code gets no further. The file can be opened again."""
        with self._cut_lock:  # the clock's thread may be at it
            if self._is_closed:
                return
            self._worker.cut()
            super().close(0.0)
            for thread in self._worker.pool_threads():
                if thread is not threading.current_thread():
                    thread.join(5)
        self.clock.stop()

    def close(self, timeout: float = 5.0) -> None:
        """Close the engine, and stop its clock."""
        with self._cut_lock:
            super().close(timeout)
        self.clock.stop()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close; an exception learns which faults there were."""
        if error is not None and self.faults is not None:
            error.add_note(self.faults.reminder)
        super().__exit__(kind, error, trace)
