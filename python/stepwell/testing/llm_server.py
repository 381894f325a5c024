"""An OpenAI-shaped chat-completions server over real HTTP, with seeded faults and a journal. For tests and benches.

    with LlmServer(latency="5ms", faults=Faults(share=0.1), seed=7) as server:
        sw.triage("tickets.csv", labels=LABELS, model="test", base_url=server.url)
        server.journal()

or `python -m stepwell.testing.llm_server --port 8080 --latency 200ms --faults 0.1 --seed 7`. Standard library only; loopback
only. Which request meets which fault follows from the seed, the request's body and its attempt, not from arrival order.

POST /v1/chat/completions answers with the label of `response_format`'s taxonomy that `predict` names, without a schema with
plain text; a model whose name starts with "missing" is not there. GET /v1/models, /journal and /count; POST /faults.
"""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import threading
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Self

from stepwell.testing._llm_faults import KINDS, MODELS, Faults, latency_range, predict

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["KINDS", "MODELS", "Faults", "LlmServer", "predict"]


class LlmServer:
    """The server in a process of its own; it stops with the `with` block, and when this process ends in any way.

    `latency`: "200ms", or "200ms-1000ms" for a uniform spread. `journal`: a file that gets every request as a line of JSON.
    Raises ValueError for settings that make no sense, RuntimeError when the server does not start.
    """

    def __init__(
        self,
        *,
        latency: str = "0ms",
        faults: Faults | None = None,
        seed: int = 1,
        require_key: str = "",
        journal: str | Path | None = None,
    ) -> None:
        latency_range(latency)
        command = [sys.executable, "-m", "stepwell.testing.llm_server", "--latency", latency]
        command += ["--faults", json.dumps(asdict(faults or Faults())), "--seed", str(seed), "--stop-with-stdin"]
        command += [] if journal is None else ["--journal", os.fspath(journal)]
        # The key goes through the environment: a command line shows in a list of processes.
        environment = os.environ | {"STEPWELL_LLM_SERVER_KEY": require_key}
        # A session of its own: Ctrl-C goes to this process, which may still need the server to wind down.
        self._process = subprocess.Popen(  # noqa: S603 - our own module
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            start_new_session=True,
        )
        assert self._process.stdout is not None  # noqa: S101 - a pipe was asked for
        line = self._process.stdout.readline()
        if not line.startswith("listening on "):
            self.close()
            raise RuntimeError(f"the test server did not start (exit code {self._process.returncode}); see stderr")
        #: What to give as base_url.
        self.url = line.split()[-1]
        self._lock = threading.Lock()

    def journal(self) -> list[dict[str, Any]]:
        """Return what was received: number, time, path, fingerprint, attempt, answer, text.

        answer: "ok", the fault, or the status of a request that was refused. text: how the last message begins. The
        first million requests are kept; a journal file has all.
        """
        return self._ask("GET", "/journal")  # type: ignore[no-any-return]

    def count(self) -> int:
        """Return the number of requests received."""
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


if __name__ == "__main__":
    from stepwell.testing._llm_serve import main

    sys.exit(main())
