"""Dead letters: runs that failed or gave up, grouped by what went wrong, and started again.

Nothing is ever taken away: a replay is a new run that begins with the old one's input and, from a step on, its history.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stepwell import _codec
from stepwell._errors import ConflictError, InputError
from stepwell._pages import pages
from stepwell._starts import now_ms, plain_request, sla_until
from stepwell._types import RunStatus, run_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stepwell._engine import Engine
    from stepwell._run import Run
    from stepwell._workflow import Workflow

_CHANGING = re.compile(r"0x[0-9a-f]+|[0-9a-f]{8}-[0-9a-f-]{27}|r_[0-9a-f]+|\d+", re.IGNORECASE)
_FRAME = re.compile(r'File "([^"]+)", line \d+, in (\S+)')
# EventKind of the core: what belongs to the old run alone.
_OWN_EVENTS = (6, 7, 8, 9, 10)


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A run that failed (its workflow raised) or was given up (its process died too often)."""

    run: int
    workflow: str
    key: str
    status: RunStatus
    input: Any
    error: dict[str, Any]
    finished_at_ms: int

    @property
    def id(self) -> str:
        """The run's name."""
        return run_name(self.run)

    @property
    def fingerprint(self) -> str:
        """What went wrong without what differs from run to run: numbers, ids, addresses."""
        frames = _FRAME.findall(self.error.get("traceback", ""))
        place = f" in {frames[-1][1]}" if frames else ""
        message = _CHANGING.sub("#", str(self.error.get("message", "")))[:200]
        return f"{self.workflow}: {self.error.get('type') or self.error.get('code', 'unknown')}{place}: {message}"


class DeadLetters:
    """The dead letters of an engine's store, newest first. Iterate it, group it, replay it."""

    def __init__(
        self, engine: Engine, flow: Workflow[..., Any] | None, where: Callable[[DeadLetter], bool] | None
    ) -> None:
        self._engine = engine
        self._flow = flow
        self._where = where

    def __iter__(self) -> Iterator[DeadLetter]:
        """Give each letter; pages are read as they are needed."""
        for row in pages(self._engine._core, self._flow.name if self._flow else "", is_failed=True):  # noqa: SLF001
            letter = _letter(row)
            if self._where is None or self._where(letter):
                yield letter

    def groups(self) -> list[tuple[str, int]]:
        """Return how many letters have the same fingerprint, the most frequent first."""
        return Counter(letter.fingerprint for letter in self).most_common()

    def replay(self, *, limit: int | None = None, dry_run: bool = False) -> list[Run[Any]] | int:
        """Start the letters again, oldest first, each at most once however often this is called.

        `dry_run` only counts them; `limit=1` sends a canary first. Returns the new runs, those that an earlier call had
        started included.
        """
        if limit is not None and limit < 1:
            raise InputError("SW-E1014", "limit must be at least 1", got=limit)
        letters = list(self)[::-1]
        if dry_run:
            return len(letters)
        runs: list[Run[Any]] = []
        fresh = 0
        for letter in letters:
            if limit is not None and fresh == limit:
                break
            run = self._engine.replay(letter.run, key=f"replay of {letter.id}")
            fresh += run.is_new
            runs.append(run)
        return runs


def _letter(row: tuple[Any, ...]) -> DeadLetter:
    run, status, _, workflow, _, key, payload, result, _, finished_at, *_ = row
    return DeadLetter(
        run,
        workflow,
        key,
        RunStatus(status),
        _codec.decode(payload) if payload else None,
        _codec.decode_error(result),
        finished_at,
    )


def replay_request(
    flow: Workflow[..., Any] | None, row: tuple[Any, ...], from_step: str | None, key: str | None, edit: dict[str, Any]
) -> tuple[Any, ...]:
    """Return the start of a replay: a row's input, or the edited one, and what it keeps of the history."""
    status = RunStatus(row[1])
    if not status.is_final:
        raise ConflictError(
            "SW-E1019",
            f"run {run_name(row[0])} has not ended",
            got=status.name.lower(),
            hint="cancel it first, or let it end",
        )
    if flow is None:
        raise InputError("SW-E1020", f"this engine does not know workflow {row[3]!r}", hint="engine.serve(flow) first")
    if edit.keys() - {"value"}:
        raise InputError(
            "SW-E1021", "replay knows no such option", got=", ".join(edit), expected="value, from_step, key"
        )
    ticket, name, queue, known, fingerprint, payload = plain_request(flow, edit.get("value"), key)
    if "value" not in edit:
        payload = row[6]
        if not payload:
            raise ConflictError("SW-E1111", f"the input of run {run_name(row[0])} is gone", hint="give value=...")
    start = (ticket, name, queue, known, fingerprint, payload, 0, -1, -1, flow.version)
    return (*start, _before(row[10] or [], from_step), row[15], (), *sla_until(flow.sla, now_ms()))


def _before(events: list[tuple[Any, ...]], step: str | None) -> list[tuple[Any, ...]]:
    """Return what was recorded before `step`; nothing when that is None."""
    if step is None:
        return []
    names = [event[2] for event in events]
    if step not in names:
        known = ", ".join(dict.fromkeys(name for name in names if name)) or "no steps at all"
        raise InputError("SW-E2012", "the run has no such step", got=step, expected=known[:1_000])
    return [event for event in events[: names.index(step)] if event[0] not in _OWN_EVENTS]
