"""A run's history, as people read it: what was recorded, in order."""

from __future__ import annotations

import enum
import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from stepwell import _codec
from stepwell._types import run_name

# Steps that undo what others did stand in a scope of that name (see _ends.py).
_UNDO = re.compile(r"^undo [^/].*/")


class HistoryKind(enum.StrEnum):
    """What a line of a history says."""

    #: A step, a call, a wait or a child ended with `value`.
    SUCCEEDED = "succeeded"
    #: It ended with `error`; for a wait that means that its time was up.
    FAILED = "failed"
    #: One attempt of several ended with `error`.
    ATTEMPT_FAILED = "attempt failed"
    #: A wait with a deadline began; `value` is the deadline, as ISO text.
    TIMER_SET = "timer set"
    #: `value` is the name of the child's run.
    CHILD_STARTED = "child started"
    #: The run was paused: its code asks for other steps than it has recorded, or that cannot be read; `error` says which.
    CODE_CHANGED = "code changed"
    #: A time that was agreed on was not kept; `value` says which and by how much.
    BREACHED = "breached"
    #: What a call may cost was reserved in its budgets; `value`: usd (in 10^-12 dollars), tokens, budgets.
    RESERVED = "reserved"
    #: A budget had no room for that, and the call was not sent.
    HELD = "held"
    #: What became of a reservation; `value`: as ("spent", "returned" or "doubt"), usd, tokens, and odd: why it is doubtful.
    SETTLED = "settled"


_KINDS = dict(enumerate(HistoryKind, 1))


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One recorded event of a run. `name` is the step's identity: branch, name, occurrence ("gather/0/charge#2")."""

    name: str
    kind: HistoryKind
    #: From 1.
    attempt: int
    #: When it was recorded: the attempt had ended.
    at: datetime
    value: Any = None
    #: Type, message and traceback of what went wrong.
    error: dict[str, Any] | None = None
    #: Whether it undoes what a step did (see `undo` of sw.step).
    is_undo: bool = False
    #: How long the attempt took, and how long it had waited before, for a thread, a retry or a place. None: unknown.
    took: timedelta | None = None
    waited: timedelta | None = None

    @property
    def started_at(self) -> datetime | None:
        """When the attempt began."""
        return None if self.took is None else self.at - self.took

    @property
    def queued_at(self) -> datetime | None:
        """When the attempt was asked for."""
        return None if self.started_at is None or self.waited is None else self.started_at - self.waited


def history_of(events: list[tuple[int, int, str, bytes, int, int, int]] | None) -> list[HistoryEntry]:
    """Return the events of a row, found with them, in the order in which they were recorded."""
    return [_entry(*event) for event in events or ()]


def _entry(kind: int, attempt: int, name: str, payload: bytes, at: int, took_ms: int, waited_ms: int) -> HistoryEntry:
    what = _KINDS[kind]
    value: Any = None
    error: dict[str, Any] | None = None
    if what == HistoryKind.SUCCEEDED:
        value = json.loads(payload) if payload else None
    elif what == HistoryKind.TIMER_SET:
        value = _moment(int(payload)).isoformat(timespec="milliseconds")
    elif what in (HistoryKind.BREACHED, HistoryKind.RESERVED, HistoryKind.HELD, HistoryKind.SETTLED):
        value = json.loads(payload)
    elif what == HistoryKind.CHILD_STARTED:
        value = run_name(int(payload))
    else:
        error = _codec.decode_error(payload)
    return HistoryEntry(
        name,
        what,
        attempt,
        _moment(at),
        value,
        error,
        is_undo=_UNDO.match(name) is not None,
        took=_span(took_ms),
        waited=_span(waited_ms),
    )


def _span(ms: int) -> timedelta | None:
    return None if ms < 0 else timedelta(milliseconds=ms)


def _moment(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)
