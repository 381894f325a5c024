"""A cache of answers in the engine's store: the same question to the same model is answered without a call.

    await sw.llm.classify(text, labels=LABELS, model="openai:gpt-4o-mini", cache=sw.llm.Cache(ttl="7d"))

Content-addressed: the key is a digest of where a request goes and of all of it that can change the answer. Answers that are
failures, refusals or for review are never kept. A hit is recorded in the run as a call with no attempt.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import json
import threading
import time
import weakref
from collections import OrderedDict
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stepwell._errors import InputError, WorkflowError
from stepwell._types import Duration, duration_ms
from stepwell._workflow import current_activation, current_step
from stepwell.llm._usage import Usage

if TYPE_CHECKING:
    from collections.abc import Callable

    from stepwell._worker import Worker

KIND = "llm.cache"
ENTRIES_MAX = 10_000
_ENTRY_BYTES_MAX = 256 << 10
_BYTES_MAX = 64 << 20
# What says nothing about the answer: who asks, how it is delivered, where the provider keeps its own cache.
_VOLATILE = {
    "stream", "stream_options", "user", "metadata", "safety_identifier", "prompt_cache_key", "service_tier", "store",
}  # fmt: skip
_GOOD_ENDS = {"stop", "tool_calls"}

Request = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Cache:
    """How long answers are good for (`ttl`), and what makes two questions the same.

    `key`: a function of the request's body (a dict without its volatile members) whose result, as JSON, takes the body's
    place in the key. The newest 10,000 answers of a store, 64 MiB at most, are kept; outside of a run those of this process.
    """

    ttl: Duration = "7d"
    key: Callable[[dict[str, Any]], Any] | None = None

    def __post_init__(self) -> None:
        """Refuse what is no time."""
        duration_ms(self.ttl, "ttl")
        if self.key is not None and not callable(self.key):
            raise InputError(
                "SW-E2155",
                "Cache.key is no function",
                got=repr(self.key)[:80],
                expected="a function of the request's body",
            )

    def digest(self, request: Request) -> str:
        """Return the key of a call in the core's form."""
        (_, url, _, body, *_), *_ = request
        found = json.loads(body)
        asked = (
            {name: value for name, value in found.items() if name not in _VOLATILE}
            if isinstance(found, dict)
            else found
        )
        if self.key is not None:
            asked = self.key(asked)
        try:
            text = json.dumps([url, asked], sort_keys=True, separators=(",", ":"))
        except (TypeError, ValueError) as error:
            raise InputError("SW-E2155", f"what Cache.key returned has no JSON form: {error}") from None
        return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=20).hexdigest()


class Shelf:
    """The cached answers of one engine (or of none), the oldest first; in memory and, beside an engine, in its store."""

    def __init__(self, worker: Worker | None) -> None:
        self._core = None if worker is None else worker.core
        self._lock = threading.Lock()
        # Protected by the lock.
        self._entries: OrderedDict[str, tuple[int, bytes]] = OrderedDict()
        self._bytes = 0
        #: Who asks a question now, by its key: others wait for that answer. Event loops only.
        self.flights: dict[tuple[str, asyncio.AbstractEventLoop], asyncio.Future[None]] = {}
        rows = [] if self._core is None else self._core.documents(KIND, "")
        for name, _, at, body in sorted(rows, key=lambda row: row[2]):
            self._entries[name] = (at, body)
            self._bytes += len(body)

    def __len__(self) -> int:
        """How many answers there are, those that are too old included."""
        return len(self._entries)

    def find(self, key: str, oldest_ms: int) -> bytes | None:
        """Return an answer that was kept at `oldest_ms` or later."""
        with self._lock:
            at, body = self._entries.get(key, (-1, b""))
            return body if body and at >= oldest_ms else None

    def put(self, key: str, body: bytes, now_ms: int) -> None:
        """Keep an answer, and let go of the oldest ones beyond the bounds. Waits for the store."""
        if not 0 < len(body) <= _ENTRY_BYTES_MAX:
            return
        gone = []
        with self._lock:
            self._bytes += len(body) - len(self._entries.pop(key, (0, b""))[1])
            self._entries[key] = (now_ms, body)
            while len(self._entries) > ENTRIES_MAX or self._bytes > _BYTES_MAX:
                name, (_, old) = self._entries.popitem(last=False)
                self._bytes -= len(old)
                gone.append(name)
        if self._core is not None:
            with contextlib.suppress(WorkflowError):  # closed, or its disk is full: the answer is there all the same
                self._core.keep(KIND, key, -1, body)
                for name in gone:
                    self._core.keep(KIND, name, -1, b"")


_shelves: weakref.WeakKeyDictionary[Worker, Shelf] = weakref.WeakKeyDictionary()
_shelves_lock = threading.Lock()
_shared: list[Shelf] = []


def shelf_of(worker: Worker | None) -> Shelf:
    """Return an engine's shelf, read from its store by the first who asks; without an engine this process's own."""
    with _shelves_lock:
        if worker is None:
            if not _shared:
                _shared.append(Shelf(None))
            return _shared[0]
        found = _shelves.get(worker)
        if found is None:
            found = _shelves[worker] = Shelf(worker)
        return found


class Keeper:
    """The cache of one question while it is asked; its calls come by in `find` and `note`."""

    def __init__(self, cache: Cache) -> None:
        here = current_activation.get() or current_step.get()
        worker = None if here is None else here.worker
        # A run that is only looked at has no worker with a store.
        self._shelf = shelf_of(worker if hasattr(worker, "core") else None)
        self._cache = cache
        self._time = time.time if here is None else here.worker.time
        self._calls: list[tuple[str, str, bytes, int]] = []
        self._flight: tuple[tuple[str, asyncio.AbstractEventLoop], asyncio.Future[None]] | None = None

    def _now_ms(self) -> int:
        return int(self._time() * 1000)

    def find(self, request: Request) -> bytes | None:
        """Return the cached answer to a call, None when there is none."""
        return self._shelf.find(self._cache.digest(request), self._now_ms() - duration_ms(self._cache.ttl, "ttl"))

    async def afind(self, request: Request) -> bytes | None:
        """Do the same; while somebody else asks the very same, wait for that."""
        loop = asyncio.get_running_loop()
        key = (self._cache.digest(request), loop)
        found = self.find(request)
        # Who is waited for does not wait, so that nobody waits in a circle.
        while found is None and self._flight is None and (flight := self._shelf.flights.get(key)) is not None:
            await asyncio.wait((flight,))
            found = self.find(request)
        if found is None and self._flight is None and key not in self._shelf.flights:
            self._flight = (key, loop.create_future())
            self._shelf.flights[key] = self._flight[1]
        return found

    def note(self, name: str, request: Request, answer: tuple[bytes, int]) -> None:
        """Take an answer's call in; no attempts: it came out of the cache."""
        self._calls.append((name, self._cache.digest(request), *answer))

    def release(self) -> None:
        """Let those who wait look for themselves."""
        if self._flight is not None:
            key, future = self._flight
            self._shelf.flights.pop(key, None)
            if not future.done():
                future.set_result(None)

    def kept(self, answer: Any) -> Any:
        """Keep what may be kept, and return the answer, marked when it came out of the cache."""
        self._put_all(self._fresh(answer), self._now_ms())
        return self._marked(answer)

    def _put_all(self, fresh: list[tuple[str, bytes]], now_ms: int) -> None:
        for key, body in fresh:
            self._shelf.put(key, body, now_ms)

    async def akept(self, answer: Any) -> Any:
        """Do the same without blocking the event loop."""
        fresh, now_ms = self._fresh(answer), self._now_ms()
        if fresh:
            await asyncio.to_thread(self._put_all, fresh, now_ms)
        return self._marked(answer)

    def _fresh(self, answer: Any) -> list[tuple[str, bytes]]:
        is_good = (
            getattr(answer, "status", "ok") == "ok"
            and getattr(answer, "finish_reason", "stop") in _GOOD_ENDS
            and not any(name.endswith(".repair") for name, *_ in self._calls)
        )
        return [(key, body) for _, key, body, attempts in self._calls if attempts] if is_good else []

    def _marked(self, answer: Any) -> Any:
        if not self._calls or any(attempts for *_, attempts in self._calls):
            return answer
        if hasattr(answer, "tokens_in"):
            return dataclasses.replace(answer, cached=True, tokens_in=0, tokens_out=0, cost_usd=0.0)
        return dataclasses.replace(answer, cached=True, usage=Usage(cost_usd=0.0))


#: The cache of the question that is being asked.
current_keeper: ContextVar[Keeper | None] = ContextVar("stepwell_keeper", default=None)
