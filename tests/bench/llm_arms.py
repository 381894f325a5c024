"""Arms of LLM calls: labelling as fast as it goes, and under a provider's limits. Ours and the peers'."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import install
from .harness import ArmError, Bench, Measures, arm

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# Calls in flight. Ours: 32 to 1,000 differ by a tenth, and 64 is best. The peers run with both of theirs in every round, and
# the better one counts; tried were 8 to 256, and more in flight made each of them slower: httpx looks through all its
# connections.
CLASSIFY_CONCURRENCY = 64
PEER_CONCURRENCIES = {"openai": (16, 64), "langchain": (8, 32), "instructor": (8, 64)}
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


# --- under a provider's limits ---

# Of a small account. Tickets need 185 tokens on average, so that both limits bind.
REQUESTS_PER_MINUTE, TOKENS_PER_MINUTE = 500, 90_000
# A minute of the provider passes in 3 s, and a second of its latency in 50 ms: 10,000 calls take a minute, not twenty. The
# seconds in the peers' back-off are divided by it too; those in ours are not.
CLOCK_RATE, LATENCY = 20, "50ms"
LIMITED_CONCURRENCY = 64
BURST_MS = 1_000  # what the provider lets pass at once, as much as is due in it: a second of its minute


def limited(bench: Bench, count: int, run: Callable[[str, int], Measures]) -> Measures:
    """Label `count` tickets by `run(url, count)`; how close to the limits, as the server saw it."""
    from stepwell.testing import LlmServer

    total = bench.count(count)
    with LlmServer(
        latency=LATENCY,
        requests_per_minute=REQUESTS_PER_MINUTE,
        tokens_per_minute=TOKENS_PER_MINUTE,
        burst=f"{BURST_MS}ms",
        clock_rate=CLOCK_RATE,
    ) as server:
        measures = run(server.origin, total)
        seen = server.counts()
    minutes = max(seen["admitted"] / REQUESTS_PER_MINUTE, seen["tokens_admitted"] / TOKENS_PER_MINUTE)
    took = seen["last_time"] - seen["first_time"]
    if seen["admitted"] + measures["failed"] < total:
        raise ArmError(f"{seen['admitted']} of {total} calls got through, {measures['failed']:.0f} failed")
    return measures | {
        "of_ideal": minutes * 60 / CLOCK_RATE / took,
        "of_ideal_time": took / (minutes * 60 / CLOCK_RATE),
        "share_429": seen["refused"] / seen["requests"],
    }


@arm("stepwell.limited")
def limited_ours(bench: Bench) -> Measures:
    """Every ticket a durable run, the engine told of the limits."""
    limits = (REQUESTS_PER_MINUTE * CLOCK_RATE, TOKENS_PER_MINUTE * CLOCK_RATE, f"{BURST_MS // CLOCK_RATE}ms")
    with bench.scratch() as folder:
        return limited(
            bench,
            10_000,
            lambda url, count: bench.our_python(
                "ours_llm.py", "limited", folder, url, count, LIMITED_CONCURRENCY, *limits
            ),
        )


def limited_arm(peer: str) -> Callable[[Bench], Measures]:
    """A quarter of the tickets: how often a client is refused does not depend on how many there are."""

    def measure(bench: Bench) -> Measures:
        return limited(
            bench,
            2_500,
            lambda url, count: bench.peer_python("limited_peer.py", peer, url, count, LIMITED_CONCURRENCY, CLOCK_RATE),
        )

    return measure


for way in ("tenacity", "openai"):
    arm(f"{way}.limited")(limited_arm(way))
