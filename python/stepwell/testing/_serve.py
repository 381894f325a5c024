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
import sys
import time
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from stepwell.testing._connection import Connection, Pacer
from stepwell.testing._llm_faults import Faults, latency_range

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_JOURNAL_MAX = 1_000_000
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

    def refuse(self, status: int, message: str) -> bytes:
        """Write down what is no request at all; return the answer after which the connection is closed."""
        self.enter({"path": "", "fingerprint": "", "attempt": 1, "answer": str(status), "text": ""})
        return refusal(status, message, extra="connection: close\r\n")

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


async def _serve(service_type: type[Service], base: str, arguments: argparse.Namespace) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, hard), hard))
    gc.set_threshold(100_000, 50, 1000)  # the journal grows and holds no cycles
    with contextlib.ExitStack() as stack:
        # Line by line, so that what a killed server received can be read.
        file = stack.enter_context(open(arguments.journal, "a", buffering=1)) if arguments.journal else None  # noqa: ASYNC230, PTH123
        service = service_type(arguments, file)
        loop, pacer = asyncio.get_running_loop(), Pacer()
        server = await loop.create_server(lambda: Connection(service, pacer), "127.0.0.1", arguments.port, backlog=4096)
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
