"""Streams: the text of a model's answer while it grows, for the workflow that asked and for readers outside.

Readers outside see what is committed, in this life of the process or another one. A place in a stream is a generation and an
offset in bytes of UTF-8. A generation is an answer that did not begin as the one before it: after a crash or a failed attempt
the call is made again, and a model that says something else begins a generation. Then comes a piece that is empty and
`restarted`, and the text from offset 0: text of two answers is never mixed in silence.
"""

from __future__ import annotations

import json
import re
import threading
from collections import deque
from typing import TYPE_CHECKING, Any, Self

from stepwell import _codec
from stepwell._calls import step_failed
from stepwell._errors import InputError, NotFoundError, closed_error
from stepwell._run import Run, run_error
from stepwell._types import RunStatus, run_name, run_number

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from stepwell._port import Caller
    from stepwell._worker import Worker

# StreamStanding of the core.
_TEXT, _RECORDED, _FAILED, _RUN_ENDED, _NO_RUN, _NOTHING = range(6)
_PATIENCE_MS = 15_000
_PLACE = re.compile(r"([1-9]\d{0,17}):(\d{1,18})")
#: The name that `sw.llm.stream` gives its step, unless told otherwise.
STEP = "llm.stream"


class Piece(str):
    """A piece of a stream's text: a str that knows its place.

    `generation` and `offset` (bytes of UTF-8) are where it begins; `id` is where the next one does: "GENERATION:OFFSET".
    `restarted`: an empty piece that says that another answer has taken the place of what came before.
    """

    __slots__ = ("generation", "offset", "restarted")

    generation: int
    offset: int
    restarted: bool

    def __new__(cls, text: str, generation: int, offset: int, *, restarted: bool = False) -> Self:
        """Make a piece."""
        self = super().__new__(cls, text)
        self.generation = generation
        self.offset = offset
        self.restarted = restarted
        return self

    @property
    def end(self) -> int:
        """The offset after this piece."""
        return self.offset + len(self.encode())

    @property
    def id(self) -> str:
        """The place after this piece; give it to `engine.stream(run, after=...)` to read on from there."""
        return f"{self.generation}:{self.end}"

    def __getnewargs__(self) -> tuple[Any, ...]:
        """Let a piece be copied and pickled."""
        return (str(self), self.generation, self.offset)


class Follow:
    """Turns what comes of a stream into pieces, each byte once."""

    def __init__(self, generation: int = 0, offset: int = 0) -> None:
        self.generation = generation
        self.offset = offset

    def take(self, generation: int, offset: int, text: bytes) -> Iterator[Piece]:
        """Return the pieces of `text`, which begins at `offset`."""
        if generation != self.generation:
            if self.generation:
                self.offset = 0
                yield Piece("", generation, 0, restarted=True)
            self.generation = generation
        new = text[max(self.offset - offset, 0) :]
        if new:
            begin = offset + len(text) - len(new)
            self.offset = begin + len(new)
            yield Piece(new.decode(errors="replace"), generation, begin)

    def finish(self, payload: bytes) -> Iterator[Piece]:
        """Return the pieces that are left of what was recorded."""
        recorded = recorded_stream(payload)
        yield from self.take(recorded["generation"], 0, recorded["text"].encode())


def recorded_stream(payload: bytes) -> dict[str, Any]:
    """Read what a stream's step was recorded with: text, generation, events. Raises NotFoundError SW-E2131."""
    try:
        recorded = json.loads(payload)
    except ValueError:
        recorded = None
    if isinstance(recorded, dict) and isinstance(recorded.get("text"), str) and "generation" in recorded:
        return recorded
    raise NotFoundError("SW-E2131", "the step was recorded, and it was no stream")


class StreamReads:
    """What an engine adds to its core to have streams read."""

    _core: Any
    _worker: Worker

    def _caller(self) -> Caller:
        raise NotImplementedError

    async def stream(
        self, run: Run[Any] | int | str, *, step: str = STEP, offset: int = 0, after: str | None = None
    ) -> AsyncIterator[Piece]:
        """Read the text of a run's stream while it grows; ends with it. Any number of readers, in any life of the process.

        `step` names one of several streams as `run.history()` does. `offset` counts bytes of UTF-8; `after` is the `id` of
        the last piece that was seen, and also knows which answer that was. Nothing is lost by reading slowly: all comes from
        the store, or from what it has acknowledged.

        Raises NotFoundError SW-E1005 without such a run and SW-E2131 when it has ended without such a stream, StepFailed
        when the step failed for good, RunCancelled or RunFailed when the run ended before, InputError SW-E2132.
        """
        number, follow = _number(run), _place(offset, after)
        caller = self._caller()
        is_over = False
        while not is_over:
            ticket, future = caller.future()
            self._core.read_stream(number, step, follow.generation, follow.offset, _PATIENCE_MS, ticket)
            pieces, is_over = _pieces(number, step, follow, await future)
            for piece in pieces:
                yield piece

    def stream_blocking(
        self, run: Run[Any] | int | str, *, step: str = STEP, offset: int = 0, after: str | None = None
    ) -> Iterator[Piece]:
        """Do the same from plain code, waiting without the GIL."""
        number, follow = _number(run), _place(offset, after)
        inbox = Inbox()
        group = self._worker.open_group(inbox.take)
        try:
            is_over = False
            while not is_over:
                self._core.read_stream(number, step, follow.generation, follow.offset, _PATIENCE_MS, group << 32)
                item = inbox.get()
                pieces, is_over = _pieces(number, step, follow, item[2:])
                yield from pieces
        finally:
            self._worker.close_group(group)


class Inbox:
    """Where a thread waits for items of the pump."""

    def __init__(self) -> None:
        self._items: deque[tuple[Any, ...]] = deque()
        self._ready = threading.Semaphore(0)

    def put(self, item: tuple[Any, ...]) -> None:
        """Add an item."""
        self._items.append(item)
        self._ready.release()

    def take(self, items: list[tuple[Any, ...]]) -> None:
        """Add a batch; an empty one says that the engine was closed."""
        for item in items or [()]:
            self.put(item)

    def get(self) -> tuple[Any, ...]:
        """Wait for the next item. Raises ClosedError."""
        self._ready.acquire()
        item = self._items.popleft()
        if not item:
            raise closed_error()
        return item


def _number(run: Run[Any] | int | str) -> int:
    if isinstance(run, Run):
        return run._run  # noqa: SLF001
    number = run_number(run) if isinstance(run, str) else run
    if type(number) is not int or number <= 0:
        raise InputError("SW-E1005", "not a run", got=repr(run)[:80], expected='a Run, or its id ("r_...")')
    return number


def _place(offset: int, after: str | None) -> Follow:
    if after:
        found = _PLACE.fullmatch(after) if isinstance(after, str) else None
        if found is None or offset:
            raise InputError(
                "SW-E2132",
                "not a place in a stream",
                got=repr(after)[:80],
                expected='the id of a piece ("1:120"), or an offset, not both',
            )
        return Follow(int(found[1]), int(found[2]))
    if type(offset) is not int or not 0 <= offset < 1 << 62:
        raise InputError("SW-E2132", "not an offset", got=repr(offset)[:80], expected="bytes of UTF-8, 0 or more")
    return Follow(0, offset)


def _pieces(run: int, step: str, follow: Follow, answer: tuple[Any, ...]) -> tuple[Iterator[Piece], bool]:
    """Return the pieces of an answer, and whether it was the last."""
    standing, generation, offset, payload = answer
    if standing == _TEXT:
        return follow.take(generation, offset, payload), False
    if standing == _RECORDED:
        return follow.finish(payload), True
    if standing == _FAILED:
        raise step_failed(run, step, payload, _codec.decode_error(payload).get("attempts", 1))
    if standing == _NO_RUN:
        raise NotFoundError("SW-E1005", f"no run {run_name(run)} in this store")
    if standing == _RUN_ENDED:
        raise _ended(run, step, payload)
    return iter(()), False


def _ended(run: int, step: str, payload: bytes) -> Exception:
    error = _codec.decode_error(payload)
    if str(error.get("code", "")).startswith("SW-E"):
        status = RunStatus.CANCELLED if error["code"] == "SW-E1006" else RunStatus.FAILED
        return run_error(run, status, payload)
    return NotFoundError(
        "SW-E2131",
        f"run {run_name(run)} has ended, and its step {step!r} was no stream",
        hint="run.history() names its steps",
    )
