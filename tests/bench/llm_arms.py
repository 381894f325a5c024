"""Arms of LLM calls: labelling as fast as it goes, and under a provider's limits. Ours and the peers'."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import install
from .harness import Bench, Measures, arm

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# Calls in flight. Ours: 64, 256 and 1,000 differ little. The peers run with both of theirs in every round, and the better
# one counts; tried were 8 to 256, and more in flight made each of them slower: httpx looks through all its connections.
CLASSIFY_CONCURRENCY = 256
PEER_CONCURRENCIES = {"openai": (16, 64), "langchain": (8, 32), "instructor": (16, 64)}
# The peers' rates do not depend on how many tickets there are.
PEER_TICKETS = {"openai": 1_500, "langchain": 750, "instructor": 1_000}


@arm("stepwell.classify")
def classify(bench: Bench) -> Measures:
    """Every ticket a durable run."""
    with bench.scratch() as folder:
        return bench.our_python(
            "ours_llm.py", "classify", folder, bench.server(0), bench.count(100_000), CLASSIFY_CONCURRENCY
        )


def classify_arm(peer: str, path: Callable[[], Path | None]) -> Callable[[Bench], Measures]:
    """The same tickets, schema and server; nothing is kept."""

    def measure(bench: Bench) -> Measures:
        words = ("classify_peer.py", peer, bench.server(0), bench.count(PEER_TICKETS[peer]))
        return bench.peer_python(*words, *PEER_CONCURRENCIES[peer], path=path())

    return measure


for client in PEER_TICKETS:
    arm(f"{client}.classify")(classify_arm(client, install.instructor if client == "instructor" else lambda: None))
