"""A test server in a process of its own, as its owner sees it."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import threading
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from stepwell.testing._llm_faults import Faults, latency_range

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

F = TypeVar("F", bound=Faults)


class ServerProcess(Generic[F]):
    """Starts the module of a test server, asks it for what it saw, and stops it."""

    #: What stands before the server's /count and /faults.
    _control_prefix = ""

    def __init__(
        self,
        module: str,
        *,
        latency: str,
        faults: F,
        seed: int,
        journal: str | Path | None,
        environment: Mapping[str, str] | None = None,
        options: Sequence[str] = (),
    ) -> None:
        latency_range(latency)
        command = [sys.executable, "-m", module, "--latency", latency]
        command += ["--faults", json.dumps(asdict(faults)), "--seed", str(seed), "--stop-with-stdin"]
        command += [] if journal is None else ["--journal", os.fspath(journal)]
        command += options
        # A session of its own: Ctrl-C goes to this process, which may still need the server to wind down.
        self._process = subprocess.Popen(  # noqa: S603 - our own module
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | dict(environment or {}),
            start_new_session=True,
        )
        assert self._process.stdout is not None  # noqa: S101 - a pipe was asked for
        line = self._process.stdout.readline()
        if not line.startswith("listening on "):
            self.close()
            raise RuntimeError(f"the test server did not start (exit code {self._process.returncode}); see stderr")
        #: Where it listens: what to give as base_url.
        self.url = line.split()[-1]
        self._lock = threading.Lock()

    def count(self) -> int:
        """Return the number of requests received."""
        return self._ask("GET", f"{self._control_prefix}/count")  # type: ignore[no-any-return]

    def set_faults(self, faults: F) -> None:
        """Change what goes wrong from now on."""
        self._ask("POST", f"{self._control_prefix}/faults", asdict(faults))

    def _ask(self, method: str, path: str, value: object = None) -> Any:
        with self._lock:
            connection = http.client.HTTPConnection(self.url.split("/")[2], timeout=30)
            try:
                connection.request(method, path, None if value is None else json.dumps(value))
                return json.loads(connection.getresponse().read())
            finally:
                connection.close()

    def close(self) -> None:
        """Stop the server. Closing twice is fine."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._process.wait(10)

    def __enter__(self) -> Self:
        """Return the running server."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the server."""
        self.close()
