"""What an engine can do by the clock: schedules, and agreed times. The rest is loaded when there are any."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stepwell._engine import Engine
    from stepwell._schedules.plans import Applied, Schedule, Scheduled
    from stepwell._sla import Breach
    from stepwell._types import Duration
    from stepwell._worker import Worker
    from stepwell._workflow import Workflow


class ScheduleVerbs:
    """What an engine adds to its core to start workflows by the clock."""

    _core: Any
    _worker: Worker
    _is_firing = False
    _has_looked = False

    def serve(self, flow: Workflow[..., Any], *, concurrency: int = 1, queue: str | None = None) -> None:
        raise NotImplementedError

    def _need(self, flow: Workflow[..., Any], queue: str | None = None) -> None:
        raise NotImplementedError

    def apply_schedules(self, schedules: Iterable[Schedule], *, keep_others: bool = False) -> Applied:
        """Make these the store's schedules: create, change and (unless `keep_others`) delete what differs; durable.

        All are checked before any is touched; then each changes at once or not at all. A schedule that stays as it was goes
        on as it was, so call this at every start of the program. One whose `cron` or `tz` changes counts from now; a pause
        outlasts a change. Their workflows are served by this engine. Raises InputError SW-E1032 for a name used twice.
        """
        from stepwell._schedules.plans import apply

        wanted = list(schedules)
        applied = apply(cast("Engine", self), wanted, keep_others=keep_others)
        for each in wanted:
            self._need(each.flow, each.queue)
        self._fire_schedules()
        return applied

    def schedules(self) -> list[Scheduled]:
        """Return the store's schedules as they stand, by name."""
        from stepwell._schedules.plans import show

        return show(cast("Engine", self))

    def schedule(self, name: str) -> Scheduled:
        """Return one schedule as it stands, to pause, resume, trigger or backfill it. Raises NotFoundError SW-E1034."""
        from stepwell._schedules.plans import missing, show

        if not name:
            raise missing(name)
        return show(cast("Engine", self), name)[0]

    def breaches(self, flow: Workflow[..., Any] | None = None, *, last: Duration | None = None) -> list[Breach]:
        """Return the agreed times (SLAs) that were not kept, newest first; `last="1h"`: only those of the last hour."""
        from stepwell._sla import breaches

        return breaches(self._core, flow, last)

    def _look_for_schedules(self) -> None:
        """Let the schedules that the store holds fire in this engine; asked once, when it first serves something."""
        if self._has_looked:
            return
        self._has_looked = True
        if self._core.documents("schedule", ""):
            from stepwell._schedules.runs import take_up

            take_up(self._core)
            self._fire_schedules()

    def _fire_schedules(self) -> None:
        if not self._is_firing:
            from stepwell._schedules.runs import FIRING_IN_FLIGHT, firing_workflow

            self._is_firing = True
            self.serve(firing_workflow(self._worker), concurrency=FIRING_IN_FLIGHT)
