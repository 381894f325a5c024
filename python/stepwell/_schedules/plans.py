"""Schedules: workflows that are started by a cron expression. They live in the store and outlast the engine that made them.

`sw.Schedule` says what is wanted, `engine.apply_schedules` makes it so, `engine.schedules()` shows how they stand.
"""

from __future__ import annotations

import dataclasses
import json
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from stepwell import _codec
from stepwell._errors import ConflictError, InputError, NotFoundError
from stepwell._run import Run
from stepwell._schedules.cron import Cron, zone
from stepwell._schedules.runs import KIND, KIND_LAST, read, start_all, start_heads, target_start
from stepwell._starts import PRIORITY_MAX, now_ms
from stepwell._waits import due_at
from stepwell._workflow import Workflow

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stepwell._engine import Engine

#: A fire commits its runs at once, each with the schedule's value: so these are small.
_MISSED_MAX = 1_000
_VALUE_BYTES_MAX = 16_384
_BACKFILL_MAX = 10_000
_SCHEDULES_MAX = 10_000
_NAME_BYTES_MAX = 150
_TRIES_MAX = 10
_POLICIES = ("skip", "one", "all")

Missed = Literal["skip", "one", "all"]


@dataclass(frozen=True, slots=True)
class Tick:
    """What a workflow gets that takes a Tick: whose fire it is, when it was due and when it was made (UTC)."""

    name: str
    scheduled_at: datetime
    fired_at: datetime


@dataclass(frozen=True, slots=True)
class Schedule:
    """Start `flow` whenever `cron` says so in the time zone `tz`.

    `cron` has five fields (minute, hour, day of month, month, day of week), or six with the second first. The runs get
    `value`, or a Tick if the workflow takes one. `missed` says what becomes of fires while no engine was there: "skip" lets
    them go, "one" makes one for all of them, "all" makes the last `max_missed` of them, each with its own time.
    A fire that is late by less than a minute, and by less than half of the way to the next one, was not missed.

    Raises InputError: SW-E1030 (cron), SW-E1031 (tz), SW-E1032 (name), SW-E1033 (missed), SW-E1036 (value).
    """

    name: str
    flow: Workflow[..., Any]
    cron: str
    _: dataclasses.KW_ONLY
    tz: str = "UTC"
    value: Any = None
    missed: Missed = "skip"
    max_missed: int = 100
    queue: str | None = None
    priority: int = 0

    def __post_init__(self) -> None:
        """Refuse what could never fire."""
        name = self.name
        if not isinstance(name, str) or not name or not name.isprintable() or len(name.encode()) > _NAME_BYTES_MAX:
            raise InputError(
                "SW-E1032",
                "not a usable name of a schedule",
                got=repr(name)[:80],
                expected=f"1 to {_NAME_BYTES_MAX} printable characters",
            )
        if not isinstance(self.flow, Workflow):
            raise InputError(
                "SW-E2005", "not a workflow", got=repr(self.flow)[:80], hint="decorate the function with @sw.workflow"
            )
        if self.missed not in _POLICIES:
            raise InputError(
                "SW-E1033", "unknown policy for missed fires", got=repr(self.missed), expected='"skip", "one" or "all"'
            )
        if type(self.max_missed) is not int or not 1 <= self.max_missed <= _MISSED_MAX:
            raise InputError(
                "SW-E1033",
                "max_missed is out of range",
                got=repr(self.max_missed),
                expected=f"1 to {_MISSED_MAX}",
                hint="for more of the past use engine.schedule(name).backfill(start, end)",
            )
        if type(self.priority) is not int or not -PRIORITY_MAX <= self.priority <= PRIORITY_MAX:
            raise InputError(
                "SW-E1018",
                "priority is out of range",
                got=repr(self.priority),
                expected=f"-{PRIORITY_MAX} to {PRIORITY_MAX}",
            )
        if self.queue is not None and (not isinstance(self.queue, str) or not 0 < len(self.queue.encode()) <= 255):
            raise InputError(
                "SW-E1202", "not a usable queue", got=repr(self.queue)[:80], expected="1 to 255 characters"
            )
        Cron(self.cron, self.tz)
        self._definition()

    def _definition(self) -> dict[str, Any]:
        """Return what is kept of it: plain JSON."""
        takes_tick = self.flow.takes is Tick
        if takes_tick and self.value is not None:
            raise InputError(
                "SW-E1036",
                f"workflow {self.flow.name!r} takes a Tick and the schedule has a value",
                hint="leave out value, or let the workflow take something else",
            )
        payload = _codec.encode(self.value, f"value of schedule {self.name!r}")
        if len(payload) > _VALUE_BYTES_MAX:
            raise InputError(
                "SW-E1036",
                f"the value of schedule {self.name!r} is too large",
                got=f"{len(payload)} bytes",
                expected=f"{_VALUE_BYTES_MAX} bytes at most",
                hint="pass a reference to it",
            )
        return {
            "workflow": self.flow.name,
            "version": self.flow.version,
            "queue": self.queue or self.flow.name,
            "priority": self.priority,
            "cron": self.cron,
            "tz": self.tz,
            "input": payload.decode(),
            "takes_tick": takes_tick,
            "sla": list(self.flow.sla),
            "missed": self.missed,
            "max_missed": self.max_missed,
        }


@dataclass(frozen=True, slots=True)
class Applied:
    """What `apply_schedules` did, by name."""

    created: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Scheduled:
    """A schedule as it stood when it was asked for. Its verbs act on the schedule as it stands then."""

    name: str
    workflow: str
    cron: str
    tz: str
    value: Any
    missed: Missed
    max_missed: int
    queue: str
    priority: int
    paused: bool
    #: In the schedule's time zone. None: it is paused, or never fires again.
    next_fire: datetime | None
    #: When the last fire was due; None: there was none yet. Triggers and backfills do not count.
    last_fire: datetime | None
    _engine: Engine = dataclasses.field(repr=False, compare=False)

    def pause(self) -> Scheduled:
        """Fire no more until `resume`, restarts included."""
        return self._set_paused(is_paused=True)

    def resume(self) -> Scheduled:
        """Fire again from now on. What would have fired during the pause was not missed: it was not wanted."""
        return self._set_paused(is_paused=False)

    def trigger(self) -> Run[Any]:
        """Start its workflow now, besides its fires; durable when it returns. A paused schedule can be triggered, too."""
        body = self._present()[2]
        core = self._engine._core  # noqa: SLF001
        return self._runs(body, start_all(core, [target_start(self.name, body, now_ms(), key="")]))[0]

    def backfill(self, start: datetime, end: datetime) -> list[Run[Any]]:
        """Start a run for each fire from `start` on and before `end`, both with a time zone and not in the future.

        Each once, however often this is called, and not if the schedule itself had fired then; those runs are returned, too.
        Raises InputError SW-E1035 for a range that is backwards, reaches into the future or holds too many fires.
        """
        body = self._present()[2]
        begin, finish = due_at(start), due_at(end)
        if begin >= finish or finish > now_ms():
            raise InputError(
                "SW-E1035",
                "the range of a backfill ends before it begins, or in the future",
                got=f"{start.isoformat()} to {end.isoformat()}",
                expected="start < end <= now",
            )
        fires: list[int] = []
        for at in Cron(body["cron"], body["tz"]).after(begin - 1):
            if at >= finish:
                break
            fires.append(at)
            if len(fires) > _BACKFILL_MAX:
                raise InputError(
                    "SW-E1035",
                    "the range of a backfill holds too many fires",
                    got=f"more than {_BACKFILL_MAX} by {datetime.fromtimestamp(at / 1000, UTC).isoformat()}",
                    expected=f"{_BACKFILL_MAX} at most",
                    hint="backfill it in parts",
                )
        core = self._engine._core  # noqa: SLF001
        return self._runs(body, start_all(core, [target_start(self.name, body, at) for at in fires]))

    def _runs(self, body: dict[str, Any], answers: list[tuple[Any, ...]]) -> list[Run[Any]]:
        flow = self._engine._worker.flows.get(body["workflow"]) or _stand_in(body["workflow"])  # noqa: SLF001
        return [Run(self._engine, flow, run, is_new=not attached) for _, run, attached, _, _ in answers]

    def _present(self) -> tuple[str, int, dict[str, Any]]:
        found = read(self._engine._core, self.name)  # noqa: SLF001
        if not found:
            raise missing(self.name)
        return found[0]

    def _set_paused(self, *, is_paused: bool) -> Scheduled:
        def change() -> None:
            name, version, body = self._present()
            if body["paused"] != is_paused:
                times = {} if is_paused else _fresh_times(body)
                _keep(self._engine._core, name, version, body | {"paused": is_paused} | times)  # noqa: SLF001

        _until_undisturbed(change)
        return show(self._engine, self.name)[0]


def missing(name: str) -> NotFoundError:
    """What callers get who ask for a schedule that is not there."""
    return NotFoundError(
        "SW-E1034", f"there is no schedule {name!r}", hint="create it with engine.apply_schedules, or check the name"
    )


def _stand_in(name: str) -> Workflow[..., Any]:
    """Return what names a workflow that this engine does not know."""

    def unknown(value: Any) -> Any:
        return value

    return Workflow(unknown, name=name)


def _fresh_times(body: dict[str, Any]) -> dict[str, Any]:
    """Return what makes earlier fires of a schedule count no more, and its first one from now on."""
    return {"generation": uuid.uuid4().hex[:16], "first_at": Cron(body["cron"], body["tz"]).next(now_ms())}


def _until_undisturbed(change: Any) -> None:
    """Read, decide and write again when somebody else wrote in between."""
    for left in reversed(range(_TRIES_MAX)):
        try:
            change()
        except ConflictError:
            if left == 0:
                raise
        else:
            return


def _keep(core: Any, name: str, version: int, body: dict[str, Any]) -> None:
    core.keep(KIND, name, version, json.dumps(body).encode())
    # A crash in between does no harm: every engine that takes up these schedules starts what waits for the first fire.
    start_heads(core, [(name, body)])


def apply(engine: Engine, wanted: Iterable[Schedule], *, keep_others: bool) -> Applied:
    """Bring the store's schedules in line with `wanted`."""
    by_name: dict[str, Schedule] = {}
    for each in wanted:
        if not isinstance(each, Schedule):
            raise InputError("SW-E1032", "not a schedule", got=repr(each)[:80], expected="sw.Schedule(...)")
        if each.name in by_name:
            raise InputError("SW-E1032", "two schedules have the same name", got=repr(each.name))
        by_name[each.name] = each
    if len(by_name) > _SCHEDULES_MAX:
        raise InputError("SW-E1032", "too many schedules", got=len(by_name), expected=f"{_SCHEDULES_MAX} at most")
    done: dict[str, list[str]] = {"created": [], "changed": [], "deleted": [], "unchanged": []}
    for name, each in by_name.items():
        _until_undisturbed(lambda name=name, each=each: done[_apply_one(engine, name, each)].append(name))
    if not keep_others:
        for name, _, _ in read(engine._core):  # noqa: SLF001
            if name not in by_name:
                engine._core.keep(KIND, name, -1, b"")  # noqa: SLF001
                engine._core.keep(KIND_LAST, name, -1, b"")  # noqa: SLF001
                done["deleted"].append(name)
    return Applied(**{verb: tuple(names) for verb, names in done.items()})


def _apply_one(engine: Engine, name: str, wanted: Schedule) -> str:
    core = engine._core  # noqa: SLF001
    definition = wanted._definition()  # noqa: SLF001
    found = read(core, name)
    if not found:
        core.keep(KIND_LAST, name, -1, b"")
        _keep(core, name, 0, definition | {"paused": False} | _fresh_times(definition))
        return "created"
    _, version, known = found[0]
    if definition == {key: known[key] for key in definition}:
        start_heads(core, [(name, known)])
        return "unchanged"
    # What is due already stays due, unless the times are others now.
    times = {} if (known["cron"], known["tz"]) == (wanted.cron, wanted.tz) else _fresh_times(definition)
    _keep(core, name, version, known | definition | times)
    return "changed"


def show(engine: Engine, name: str = "") -> list[Scheduled]:
    """Return the schedules of the store by name, or the one of that name."""
    core = engine._core  # noqa: SLF001
    last = {known: json.loads(at) for known, _, _, at in core.documents(KIND_LAST, name)}
    found = [
        Scheduled(
            name=known,
            workflow=body["workflow"],
            cron=body["cron"],
            tz=body["tz"],
            value=_codec.decode(body["input"].encode()),
            missed=body["missed"],
            max_missed=body["max_missed"],
            queue=body["queue"],
            priority=body["priority"],
            paused=body["paused"],
            next_fire=None if body["paused"] else _at(Cron(body["cron"], body["tz"]).next(now_ms()), body["tz"]),
            last_fire=_at(last.get(known), body["tz"]),
            _engine=engine,
        )
        for known, _, body in sorted(read(core, name))
    ]
    if name and not found:
        raise missing(name)
    return found


def _at(at: int | None, tz: str) -> datetime | None:
    return None if at is None else datetime.fromtimestamp(at / 1000, zone(tz))
