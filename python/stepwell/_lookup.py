"""What an engine tells about its runs, queues and letters, and how it copies its store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack, cast

from stepwell._errors import NotFoundError
from stepwell._queues import Limits, Queue
from stepwell._run import Run
from stepwell._types import run_name, run_number
from stepwell._workflow import Workflow

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from stepwell._dead_letters import DeadLetter, DeadLetters
    from stepwell._engine import Engine
    from stepwell._history import HistoryEntry
    from stepwell._worker import Worker


class Lookup:
    """What an engine adds to its core to be looked into."""

    _core: Any
    _worker: Worker

    def _started(self, flow: Workflow[..., Any], answer: tuple[Any, ...]) -> Run[Any]:
        raise NotImplementedError

    def queue(self, which: str | Workflow[..., Any], **limits: Unpack[Limits]) -> Queue:
        """Return a queue by name, or a workflow's own; limits that are named are set (see Queue.limit)."""
        queue = Queue(cast("Engine", self), which.name if isinstance(which, Workflow) else which)
        return queue.limit(**limits) if limits else queue

    def dead_letters(
        self, flow: Workflow[..., Any] | None = None, *, where: Callable[[DeadLetter], bool] | None = None
    ) -> DeadLetters:
        """Return the runs that failed or gave up: to look at, to group, to replay. Nothing is ever deleted by that."""
        from stepwell._dead_letters import DeadLetters

        return DeadLetters(cast("Engine", self), flow, where)

    def replay(
        self, run: Run[Any] | int, *, from_step: str | None = None, key: str | None = None, **edit: Any
    ) -> Run[Any]:
        """Start an ended run again as a new one, with its input, or with `value=...` instead.

        `from_step` keeps what was recorded before that step (named as in the history: "charge", "charge#2",
        "gather/0/charge"). Raises ConflictError SW-E1019 for a run that has not ended, InputError SW-E2012 for a step that
        it does not have.
        """
        from stepwell._dead_letters import replay_request

        row = self._row(run._run if isinstance(run, Run) else run, with_events=True)  # noqa: SLF001
        flow = self._worker.flows.get(row[3])
        request = replay_request(flow, row, from_step, key, edit)
        return self._started(self._worker.flows[row[3]], self._core.start([request])[0])

    def history(self, run: Run[Any] | int | str) -> list[HistoryEntry]:
        """Return what a run (or its name) has recorded so far, in order. NotFoundError SW-E1005 when there is none."""
        from stepwell._history import history_of

        number = run._run if isinstance(run, Run) else run_number(run) if isinstance(run, str) else run  # noqa: SLF001
        return history_of(self._row(number, with_events=True)[10])

    def counters(self) -> Mapping[str, int]:
        """Return what the core has counted since it was opened."""
        counters: Mapping[str, int] = self._core.counters()
        return counters

    def _row(self, run: int, **which: bool) -> tuple[Any, ...]:
        rows = self._core.find(run=run, **which) if run > 0 else []
        if not rows:
            raise NotFoundError("SW-E1005", f"there is no run {run_name(run)}")
        row: tuple[Any, ...] = rows[0]
        return row

    def backup(self, target: str | Path, *, progress: Callable[[int, int], None] | None = None) -> int:
        """Write a whole copy of the store to `target` while runs go on, and return its bytes.

        `target` must not exist (ConflictError SW-E1107). `progress` is called with pages done and pages in all.
        """
        from stepwell import store

        return store.backup_engine(self._core, target, progress)
