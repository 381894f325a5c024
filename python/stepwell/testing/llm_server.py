"""An OpenAI-shaped chat-completions server over real HTTP, with seeded faults and a journal. For tests and benches.

    with LlmServer(latency="5ms", faults=Faults(share=0.1), seed=7) as server:
        sw.triage("tickets.csv", labels=LABELS, model="test", base_url=server.url)
        server.journal()

or `python -m stepwell.testing.llm_server --port 0 --latency 200ms --faults 0.1 --seed 7`. Standard library only; loopback
only. Which request meets which fault follows from the seed, the request's body and its attempt, not from arrival order.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import http.client
import json
import os
import random
import re
import resource
import signal
import socket
import struct
import subprocess
import sys
import threading
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Sequence

KINDS = (
    "429", "500", "503", "reset", "hang", "slow", "malformed", "truncated", "html", "wrong_label", "refusal", "empty"
)  # fmt: skip
_JOURNAL_MAX = 1_000_000
_WORD = re.compile(r"\w+")
_ENUM = re.compile(rb'"enum"\s*:\s*(\[[^\]]*\])')
_REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 429: "Too Many Requests",
            500: "Internal Server Error", 503: "Service Unavailable"}  # fmt: skip
_SLOW_S = 0.02
_HEADERS_MAX = 64 << 10


@dataclass(slots=True)
class Faults:
    """What goes wrong: `share` of the attempts, with a kind drawn by weight (default: all but hang, evenly).

    A call (one request body) meets at most `max_faults_per_call` faults, so retries get through in the end.
    """

    share: float = 0.0
    kinds: dict[str, float] = field(default_factory=lambda: {kind: 1.0 for kind in KINDS if kind != "hang"})
    max_faults_per_call: int = 3
    retry_after_s: float = 0.01

    def draw(self, seed: int, fingerprint: str, attempt: int) -> str:
        """Return the fault of one attempt, "" for none."""
        if self.share <= 0 or attempt > self.max_faults_per_call:
            return ""
        chance = random.Random(f"{seed}/{fingerprint}/{attempt}")  # noqa: S311 - reproducible on purpose
        if chance.random() >= self.share:
            return ""
        return chance.choices(list(self.kinds), list(self.kinds.values()))[0]


def predict(text: str, labels: Sequence[str]) -> tuple[str, float]:
    """Return the label and confidence that the server gives: words shared with a label's name, else a stable hash."""
    words = set(_WORD.findall(text.lower()))
    best = max(labels, key=lambda label: (len(words & set(_WORD.findall(label.lower()))), -labels.index(label)))
    if words & set(_WORD.findall(best.lower())):
        return best, 0.9
    number = int.from_bytes(hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=4).digest(), "big")
    return labels[number % len(labels)], 0.5


def _latency_range(text: str) -> tuple[float, float]:
    low, _, high = text.replace("ms", "").partition("-")
    return float(low) / 1000, float(high or low) / 1000


class _Service:
    """What all connections share."""

    def __init__(self, latency: str, faults: Faults, seed: int, require_key: str) -> None:
        self.latency = _latency_range(latency)
        self.faults = faults
        self.seed = seed
        self.require_key = require_key.encode()
        self.attempts: dict[str, int] = {}
        self.entries: list[dict[str, Any]] = []
        self.count = 0
        self.labels: dict[bytes, list[str]] = {}

    def enter(self, path: str, fingerprint: str, attempt: int, answer: str, text: str) -> None:
        self.count += 1
        if len(self.entries) < _JOURNAL_MAX:
            self.entries.append(
                {
                    "number": self.count,
                    "path": path,
                    "fingerprint": fingerprint,
                    "attempt": attempt,
                    "answer": answer,
                    "text": text,
                }
            )

    def labels_of(self, body: bytes) -> list[str] | None:
        found = _ENUM.search(body)
        if found is None:
            return None
        labels = self.labels.get(found[1])
        if labels is None:
            labels = self.labels[found[1]] = json.loads(found[1])
        return labels

    def delay(self) -> float:
        low, high = self.latency
        return low if low == high else random.uniform(low, high)  # noqa: S311 - not a secret


def _head(status: int, length: int, extra: str = "", kind: str = "application/json") -> bytes:
    return (
        f"HTTP/1.1 {status} {_REASONS[status]}\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n{extra}\r\n"
    ).encode()


def _plain(status: int, value: object, extra: str = "") -> bytes:
    body = json.dumps(value).encode()
    return _head(status, len(body), extra) + body


def _error(status: int, message: str, kind: str, extra: str = "") -> bytes:
    return _plain(status, {"error": {"message": message, "type": kind, "param": None, "code": None}}, extra)


def _completion(content: str | None, prompt_bytes: int, *, refusal: str | None = None) -> bytes:
    tokens_in, tokens_out = prompt_bytes // 4 + 1, len(content or "") // 4 + 1
    return (
        b'{"id":"chatcmpl-test","object":"chat.completion","created":1,"model":"test","choices":[{"index":0,"message":'
        b'{"role":"assistant","content":%b,"refusal":%b},"finish_reason":"stop"}],"usage":{"prompt_tokens":%d,'
        b'"completion_tokens":%d,"total_tokens":%d}}'
        % (json.dumps(content).encode(), json.dumps(refusal).encode(), tokens_in, tokens_out, tokens_in + tokens_out)
    )


class _Connection(asyncio.Protocol):
    """One client connection: keep-alive and pipelining; answers go out in the order of the requests."""

    def __init__(self, service: _Service) -> None:
        self.service = service
        self.buffer = b""
        self.transport: asyncio.Transport | None = None
        self.is_busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - TCP servers make nothing else
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self.transport = None

    def data_received(self, data: bytes) -> None:
        self.buffer = self.buffer + data if self.buffer else data
        if not self.is_busy:
            self.next_request()

    def next_request(self) -> None:
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self.buffer) > _HEADERS_MAX and self.transport:
                self.transport.abort()
            return
        head = self.buffer[:end]
        lower = head.lower()
        at = lower.find(b"content-length:")
        length = int(lower[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if len(self.buffer) < end + 4 + length:
            return
        body = self.buffer[end + 4 : end + 4 + length]
        self.buffer = self.buffer[end + 4 + length :]
        method, path, _ = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ", 2)
        self.is_busy = True
        if method == "POST" and path.endswith("/chat/completions"):
            self.chat(path, lower, body)
        else:
            self.answer(self.other(method, path, lower, body))

    def is_allowed(self, head: bytes) -> bool:
        key = self.service.require_key
        return not key or b"authorization: bearer " + key.lower() in head

    def other(self, method: str, path: str, head: bytes, body: bytes) -> bytes:
        service = self.service
        if path.endswith("/models"):
            if not self.is_allowed(head):
                return _error(401, "Incorrect API key provided.", "invalid_request_error")
            return _plain(200, {"object": "list", "data": [{"id": name} for name in ("test", "test-model", "m", "t")]})
        if path == "/journal":
            return _plain(200, service.entries)
        if path == "/count":
            return _plain(200, service.count)
        if path == "/faults" and method == "POST":
            service.faults = Faults(**json.loads(body))
            return _plain(200, {})
        return _error(404, f"no such path: {path}", "invalid_request_error")

    def chat(self, path: str, head: bytes, body: bytes) -> None:
        service = self.service
        if not self.is_allowed(head):
            service.enter(path, "", 1, "401", "")
            return self.answer(_error(401, "Incorrect API key provided.", "invalid_request_error"))
        try:
            request = json.loads(body)
            text = str(request["messages"][-1]["content"])
            model = str(request["model"])
        except (ValueError, TypeError, LookupError):
            service.enter(path, "", 1, "400", "")
            return self.answer(
                _error(400, "We could not parse the JSON body of your request.", "invalid_request_error")
            )
        if model.startswith("missing"):
            return self.answer(_error(404, f"The model `{model}` does not exist", "invalid_request_error"))
        fingerprint = hashlib.blake2b(body, digest_size=8).hexdigest()
        attempt = service.attempts[fingerprint] = service.attempts.get(fingerprint, 0) + 1
        fault = service.faults.draw(service.seed, fingerprint, attempt)
        service.enter(path, fingerprint, attempt, fault or "ok", text)
        delay = service.delay()
        answer = self.good(body, text) if not fault else None
        loop = asyncio.get_running_loop()
        if answer is not None and delay == 0:
            return self.answer(answer)
        if answer is not None:
            loop.call_later(delay, self.answer, answer)
        else:
            loop.call_later(delay, self.go_wrong, fault, body, text)
        return None

    def good(self, body: bytes, text: str, label: str | None = None) -> bytes:
        labels = self.service.labels_of(body)
        if labels is None:
            content = f"You said: {text[:200]}"
            if b"json_schema" in body:
                content = json.dumps({"label": "free", "confidence": 0.5})
        else:
            predicted, confidence = predict(text, labels)
            content = json.dumps({"label": label or predicted, "confidence": confidence})
        answer = _completion(content, len(body))
        return _head(200, len(answer)) + answer

    def go_wrong(self, fault: str, body: bytes, text: str) -> None:
        transport = self.transport
        if transport is None or fault == "hang":
            return None
        if fault == "reset":
            sock = transport.get_extra_info("socket")
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            transport.abort()
            return None
        if fault == "slow":
            return self.drip(self.good(body, text), 0)
        if fault == "429":
            extra = f"retry-after: {self.service.faults.retry_after_s:g}\r\n"
            return self.answer(_error(429, "Rate limit reached", "rate_limit_error", extra))
        if fault in ("500", "503"):
            return self.answer(_error(int(fault), "The server had an error", "server_error"))
        return self.answer(self.spoiled(fault, body, text))

    def spoiled(self, fault: str, body: bytes, text: str) -> bytes:
        if fault == "html":
            page = b"<html><body>502 from a proxy that says 200</body></html>"
            return _head(200, len(page), kind="text/html") + page
        if fault == "wrong_label":
            return self.good(body, text, label="Something Else Entirely")
        answers = {
            "malformed": b'{"choices": [{"message": {"content": "x"}}',
            "truncated": _completion('{"label": "x"}', len(body))[:-40],
            "refusal": _completion(None, len(body), refusal="I can't help with that."),
            "empty": _completion("", len(body)),
        }
        answer = answers[fault]
        return _head(200, len(answer)) + answer

    def drip(self, answer: bytes, at: int) -> None:
        if self.transport is None:
            return
        step = max(1, len(answer) // 8)
        if at + step >= len(answer):
            self.answer(answer[at:])
            return
        self.transport.write(answer[at : at + step])
        asyncio.get_running_loop().call_later(_SLOW_S, self.drip, answer, at + step)

    def answer(self, data: bytes) -> None:
        if self.transport is None:
            return
        self.transport.write(data)
        self.is_busy = False
        if self.buffer:
            self.next_request()


async def _serve(arguments: argparse.Namespace) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, hard), hard))
    faults = (
        Faults(**json.loads(arguments.faults)) if arguments.faults.startswith("{") else Faults(float(arguments.faults))
    )
    service = _Service(arguments.latency, faults, arguments.seed, arguments.require_key)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(service), "127.0.0.1", arguments.port, backlog=4096)
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    if arguments.stop_with_stdin:
        loop.add_reader(sys.stdin.fileno(), lambda: stopped.set() if not os.read(sys.stdin.fileno(), 1) else None)
    print(f"listening on http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)  # noqa: T201 - its protocol
    await stopped.wait()


class LlmServer:
    """The server in a process of its own; it stops with the `with` block, and when this process ends in any way."""

    def __init__(
        self,
        *,
        latency: str = "0ms",
        faults: Faults | None = None,
        seed: int = 1,
        require_key: str = "",
    ) -> None:
        command = [sys.executable, "-m", "stepwell.testing.llm_server", "--port", "0", "--latency", latency]
        command += ["--faults", json.dumps(asdict(faults or Faults())), "--seed", str(seed), "--stop-with-stdin"]
        command += ["--require-key", require_key] if require_key else []
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # noqa: S603
        assert self._process.stdout is not None  # noqa: S101 - a pipe was asked for
        line = self._process.stdout.readline()
        if not line.startswith("listening on "):
            raise RuntimeError("the test server did not start")
        #: What to give as base_url.
        self.url = line.split()[-1]
        self._lock = threading.Lock()

    def journal(self) -> list[dict[str, Any]]:
        """Return what was received: number, path, fingerprint, attempt, answer ("ok" or the fault), text."""
        return self._ask("GET", "/journal")  # type: ignore[no-any-return]

    def count(self) -> int:
        """Return the number of chat requests received."""
        return self._ask("GET", "/count")  # type: ignore[no-any-return]

    def set_faults(self, faults: Faults) -> None:
        """Change what goes wrong from now on."""
        self._ask("POST", "/faults", asdict(faults))

    def _ask(self, method: str, path: str, value: object = None) -> Any:
        with self._lock:
            connection = http.client.HTTPConnection(self.url.split("/")[2], timeout=30)
            try:
                connection.request(method, path, None if value is None else json.dumps(value))
                return json.loads(connection.getresponse().read())
            finally:
                connection.close()

    def close(self) -> None:
        """Stop the server."""
        assert self._process.stdin is not None  # noqa: S101 - pipes were asked for
        assert self._process.stdout is not None  # noqa: S101
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()

    def __enter__(self) -> Self:
        """Return the running server."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the server."""
        self.close()


def main() -> None:
    """Serve until a signal."""
    parser = argparse.ArgumentParser(description="An OpenAI-shaped test server on the loopback address.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--latency", default="0ms", help='e.g. "200ms", or "200-1000ms" for a uniform spread')
    parser.add_argument("--faults", default="0", help="a share such as 0.1, or the fields of Faults as JSON")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--require-key", default="")
    parser.add_argument("--stop-with-stdin", action="store_true")
    asyncio.run(_serve(parser.parse_args()))


if __name__ == "__main__":
    main()
