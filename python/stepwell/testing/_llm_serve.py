"""The serving side of the test server: HTTP by hand, because thousands of requests a second have to fit beside the client."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import hashlib
import json
import os
import random
import resource
import signal
import socket
import struct
import sys
import time
from functools import partial
from typing import IO, TYPE_CHECKING, Any

from stepwell.testing._llm_faults import MODELS, Faults, latency_range, predict

if TYPE_CHECKING:
    from collections.abc import Callable

_JOURNAL_MAX = 1_000_000
_SLOW_S = 0.02
_HEADERS_MAX = 64 << 10
_BODY_MAX = 32 << 20
_TEXT_KEPT = 200
_REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 413: "Content Too Large",
            429: "Too Many Requests", 500: "Internal Server Error", 503: "Service Unavailable"}  # fmt: skip


class Service:
    """What all connections share: the settings, and the journal."""

    def __init__(self, arguments: argparse.Namespace, journal: IO[str] | None) -> None:
        self.latency: tuple[float, float] = arguments.latency
        self.faults: Faults = arguments.faults
        self.seed: int = arguments.seed
        self.key: str = arguments.require_key
        self.attempts: dict[str, int] = {}
        self.entries: list[dict[str, Any]] = []
        self.count = 0
        self._file = journal

    def enter(self, path: str, answer: str, *, fingerprint: str = "", attempt: int = 1, text: str = "") -> None:
        """Write a request down, before it is answered."""
        self.count += 1
        entry = {
            "number": self.count,
            "time": time.time(),
            "path": path,
            "fingerprint": fingerprint,
            "attempt": attempt,
            "answer": answer,
            "text": text[:_TEXT_KEPT],
        }
        if len(self.entries) < _JOURNAL_MAX:
            self.entries.append(entry)
        if self._file is not None:
            self._file.write(json.dumps(entry) + "\n")

    def delay(self) -> float:
        """Return the seconds until an answer."""
        low, high = self.latency
        return low if low == high else random.uniform(low, high)  # noqa: S311 - not a secret


# --- answers ---


def _head(status: int, length: int, extra: str = "", kind: str = "application/json") -> bytes:
    return (
        f"HTTP/1.1 {status} {_REASONS[status]}\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n{extra}\r\n"
    ).encode()


def _plain(status: int, value: object, extra: str = "") -> bytes:
    body = json.dumps(value).encode()
    return _head(status, len(body), extra) + body


def _error(status: int, message: str, kind: str = "invalid_request_error", extra: str = "") -> bytes:
    return _plain(status, {"error": {"message": message, "type": kind, "param": None, "code": None}}, extra)


def _completion(content: str | None, prompt_bytes: int, *, refusal: str | None = None) -> bytes:
    tokens_in, tokens_out = prompt_bytes // 4 + 1, len(content or "") // 4 + 1
    return (
        b'{"id":"chatcmpl-test","object":"chat.completion","created":1,"model":"test","choices":[{"index":0,"message":'
        b'{"role":"assistant","content":%b,"refusal":%b},"finish_reason":"stop"}],"usage":{"prompt_tokens":%d,'
        b'"completion_tokens":%d,"total_tokens":%d}}'
        % (json.dumps(content).encode(), json.dumps(refusal).encode(), tokens_in, tokens_out, tokens_in + tokens_out)
    )


def _labels_of(request: dict[str, Any]) -> list[str] | None:
    """Return the taxonomy of a request for structured output: the first `enum` among its schema's properties."""
    try:
        properties = request["response_format"]["json_schema"]["schema"]["properties"]
        return next(list(field["enum"]) for field in properties.values() if "enum" in field)
    except (LookupError, TypeError, AttributeError, StopIteration):
        return None


def _good(request: dict[str, Any], text: str, body_bytes: int, label: str | None = None) -> bytes:
    labels = _labels_of(request)
    if labels is not None:
        predicted, confidence = predict(text, labels)
        content = json.dumps({"label": label or predicted, "confidence": confidence})
    elif (request.get("response_format") or {}).get("type") == "json_schema":
        content = json.dumps({"label": "free", "confidence": 0.5})
    else:
        content = f"You said: {text[:_TEXT_KEPT]}"
    answer = _completion(content, body_bytes)
    return _head(200, len(answer)) + answer


def _spoiled(fault: str, request: dict[str, Any], text: str, body_bytes: int, faults: Faults) -> bytes:
    """Return the answer of a fault that is an answer."""
    if fault == "429":
        return _error(429, "Rate limit reached", "rate_limit_error", f"retry-after: {faults.retry_after_s:g}\r\n")
    if fault in ("500", "503"):
        return _error(int(fault), "The server had an error", "server_error")
    if fault == "html":
        page = b"<html><body>502 from a proxy that says 200</body></html>"
        return _head(200, len(page), kind="text/html") + page
    if fault == "wrong_label":
        return _good(request, text, body_bytes, label="Something Else Entirely")
    answers = {
        "malformed": b"{'choices': [{'message': {'content': x}}]}",
        "truncated": _completion('{"label": "x"}', body_bytes)[:-40],
        "refusal": _completion(None, body_bytes, refusal="I can't help with that."),
        "empty": _completion("", body_bytes),
    }
    return _head(200, len(answers[fault])) + answers[fault]


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

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - TCP servers make nothing else
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Answers that are still due go nowhere."""
        self._transport = None

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
        if method == "POST" and path.endswith("/chat/completions"):
            return self._chat(path, headers.get("authorization", ""), body)
        return self._answer(self._other(method, path, headers.get("authorization", ""), body))

    def _give_up(self, status: int, message: str) -> None:
        self._service.enter("", str(status))
        self._closes = True
        self._buffer = b""
        self._answer(_error(status, message, extra="connection: close\r\n"))

    def _is_allowed(self, authorization: str) -> bool:
        return not self._service.key or authorization == f"Bearer {self._service.key}"

    def _other(self, method: str, path: str, authorization: str, body: bytes) -> bytes:
        service = self._service
        if path.endswith("/models"):
            if not self._is_allowed(authorization):
                return _error(401, "Incorrect API key provided.")
            return _plain(200, {"object": "list", "data": [{"id": name, "object": "model"} for name in MODELS]})
        if path == "/journal":
            return _plain(200, service.entries)
        if path == "/count":
            return _plain(200, service.count)
        if path == "/faults" and method == "POST":
            try:
                service.faults = Faults(**json.loads(body))
            except (TypeError, ValueError) as error:
                return _error(400, str(error))
            return _plain(200, {})
        return _error(404, f"no such path: {path}")

    def _chat(self, path: str, authorization: str, body: bytes) -> None:
        service = self._service
        if not self._is_allowed(authorization):
            service.enter(path, "401")
            return self._answer(_error(401, "Incorrect API key provided."))
        try:
            request = json.loads(body)
            text, model = str(request["messages"][-1]["content"]), str(request["model"])
        except (ValueError, TypeError, LookupError):
            service.enter(path, "400")
            return self._answer(_error(400, "We could not parse the JSON body of your request."))
        if model.startswith("missing"):
            service.enter(path, "404", text=text)
            return self._answer(_error(404, f"The model `{model}` does not exist"))
        fingerprint = hashlib.blake2b(body, digest_size=8).hexdigest()
        attempt = service.attempts[fingerprint] = service.attempts.get(fingerprint, 0) + 1
        fault = service.faults.draw(service.seed, fingerprint, attempt)
        service.enter(path, fault or "ok", fingerprint=fingerprint, attempt=attempt, text=text)
        act: Callable[[], None]
        if fault in ("hang", "reset"):
            act = self._reset if fault == "reset" else lambda: None
        elif fault == "slow":
            act = partial(self._drip, _good(request, text, len(body)), 0)
        elif fault:
            act = partial(self._answer, _spoiled(fault, request, text, len(body), service.faults))
        else:
            act = partial(self._answer, _good(request, text, len(body)))
        delay = service.delay()
        if delay == 0:
            return act()
        asyncio.get_running_loop().call_later(delay, act)
        return None

    def _reset(self) -> None:
        if self._transport is None:
            return
        # SO_LINGER without time: closing sends RST.
        with contextlib.suppress(OSError):
            sock = self._transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    def _drip(self, answer: bytes, at: int) -> None:
        if self._transport is None:
            return
        step = max(1, len(answer) // 8)
        if at + step >= len(answer):
            self._answer(answer[at:])
            return
        self._transport.write(answer[at : at + step])
        asyncio.get_running_loop().call_later(_SLOW_S, self._drip, answer, at + step)

    def _answer(self, data: bytes) -> None:
        if self._transport is None:
            return
        self._transport.write(data)
        self._is_busy = False
        if self._closes:
            self._buffer = b""
            self._transport.close()
        self._go_on()


async def _serve(arguments: argparse.Namespace) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, hard), hard))
    gc.set_threshold(100_000, 50, 1000)  # the journal grows and holds no cycles
    with contextlib.ExitStack() as stack:
        # Line by line, so that what a killed server received can be read.
        file = stack.enter_context(open(arguments.journal, "a", buffering=1)) if arguments.journal else None  # noqa: ASYNC230, PTH123
        service = Service(arguments, file)
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: Connection(service), "127.0.0.1", arguments.port, backlog=4096)
        stopped = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopped.set)
        if arguments.stop_with_stdin:
            stdin = sys.stdin.fileno()
            loop.add_reader(stdin, lambda: stopped.set() if not os.read(stdin, 1) else None)
        print(f"listening on http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)  # noqa: T201 - its protocol
        await stopped.wait()


def _checked(convert: Callable[[str], Any]) -> Callable[[str], Any]:
    def checked(text: str) -> Any:
        try:
            return convert(text)
        except (TypeError, ValueError) as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return checked


def main() -> int:
    """Serve until SIGTERM or SIGINT; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m stepwell.testing.llm_server",
        description="An OpenAI-shaped test server on the loopback address.",
    )
    parser.add_argument("--port", type=int, default=0, help="0 picks a free one")
    parser.add_argument(
        "--latency",
        type=_checked(latency_range),
        default="0ms",
        help='e.g. "200ms", or "200ms-1000ms" for a uniform spread',
    )
    parser.add_argument(
        "--faults",
        type=_checked(lambda text: Faults(**json.loads(text)) if text.startswith("{") else Faults(float(text))),
        default="0",
        help="a share such as 0.1, or the fields of Faults as JSON",
    )
    parser.add_argument("--seed", type=int, default=1, help="draws the faults")
    parser.add_argument("--journal", metavar="FILE", help="append every request to this file, as lines of JSON")
    parser.add_argument(
        "--require-key",
        default=os.environ.get("STEPWELL_LLM_SERVER_KEY", ""),
        metavar="KEY",
        help="answer 401 to requests without it (default: $STEPWELL_LLM_SERVER_KEY)",
    )
    parser.add_argument("--stop-with-stdin", action="store_true", help="stop when stdin is closed")
    try:
        asyncio.run(_serve(parser.parse_args()))
    except OSError as error:
        print(f"the server cannot start: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0
