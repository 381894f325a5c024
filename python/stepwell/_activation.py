"""One activation: a workflow function being run for one run, live or from its history."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, Any

from stepwell import _codec
from stepwell._errors import ClosedError, FencedError, InputError, RunCancelled, StepFailed
from stepwell._types import run_name
from stepwell._workflow import current_activation, current_scope

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stepwell._worker import Worker
    from stepwell._workflow import Step, Workflow

# ReportKind of the core.
RUN_SUCCEEDED, RUN_FAILED, STEP_SUCCEEDED, STEP_FAILED, CALL = range(5)
# EventKind of the core.
_EVENT_SUCCEEDED, _EVENT_FAILED, _EVENT_ATTEMPT_FAILED = 1, 2, 3
# ItemKind of the core.
_STEP_ANSWER, _STOP = 1, 3

# What the core answers to a report: (is_final, ok, payload, attempt). Final: the attempt that it took; else: the next one.
Answer = tuple[bool, bool, bytes, int]


@contextlib.contextmanager
def _inside_a_step() -> Iterator[None]:
    """Steps and calls inside a step are part of it: a replay does not make them, so they must not be counted either."""
    token = current_activation.set(None)
    try:
        yield
    finally:
        current_activation.reset(token)


class Activation:
    """Keeps what one run has recorded and waits for what is being recorded.

    Async workflows live on the worker's event loop, plain ones on a pool thread, whose `stop` comes from the pump.
    """

    __slots__ = (
        "flow",
        "history",
        "is_stopped",
        "occurrences",
        "run",
        "stop_payload",
        "task",
        "token",
        "waiting",
        "worker",
    )

    def __init__(
        self,
        worker: Worker,
        run: int,
        token: int,
        flow: Workflow[..., Any],
        history: list[tuple[int, int, str, bytes, int]] | None,
    ) -> None:
        self.worker = worker
        self.run = run
        self.token = token
        self.flow = flow
        self.history = {event[2]: event for event in history} if history else None
        self.occurrences: dict[str, int] = {}
        self.waiting: dict[str, asyncio.Future[Answer]] = {}
        self.task: asyncio.Task[None] | None = None
        self.is_stopped = False
        self.stop_payload = b""

    def identify(self, name: str) -> str:
        """Return the identity of the next step called `name`: scope, name, occurrence."""
        base = current_scope.get() + name
        count = self.occurrences.get(base, 0) + 1
        self.occurrences[base] = count
        return base if count == 1 else f"{base}#{count}"

    def recorded(self, step: str) -> tuple[Answer | None, int]:
        """Return what the history holds of a step (None: nothing final) and the attempt that is next."""
        event = self.history.get(step) if self.history else None
        if event is None:
            return None, 1
        kind, attempt, _, payload, _ = event
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
        while answer is None or not answer[0]:
            try:
                with _inside_a_step():
                    if step.timeout_s is None:
                        value = await step.fn(*args, **kwargs)
                    else:
                        value = await asyncio.wait_for(step.fn(*args, **kwargs), step.timeout_s)
                report = (
                    STEP_SUCCEEDED,
                    self.run,
                    self.token,
                    name,
                    attempt,
                    _codec.encode(value, f"result of step {step.name!r}"),
                )
            except Exception as error:  # noqa: BLE001 - every failure of user code is recorded
                report = _failed(self, step, name, attempt, error)
            answer = await self.expect(name, report)
            attempt = answer[3]
        return self._value(step, name, answer, value)

    def run_sync_step(self, step: Step[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run a plain step in the calling thread, which waits for the record without the GIL."""
        name = self.identify(step.name)
        answer, attempt = self.recorded(name)
        value: Any = None
        while answer is None or not answer[0]:
            self.check_stopped()
            try:
                with _inside_a_step():
                    value = step.fn(*args, **kwargs) if step.timeout_s is None else _in_time(step, args, kwargs)
                report = (
                    STEP_SUCCEEDED,
                    self.run,
                    self.token,
                    name,
                    attempt,
                    _codec.encode(value, f"result of step {step.name!r}"),
                )
            except Exception as error:  # noqa: BLE001 - every failure of user code is recorded
                report = _failed(self, step, name, attempt, error)
            answer = self.expect_blocking(report)
            attempt = answer[3]
        return self._value(step, name, answer, value)

    def _value(self, step: Step[..., Any], name: str, answer: Answer, live: Any) -> Any:
        _, ok, payload, attempts = answer
        if not ok:
            raise step_failed(self.run, name, payload, attempts)
        if live is not None:
            return _codec.same_as_replayed(live, payload, step.returns)
        return _codec.decode(payload, step.returns, f"recorded result of step {name!r}")

    async def call(self, name: str, request: tuple[Any, ...]) -> tuple[bytes, int]:
        """Have the core make a call and return the recorded body and the attempts it took.

        `request` is the tail of the core's report.
        """
        step = self.identify(name)
        answer, _ = self.recorded(step)
        if answer is None:
            answer = await self.expect(step, (CALL, self.run, self.token, step, *request))
        if not answer[1]:
            raise step_failed(self.run, step, answer[2], answer[3])
        return answer[2], answer[3]

    def call_blocking(self, name: str, request: tuple[Any, ...]) -> tuple[bytes, int]:
        """Make the same call from a plain def workflow."""
        step = self.identify(name)
        answer, _ = self.recorded(step)
        if answer is None:
            answer = self.expect_blocking((CALL, self.run, self.token, step, *request))
        if not answer[1]:
            raise step_failed(self.run, step, answer[2], answer[3])
        return answer[2], answer[3]

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
        if item[0] == _STOP:
            self.is_stopped, self.stop_payload = True, item[2]
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
        self.stop_payload = payload or b"{}"
        if self.task is not None:
            self.task.cancel()

    def check_stopped(self) -> None:
        """Leave the workflow when the run is no longer ours."""
        if self.is_stopped:
            error = _codec.decode_error(self.stop_payload)
            raise RunCancelled(
                error.get("code", "SW-E1006"), error.get("message", "the run was stopped"), run_id=run_name(self.run)
            )


def _failed(activation: Activation, step: Step[..., Any], name: str, attempt: int, error: Exception) -> tuple[Any, ...]:
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
        retryable,
        step.retry_core,
    )


def _in_time(step: Step[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run a plain step with a time limit. Python cannot end a thread: a late one goes on, its result is dropped."""
    import contextvars

    is_done = threading.Event()
    outcome: list[Any] = []
    context = contextvars.copy_context()

    def body() -> None:
        try:
            outcome.append((True, context.run(step.fn, *args, **kwargs)))
        except BaseException as error:  # noqa: BLE001 - handed to the waiting thread
            outcome.append((False, error))
        is_done.set()

    threading.Thread(target=body, name=f"stepwell-step-{step.name}", daemon=True).start()
    if not is_done.wait(step.timeout_s):
        raise TimeoutError
    ok, value = outcome[0]
    if not ok:
        raise value
    return value


def step_failed(run: int, step: str, payload: bytes, attempts: int) -> StepFailed:
    """Build the exception for a step that was recorded as failed."""
    error = _codec.decode_error(payload)
    error.setdefault("attempts", attempts)
    kind = error.get("type")
    message = error.get("message", "no message was recorded")
    text = f"step {step!r} failed: {kind}: {message}" if kind else f"step {step!r} failed: {message}"
    return StepFailed(
        error.get("code", "SW-E2001"), text, error=error, hint=error.get("hint", ""), run_id=run_name(run)
    )
