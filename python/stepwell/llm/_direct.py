"""LLM calls outside of a run: the same call, judged and retried by the core, recorded nowhere."""

from __future__ import annotations

import contextlib
import os
import threading
from typing import TYPE_CHECKING, Any

from stepwell._engine import Engine
from stepwell._errors import StepFailed
from stepwell._workflow import Workflow, current_activation

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator, Iterator

    from stepwell._streams import Piece

# An engine in memory keeps what it has done; after so many calls another one takes its place.
_CALLS_MAX = 5_000


class _Shared:
    """An engine in memory that serves the direct calls of this process."""

    def __init__(self) -> None:
        self.engine = Engine()
        self.pid = os.getpid()
        self.started = 0
        self.in_flight = 0


_lock = threading.Lock()
_shared: _Shared | None = None
# Requests may hold a key, so that they are no run's input, not even in memory.
_requests: dict[int, tuple[Any, ...]] = {}


async def _direct_call(number: int) -> list[Any]:
    activation = current_activation.get()
    assert activation is not None  # noqa: S101 - it only runs as a workflow
    body, attempts = await activation.call("call", _requests[number])
    return [body.decode("latin-1"), attempts]  # Latin-1 carries any bytes through JSON text and back


_flow = Workflow(_direct_call, name="stepwell.direct_call")


@contextlib.contextmanager
def _borrowed(request: tuple[Any, ...]) -> Iterator[Engine]:
    """Lend the shared engine; one that has done its share is closed with its last call."""
    global _shared  # noqa: PLW0603
    with _lock:
        if _shared is None or _shared.pid != os.getpid() or _shared.started >= _CALLS_MAX:
            _shared = _Shared()
        mine = _shared
        mine.started += 1
        mine.in_flight += 1
        _requests[id(request)] = request
    try:
        yield mine.engine
    finally:
        with _lock:
            del _requests[id(request)]
            mine.in_flight -= 1
            is_done = mine.in_flight == 0 and mine is not _shared
        if is_done:
            mine.engine.close(0)


def call_directly_blocking(request: tuple[Any, ...]) -> tuple[bytes, int]:
    """Make one call; return body and attempts."""
    with _borrowed(request) as engine:
        text, attempts = engine.start(_flow, id(request)).result()
    return text.encode("latin-1"), attempts


async def call_directly(request: tuple[Any, ...]) -> tuple[bytes, int]:
    """Do the same without blocking the caller's event loop."""
    with _borrowed(request) as engine:
        text, attempts = await (await engine.astart(_flow, id(request)))
    return text.encode("latin-1"), attempts


async def stream_directly(request: tuple[Any, ...]) -> AsyncGenerator[Piece | tuple[bytes, int], None]:
    """Make a call whose answer is a stream: its pieces, then body and attempts."""
    with _borrowed(request) as engine:
        run = await engine.astart(_flow, id(request))
        try:
            with contextlib.suppress(StepFailed):  # the run says it, too
                async for piece in engine.stream(run, step="call"):
                    yield piece
            text, attempts = await run
        except BaseException:
            run.cancel()
            raise
        yield (text.encode("latin-1"), attempts)


def stream_directly_blocking(request: tuple[Any, ...]) -> Generator[Piece | tuple[bytes, int], None, None]:
    """Do the same from plain code."""
    with _borrowed(request) as engine:
        run = engine.start(_flow, id(request))
        try:
            with contextlib.suppress(StepFailed):
                yield from engine.stream_blocking(run, step="call")
            text, attempts = run.result()
        except BaseException:
            run.cancel()
            raise
        yield (text.encode("latin-1"), attempts)
