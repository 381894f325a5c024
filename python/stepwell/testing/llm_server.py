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

import sys
from typing import TYPE_CHECKING, Any

from stepwell.testing._llm_faults import KINDS, MODELS, Faults, predict
from stepwell.testing._server_process import ServerProcess

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["KINDS", "MODELS", "Faults", "LlmServer", "predict"]


class LlmServer(ServerProcess[Faults]):
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
        # The key goes through the environment: a command line shows in a list of processes.
        super().__init__(
            "stepwell.testing.llm_server",
            latency=latency,
            faults=faults or Faults(),
            seed=seed,
            journal=journal,
            environment={"STEPWELL_LLM_SERVER_KEY": require_key},
        )

    def journal(self) -> list[dict[str, Any]]:
        """Return what was received: number, time, path, fingerprint, attempt, answer, text.

        answer: "ok", the fault, or the status of a request that was refused. text: how the last message begins. The
        first million requests are kept; a journal file has all.
        """
        return self._ask("GET", "/journal")  # type: ignore[no-any-return]


if __name__ == "__main__":
    from stepwell.testing._llm_serve import main

    sys.exit(main())
