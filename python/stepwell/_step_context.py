"""What surrounds the code of one step: its key, what it sends, its time limit."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from time import monotonic_ns
from typing import TYPE_CHECKING, Any

from stepwell._types import run_name
from stepwell._workflow import current_activation, current_step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stepwell._activation import Activation
    from stepwell._workflow import Step, Workflow


class StepContext:
    """What the code of a step may ask about it."""

    __slots__ = ("began_ns", "name", "need", "run", "sent")

    def __init__(self, run: int, name: str, need: Callable[[Workflow[..., Any], str | None], None]) -> None:
        self.run = run
        self.name = name
        #: Sees that the engine serves a workflow.
        self.need = need
        #: Starts that are committed with the step's result.
        self.sent: list[tuple[Any, ...]] = []
        self.began_ns = monotonic_ns()

    def times(self, asked_ns: int) -> tuple[int, int]:
        """Return how long the attempt took until now and how long it had waited before, in milliseconds."""
        return (monotonic_ns() - self.began_ns) // 1_000_000, (self.began_ns - asked_ns) // 1_000_000

    @property
    def key(self) -> str:
        """The same for every attempt of this step, and no other step's."""
        digest = hashlib.blake2b(f"{self.run}/{self.name}".encode(), digest_size=12).hexdigest()
        return f"{run_name(self.run)}-{digest}"


@contextlib.contextmanager
def inside_a_step(activation: Activation, name: str, told: Workflow[..., Any] | None = None) -> Iterator[StepContext]:
    """Steps and calls inside a step are part of it: a replay does not make them, so they must not be counted either."""
    context = StepContext(activation.run, name, activation.worker.need)
    if told is not None:
        context.need(told, None)
    token = current_activation.set(None)
    step = current_step.set(context)
    try:
        yield context
    finally:
        current_step.reset(step)
        current_activation.reset(token)


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
