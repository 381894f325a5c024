"""A connection of the test servers: requests in, answers out as planned, byte by byte where a fault wants it so."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stepwell.testing._serve import Plan, Service

_SLOW_S = 0.02
_PARTS_AT_ONCE = 64
_HEADERS_MAX = 64 << 10
_BODY_MAX = 257 << 20  # a provider's batch may have 256 MB
_TICKS_PER_S = 1000


class Pacer:
    """Calls at a time, to the millisecond: one timer for all that is due in it, because streams are many."""

    def __init__(self) -> None:
        self._due: dict[int, list[tuple[Callable[[float], None], float]]] = {}

    def call_at(self, when: float, call: Callable[[float], None]) -> None:
        """Call `call(when)` at `when`, in the loop's time."""
        tick = int(when * _TICKS_PER_S) + 1
        calls = self._due.get(tick)
        if calls is None:
            calls = self._due[tick] = []
            asyncio.get_running_loop().call_at(tick / _TICKS_PER_S, self._tick, tick)
        calls.append((call, when))

    def _tick(self, tick: int) -> None:
        for call, when in self._due.pop(tick):
            call(when)


class Connection(asyncio.Protocol):
    """One client connection: keep-alive and pipelining; answers go out in the order of the requests."""

    def __init__(self, service: Service, pacer: Pacer) -> None:
        self._service = service
        self._pacer = pacer
        self._buffer = b""
        self._pieces: list[bytes] = []  # what came since, while bytes of the body are missing
        self._missing = 0
        self._transport: asyncio.Transport | None = None
        self._is_busy = False  # an answer is due
        self._is_reading = False
        self._closes = False
        self._parts: Iterator[bytes | None] | None = None  # what is left of a stream
        self._pause_s = 0.0
        self._is_full = False  # the client reads slower than we write

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - TCP servers make nothing else
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Answers that are still due go nowhere."""
        self._transport, self._parts = None, None

    def pause_writing(self) -> None:
        """Wait until the client has read."""
        self._is_full = True

    def resume_writing(self) -> None:
        """Go on with a stream that waited for its reader."""
        self._is_full = False
        self._flow()

    def data_received(self, data: bytes) -> None:
        """Answer the request if it is complete and its turn has come."""
        self._pieces.append(data)
        self._missing -= len(data)
        if self._missing <= 0:  # joining at every piece would take minutes for the 200 MB of a batch
            self._buffer, self._pieces = b"".join((self._buffer, *self._pieces)), []
            self._go_on()

    def _go_on(self) -> None:
        """Take complete requests, one after the other, until one has to wait for its answer."""
        if self._is_reading:
            return
        self._is_reading, before = True, -1
        while self._buffer and not self._is_busy and len(self._buffer) != before:
            before = len(self._buffer)
            self._next_request()
        self._is_reading = False

    def _next_request(self) -> None:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > _HEADERS_MAX:
                self._give_up(400, "The headers are too long.")
            return None
        first, *lines = self._buffer[:end].decode("latin-1").split("\r\n")
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = headers.get("content-length", "0")
        words = first.split(" ")
        if len(words) != 3 or not length.isdigit() or "transfer-encoding" in headers:
            return self._give_up(400, "A request line and a Content-Length are expected.")
        if int(length) > _BODY_MAX:
            return self._give_up(413, f"The body is longer than {_BODY_MAX} bytes.")
        start, stop = end + 4, end + 4 + int(length)
        if len(self._buffer) < stop:
            if headers.get("expect") == "100-continue" and len(self._buffer) == start and self._transport:
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._missing = stop - len(self._buffer) - sum(map(len, self._pieces))
            return None
        body, self._buffer = self._buffer[start:stop], self._buffer[stop:]
        self._is_busy = True
        self._closes = headers.get("connection", "").lower() == "close"
        method, path, _ = words
        return self._carry_out(self._service.take(method, path, headers, body))

    def _give_up(self, status: int, message: str) -> None:
        self._closes = True
        self._buffer, self._pieces, self._missing = b"", [], 0
        self._answer(self._service.refuse(status, message))

    def _carry_out(self, plan: Plan) -> None:
        if plan.how == "answer" and not plan.delay_s:
            self._answer(plan.data)
            return
        acts: dict[str, Callable[[], None]] = {
            "answer": lambda: self._answer(plan.data),
            "slow": lambda: self._drip(plan.data, 0, max(1, len(plan.data) // 8), _SLOW_S),
            "trickle": lambda: self._drip(plan.data, 0, 1, plan.pause_s),
            "part": lambda: self._break_off(plan.data[: len(plan.data) // 2]),
            "stream": lambda: self._stream(plan),
            "reset": self._reset,
            "hang": lambda: None,
        }
        if plan.delay_s:
            asyncio.get_running_loop().call_later(plan.delay_s, acts[plan.how])
        else:
            acts[plan.how]()

    def _reset(self) -> None:
        if self._transport is None:
            return
        # SO_LINGER without time: closing sends RST.
        with contextlib.suppress(OSError):
            sock = self._transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    def _break_off(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)
            # A reset in the same breath would overtake what was written.
            asyncio.get_running_loop().call_later(_SLOW_S, self._reset)

    def _drip(self, answer: bytes, at: int, step: int, pause_s: float) -> None:
        if self._transport is None:
            return
        if at + step >= len(answer):
            self._answer(answer[at:])
            return
        self._transport.write(answer[at : at + step])
        asyncio.get_running_loop().call_later(pause_s, self._drip, answer, at + step, step, pause_s)

    def _stream(self, plan: Plan) -> None:
        if self._transport is None:
            return
        self._parts, self._pause_s = iter(plan.parts), plan.pause_s
        self._transport.write(plan.data)
        if plan.pause_s:
            self._next_part(asyncio.get_running_loop().time())
        else:
            self._flow()

    def _flow(self) -> None:
        """Write parts until the client is behind or the stream ends; others get their turn in between."""
        for _ in range(_PARTS_AT_ONCE):
            if self._parts is None or self._is_full or self._pause_s:
                return
            self._write_part()
        asyncio.get_running_loop().call_soon(self._flow)

    def _next_part(self, due: float) -> None:
        """Write a part at its time; late ones do not move those after them."""
        if self._parts is None:
            return
        if not self._is_full:
            self._write_part()
        if self._parts is not None:
            self._pacer.call_at(due + self._pause_s, self._next_part)

    def _write_part(self) -> None:
        if self._parts is None or self._transport is None or self._transport.is_closing():
            self._parts = None
            return
        part = next(self._parts, b"")
        if part:
            self._transport.write(b"%x\r\n%b\r\n" % (len(part), part))
            return
        self._parts = None
        if part is None:
            self._break_off(b"")
        else:
            self._answer(b"0\r\n\r\n")

    def _answer(self, data: bytes) -> None:
        if self._transport is None:
            return
        self._transport.write(data)
        self._is_busy = False
        if self._closes:
            self._buffer, self._pieces, self._missing = b"", [], 0
            self._transport.close()
        self._go_on()
