"""A batch: one workflow over many items, with progress, resumable."""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from stepwell import _codec
from stepwell._budgets.verbs import joined, with_budgets
from stepwell._errors import InputError, WorkflowError, closed_error, failure_of
from stepwell._queues import check_concurrency
from stepwell._run import run_error
from stepwell._starts import start_request
from stepwell._types import RunStatus

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterable, Iterator

    from stepwell._budgets.policy import Budget
    from stepwell._engine import Engine
    from stepwell._workflow import Workflow

R = TypeVar("R")
_CHUNK_FIRST = 32  # small, so that work begins at once; each is twice as large as the one before
_CHUNK_MAX = 512
_AHEAD_MIN = 2048

#: Place, run, status, payload, and whether an earlier process had finished it.
_End = tuple[int, int, int, bytes, bool]


@dataclass(frozen=True, slots=True)
class BatchItem(Generic[R]):
    """One item's outcome: its place in the input, and a value or an error."""

    index: int
    value: R | None
    error: WorkflowError | None
    #: True when an earlier process had finished it.
    is_recorded: bool


@dataclass(frozen=True, slots=True)
class BatchProgress:
    """A batch at one moment. `total` is None until the input has been read to its end."""

    finished: int
    failed: int
    recorded: int
    started: int
    total: int | None
    elapsed_s: float


class Batch(Generic[R]):
    """Iterate it for outcomes as they finish, await it or call `results()` for all in input order.

    A feeder thread takes items while places are free; memory is bounded by the concurrency, not by the input, as long as
    you iterate. Leaving the iteration early (Ctrl-C) loses nothing: map the same items with the same key again.
    """

    def __init__(
        self,
        engine: Engine,
        flow: Workflow[..., R],
        items: Iterable[Any],
        *,
        key: str | Callable[[Any], str] | None,
        concurrency: int,
        name: str | None,
        budget: Budget | None = None,
    ) -> None:
        check_concurrency(concurrency)
        self._engine = engine
        self._flow = flow
        self._items = items
        self._key = key
        self._concurrency = concurrency
        # A queue of its own bounds this batch alone; the same name finds the same queue again after a crash.
        label = name or (str(key) if isinstance(key, str) else "batch")
        self._queue = f"{flow.name}/{hashlib.blake2b(label.encode(), digest_size=6).hexdigest()}"
        own = budget.named(self._queue.replace("/", " ")) if budget is not None else None
        #: The name of its own budget, for engine.budget(name); empty without one.
        self.budget_name = engine._adopt(own)  # noqa: SLF001
        self._budgets = joined(engine._worker.budgets, self.budget_name)  # noqa: SLF001
        self._ready = threading.Condition()
        self._done: deque[_End] = deque()
        self._started = self._finished = self._failed = self._recorded = 0
        self._total: int | None = None
        self._feed_error: BaseException | None = None
        self._is_stopped = False
        self._began = time.monotonic()
        self._wakers: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []
        self._group = engine._worker.open_group(self._on_items)  # noqa: SLF001
        engine.serve(flow, concurrency=concurrency, queue=self._queue)
        self._feeder = threading.Thread(target=self._feed, name="stepwell-feeder", daemon=True)
        self._feeder.start()

    # -- feeding --------------------------------------------------------------------------------------------------------

    def _feed(self) -> None:
        ahead_max = max(_AHEAD_MIN, 2 * self._concurrency)
        count, chunk = 0, _CHUNK_FIRST
        try:
            requests: list[tuple[Any, ...]] = []
            for item in self._items:
                requests.append(self._request(item, count))
                count += 1
                if len(requests) == chunk:
                    chunk = min(2 * chunk, _CHUNK_MAX)
                    if not self._start(requests, ahead_max):
                        return
            if requests and not self._start(requests, ahead_max):
                return
        except BaseException as error:  # noqa: BLE001 - raised to whoever iterates
            self._feed_error = error
        with self._ready:
            self._total = self._started
            self._wake()

    def _request(self, item: Any, index: int) -> tuple[Any, ...]:
        key = self._key_of(item)
        request = start_request(self._flow, item, key, queue=self._queue, ticket=(self._group << 32) | index)
        return with_budgets(request, self._budgets)

    def _key_of(self, item: Any) -> str | None:
        if self._key is None:
            return None
        if callable(self._key):
            return self._key(item)
        value = item.get(self._key) if isinstance(item, dict) else getattr(item, self._key, None)
        if value is None:
            raise InputError("SW-E1202", f"an item has no {self._key!r} to serve as its key", got=repr(item)[:120])
        return str(value)

    def _start(self, requests: list[tuple[Any, ...]], ahead_max: int) -> bool:
        with self._ready:
            while self._started - self._finished >= ahead_max and not self._is_stopped:
                self._ready.wait(timeout=1.0)
            if self._is_stopped:
                return False
            self._started += len(requests)
        answers = self._engine._core.start(requests)  # noqa: SLF001
        for answer in answers:
            if answer[0] is not None:
                raise failure_of(answer[0])
        requests.clear()
        return True

    # -- finishing --------------------------------------------------------------------------------------------------------

    def _on_items(self, items: list[tuple[Any, ...]]) -> None:
        """Take outcomes in. On the pump."""
        with self._ready:
            if not items and not self._is_over():
                self._feed_error = self._feed_error or closed_error()
                self._is_stopped = True
            for _, ticket, run, status, payload, is_new in items:
                self._done.append((ticket & 0xFFFFFFFF, run, status, payload, not is_new))
                if not is_new:
                    self._recorded += 1
                if status != RunStatus.SUCCEEDED:
                    self._failed += 1
            self._finished += len(items)
            self._wake()

    def _wake(self) -> None:
        self._ready.notify_all()
        for loop, event in self._wakers:
            if not loop.is_closed():
                loop.call_soon_threadsafe(event.set)

    def take(self, timeout: float | None = None) -> list[BatchItem[R]] | None:
        """Return what has finished since the last call, waiting up to `timeout` seconds for the first.

        An empty list after a timeout; None once everything has been returned.
        """
        ends = self._ends(timeout)
        return None if ends is None else [self._outcome(*end) for end in ends]

    def _ends(self, timeout: float | None = None) -> list[_End] | None:
        with self._ready:
            self._ready.wait_for(lambda: self._done or self._is_over(), timeout)
            ends = list(self._done)
            self._done.clear()
            is_over = not ends and self._is_over()
        if is_over:
            self._engine._worker.close_group(self._group)  # noqa: SLF001
            if self._feed_error is not None:
                raise self._feed_error
            return None
        return ends

    def _is_over(self) -> bool:
        return self._is_stopped or (self._total is not None and self._finished >= self._total)

    def _outcome(self, index: int, run: int, status: int, payload: bytes, recorded: bool) -> BatchItem[R]:  # noqa: FBT001
        if status == RunStatus.SUCCEEDED:
            return BatchItem(index, _codec.decode(payload, self._flow.returns), None, recorded)
        return BatchItem(index, None, run_error(run, status, payload), recorded)

    def __iter__(self) -> Iterator[BatchItem[R]]:
        """Yield outcomes as they finish. The input's own exception, if it raised, comes last."""
        while (batch := self.take()) is not None:
            yield from batch

    async def __aiter__(self) -> AsyncIterator[BatchItem[R]]:
        """Yield outcomes as they finish, on the caller's event loop."""
        async for ends in self._aends():
            for end in ends:
                yield self._outcome(*end)

    async def _aends(self) -> AsyncGenerator[list[_End], None]:
        event = asyncio.Event()
        waker = (asyncio.get_running_loop(), event)
        self._wakers.append(waker)
        try:
            while True:
                event.clear()
                ends = self._ends(timeout=0)
                if ends is None:
                    return
                if ends:
                    yield ends
                else:
                    await event.wait()
        finally:
            self._wakers.remove(waker)

    def results(self) -> list[R]:
        """Wait for all and return their values in input order. Raises the first item's error, by position."""
        results = _Results(self._flow)
        while (ends := self._ends()) is not None:
            results.add(ends)
        return results.in_order()

    def __await__(self) -> Generator[Any, None, list[R]]:
        """Wait for all on the caller's event loop; the values in input order."""
        return self._gather().__await__()

    async def _gather(self) -> list[R]:
        results = _Results(self._flow)
        async for ends in self._aends():
            results.add(ends)
        return results.in_order()

    def stop(self) -> None:
        """Start nothing more and end iterations. What was started goes on, and is found again by key."""
        with self._ready:
            self._is_stopped = True
            self._wake()

    def progress(self) -> BatchProgress:
        """Return the counts of this moment."""
        with self._ready:
            return BatchProgress(
                self._finished,
                self._failed,
                self._recorded,
                self._started,
                self._total,
                time.monotonic() - self._began,
            )

    def __len__(self) -> int:
        """Return the number of items started so far."""
        return self._started

    def __repr__(self) -> str:
        """Tell how far it is."""
        progress = self.progress()
        total = "?" if progress.total is None else progress.total
        return f"<batch of {self._flow.name}: {progress.finished}/{total} finished, {progress.failed} failed>"


class _Results(Generic[R]):
    """The values of a batch by their places. No object a value: the garbage collector would look at each again and again."""

    def __init__(self, flow: Workflow[..., R]) -> None:
        self._type = flow.returns
        self._values: dict[int, R] = {}
        self._errors: dict[int, WorkflowError] = {}

    def add(self, ends: list[_End]) -> None:
        for index, run, status, payload, _ in ends:
            if status == RunStatus.SUCCEEDED:
                self._values[index] = _codec.decode(payload, self._type)
            else:
                self._errors[index] = run_error(run, status, payload)

    def in_order(self) -> list[R]:
        if self._errors:
            raise self._errors[min(self._errors)]
        return [self._values[index] for index in sorted(self._values)]
