"""What surrounds the code of one step: its key, what it sends, its time limit."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import threading
from time import monotonic_ns
from typing import TYPE_CHECKING, Any

from stepwell._types import run_name
from stepwell._workflow import current_activation, current_step

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stepwell._activation import Activation
    from stepwell._worker import Worker
    from stepwell._workflow import Step


# How long a cancelled step may take to tidy up before the run goes on without it.
_GRACE_S = 1.0


class StepContext:
    """What the code of a step may ask about it."""

    __slots__ = ("attempt", "name", "run", "sent", "worker")

    def __init__(self, run: int, name: str, attempt: int, worker: Worker) -> None:
        self.run = run
        self.name = name
        self.attempt = attempt
        self.worker = worker
        #: Starts that are committed with the step's result.
        self.sent: list[tuple[Any, ...]] = []

    @property
    def key(self) -> str:
        """The same for every attempt of this step, and no other step's."""
        return step_key_of(self.run, self.name)


def step_key_of(run: int, step: str) -> str:
    """Return the idempotency key of a step or a call: of every attempt of it the same, and no other's."""
    digest = hashlib.blake2b(f"{run}/{step}".encode(), digest_size=12).hexdigest()
    return f"{run_name(run)}-{digest}"


def times_of(asked_ns: int, began_ns: int) -> tuple[int, int]:
    """Return how long an attempt took until now and how long it had waited before, in milliseconds."""
    return (monotonic_ns() - began_ns) // 1_000_000, (began_ns - asked_ns) // 1_000_000


@contextlib.contextmanager
def inside_a_step(activation: Activation, step: Step[..., Any], name: str, attempt: int) -> Iterator[StepContext]:
    """Steps and calls inside a step are part of it: a replay does not make them, so they must not be counted either."""
    context = StepContext(activation.run, name, attempt, activation.worker)
    watch = activation.worker.watch_attempt
    if step.on_breach is not None:
        context.worker.need(step.on_breach, None)
    token = current_activation.set(None)
    outer = current_step.set(context)
    try:
        if watch is None:
            yield context
        else:
            with watch(step, context):
                yield context
    finally:
        current_step.reset(outer)
        current_activation.reset(token)


async def await_in_time(step: Step[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run an async step with a time limit. One that ignores its cancellation goes on, its result is dropped."""
    task = asyncio.ensure_future(step.fn(*args, **kwargs))
    try:
        done, _ = await asyncio.wait({task}, timeout=step.timeout_s)
        if not done:
            task.cancel()
            await asyncio.wait({task}, timeout=_GRACE_S)
            raise TimeoutError
    finally:
        task.cancel()
        task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())  # nobody asks a late one
    return task.result()


def in_time(step: Step[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
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
