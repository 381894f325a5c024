"""Ports: how an asyncio loop hears from the core without another thread in between.

The core makes an eventfd readable; the loop takes what is there, a batch at a time, on its own thread. That is still a
pull: C++ calls no Python, and nobody hands the GIL around.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from stepwell._errors import ClosedError, WorkflowError, closed_error, failure_of
from stepwell._types import HttpAnswer

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

# ItemKind of the core.
_RUN_FINISHED, _STARTED = 4, 5
STREAM_PIECE, STREAM_TEXT = 9, 10
_TAKE_COUNT_MAX = 1024
# A ticket's upper 8 bits name the channel (stepwell/runtime.h).
_CHANNEL_SHIFT = 56


class _Closed:
    """What stands in the place of a closed core."""

    def __getattr__(self, name: str) -> Any:
        raise closed_error()


CLOSED = _Closed()


class Port:
    """A channel of the core, read by one event loop. Make and close it on that loop's thread, or before the loop runs."""

    def __init__(
        self, core: Any, loop: asyncio.AbstractEventLoop, on_items: Callable[[list[tuple[Any, ...]]], None]
    ) -> None:
        self._core = core
        self._loop = loop
        self._on_items = on_items
        self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        try:
            self.channel: int = core.open_channel(self._fd)
        except WorkflowError:
            os.close(self._fd)
            raise
        loop.add_reader(self._fd, self._on_ready)

    def _on_ready(self) -> None:
        try:
            items = self._core.take(self.channel, _TAKE_COUNT_MAX)
        except ClosedError:
            self.close()
            return
        self._on_items(items)

    def close(self) -> None:
        """Hear nothing more. Idempotent."""
        if self._fd < 0:
            return
        fd, self._fd = self._fd, -1
        self._core.close_channel(self.channel)
        self._core = CLOSED  # the core's own descriptors must not wait until nobody knows this port any more
        if not self._loop.is_closed():
            self._loop.remove_reader(fd)
        os.close(fd)


class Caller(Port):
    """The port of a loop that calls the engine: what it asked for comes back as futures of that loop."""

    def __init__(self, core: Any, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(core, loop, self._resolve)
        self._futures: dict[int, asyncio.Future[Any]] = {}
        self._next_ticket = self.channel << _CHANNEL_SHIFT | 1
        self._turn: list[tuple[tuple[Any, ...], asyncio.Future[HttpAnswer]]] = []

    def future(self) -> tuple[int, asyncio.Future[Any]]:
        """Return a ticket, and the future of what comes with it."""
        ticket = self._next_ticket
        self._next_ticket = ticket + 1
        future = self._futures[ticket] = self._loop.create_future()
        return ticket, future

    def send(self, request: tuple[Any, ...]) -> asyncio.Future[HttpAnswer]:
        """Return the future of a plain request's answer. The requests of one turn of the loop go to the core together."""
        if not self._turn:
            self._loop.call_soon(self._send_turn)
        future: asyncio.Future[HttpAnswer] = self._loop.create_future()
        self._turn.append((request, future))
        return future

    def _send_turn(self) -> None:
        turn, self._turn = self._turn, []
        first = self._next_ticket
        self._next_ticket = first + len(turn)
        try:
            self._core.send([request for request, _ in turn], first)
        except WorkflowError as error:
            for _, future in turn:
                if not future.done():
                    future.set_exception(error)
            return
        self._futures.update(enumerate([future for _, future in turn], first))

    def _resolve(self, items: list[tuple[Any, ...]]) -> None:
        for item in items:
            future = self._futures.pop(item[1], None)
            if future is None or future.done():
                continue
            kind = item[0]
            if kind == _RUN_FINISHED:
                future.set_result((item[3], item[4]))
            elif kind == STREAM_TEXT:
                future.set_result(item[2:])
            elif kind == _STARTED:
                future.set_result(item[2])
            elif item[2] is not None:
                future.set_exception(failure_of(item[2]))
            else:
                future.set_result(HttpAnswer(item[3], item[5], item[4]))

    def close(self) -> None:
        """Hear nothing more; whoever still waits gets ClosedError."""
        super().close()
        waiting = [*self._futures.values(), *(future for _, future in self._turn)]
        self._futures.clear()
        if self._loop.is_closed():
            return
        for future in waiting:
            if not future.done():
                future.set_exception(closed_error())
