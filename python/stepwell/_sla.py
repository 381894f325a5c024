"""Agreed times (SLAs) that were not kept: recorded as events of the run, once each."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from stepwell._pages import pages
from stepwell._starts import now_ms
from stepwell._types import Duration, duration_ms

if TYPE_CHECKING:
    from stepwell._workflow import Workflow

_EVENT_SLA_BREACHED = 7


@dataclass(frozen=True, slots=True)
class Breach:
    """A step or (with no step) a run that took longer than agreed. What an `on_breach` workflow gets.

    `took_ms` of a run is what had passed when the breach was recorded, not its whole time.
    """

    run: str
    workflow: str
    step: str
    sla_ms: int
    took_ms: int
    at_ms: int

    @property
    def at(self) -> datetime:
        """When it was recorded."""
        return datetime.fromtimestamp(self.at_ms / 1000, UTC)


def breaches(core: Any, flow: Workflow[..., Any] | None, last: Duration | None) -> list[Breach]:
    """Return the breaches of the store, newest first."""
    since = 0 if last is None else now_ms() - duration_ms(last, "last")
    found: list[Breach] = []
    for row in pages(core, flow.name if flow else "", is_breached=True, with_events=True):
        events = [event for event in row[10] if event[0] == _EVENT_SLA_BREACHED and event[4] >= since]
        found.extend(Breach(**json.loads(event[3])) for event in events)
    return sorted(found, key=lambda breach: breach.at_ms, reverse=True)
