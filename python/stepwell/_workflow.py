"""Workflows and steps: ordinary functions with a name, callable without an engine.

Inside a run, a step is recorded once under its identity: scope (the branch of `gather` it stands in), name, occurrence.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, overload

from stepwell._errors import ConflictError, InputError
from stepwell._types import Duration, Retry, duration_ms, is_count

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from stepwell._activation import Activation
    from stepwell._step_context import StepContext

P = ParamSpec("P")
R = TypeVar("R")

#: The run that the present code belongs to; None outside of one.
current_activation: ContextVar[Activation | None] = ContextVar("stepwell_activation", default=None)
#: The step that the present code is part of; None outside of one.
current_step: ContextVar[StepContext | None] = ContextVar("stepwell_step", default=None)
#: The branch of `gather` that the present code stands in, as a prefix of step identities.
current_scope: ContextVar[str] = ContextVar("stepwell_scope", default="")

_NAME_CHARS_MAX = 200
#: Branches of one gather or map. Each holds memory until all have ended; a batch (`Engine.map`) has no such limit.
BRANCHES_MAX = 100_000
#: The most calls that a cap may allow; a run records no more events than that.
CALLS_MAX = 500_000
_NO_RETRY = Retry(max_attempts=1)
# What was done must be undone, so this is patient.
_UNDO_RETRY = Retry(max_attempts=10)


def _hints_of(fn: Callable[..., Any]) -> dict[str, Any]:
    """Return annotations, or none of them when they name things that do not exist at run time."""
    import typing

    try:
        return typing.get_type_hints(fn)
    except Exception:  # noqa: BLE001 - an unresolvable hint only means plain JSON
        return {}


def _name_of(fn: Callable[..., Any], name: str | None, what: str) -> str:
    """Return the name to record under. `/` and `#` stand between scope, name and occurrence and cannot be part of it."""
    chosen = getattr(fn, "__name__", None) if name is None else name
    if (
        not isinstance(chosen, str)
        or not 0 < len(chosen) <= _NAME_CHARS_MAX
        or not chosen.isprintable()
        or {*"/#"} & {*chosen}
    ):
        raise InputError(
            "SW-E2041",
            f"not a usable name of a {what}",
            got=repr(chosen)[:80],
            expected=f"1 to {_NAME_CHARS_MAX} printable characters without / and #",
        )
    return chosen


def place_of(name: str) -> str:
    """Return scope and name. A policy's branch is a scope without a slash: its call bears its name, all else stands in it."""
    scope = current_scope.get()
    name = name.replace("#", "##") if "#" in name else name
    if scope and scope[-1] != "/":
        return scope if name.startswith("llm.") else f"{scope}/{name}"
    return scope + name


def check_names(known: Workflow[..., Any] | None, flow: Workflow[..., Any]) -> None:
    """Raise ConflictError SW-E2043 if `known` has the name of `flow` and is other code; a cell run again is the same code."""
    if known is None or known is flow:
        return
    places = [f"{each.fn.__module__}.{getattr(each.fn, '__qualname__', each.name)}" for each in (known, flow)]
    if places[0] != places[1]:
        raise ConflictError(
            "SW-E2043",
            f"two workflows are called {flow.name!r}",
            got=" and ".join(places),
            hint='give one of them another name: @sw.workflow(name="...")',
        )


def check_branches(count: int) -> None:
    """Raise InputError SW-E2042 for more branches than one run may hold."""
    if count > BRANCHES_MAX:
        raise InputError(
            "SW-E2042",
            "too many branches at once",
            got=f"more than {BRANCHES_MAX}",
            expected=f"at most {BRANCHES_MAX}",
            hint="map in portions, or start a run for each item with Engine.map",
        )


def sla_request(sla: Duration | None, on_breach: Workflow[..., Any] | None) -> tuple[int, str] | tuple[()]:
    """Return an agreed time in the core's form: milliseconds, and the name of the workflow that hears of a breach."""
    if on_breach is not None and not isinstance(on_breach, Workflow):
        raise InputError(
            "SW-E2005", "on_breach is not a workflow", got=repr(on_breach), hint="decorate it with @stepwell.workflow"
        )
    if sla is None:
        if on_breach is not None:
            raise InputError("SW-E1037", "on_breach without a time", hint='say what was agreed: sla="5s"')
        return ()
    return (duration_ms(sla, "sla"), "" if on_breach is None else on_breach.name)


def check_calls(most: int | None, what: str) -> None:
    """Raise InputError SW-E2156 for what is no number of calls."""
    if most is not None and not is_count(most, CALLS_MAX):
        raise InputError(
            "SW-E2156", f"{what} is no number of calls", got=repr(most)[:80], expected=f"1 to {CALLS_MAX}, or None"
        )


class Step(Generic[P, R]):
    """A function whose result is recorded when a run calls it. Outside of a run it is just the function."""

    def __init__(
        self,
        fn: Callable[P, R],
        *,
        name: str | None,
        retry: Retry | None,
        timeout: Duration | None,
        undo: Callable[[Any], Any] | None = None,
        sla: Duration | None = None,
        on_breach: Workflow[..., Any] | None = None,
    ) -> None:
        functools.update_wrapper(self, fn)
        self.fn = fn
        self.name = _name_of(fn, name, "step")
        self.retry = retry or _NO_RETRY
        self.retry_core = self.retry.to_core()
        if self.retry.hedge is not None:
            raise InputError(
                "SW-E1011",
                f"step {self.name!r} cannot be hedged",
                got=f"hedge={self.retry.hedge!r}"[:80],
                hint="Retry(hedge=...) is for calls that the engine makes, as those of sw.llm",
            )
        self.timeout_s = None if timeout is None else duration_ms(timeout, "timeout") / 1000
        #: What its reports carry of an agreed time: milliseconds, and the workflow that hears of a breach.
        self.sla = sla_request(sla, on_breach)
        self.on_breach = on_breach
        self.is_async = inspect.iscoroutinefunction(fn)
        self.undo: Step[..., Any] | None = None
        if undo is not None:
            self.undo = (
                undo
                if isinstance(undo, Step)
                else Step(undo, name=f"undo {self.name}", retry=_UNDO_RETRY, timeout=None)
            )

    @functools.cached_property
    def returns(self) -> Any:
        """The annotation of the result; Any without one."""
        return _hints_of(self.fn).get("return", Any)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function; inside a run, record its result or answer from the history."""
        activation = current_activation.get()
        if activation is None:
            return self.fn(*args, **kwargs)
        if self.is_async:
            return activation.run_async_step(self, args, kwargs)  # type: ignore[return-value]
        return activation.run_sync_step(self, args, kwargs)  # type: ignore[no-any-return]

    def __repr__(self) -> str:
        """Name the step."""
        return f"<step {self.name}>"


class Workflow(Generic[P, R]):
    """A function of one input that a run executes. Outside of a run it is just the function."""

    def __init__(
        self,
        fn: Callable[P, R],
        *,
        name: str | None,
        version: str = "",
        sla: Duration | None = None,
        on_breach: Workflow[..., Any] | None = None,
        max_calls: int | None = None,
    ) -> None:
        functools.update_wrapper(self, fn)
        self.fn = fn
        check_calls(max_calls, "max_calls")
        #: So many LLM calls may one run make.
        self.max_calls = max_calls
        self.name = _name_of(fn, name, "workflow")
        self.version = version
        self.sla = sla_request(sla, on_breach)
        self.on_breach = on_breach
        self.is_async = inspect.iscoroutinefunction(fn)
        parameters = list(inspect.signature(fn).parameters.values())
        required = [
            p for p in parameters if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        ]
        if len(required) > 1:
            raise InputError(
                "SW-E2003",
                f"workflow {self.name!r} takes {len(required)} inputs",
                expected="one input (or none)",
                hint="put the inputs into one dataclass, pydantic model or dict",
            )
        self.input_name = parameters[0].name if parameters else None
        #: How messages name its values.
        self.input_words = f"input of workflow {self.name!r}"
        self.result_words = f"result of workflow {self.name!r}"

    @functools.cached_property
    def _hints(self) -> dict[str, Any]:
        return _hints_of(self.fn)

    @property
    def takes(self) -> Any:
        """The annotation of the input; Any without one."""
        return self._hints.get(self.input_name, Any) if self.input_name else Any

    @property
    def returns(self) -> Any:
        """The annotation of the result; Any without one."""
        return self._hints.get("return", Any)

    @functools.cached_property
    def is_recursive(self) -> bool:
        """Whether its code can start it again as a child, also by way of other workflows."""
        from stepwell._reach import reached

        return self in reached(self)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function directly; nothing is recorded but what a surrounding run records."""
        return self.fn(*args, **kwargs)

    def __repr__(self) -> str:
        """Name the workflow."""
        return f"<workflow {self.name}>"


@overload
def step(fn: Callable[P, R], /) -> Step[P, R]: ...
@overload
def step(
    *,
    name: str | None = None,
    retry: Retry | None = None,
    timeout: Duration | None = None,
    undo: Callable[[Any], Any] | None = None,
    sla: Duration | None = None,
    on_breach: Workflow[..., Any] | None = None,
) -> Callable[[Callable[P, R]], Step[P, R]]: ...
def step(
    fn: Callable[P, R] | None = None,
    /,
    *,
    name: str | None = None,
    retry: Retry | None = None,
    timeout: Duration | None = None,
    undo: Callable[[Any], Any] | None = None,
    sla: Duration | None = None,
    on_breach: Workflow[..., Any] | None = None,
) -> Any:
    """Make a function a step: inside a run its result is recorded once and never computed again.

    Steps and LLM calls inside a step are part of it and are not recorded for themselves.

    `retry` says how often a raising attempt is tried again (default: not), `timeout` how long one attempt may take.
    Use it bare (`@step`) or with options (`@step(retry=Retry(5), timeout="30s")`).

    `undo` (a function of the step's result, or a step) makes it part of a saga: when the workflow fails later, what its
    steps did is undone, the last one first, and the run ends as compensated.

    `sla` is a time that was agreed on, for all attempts and their waiting together. A step that took longer goes on and
    counts; the breach is recorded when it ends, and starts `on_breach`, a workflow that takes a `sw.Breach`, once.
    """
    options: Any = {"name": name, "retry": retry, "timeout": timeout, "undo": undo, "sla": sla, "on_breach": on_breach}
    if fn is not None:
        return Step(fn, **options)
    return lambda inner: Step(inner, **options)


@overload
def workflow(fn: Callable[P, R], /) -> Workflow[P, R]: ...
@overload
def workflow(
    *,
    name: str | None = None,
    version: str = "",
    sla: Duration | None = None,
    on_breach: Workflow[..., Any] | None = None,
    max_calls: int | None = None,
) -> Callable[[Callable[P, R]], Workflow[P, R]]: ...
def workflow(
    fn: Callable[P, R] | None = None,
    /,
    *,
    name: str | None = None,
    version: str = "",
    sla: Duration | None = None,
    on_breach: Workflow[..., Any] | None = None,
    max_calls: int | None = None,
) -> Any:
    """Make a function a workflow: `engine.start(flow, x)` runs it durably.

    After a crash it runs again from the top and recorded steps answer from the history, so whatever is not a step must
    give the same answer each time. `name` is what runs are stored under (default: the function's name), `version` is kept
    with each run that this code starts.

    `sla` is a time that was agreed on, counted from when a run may begin (after its delay). A run that takes longer goes on;
    the breach is recorded, also while it waits for somebody, and starts `on_breach`, a workflow that takes a `sw.Breach`,
    once. `Engine.start` can say another one for a single run.

    `max_calls`: so many LLM calls may one run make, over all its restarts; the next one raises StepFailed SW-E2154 before
    anything is sent. What a cache or the local model answers is no call; the repair round of a call is one.
    """
    options: Any = {"name": name, "version": version, "sla": sla, "on_breach": on_breach, "max_calls": max_calls}
    if fn is not None:
        return Workflow(fn, **options)
    return lambda inner: Workflow(inner, **options)


async def gather(*branches: Awaitable[Any], return_exceptions: bool = False) -> list[Any]:
    """Run awaitables side by side and return their results in order, as `asyncio.gather` does, replayable.

    All branches finish before the first failure (by position) is raised, so that a replay sees the same order.
    """
    activation = current_activation.get()
    if activation is None:
        return list(await asyncio.gather(*branches, return_exceptions=return_exceptions))
    check_branches(len(branches))
    scope = activation.identify("gather")
    run_branch = activation.branches(len(branches), wakes_after=len(branches))
    tasks = [asyncio.ensure_future(run_branch(f"{scope}/{index}/", branch)) for index, branch in enumerate(branches)]
    try:
        results = await asyncio.gather(*tasks, return_exceptions=True)
    except asyncio.CancelledError:
        for task in tasks:
            task.cancel()
        raise
    if not return_exceptions:
        for result in results:
            if isinstance(result, BaseException):
                raise result
    return list(results)
