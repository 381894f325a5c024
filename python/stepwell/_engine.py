"""The engine: opens a store, starts runs, waits for them."""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
import weakref
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack, overload

from stepwell import _config
from stepwell._approvals.inbox import ApprovalInbox
from stepwell._budgets.verbs import BudgetVerbs, joined, with_budgets
from stepwell._egress import Egress, egress_of
from stepwell._errors import InputError, closed_error, failure_of
from stepwell._limits import Limit, LimitVerbs
from stepwell._lookup import Lookup
from stepwell._plain_requests import PlainRequests
from stepwell._port import CLOSED, Caller
from stepwell._queues import check_concurrency
from stepwell._reach import reached
from stepwell._retention import Retention, retention_of
from stepwell._run import Run
from stepwell._schedules.verbs import ScheduleVerbs
from stepwell._starts import StartOptions, options_request, start_request
from stepwell._streams import StreamReads
from stepwell._types import Duration, check_text, duration_ms, wait_s
from stepwell._workflow import Workflow, check_calls, check_names

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping
    from pathlib import Path
    from types import TracebackType

    from stepwell._batch import Batch
    from stepwell._budgets.policy import Budget

R = TypeVar("R")
_IN_FLIGHT_DEFAULT = 1000


class Engine(PlainRequests, StreamReads, Lookup, ApprovalInbox, BudgetVerbs, LimitVerbs, ScheduleVerbs):
    """A durable engine over one store. Use it as a context manager, or call `close`.

    `path` is a SQLite file ("support.db"), or None for memory (nothing survives). `durability="full"` (default) syncs the
    disk before a start returns; "relaxed" survives a crash of the process but may lose the last moments at a power cut.
    One process owns a file; a second engine on it is refused (ConflictError SW-E1101). `calls_per_host`: at most so many
    HTTP calls are in flight to one host at once; further ones wait their turn. `retention`: how long ended runs are kept
    ("30d", or a Retention); without it nothing is ever deleted. `egress`: where calls may go (see Egress); None: https to the
    public internet, this machine by its name, and what STEPWELL_EGRESS_ALLOW, STEPWELL_EGRESS_HTTP and STEPWELL_PROXY say.
    `budget`: what the calls of all its runs may cost. `limits`: what models let through, by name; see `limit`.
    `calls_per_run`: `max_calls` of workflows that have none.
    """

    #: What `stepwell.testing.Engine` asks of the core.
    _test_world: tuple[int, int, bool, int, int, int] | None = None

    def __init__(
        self,
        path: str | Path | None = None,
        *,
        durability: str = "full",
        workflows: Iterable[Workflow[..., Any]] = (),
        lease: Duration = "30s",
        calls_per_host: int = 8192,
        retention: Retention | Duration | None = None,
        egress: Egress | None = None,
        budget: Budget | None = None,
        limits: Mapping[str, Limit] | None = None,
        calls_per_run: int | None = None,
    ) -> None:
        from stepwell import _core
        from stepwell._worker import Worker

        if durability not in ("full", "relaxed"):
            raise InputError("SW-E1012", "unknown durability", got=repr(durability), expected='"full" or "relaxed"')
        self.path = _config.store_path(path)
        check_concurrency(calls_per_host, "calls_per_host")
        check_calls(calls_per_run, "calls_per_run")
        policy = egress_of(egress)
        proxy, no_proxy = policy.proxies()
        _config.keep_standard_descriptors()
        self._core: Any = _core.Runtime.open(
            self.path,
            durable=durability == "full",
            lease_ms=duration_ms(lease, "lease"),
            ca_bundle=_config.ca_bundle(),
            proxy=proxy,
            no_proxy=no_proxy,
            calls_per_host_max=calls_per_host,
            egress=policy.to_core(),
            test_world=self._test_world,
            retention=None if retention is None else retention_of(retention).to_core(),
        )
        self._worker = Worker(self._core)
        self._worker.need, self._worker.calls_per_run = self._need, calls_per_run
        self._served: dict[str, int] = {}
        self._lock = threading.Lock()
        self._is_closed = False
        self._callers: dict[asyncio.AbstractEventLoop, Caller] = {}
        _open_engines.add(self)
        self._worker.budgets = self._adopt(budget)
        self._limit_all(limits)
        for flow in workflows:
            self.serve(flow)

    # -- running --------------------------------------------------------------------------------------------------------

    def serve(
        self, flow: Workflow[..., Any], *, concurrency: int = _IN_FLIGHT_DEFAULT, queue: str | None = None
    ) -> None:
        """Let this engine run `flow`, at most `concurrency` at once; runs left by an earlier process go on.

        `start` and `map` do it by themselves. The workflows that its code names, as children or to send to, are served too.
        """
        if not isinstance(flow, Workflow):
            raise InputError(
                "SW-E2005", "not a workflow", got=repr(flow), hint="decorate the function with @stepwell.workflow"
            )
        check_concurrency(concurrency)
        name = flow.name if queue is None else queue
        check_text(name, "name of a queue")
        with self._lock:
            check_names(self._worker.flows.get(flow.name), flow)
            if self._served.get(name) == concurrency and self._worker.flows.get(flow.name) is flow:
                return
            self._worker.flows[flow.name] = flow
            self._served[name] = concurrency
        self._core.serve(name, concurrency, self._worker.channel_of(flow))
        self._serve_approvals(flow)
        self._serve_budgets(flow)
        for other in () if flow.name.startswith("stepwell.") else reached(flow):  # ours say themselves what they need
            self._need(other)
        if flow.on_breach is not None:
            self._need(flow.on_breach)
        self._look_for_schedules()

    def _need(self, flow: Workflow[..., Any], queue: str | None = None) -> None:
        name = flow.name if queue is None else queue
        if not isinstance(name, str) or name not in self._served or flow.name not in self._worker.flows:
            self.serve(flow, queue=queue)

    def _need_all(self, flow: Workflow[..., Any], options: StartOptions) -> None:
        self._need(flow, options.get("queue"))
        told = options.get("on_breach")
        if told is not None:
            self._need(told)

    @overload
    def start(
        self,
        flow: Workflow[..., Coroutine[Any, Any, R]],
        value: Any = None,
        **options: Unpack[StartOptions],
    ) -> Run[R]: ...
    @overload
    def start(self, flow: Workflow[..., R], value: Any = None, **options: Unpack[StartOptions]) -> Run[R]: ...
    def start(
        self,
        flow: Workflow[..., Any],
        value: Any = None,
        **options: Unpack[StartOptions],
    ) -> Run[Any]:
        """Start a run and return once it is durable.

        Options: `key`, `delay`, `timeout`, `priority`, `queue`, `group`, `collapse` (see StartOptions).
        """
        self._need_all(flow, options)
        answer = self._core.start([self._request(flow, value, options)])[0]
        return self._started(flow, answer)

    @overload
    async def astart(
        self,
        flow: Workflow[..., Coroutine[Any, Any, R]],
        value: Any = None,
        **options: Unpack[StartOptions],
    ) -> Run[R]: ...
    @overload
    async def astart(self, flow: Workflow[..., R], value: Any = None, **options: Unpack[StartOptions]) -> Run[R]: ...
    async def astart(
        self,
        flow: Workflow[..., Any],
        value: Any = None,
        **options: Unpack[StartOptions],
    ) -> Run[Any]:
        """Start a run without blocking the caller's event loop."""
        self._need_all(flow, options)
        ticket, future = self._caller().future()
        self._core.start_async([self._request(flow, value, options)], ticket)
        answers = await future
        return self._started(flow, answers[0])

    def _request(self, flow: Workflow[..., Any], value: Any, options: StartOptions) -> tuple[Any, ...]:
        request = options_request(flow, value, options, self._worker.time())
        own = self._adopt(options.get("budget"))
        return with_budgets(request, joined(self._worker.budgets, own))

    @overload
    def start_many(
        self, flow: Workflow[..., Coroutine[Any, Any, R]], values: Iterable[Any], *, keys: Iterable[str] | None = None
    ) -> list[Run[R]]: ...
    @overload
    def start_many(
        self, flow: Workflow[..., R], values: Iterable[Any], *, keys: Iterable[str] | None = None
    ) -> list[Run[R]]: ...
    def start_many(
        self, flow: Workflow[..., Any], values: Iterable[Any], *, keys: Iterable[str] | None = None
    ) -> list[Run[Any]]:
        """Start many runs with one commit for each 500 of them; durable when it returns."""
        self.serve(flow)
        values = list(values)
        names = list(keys) if keys is not None else [None] * len(values)
        runs: list[Run[Any]] = []
        for begin in range(0, len(values), 500):
            requests = [
                with_budgets(start_request(flow, v, k), self._worker.budgets)
                for v, k in zip(values[begin : begin + 500], names[begin : begin + 500], strict=True)
            ]
            runs.extend(self._started(flow, answer) for answer in self._core.start(requests))
        return runs

    @overload
    def map(
        self,
        flow: Workflow[..., Coroutine[Any, Any, R]],
        items: Iterable[Any],
        *,
        key: str | Callable[[Any], str] | None = None,
        concurrency: int = 100,
        name: str | None = None,
        budget: Budget | None = None,
    ) -> Batch[R]: ...
    @overload
    def map(
        self,
        flow: Workflow[..., R],
        items: Iterable[Any],
        *,
        key: str | Callable[[Any], str] | None = None,
        concurrency: int = 100,
        name: str | None = None,
        budget: Budget | None = None,
    ) -> Batch[R]: ...
    def map(
        self,
        flow: Workflow[..., Any],
        items: Iterable[Any],
        *,
        key: str | Callable[[Any], str] | None = None,
        concurrency: int = 100,
        name: str | None = None,
        budget: Budget | None = None,
    ) -> Batch[Any]:
        """Run `flow` over `items`, at most `concurrency` at once, and return a Batch: iterable, awaitable, resumable.

        `key` names a field of each item (or is a function of it); with it, items that an earlier process finished are
        not run again. Items are taken as places become free, so an endless iterator is fine. `budget`: what the calls of all
        its runs may cost; mapped again with the same name it is the same account.
        """
        from stepwell._batch import Batch

        return Batch(self, flow, items, key=key, concurrency=concurrency, name=name, budget=budget)

    @overload
    async def amap(
        self, flow: Workflow[..., Coroutine[Any, Any, R]], items: Iterable[Any], **options: Any
    ) -> Batch[R]: ...
    @overload
    async def amap(self, flow: Workflow[..., R], items: Iterable[Any], **options: Any) -> Batch[R]: ...
    async def amap(self, flow: Workflow[..., Any], items: Iterable[Any], **options: Any) -> Batch[Any]:
        """Return `map(...)`; starting happens off the caller's event loop anyway."""
        return self.map(flow, items, **options)

    # -- looking --------------------------------------------------------------------------------------------------------

    @overload
    def find(self, flow: Workflow[..., Coroutine[Any, Any, R]], key: str) -> Run[R] | None: ...
    @overload
    def find(self, flow: Workflow[..., R], key: str) -> Run[R] | None: ...
    def find(self, flow: Workflow[..., Any], key: str) -> Run[Any] | None:
        """Return the run that `key` started, or None."""
        rows = self._core.find(workflow=flow.name, key=key)
        return Run(self, flow, rows[0][0], is_new=False) if rows else None

    # -- waiting on the caller's event loop -----------------------------------------------------------------------------

    def _caller(self) -> Caller:
        loop = asyncio.get_running_loop()
        return self._callers.get(loop) or self._open_caller(loop)

    def _open_caller(self, loop: asyncio.AbstractEventLoop) -> Caller:
        with self._lock:
            for other in [each for each in self._callers if each.is_closed()]:
                self._callers.pop(other).close()
            caller = self._callers[loop] = Caller(self._core, loop)
            return caller

    def _watch(self, run: int) -> asyncio.Future[Any]:
        ticket, future = self._caller().future()
        self._core.watch(run, ticket)
        return future

    def _wait_on_pump(self, run: int, wait_ms: int) -> tuple[int, bytes] | None:
        """Return status and payload of a run's end, None after `wait_ms` (-1: never). The wait can be interrupted."""
        ready = threading.Event()
        ends: list[tuple[Any, ...]] = []

        def on_items(items: list[tuple[Any, ...]]) -> None:
            ends.extend(items)
            ready.set()

        group = self._worker.open_group(on_items)
        try:
            self._core.watch(run, group << 32)
            ready.wait(None if wait_ms < 0 else wait_ms / 1000)
        finally:
            self._worker.close_group(group)
        if ready.is_set() and not ends:
            raise closed_error()
        return (ends[0][3], ends[0][4]) if ends else None

    def _started(self, flow: Workflow[..., Any], answer: tuple[Any, ...]) -> Run[Any]:
        failure, run, attached, _, _ = answer
        if failure is not None:
            raise failure_of(failure)
        return Run(self, flow, run, is_new=not attached)

    # -- the end ----------------------------------------------------------------------------------------------------------

    def close(self, timeout: float = 5.0) -> None:
        """Stop taking work, give runs in flight `timeout` seconds, commit, stop the threads.

        Unfinished runs go on when the store is opened again. Idempotent.
        """
        seconds = wait_s(timeout)
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
        _open_engines.discard(self)
        self._core.close(int((10**9 if seconds is None else seconds) * 1000))
        self._worker.close()
        # Loops that run in other threads hear of the end through their ports.
        for loop, caller in self._callers.items():
            if loop.is_closed() or loop is _running_loop():
                caller.close()
        self._callers = {}
        # Engine, worker and runs refer to each other; descriptors must not wait for a garbage collection.
        self._core = self._worker.core = CLOSED

    def __enter__(self) -> Self:
        """Return the open engine."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close: patient after success, at once after an exception."""
        self.close(5.0 if kind is None else 0.0)

    def __repr__(self) -> str:
        """Name the store."""
        return f"<engine {self.path or 'in memory'}>"


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


_open_engines: weakref.WeakSet[Engine] = weakref.WeakSet()


def _close_all() -> None:
    for engine in list(_open_engines):
        engine.close(0.0)


atexit.register(_close_all)


def _forget_all() -> None:
    """Leave the parent's engines alone, in a forked child."""
    for engine in list(_open_engines):
        engine._worker.forget()  # noqa: SLF001
    _open_engines.clear()


os.register_at_fork(after_in_child=_forget_all)
