"""The servers of the bench: a Redis and an HTTP server of our own, on free ports of the loopback, ended by their id."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import threading
from typing import TYPE_CHECKING, Self

from .install import MissingError

if TYPE_CHECKING:
    from types import TracebackType

START_SECONDS_MAX = 10


class ServerProcess:
    """A child that prints a line once it is ready."""

    def __init__(self, command: list[str], ready: str) -> None:
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        stuck = threading.Timer(START_SECONDS_MAX, self._process.kill)
        stuck.start()
        self.line = ""
        for line in self._process.stdout or ():
            self.line = line.strip()
            if ready in line:
                break
        stuck.cancel()
        if self._process.poll() is not None:
            raise MissingError(f"{command[0]} did not start: {self.line}")

    def close(self) -> None:
        """Ask it to end, and make sure."""
        self._process.terminate()
        try:
            self._process.wait(START_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream:
                stream.close()


class EpollServer(ServerProcess):
    """epoll_server or stream_server of tests/cpp/bench; pinned to core 0, as clients are to core 1."""

    def __init__(self, program: str, *numbers: int) -> None:
        pin = ["taskset", "-c", "0"] if shutil.which("taskset") else []
        super().__init__([*pin, program, "0", *map(str, numbers)], "")
        self.url = f"http://127.0.0.1:{int(self.line)}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class RedisServer:
    """Debian's redis-server, which keeps nothing: the setting in which its users are fastest."""

    def __init__(self) -> None:
        program = shutil.which("redis-server")
        if program is None:
            raise MissingError("redis-server is needed: apt-get install redis-server")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._folder = tempfile.TemporaryDirectory()
        settings = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "save": "",
            "appendonly": "no",
            "maxmemory-policy": "noeviction",
            "dir": self._folder.name,
        }
        words = [word for name, value in settings.items() for word in (f"--{name}", value)]
        self._process = ServerProcess([program, *words], "Ready to accept connections")
        # Nobody reads the log after this; it must not fill the pipe and stop the server.
        threading.Thread(target=self._drop_log, daemon=True).start()

    def _drop_log(self) -> None:
        try:
            for _ in self._process._process.stdout or ():
                pass
        except ValueError:
            return

    def empty(self) -> None:
        """Forget everything."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=START_SECONDS_MAX) as wire:
            wire.sendall(b"FLUSHALL\r\n")
            if not wire.recv(64).startswith(b"+OK"):
                raise MissingError("redis-server refused FLUSHALL")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.close()
        self._folder.cleanup()
