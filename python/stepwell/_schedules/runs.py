"""What makes schedules fire: the built-in workflow "stepwell.schedule", one run for each schedule and fire time.

Such a run waits in the store until its time. Its one step reads the schedule as it stands then, and brings two things into
being with its own commit: the run that is due, and the waiting "stepwell.schedule" run of the next fire. So a crash loses no
fire and makes none twice, nothing polls, and no history grows. A run whose schedule was paused, deleted or given other times
(its `generation` differs) ends without doing anything.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any

from stepwell._errors import ConflictError, failure_of
from stepwell._schedules.cron import Cron, iso
from stepwell._starts import fingerprint_of, now_ms, sla_until
from stepwell._types import Retry, run_name
from stepwell._workflow import Step, Workflow, current_step

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stepwell._worker import Worker

#: The built-in workflow, its queue, and the kinds of the documents that hold the schedules and their last fires.
FIRING = "stepwell.schedule"
KIND = "schedule"
KIND_LAST = "schedule.last"
#: How many of these runs an engine drives at once.
FIRING_IN_FLIGHT = 64

_START_COUNT_MAX = 500
# Reading a document fails only while the store does.
_PATIENT = Retry(max_attempts=1000, base="100ms", cap="30s", max_elapsed="365d")

Body = dict[str, Any]
NewRun = tuple[Any, ...]


def _start(workflow: str, queue: str, key: str, payload: bytes, *tail: Any) -> NewRun:
    # One key, one request: what a fire carries besides (the time it was made) must not make another one of it.
    return (workflow, queue, key, fingerprint_of(key.encode()) if key else 0, payload, *tail)


def target_start(name: str, body: Body, at: int, *, key: str | None = None) -> NewRun:
    """Return the start of the run that is due at `at`: its key names schedule and time, so there is one at most."""
    payload: bytes = body["input"].encode()
    if body["takes_tick"]:
        payload = json.dumps({"name": name, "scheduled_at": iso(at), "fired_at": _exact(now_ms())}).encode()
    known = f"{name}@{iso(at)}" if key is None else key
    plain = _start(body["workflow"], body["queue"], known, payload, body["priority"], -1, -1, body["version"])
    return (*plain, [], "", (), *sla_until(tuple(body["sla"]), now_ms())) if body["sla"] else plain


def _exact(at: int) -> str:
    return f"{iso(at)[:-1]}.{at % 1000:03}Z"


def fire_start(name: str, generation: str, at: int, *, key: str | None = None) -> NewRun:
    """Return the start of the "stepwell.schedule" run that waits for the fire at `at`."""
    payload = json.dumps({"name": name, "generation": generation, "at": at}).encode()
    return _start(FIRING, FIRING, key or f"{name}@{generation}@{iso(at)}", payload, 0, at, -1, "")


def start_all(core: Any, requests: Iterable[NewRun]) -> list[tuple[Any, ...]]:
    """Start runs, some with each commit, and return the core's answers. Those whose key is known are not started again."""
    waiting = [(0, *request) for request in requests]
    answers: list[tuple[Any, ...]] = []
    for begin in range(0, len(waiting), _START_COUNT_MAX):
        answers.extend(core.start(waiting[begin : begin + _START_COUNT_MAX]))
    for answer in answers:
        if answer[0] is not None:
            raise failure_of(answer[0])
    return answers


def start_heads(core: Any, schedules: Iterable[tuple[str, Body]]) -> None:
    """See that the first fire of each schedule waits in the store, or has been: nothing is started twice."""
    start_all(
        core,
        [
            fire_start(name, body["generation"], body["first_at"])
            for name, body in schedules
            if not body["paused"] and body["first_at"] is not None
        ],
    )


def take_up(core: Any) -> None:
    """See that every schedule of the store goes on: what a crash left out, and the fires that had been given up."""
    schedules = {name: body for name, _, body in read(core)}
    start_heads(core, schedules.items())
    again: list[NewRun] = []
    for row in core.find(workflow=FIRING, is_failed=True, count_max=_START_COUNT_MAX):
        order = json.loads(row[6])
        if schedules.get(order["name"], {}).get("generation") == order["generation"]:
            again.append(fire_start(**order, key=f"{run_name(row[0])} again"))
    start_all(core, again)


def read(core: Any, name: str = "") -> list[tuple[str, int, Body]]:
    """Return name, version and body of all schedules, or of the one of that name."""
    return [(found, version, json.loads(body)) for found, version, _, body in core.documents(KIND, name)]


def firing_workflow(worker: Worker) -> Workflow[..., Any]:
    """Return the built-in workflow for the engine of `worker`."""

    async def fire(order: Body) -> Body:
        starts, outcome = await asyncio.to_thread(_decide, worker, order)
        context = current_step.get()
        assert context is not None  # noqa: S101 - the engine calls this
        context.sent.extend(starts)
        return outcome

    step: Step[..., Any] = Step(fire, name="fire", retry=_PATIENT, timeout=None)

    async def fires(order: Body) -> Body:
        outcome: Body = await step(order)
        if outcome["last"] is not None:
            await asyncio.to_thread(_note_last, worker, order["name"], outcome["last"])
        return outcome

    return Workflow(fires, name=FIRING)


def _decide(worker: Worker, order: Body) -> tuple[list[NewRun], Body]:
    """Return what to start now, and what to record of it."""
    name, generation = order["name"], order["generation"]
    found = read(worker.core, name)
    if not found or found[0][2]["paused"] or found[0][2]["generation"] != generation:
        return [], {"outcome": "superseded", "count": 0, "last": None, "next": None}
    body = found[0][2]
    fires, following = Cron(body["cron"], body["tz"]).due(order["at"], now_ms(), body["missed"], body["max_missed"])
    starts = [target_start(name, body, at) for at in fires]
    if following is not None:
        starts.append(fire_start(name, generation, following))
    outcome = {"outcome": "fired" if fires else "missed", "count": len(fires), "last": fires[-1] if fires else None}
    return starts, outcome | {"next": None if following is None else iso(following)}


def _note_last(worker: Worker, name: str, at: int) -> None:
    """Keep the time of the last fire, for people: the fire itself is committed already."""
    found = worker.core.documents(KIND_LAST, name)
    version, known = (found[0][1], json.loads(found[0][3])) if found else (0, -1)
    if at > known:
        with contextlib.suppress(ConflictError):  # a later fire was faster
            worker.core.keep(KIND_LAST, name, version, json.dumps(at).encode())
