"""A server that streams what a test tells it to, when the test tells it to."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
PATIENCE_S = 30


class Peer:
    """One request, and what goes back."""

    def __init__(self, connection: socket.socket, request: bytes) -> None:
        self.connection = connection
        self.head, _, body = request.partition(b"\r\n\r\n")
        self.body: dict[str, Any] = json.loads(body)

    def raw(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.connection.sendall(data)

    def chunk(self, data: bytes) -> None:
        """Send one chunk of the body."""
        self.raw(b"%x\r\n%s\r\n" % (len(data), data))

    def say(self, *texts: str) -> None:
        """Send a piece of text each, as OpenAI does."""
        for text in texts:
            event = {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]}
            self.chunk(b"data: " + json.dumps(event, ensure_ascii=False).encode() + b"\n\n")

    def end(self, tokens_in: int = 3, tokens_out: int = 5) -> None:
        """Send the end that OpenAI sends, and that of the body."""
        usage = {"prompt_tokens": tokens_in, "completion_tokens": tokens_out}
        for event in ({"choices": [{"delta": {}, "finish_reason": "stop"}]}, {"choices": [], "usage": usage}):
            self.chunk(b"data: " + json.dumps(event).encode() + b"\n\n")
        self.chunk(b"data: [DONE]\n\n")
        self.raw(b"0\r\n\r\n")

    def hang_up_seen(self) -> bool:
        """Wait until the client has closed the connection."""
        self.connection.settimeout(PATIENCE_S)
        try:
            return self.connection.recv(1) == b""
        except ConnectionError:
            return True


class StreamServer:
    """Calls `answer(peer, number)` for each request, on a thread of its own, and closes the connection afterwards."""

    def __init__(self, answer: Callable[[Peer, int], None]) -> None:
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/v1"
        self.requests: list[Peer] = []
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._handle, args=(connection,), daemon=True).start()

    def _handle(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.settimeout(PATIENCE_S)
            request = b""
            while b"\r\n\r\n" not in request or len(request.partition(b"\r\n\r\n")[2]) < _length(request):
                got = connection.recv(65536)
                if not got:
                    return
                request += got
            peer = Peer(connection, request)
            with self._lock:
                self.requests.append(peer)
                number = len(self.requests)
            self._answer(peer, number)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(PATIENCE_S)


def _length(request: bytes) -> int:
    for line in request.partition(b"\r\n\r\n")[0].lower().splitlines():
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    return 0
