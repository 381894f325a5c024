"""What a workflow waits for: times, signals, children; and values of the outside world that a replay must see again.

Each has a twin with `_blocking` for plain `def` workflows. Waits that last are sat out in the store: a sleeping run costs no
memory, no thread and no polling.
"""

from __future__ import annotations

import asyncio
import random as _random
import time
import uuid as _uuid
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar, Unpack, overload

from stepwell import _codec
from stepwell._activation import CHILD
from stepwell._calls import step_failed
from stepwell._errors import InputError, WaitTimeout
from stepwell._queues import check_concurrency
from stepwell._reach import check_depth
from stepwell._starts import StartOptions, options_request, start_request
from stepwell._types import Duration, duration_ms, run_name
from stepwell._workflow import (
    BRANCHES_MAX,
    Workflow,
    check_branches,
    current_activation,
    current_scope,
    current_step,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable

    from stepwell._activation import Activation, Answer

T = TypeVar("T")
R = TypeVar("R")
_NO_DEFAULT: Any = object()
_SIGNAL_TIMEOUT = "SW-E2006"


def _activation(what: str) -> Activation:
    activation = current_activation.get()
    if activation is None:
        inside = "inside a step" if current_step.get() is not None else "outside of a run"
        raise InputError(
            "SW-E2009", f"{what} was called {inside}", expected="a call in the body of a workflow that an engine runs"
        )
    return activation


def _time() -> float:
    """Return the engine's time where there is one: tests move it."""
    here = current_activation.get() or current_step.get()
    return time.time() if here is None else here.worker.time()


def _due_in(duration: Duration | None, what: str) -> int:
    return -1 if duration is None else int(_time() * 1000) + duration_ms(duration, what)


def due_at(when: datetime) -> int:
    """Return a time of the wall clock in milliseconds. Raises InputError SW-E2010 for one without a zone."""
    if when.tzinfo is None:
        raise InputError(
            "SW-E2010",
            "a time without a zone",
            got=repr(when),
            hint="datetime(..., tzinfo=UTC), or sw.now() + timedelta(...)",
        )
    return max(0, int(when.timestamp() * 1000))


# -- times ---------------------------------------------------------------------------------------------------------------


async def sleep(duration: Duration) -> None:
    """Sleep durably: after a crash only what is left of it. Outside of a run this is `asyncio.sleep`."""
    activation = current_activation.get()
    if activation is None:
        await asyncio.sleep(duration_ms(duration, "sleep") / 1000)
        return
    await activation.wait("sleep", "", _due_in(duration, "sleep"))


def sleep_blocking(duration: Duration) -> None:
    """Sleep durably in a plain workflow. Outside of a run this is `time.sleep`."""
    activation = current_activation.get()
    if activation is None:
        time.sleep(duration_ms(duration, "sleep") / 1000)
        return
    activation.wait_blocking("sleep", "", _due_in(duration, "sleep"))


async def sleep_until(when: datetime) -> None:
    """Sleep durably until a time of the wall clock (with a time zone); a past one returns at once."""
    due = due_at(when)
    activation = current_activation.get()
    if activation is None:
        await asyncio.sleep(max(0.0, due / 1000 - time.time()))
        return
    await activation.wait("sleep", "", due)


def sleep_until_blocking(when: datetime) -> None:
    """Sleep durably until a time of the wall clock, in a plain workflow."""
    due = due_at(when)
    activation = current_activation.get()
    if activation is None:
        time.sleep(max(0.0, due / 1000 - time.time()))
        return
    activation.wait_blocking("sleep", "", due)


# -- signals -------------------------------------------------------------------------------------------------------------


async def wait_for_signal(
    name: str, *, returns: Any = Any, timeout: Duration | None = None, default: Any = _NO_DEFAULT
) -> Any:
    """Wait for `run.signal(name, value)` and return the value as `returns`. One that came before is taken at once.

    Signals of a name are taken in the order they came, each once. After `timeout` the `default` is returned, or
    WaitTimeout SW-E2006 raised if there is none.
    """
    activation = _activation("wait_for_signal")
    answer = await activation.wait(f"signal:{name}", f"signal:{name}", _due_in(timeout, "timeout"))
    return _signalled(activation, name, returns, default, answer)


def wait_for_signal_blocking(
    name: str, *, returns: Any = Any, timeout: Duration | None = None, default: Any = _NO_DEFAULT
) -> Any:
    """Wait for a signal in a plain workflow."""
    activation = _activation("wait_for_signal")
    answer = activation.wait_blocking(f"signal:{name}", f"signal:{name}", _due_in(timeout, "timeout"))
    return _signalled(activation, name, returns, default, answer)


def _signalled(activation: Activation, name: str, returns: Any, default: Any, answer: Answer) -> Any:
    _, ok, payload, _ = answer
    if ok:
        return _codec.decode(payload, returns, f"signal {name!r}")
    if default is not _NO_DEFAULT:
        return default
    raise WaitTimeout(_SIGNAL_TIMEOUT, f"signal {name!r} did not come in time", run_id=run_name(activation.run))


# -- children ------------------------------------------------------------------------------------------------------------


@overload
async def child(flow: Workflow[..., Coroutine[Any, Any, R]], value: Any = None) -> R: ...
@overload
async def child(flow: Workflow[..., R], value: Any = None) -> R: ...
async def child(flow: Workflow[..., Any], value: Any = None) -> Any:
    """Start another workflow as a run of its own and wait for its result. It is cancelled if this run ends first.

    Raises StepFailed when the child did not succeed. Outside of a run this calls the function.
    """
    activation = current_activation.get()
    if activation is None:
        result = flow(value) if flow.input_name is not None else flow()
        return await result if flow.is_async else result
    name, request = _child_request(activation, flow, value)
    return _child_result(activation, flow, name, await activation.wait(name, request, kind=CHILD))


def child_blocking(flow: Workflow[..., R], value: Any = None) -> R:
    """Start another workflow from a plain one and wait for its result."""
    activation = current_activation.get()
    if activation is None:
        return flow(value) if flow.input_name is not None else flow()
    name, request = _child_request(activation, flow, value)
    return _child_result(activation, flow, name, activation.wait_blocking(name, request, kind=CHILD))  # type: ignore[no-any-return]


def _child_request(activation: Activation, flow: Workflow[..., Any], value: Any) -> tuple[str, tuple[Any, ...]]:
    activation.worker.need(flow, None)
    check_depth(activation, flow)
    return f"child:{flow.name}", start_request(flow, value, None)[1:]


def _child_result(activation: Activation, flow: Workflow[..., Any], name: str, answer: Answer) -> Any:
    _, ok, payload, attempts = answer
    if not ok:
        raise step_failed(activation.run, name, payload, attempts)
    return _codec.decode(payload, flow.returns, f"result of workflow {flow.name!r}")


async def map(  # noqa: A001 - the name everybody knows
    function: Callable[[Any], Awaitable[R]], items: Iterable[Any], *, concurrency: int = 50
) -> list[R]:
    """Call an async step (or any async function made of steps) for each item, at most `concurrency` at once, replayable.

    A Workflow runs as one child for each item. Results in the order of the items; the first failure is raised at the end.
    """
    check_concurrency(concurrency)
    call: Callable[[Any], Awaitable[R]] = function
    if isinstance(function, Workflow) and current_activation.get() is not None:
        flow = function

        def call(item: Any) -> Awaitable[R]:
            return child(flow, item)

    everything = list(islice(items, BRANCHES_MAX + 1))
    check_branches(len(everything))
    results: list[Any] = [None] * len(everything)
    activation = current_activation.get()
    scope = activation.identify("map") if activation is not None else ""
    left = iter(range(len(everything)))

    async def lane() -> None:
        # The item gives a step its identity, whichever lane takes it.
        for index in left:
            token = current_scope.set(f"{scope}/{index}/")
            try:
                results[index] = await call(everything[index])
            finally:
                current_scope.reset(token)

    from stepwell._workflow import gather

    ends = await gather(*[lane() for _ in range(min(concurrency, len(everything)))], return_exceptions=True)
    for end in ends:
        if isinstance(end, BaseException):
            raise end
    return results


async def first(**branches: Awaitable[Any]) -> tuple[str, Any]:
    """Return name and result of the branch that ends first, and cancel the others. A replay sees the same winner.

    `who, value = await sw.first(answer=sw.wait_for_signal("ok"), nobody=sw.sleep("5m"))`
    """
    if not branches:
        raise InputError("SW-E2011", "first() needs at least one branch")
    activation = current_activation.get()
    if activation is None:
        return await _race(branches, lambda _, branch: branch)
    scope = activation.identify("first")
    decision, _ = activation.recorded(scope)
    if decision is not None:
        winner: str = _codec.decode(decision[2], str)
        for name, branch in branches.items():
            if name != winner:
                _forget(branch)
        run_branch = activation.branches(1, wakes_after=1)
        return winner, await asyncio.ensure_future(run_branch(f"{scope}/{winner}/", branches[winner]))
    run_branch = activation.branches(len(branches), wakes_after=1)
    winner, value = await _race(branches, lambda name, branch: run_branch(f"{scope}/{name}/", branch))
    activation.decide(scope, winner)
    return winner, value


async def _race(
    branches: dict[str, Awaitable[Any]], run: Callable[[str, Awaitable[Any]], Awaitable[Any]]
) -> tuple[str, Any]:
    tasks = {name: asyncio.ensure_future(run(name, branch)) for name, branch in branches.items()}
    try:
        await asyncio.wait(tasks.values(), return_when=asyncio.FIRST_COMPLETED)
    finally:
        winner = next((name for name, task in tasks.items() if task.done()), "")
        losers = [task for name, task in tasks.items() if name != winner]
        for task in losers:
            task.cancel()
        await asyncio.gather(*losers, return_exceptions=True)
    return winner, tasks[winner].result()


def _forget(branch: Awaitable[Any]) -> None:
    close = getattr(branch, "close", None)
    if close is not None:
        close()


# -- the outside world -----------------------------------------------------------------------------------------------------


def now() -> datetime:
    """Return the present time (UTC); a replay sees the one that the first execution saw."""
    activation = current_activation.get()
    seconds = _time() if activation is None else activation.note("now", _time())
    return datetime.fromtimestamp(seconds, UTC)


def uuid() -> _uuid.UUID:
    """Return a random UUID (version 4); a replay sees the same one."""
    activation = current_activation.get()
    fresh = str(_uuid.uuid4())
    return _uuid.UUID(fresh if activation is None else activation.note("uuid", fresh))


def random() -> float:
    """Return a random number in [0, 1); a replay sees the same one."""
    activation = current_activation.get()
    fresh = _random.random()  # noqa: S311 - not for secrets
    return fresh if activation is None else activation.note("random", fresh)


def patched(change: str) -> bool:
    """Whether this run follows the code with `change`: true for new runs, false for those that passed here before it.

    `if sw.patched("check-fraud"): await check(order)` lets old runs go on as they began.
    """
    activation = current_activation.get()
    if activation is None:
        return True
    if activation.patches is None:
        activation.patches = {}
    known = activation.patches.get(change)
    if known is None:
        step = f"patched:{change}"
        answer, _ = activation.recorded(step)
        known = activation.patches[change] = answer is not None or not activation.unasked()
        if known and answer is None:
            activation.decide(step, value=True)
    return known


# -- inside a step -----------------------------------------------------------------------------------------------------------


def step_key() -> str:
    """Return the idempotency key of the present step: the same on every attempt. For `Idempotency-Key` headers."""
    step = current_step.get()
    if step is None:
        raise InputError(
            "SW-E2009", "step_key was called outside of a step", expected="a call in a step that a run makes"
        )
    return step.key


def send(flow: Workflow[..., Any], value: Any = None, **options: Unpack[StartOptions]) -> None:
    """Start a run of `flow` with the commit of the present step: if the step is recorded, the run begins, else not.

    The options are those of `Engine.start`. A `key` that is known already starts nothing. Call it in a step (the outbox is
    the journal).
    """
    step = current_step.get()
    if step is None:
        raise InputError("SW-E2009", "send was called outside of a step", expected="a call in a step that a run makes")
    step.worker.need(flow, options.get("queue"))
    told = options.get("on_breach")
    if told is not None:
        step.worker.need(told, None)
    step.sent.append(options_request(flow, value, options, step.worker.time())[1:])
