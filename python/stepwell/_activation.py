"""One activation: a workflow function being run for one run, live or from its history."""

from __future__ import annotations

import asyncio
import re
import threading
from time import monotonic_ns
from typing import TYPE_CHECKING, Any

from stepwell import _codec
from stepwell._calls import CALL_HELD, held, make_call, make_call_blocking, step_failed
from stepwell._errors import ClosedError, FencedError, InputError, RunCancelled, StepFailed
from stepwell._step_context import StepContext, await_in_time, in_time, inside_a_step, times_of
from stepwell._types import run_name
from stepwell._workflow import current_scope, place_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from stepwell._worker import Worker
    from stepwell._workflow import Step, Workflow

# ReportKind of the core.
RUN_SUCCEEDED, RUN_FAILED, STEP_SUCCEEDED, STEP_FAILED, CALL, WAIT, CHILD, PARK, DROP, RUN_COMPENSATED, MISMATCH = (
    range(11)
)
# EventKind of the core. The others (a timer was set, a child was started) are its own business.
_EVENT_SUCCEEDED, _EVENT_FAILED, _EVENT_ATTEMPT_FAILED = 1, 2, 3
# ItemKind of the core.
_STEP_ANSWER, _STOP = 1, 3

# Steps of a branch of `first`, which may have lost, and the waits of calls that are recorded now.
_NOT_ASKED = re.compile(r"(?:^|/)(?:first(?:#\d+)?/|held:)")

# Shared by all runs without a history, and never added to.
_NOTHING_ASKED: set[str] = set()

# What the core answers to a report: (is_final, ok, payload, attempt). Final: the attempt that it took; else: the next one,
# or of a call that was held: the topic as payload, and the time it is due.
Answer = tuple[bool, bool, bytes, int]


class LaidAside(BaseException):
    """Unwinds a plain workflow whose run waits in the store from now on. Not an Exception: no handler may stop it."""


class Activation:
    """Keeps what one run has recorded and waits for what is being recorded.

    Async workflows live on the worker's event loop, plain ones on a pool thread, whose `stop` comes from the pump.
    """

    __slots__ = (
        "asked",
        "blocked",
        "budgets",
        "calls_made",
        "flow",
        "history",
        "is_pausing",
        "is_stopped",
        "live",
        "occurrences",
        "open_waits",
        "patches",
        "rests",
        "run",
        "stop_payload",
        "streams",
        "task",
        "token",
        "undos",
        "waiting",
        "worker",
    )

    def __init__(
        self,
        worker: Worker,
        run: int,
        token: int,
        flow: Workflow[..., Any],
        history: list[tuple[int, int, str, bytes, int, int, int]] | None,
        budgets: str = "",
    ) -> None:
        self.worker = worker
        self.run = run
        self.token = token
        self.flow = flow
        #: The names of the budgets that its calls count against, a line each.
        self.budgets = budgets
        self.history = {event[2]: event for event in history if event[0] <= _EVENT_ATTEMPT_FAILED} if history else None
        #: Recorded steps that this code has asked for; who asks for fewer than there are is not the code that recorded them.
        self.asked: set[str] = set() if self.history else _NOTHING_ASKED
        #: Branches that could go on, and how many of them wait. When all wait, the run may be laid aside.
        self.live = 1
        self.blocked = 0
        self.open_waits = 0
        self.is_pausing = False
        # Most runs need none of these; a container less a run is a round of the garbage collector less every so many runs.
        self.rests: tuple[Callable[[], None], ...] = ()
        self.patches: dict[str, bool] | None = None
        self.undos: list[tuple[Step[..., Any], str, Any]] | None = None
        self.occurrences: dict[str, int] = {}
        #: Calls of this run, recorded or asked for; counted once there is a cap.
        self.calls_made: set[str] | None = None
        self.waiting: dict[str, asyncio.Future[Answer]] = {}
        self.streams: dict[str, Callable[[tuple[Any, ...]], None]] = {}  # who takes their pieces, by step
        self.task: asyncio.Task[None] | None = None
        self.is_stopped = False
        self.stop_payload = b""

    def identify(self, name: str) -> str:
        """Return the identity of the next step called `name`: scope, name, occurrence."""
        base = place_of(name)
        count = self.occurrences.get(base, 0) + 1
        self.occurrences[base] = count
        return base if count == 1 else f"{base}#{count}"

    def has_recorded_next(self, name: str) -> bool:
        """Whether the next step called `name` is recorded with its end."""
        if not self.history:
            return False
        base = place_of(name)
        count = self.occurrences.get(base, 0) + 1
        event = self.history.get(base if count == 1 else f"{base}#{count}")
        return event is not None and event[0] != _EVENT_ATTEMPT_FAILED

    def recorded(self, step: str) -> tuple[Answer | None, int]:
        """Return what the history holds of a step (None: nothing final) and the attempt that is next."""
        event = self.history.get(step) if self.history else None
        if event is None:
            return None, 1
        self.asked.add(step)
        kind, attempt, _, payload = event[:4]
        if kind == _EVENT_ATTEMPT_FAILED:
            return None, attempt + 1
        return (True, kind == _EVENT_SUCCEEDED, payload, attempt), attempt

    async def run_async_step(self, step: Step[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run an async step, retrying as the core says, and return what was recorded."""
        if not self.flow.is_async:
            raise InputError(
                "SW-E2004",
                f"workflow {self.flow.name!r} is a plain def and calls the async step {step.name!r}",
                hint="make the workflow async, or the step a plain def",
            )
        name = self.identify(step.name)
        answer, attempt = self.recorded(name)
        value: Any = None
        asked_ns = monotonic_ns()
        while answer is None or not answer[0]:
            if self.is_pausing:
                await self._rest()
            began_ns = monotonic_ns()
            try:
                with inside_a_step(self, step, name, attempt) as context:
                    if step.timeout_s is None:
                        value = await step.fn(*args, **kwargs)
                    else:
                        value = await await_in_time(step, args, kwargs)
                report = self._succeeded(step, name, attempt, value, context, times_of(asked_ns, began_ns))
            except (Exception, SystemExit, KeyboardInterrupt) as error:  # noqa: BLE001 - recorded
                report = _failed(self, step, name, attempt, error, times_of(asked_ns, began_ns))
                asked_ns = monotonic_ns()
            answer = await self.expect(name, report)
            attempt = answer[3]
        return self._value(step, name, answer, value)

    def run_sync_step(self, step: Step[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run a plain step in the calling thread, which waits for the record without the GIL."""
        name = self.identify(step.name)
        answer, attempt = self.recorded(name)
        value: Any = None
        asked_ns = monotonic_ns()
        while answer is None or not answer[0]:
            self.check_stopped()
            if self.is_pausing:
                self._rest_blocking()
            began_ns = monotonic_ns()
            try:
                with inside_a_step(self, step, name, attempt) as context:
                    value = step.fn(*args, **kwargs) if step.timeout_s is None else in_time(step, args, kwargs)
                report = self._succeeded(step, name, attempt, value, context, times_of(asked_ns, began_ns))
            except (Exception, SystemExit, KeyboardInterrupt) as error:  # noqa: BLE001 - recorded
                report = _failed(self, step, name, attempt, error, times_of(asked_ns, began_ns))
                asked_ns = monotonic_ns()
            answer = self.expect_blocking(report)
            attempt = answer[3]
        return self._value(step, name, answer, value)

    def _succeeded(
        self,
        step: Step[..., Any],
        name: str,
        attempt: int,
        value: Any,
        context: StepContext,
        times: tuple[int, int],
    ) -> tuple[Any, ...]:
        payload = _codec.encode(value, f"result of step {step.name!r}")
        report = (STEP_SUCCEEDED, self.run, self.token, name, attempt, payload, *times)
        return (*report, tuple(context.sent), *step.sla) if context.sent or step.sla else report

    def _value(self, step: Step[..., Any], name: str, answer: Answer, live: Any) -> Any:
        _, ok, payload, attempts = answer
        if not ok:
            raise step_failed(self.run, name, payload, attempts)
        if live is not None:
            value = _codec.same_as_replayed(live, payload, step.returns)
        else:
            value = _codec.decode(payload, step.returns, f"recorded result of step {name!r}")
        if step.undo is not None:
            self.undos = self.undos or []
            self.undos.append((step.undo, name, value))
        return value

    # -- waiting --------------------------------------------------------------------------------------------------------

    async def wait(self, name: str, *request: Any, kind: int = WAIT) -> Answer:
        """Wait for a message, a time or a child, in the store if it takes long. `request`: the middle of the report."""
        step = self.identify(name)
        if (answer := self.recorded(step)[0]) is not None:
            return answer
        future = self.expect(step, (kind, self.run, self.token, step, *request, False))
        self.blocked += 1
        self.open_waits += 1
        self.worker.look_whether_idle(self)
        try:
            return await future
        except asyncio.CancelledError:
            if not self.is_stopped and self.waiting.pop(step, None) is not None:
                self.worker.report_soon((DROP, self.run, self.token, step))
            raise
        finally:
            self.blocked -= 1
            self.open_waits -= 1

    def wait_blocking(self, name: str, *request: Any, kind: int = WAIT) -> Answer:
        """Wait the same way in a plain workflow, whose thread is free meanwhile when it takes long."""
        step = self.identify(name)
        return self.recorded(step)[0] or self.expect_blocking((kind, self.run, self.token, step, *request, True))

    def branches(self, count: int, *, wakes_after: int) -> Callable[[str, Awaitable[Any]], Awaitable[Any]]:
        """Return what runs one of `count` branches in its scope, while their parent waits until `wakes_after` have ended.

        The branch whose end wakes the parent leaves it its place among those that could go on.
        """
        self.live += max(count, 1) - 1
        ended = 0

        async def run_branch(scope: str, branch: Awaitable[Any]) -> Any:
            nonlocal ended
            current_scope.set(scope)
            try:
                return await branch
            finally:
                ended += 1
                if ended != wakes_after:
                    self.live -= 1
                    self.worker.look_whether_idle(self)

        return run_branch

    def note(self, name: str, value: Any) -> Any:
        """Record a value that needs no waiting: whatever is recorded later is recorded after it."""
        step = self.identify(name)
        answer, _ = self.recorded(step)
        if answer is not None:
            return _codec.decode(answer[2])
        self.decide(step, value)
        return value

    def decide(self, step: str, value: Any, *sent: tuple[Any, ...]) -> None:
        """Record what was decided, under an identity that is known, and what begins with it; see `note`."""
        report: tuple[Any, ...] = (STEP_SUCCEEDED, self.run, self.token, step, 1, _codec.encode(value), 0, 0)
        if sent:
            report = (*report, sent)
        if self.flow.is_async:
            self.worker.report_soon(report)
        else:
            self.worker.core.complete([report])

    def unasked(self) -> list[str]:
        """Return what was recorded and never asked for, branches that lost a race aside."""
        if self.history is None:
            return []
        return sorted(step for step in self.history if step not in self.asked and not _NOT_ASKED.search(step))

    def set_pausing(self, is_pausing: bool) -> None:  # noqa: FBT001 - its name says it
        """Come to rest before the next step, or go on after all."""
        self.is_pausing = is_pausing
        if is_pausing:
            self.worker.look_whether_idle(self)
            return
        rests, self.rests = self.rests, ()
        for rest in rests:
            rest()

    async def _rest(self) -> None:
        future: asyncio.Future[None] = self.worker.loop.create_future()
        self.rests = (*self.rests, lambda: None if future.done() else future.set_result(None))
        self.blocked += 1
        self.worker.look_whether_idle(self)
        try:
            await future
        finally:
            self.blocked -= 1

    def _rest_blocking(self) -> None:
        over = threading.Event()
        self.rests = (*self.rests, over.set)
        self.worker.core.complete([(PARK, self.run, self.token, 0)])
        if not self.is_pausing:
            return
        over.wait()
        self.check_stopped()

    def call(self, name: str, request: tuple[Any, ...], cache: Any = None) -> Awaitable[tuple[bytes, int]]:
        """Have the core make a call; see `make_call`."""
        return make_call(self, name, request, cache)

    def call_blocking(self, name: str, request: tuple[Any, ...], cache: Any = None) -> tuple[bytes, int]:
        """Make the same call from a plain def workflow."""
        return make_call_blocking(self, name, request, cache)

    def expect(self, step: str, report: tuple[Any, ...]) -> asyncio.Future[Answer]:
        """Hand in a report and return the future of its answer."""
        self.check_stopped()
        future: asyncio.Future[Answer] = self.worker.loop.create_future()
        self.waiting[step] = future
        self.worker.report_soon(report)
        return future

    def expect_blocking(self, report: tuple[Any, ...]) -> Answer:
        """Hand in a report and wait for its answer, without the GIL and without any other thread of Python."""
        self.check_stopped()
        try:
            item = self.worker.core.record(report)
        except (FencedError, ClosedError) as error:
            item = (_STOP, self.run, _codec.encode_error(error))
        if item[0] == _STEP_ANSWER:
            return (True, item[3], item[4], item[5])
        if item[0] == CALL_HELD:
            return held(item)
        if item[0] == _STOP:
            self.is_stopped, self.stop_payload = True, self._last_word(item[2])
            self.check_stopped()
        return (False, False, b"", item[3])

    def deliver(self, step: str, answer: Answer) -> None:
        """Hand an answer to the task that awaits it. Event loop thread only."""
        waiting = self.waiting.pop(step, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(answer)

    def stop(self, payload: bytes) -> None:
        """Drop the activation: its result is no longer wanted."""
        self.is_stopped = True
        self.stop_payload = self._last_word(payload)
        self.set_pausing(False)
        for take in () if self.flow.is_async else list(self.streams.values()):
            take((_STOP, self.run, payload))
        if self.task is not None:
            self.task.cancel()

    def _last_word(self, payload: bytes) -> bytes:
        """An engine that a test has cut off ends as a crash does: no handler of the user's may see it."""
        return b"" if self.worker.is_cut else payload

    def check_stopped(self) -> None:
        """Leave the workflow when the run is no longer ours."""
        if self.is_stopped:
            if not self.stop_payload:
                raise LaidAside
            error = _codec.decode_error(self.stop_payload)
            raise RunCancelled(
                error.get("code", "SW-E1006"), error.get("message", "the run was stopped"), run_id=run_name(self.run)
            )


def _failed(
    activation: Activation, step: Step[..., Any], name: str, attempt: int, error: BaseException, times: tuple[int, int]
) -> tuple[Any, ...]:
    retryable = not isinstance(error, (*step.retry.give_up_on, RunCancelled, InputError))
    if isinstance(error, TimeoutError) and step.timeout_s is not None:
        error = StepFailed("SW-E2002", f"step {step.name!r} took longer than {step.timeout_s:g} s")
    return (
        STEP_FAILED,
        activation.run,
        activation.token,
        name,
        attempt,
        _codec.encode_error(error),
        *times,
        retryable,
        step.retry_core,
        *step.sla,
    )
