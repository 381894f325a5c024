"""HTTP peers that misbehave, byte by byte, and calls of runs that meet them."""

from __future__ import annotations

import contextlib
import re
import socket
import struct
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import stepwell as sw
from stepwell._workflow import current_activation

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

#: The bytes of an answer, after which the connection is closed; or what is done with the connection.
Answer = "bytes | Callable[[socket.socket], None]"
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


# A peer that closes a connection without a word may do so just when the next request is on its way.
CLOSES = b"Connection: close\r\n"


def answer(body: bytes, head: bytes = b"", status: bytes = b"200 OK") -> bytes:
    """Return a whole answer, the last one of its connection; `head`: further header lines, each with its line end."""
    return b"HTTP/1.1 %b\r\n%b%bContent-Length: %d\r\n\r\n%b" % (status, CLOSES, head, len(body), body)


GOOD = answer(b'{"ok": true}')


def resets(first: bytes = b"") -> Callable[[socket.socket], None]:
    """Answer with the beginning of an answer, then break the connection."""

    def act(peer: socket.socket) -> None:
        peer.sendall(first)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    return act


class Peer:
    """A server on the loopback. Its n-th request, over all connections, gets the n-th answer; the last one repeats.

    `requests`: what came, head and body. `keeps`: connections stay open after an answer that is bytes.
    """

    def __init__(self, *answers: Any, tls: ssl.SSLContext | None = None, keeps: bool = False) -> None:
        self.requests: list[bytes] = []
        self.connections = 0
        self._answers = answers
        self._tls = tls
        self._keeps = keeps
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._open: set[socket.socket] = set()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self.url = f"{'https' if tls else 'http'}://{'localhost' if tls else '127.0.0.1'}:{self.port}/v1"

    def __enter__(self) -> Self:
        self._begin(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        with self._lock:
            left = list(self._open)
        for connection in left:  # the client keeps it for its next request
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(30)
        self._listening.close()

    def _begin(self, work: Callable[..., None], *arguments: Any) -> None:
        thread = threading.Thread(target=work, args=arguments)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            self.connections += 1
            with self._lock:
                self._open.add(connection)
            self._begin(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):  # the client hung up, or refused the certificate
            connection.settimeout(30)
            peer = connection if self._tls is None else self._tls.wrap_socket(connection, server_side=True)
            with self._lock:
                self._open = (self._open - {connection}) | {peer}
            with peer:
                while self._answer_one(peer):
                    pass
        connection.close()

    def _answer_one(self, peer: socket.socket) -> bool:
        request = b""
        while b"\r\n\r\n" not in request or len(request) < _end_of(request):
            got = peer.recv(65_536)
            if not got:
                return False
            request += got
        with self._lock:
            given = self._answers[min(len(self.requests), len(self._answers) - 1)]
            self.requests.append(request)
        if callable(given):
            given(peer)
            return False
        peer.sendall(given.replace(CLOSES, b"") if self._keeps else given)
        return self._keeps


def _end_of(request: bytes) -> int:
    head = request.index(b"\r\n\r\n") + 4
    found = _LENGTH.search(request[:head])
    return head + (int(found[1]) if found else 0)


@dataclass
class Outcome:
    """What a run saw of its call: the body, or code and text of the failure; and the attempts it took."""

    ok: bool
    attempts: int
    body: str = ""
    code: str = ""
    message: str = ""


def good(attempts: int, body: str = '{"ok": true}') -> Outcome:
    """Return the outcome of a call that succeeded."""
    return Outcome(ok=True, attempts=attempts, body=body)


@sw.workflow
async def calls(ask: dict[str, Any]) -> Outcome:
    """Make one recorded call, with a policy of retries that takes no time."""
    activation = current_activation.get()
    assert activation is not None
    retry = sw.Retry(ask["attempts"], base="1ms", cap="2ms", max_elapsed=ask["patience"]).to_core()
    request = ("POST", ask["url"], (("idempotency-key", "k1"), ("authorization", "Bearer secret-of-a-test")), b"{}")
    tail = ((*request, 10_000, 20_000), retry, ask["repeatable"], ask["json"], ask["pointer"])
    try:
        body, attempts = await activation.call("call", tail)
    except sw.StepFailed as error:
        text = f"{error} {error.error}"
        return Outcome(ok=False, attempts=error.error["attempts"], code=error.code, message=text)
    return good(attempts, body.decode())


def call(engine: sw.Engine, url: str, **ask: Any) -> Outcome:
    """Have a run call; `repeatable`, `json`, `pointer`, `attempts` (3) and `patience` (10m) as in the core's CallSpec."""
    asked = {"url": url, "repeatable": True, "json": True, "pointer": "", "attempts": 3, "patience": "10m", **ask}
    outcome = engine.start(calls, asked).result(60)
    assert "secret-of-a-test" not in outcome.message
    return outcome
