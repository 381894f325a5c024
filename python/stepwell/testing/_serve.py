"""What the test servers share: HTTP by hand, because thousands of requests a second have to fit beside the client."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import os
import random
import resource
import signal
import socket
import struct
import sys
import time
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from stepwell.testing._llm_faults import Faults, latency_range

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_JOURNAL_MAX = 1_000_000
_SLOW_S = 0.02
_PARTS_AT_ONCE = 64
_HEADERS_MAX = 64 << 10
_BODY_MAX = 32 << 20
_REASONS = {200: "OK", 201: "Created", 202: "Accepted", 204: "No Content", 400: "Bad Request", 401: "Unauthorized",
            403: "Forbidden", 404: "Not Found", 409: "Conflict", 413: "Content Too Large", 422: "Unprocessable Content",
            302: "Found", 429: "Too Many Requests", 500: "Internal Server Error", 503: "Service Unavailable",
            529: "Overloaded"}  # fmt: skip


class Plan(NamedTuple):
    """How a request is answered: the bytes, what becomes of them, after how many seconds.

    how: "answer"; "slow" (in eight parts); "trickle" (one byte every `pause_s`); "part" (half, then a reset); "reset";
    "hang"; "stream": the head, then each of `parts` as a chunk, with `pause_s` between two of them (0: as fast as the
    client reads). A part that is None resets the connection.
    """

    data: bytes
    how: str = "answer"
    delay_s: float = 0.0
    parts: Iterable[bytes | None] = ()
    pause_s: float = 0.0


class Service:
    """What all connections share: the settings, and the journal. A server says in `take` what it answers."""

    #: What stands before /journal, /count and /faults.
    control_prefix = ""
    faults_type: type[Faults] = Faults

    def __init__(self, arguments: argparse.Namespace, journal: IO[str] | None) -> None:
        self.latency: tuple[float, float] = arguments.latency
        self.faults: Faults = arguments.faults
        self.seed: int = arguments.seed
        self.attempts: dict[str, int] = {}
        self.entries: list[dict[str, Any]] = []
        self.count = 0
        self.spoilt = 0
        self._file = journal

    def take(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Plan:
        """Decide how a request is answered; write it down first."""
        raise NotImplementedError

    def enter(self, entry: dict[str, Any]) -> None:
        """Write a request down, before it is answered."""
        self.count += 1
        entry = {"number": self.count, "time": time.time(), **entry}
        if len(self.entries) < _JOURNAL_MAX:
            self.entries.append(entry)
        if self._file is not None:
            self._file.write(json.dumps(entry) + "\n")

    def attempt_of(self, fingerprint: str) -> int:
        """Count a request of this fingerprint and return how many there were."""
        attempt = self.attempts[fingerprint] = self.attempts.get(fingerprint, 0) + 1
        return attempt

    def fault_of(self, fingerprint: str, attempt: int) -> str:
        """Return the fault that an attempt meets, "" for none."""
        faults = self.faults
        if faults.share <= 0 or (faults.max_faults and self.spoilt >= faults.max_faults):
            return ""
        fault = faults.draw(self.seed, fingerprint, attempt)
        self.spoilt += fault != ""
        return fault

    def delay(self) -> float:
        """Return the seconds until an answer."""
        low, high = self.latency
        return low if low == high else random.uniform(low, high)  # noqa: S311 - not a secret

    def control(self, method: str, path: str, body: bytes) -> bytes | None:
        """Answer the test itself, which asks for the journal or changes the faults; None for anything else."""
        if path == f"{self.control_prefix}/journal":
            return plain(200, self.entries)
        if path == f"{self.control_prefix}/count":
            return plain(200, self.count)
        if path == f"{self.control_prefix}/faults" and method == "POST":
            try:
                self.faults, self.spoilt = self.faults_type(**json.loads(body)), 0
            except (TypeError, ValueError) as error:
                return refusal(400, str(error))
            return plain(200, {})
        return None


# --- answers ---


def head(status: int, length: int, extra: str = "", kind: str = "application/json") -> bytes:
    """Return an answer's head. `extra`: further header lines, each with its end."""
    reason = _REASONS.get(status, "Status")
    return f"HTTP/1.1 {status} {reason}\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n{extra}\r\n".encode()


def plain(status: int, value: object, extra: str = "") -> bytes:
    """Return an answer of JSON."""
    body = json.dumps(value).encode()
    return head(status, len(body), extra) + body


def refusal(status: int, message: str, kind: str = "invalid_request_error", extra: str = "") -> bytes:
    """Return an error as LLM providers and many others word it."""
    return plain(status, {"error": {"message": message, "type": kind, "param": None, "code": None}}, extra)


def spoiled(fault: str, faults: Faults) -> bytes | None:
    """Return the answer of a fault that any API may have; None for one that needs to know more."""
    if fault == "429":
        return refusal(429, "Rate limit reached", "rate_limit_error", f"retry-after: {faults.retry_after_s:.15g}\r\n")
    if fault in ("500", "503"):
        return refusal(int(fault), "The server had an error", "server_error")
    if fault == "html":
        page = b"<html><body>502 from a proxy that says 200</body></html>"
        return head(200, len(page), kind="text/html") + page
    if fault == "malformed":
        body = b"{'choices': [{'message': {'content': x}}]}"
        return head(200, len(body)) + body
    return None


# --- connections ---


class Connection(asyncio.Protocol):
    """One client connection: keep-alive and pipelining; answers go out in the order of the requests."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._buffer = b""
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
        self._buffer = self._buffer + data if self._buffer else data
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
            return None
        body, self._buffer = self._buffer[start:stop], self._buffer[stop:]
        self._is_busy = True
        self._closes = headers.get("connection", "").lower() == "close"
        method, path, _ = words
        return self._carry_out(self._service.take(method, path, headers, body))

    def _give_up(self, status: int, message: str) -> None:
        self._service.enter({"path": "", "fingerprint": "", "attempt": 1, "answer": str(status), "text": ""})
        self._closes = True
        self._buffer = b""
        self._answer(refusal(status, message, extra="connection: close\r\n"))

    def _carry_out(self, plan: Plan) -> None:
        acts: dict[str, Callable[[], None]] = {
            "answer": lambda: self._answer(plan.data),
            "slow": lambda: self._drip(plan.data, 0, max(1, len(plan.data) // 8), _SLOW_S),
            "trickle": lambda: self._drip(plan.data, 0, 1, plan.pause_s),
            "part": lambda: self._break_off(plan.data[: len(plan.data) // 2]),
            "stream": lambda: self._stream(plan),
            "reset": self._reset,
            "hang": lambda: None,
        }
        if plan.delay_s == 0:
            return acts[plan.how]()
        asyncio.get_running_loop().call_later(plan.delay_s, acts[plan.how])
        return None

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
            due += self._pause_s
            asyncio.get_running_loop().call_at(due, self._next_part, due)

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
            self._buffer = b""
            self._transport.close()
        self._go_on()


async def _serve(service_type: type[Service], base: str, arguments: argparse.Namespace) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, hard), hard))
    gc.set_threshold(100_000, 50, 1000)  # the journal grows and holds no cycles
    with contextlib.ExitStack() as stack:
        # Line by line, so that what a killed server received can be read.
        file = stack.enter_context(open(arguments.journal, "a", buffering=1)) if arguments.journal else None  # noqa: ASYNC230, PTH123
        service = service_type(arguments, file)
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: Connection(service), "127.0.0.1", arguments.port, backlog=4096)
        stopped = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopped.set)
        if arguments.stop_with_stdin:
            stdin = sys.stdin.fileno()
            loop.add_reader(stdin, lambda: stopped.set() if not os.read(stdin, 1) else None)
        print(f"listening on http://127.0.0.1:{server.sockets[0].getsockname()[1]}{base}", flush=True)  # noqa: T201 - its protocol
        await stopped.wait()


def checked(convert: Callable[[str], Any]) -> Callable[[str], Any]:
    """Return `convert` for argparse, which shows what a ValueError says."""

    def wrapped(text: str) -> Any:
        try:
            return convert(text)
        except (TypeError, ValueError) as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return wrapped


def parser_of(prog: str, description: str, faults_type: type[Faults]) -> argparse.ArgumentParser:
    """Return the parser of the options that all test servers have."""
    parser = argparse.ArgumentParser(prog=prog, description=description)
    parser.add_argument("--port", type=int, default=0, help="0 picks a free one")
    parser.add_argument(
        "--latency",
        type=checked(latency_range),
        default="0ms",
        help='e.g. "200ms", or "200ms-1000ms" for a uniform spread',
    )
    parser.add_argument(
        "--faults",
        type=checked(
            lambda text: faults_type(**json.loads(text)) if text.startswith("{") else faults_type(float(text))
        ),
        default="0",
        help="a share such as 0.1, or the fields of Faults as JSON",
    )
    parser.add_argument("--seed", type=int, default=1, help="draws the faults")
    parser.add_argument("--journal", metavar="FILE", help="append every request to this file, as lines of JSON")
    parser.add_argument("--stop-with-stdin", action="store_true", help="stop when stdin is closed")
    return parser


def run(service_type: type[Service], base: str, arguments: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT; return the exit code. `base`: the path at the end of the URL that is printed."""
    try:
        asyncio.run(_serve(service_type, base, arguments))
    except OSError as error:
        print(f"the server cannot start: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0
