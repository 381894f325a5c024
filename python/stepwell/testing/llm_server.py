"""LLM APIs on this machine over real HTTP, with seeded faults, limits and a journal. For tests and benches.

    with LlmServer(latency="5ms", faults=Faults(share=0.1), seed=7) as server:
        sw.triage("tickets.csv", labels=LABELS, model="test", base_url=server.url)
        server.journal()

or `python -m stepwell.testing.llm_server --port 8080 --latency 200ms --faults 0.1 --seed 7`. Standard library only; loopback
only. Which request meets which fault follows from the seed, the request's body and its attempt, not from arrival order.

What it serves, told apart by the end of the path, with or without `"stream": true`:

- POST /v1/chat/completions (OpenAI), /openai/deployments/NAME/chat/completions?api-version=... (Azure), /v1/responses,
  /v1/embeddings
- POST /v1/messages (Anthropic)
- POST /v1beta/models/NAME:generateContent, :streamGenerateContent?alt=sse, :embedContent, :batchEmbedContents (Gemini)
- POST and GET /v1/files, /v1/batches (OpenAI), /v1/messages/batches (Anthropic): a batch ends when it is looked at for the
  third time
- GET /v1/models, /journal, /count, /counts; POST /faults

What it says follows from the request:

- a schema is answered by a value that fits: an enum gets the label that `predict` names, from the first message of the user
- tools are answered by a call of the first one (or the one that is chosen), with arguments that fit; a tool's result by text
- anything else is answered by "You said: ...", cut off at the bound on tokens
- by the model's name: "missing..." is not there; "...-200-tokens" says 200 numbered ones; "...cached..." found half of the
  prompt in its cache; "...reasoning..." thinks for 64 tokens; "...parallel..." calls every tool it was offered

Usage counts four characters as a token, both ways. The same request has the same usage, streamed or not, in every form.

An `Idempotency-Key` that was answered before gets the same answer and is charged once; with another body it is refused.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from stepwell.testing._llm_faults import KINDS, MODELS, STREAM_KINDS, USUAL, Faults, predict
from stepwell.testing._server_process import ServerProcess

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["KINDS", "MODELS", "STREAM_KINDS", "USUAL", "Faults", "LlmServer", "predict"]


class LlmServer(ServerProcess[Faults]):
    """The server in a process of its own; it stops with the `with` block, and when this process ends in any way.

    `latency`: "200ms", or "200ms-1000ms" for a uniform spread. `journal`: a file that gets every request as a line of JSON.
    `token_rate`: tokens a second of a stream; 0 sends it at once. `answers`: a file of recorded answers, one
    `{"model": ..., "text": ..., "content": ..., "confidence": ...}` a line: the model's answer to that text, or to one that
    holds it; content is a text, a label, or the object that was asked for. With `"hang": true` the answer never comes.
    What is not recorded answers 404.

    `requests_per_minute` and `tokens_per_minute` are a provider's limits (0: none), for each key and model. They refill all
    the time and hold what is due in `burst`; a request counts its characters / 4 and its bound on tokens (16 without one),
    and gets nothing back. What is too much answers 429 with Retry-After and the provider's headers. `clock_rate=20` lets a
    minute of the limits pass in 3 s: on the wire 500 a minute is then 10,000, which is what the headers say, and a burst of
    1 s is one of 50 ms.

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
        token_rate: float = 0,
        answers: str | Path | None = None,
        requests_per_minute: float = 0,
        tokens_per_minute: float = 0,
        burst: str = "1s",
        clock_rate: float = 1,
    ) -> None:
        numbers = {
            "token-rate": token_rate,
            "requests-per-minute": requests_per_minute,
            "tokens-per-minute": tokens_per_minute,
            "clock-rate": clock_rate,
        }
        for name, number in numbers.items():
            if not 0 <= number < 1e9 or (name == "clock-rate" and not number):
                raise ValueError(f"a {name} of {number}; expected a number that is not negative")
        options = [f"--{name}={number:g}" for name, number in numbers.items()]
        options += [f"--burst={burst}", *([] if answers is None else [f"--answers={answers}"])]
        # The key goes through the environment: a command line shows in a list of processes.
        super().__init__(
            "stepwell.testing.llm_server",
            latency=latency,
            faults=faults or Faults(),
            seed=seed,
            journal=journal,
            environment={"STEPWELL_LLM_SERVER_KEY": require_key},
            options=options,
        )

    @property
    def origin(self) -> str:
        """The URL without its path: what to put /v1beta/... or /openai/deployments/... behind."""
        return self.url.removesuffix("/v1")

    def journal(self) -> list[dict[str, Any]]:
        """Return what was received: number, time, path, form, model, fingerprint, attempt, answer, text, key, stream, tokens.

        answer: "ok", the fault, "rate_limited", or the status of a request that was refused. text: how the text begins.
        tokens_in (of which tokens_cached), tokens_out (of which tokens_reasoning): what it cost, if `charged`: it was
        processed, even if the answer was lost, and was not `replayed` for an Idempotency-Key. A stream that began is charged
        whole. The first million requests are kept; a journal file has all.
        """
        return self._ask("GET", "/journal")  # type: ignore[no-any-return]

    def counts(self) -> dict[str, Any]:
        """Return sums: requests, admitted, refused (by the limits), tokens_admitted (as estimated), charged, replayed.

        Also batch_requests (about files and batches); tokens_in and tokens_out of what was charged; first_time and last_time
        of what was admitted, in seconds since 1970, None before.
        """
        return self._ask("GET", "/counts")  # type: ignore[no-any-return]


if __name__ == "__main__":
    from stepwell.testing._llm_serve import main

    sys.exit(main())
