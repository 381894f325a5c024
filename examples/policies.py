"""Who answers a ticket: a cheap model first, three that vote, another one when a server is down; with a cache, without names.

The models are a server on this machine, so that it runs without a key. With keys of yours, leave `base_url` out and write
"openai:gpt-4o-mini", "anthropic:claude-sonnet-4-5", "gemini:gemini-2.0-flash".
"""

from __future__ import annotations

import stepwell as sw
from stepwell.llm import Cache, Cascade, Endpoint, Fallback, Redact, Vote
from stepwell.testing.llm_server import Faults, LlmServer

LABELS = ["Billing", "Technical", "General"]
TICKETS = [
    "I was charged twice on my billing statement, please call +49 30 1234567",
    "A technical question: the app does not start. Write to ada@example.com",
    "Just a general remark",
    "Just a general remark",
]


def main() -> None:
    """Label the tickets with each policy."""
    with LlmServer() as server, LlmServer(faults=Faults(share=1.0, kinds={"503": 1.0}, max_faults_per_call=99)) as down:
        dead = Endpoint("house-model", base_url=down.url, retry=sw.Retry(max_attempts=1))
        policies = {
            "fallback": Fallback([dead, "test"], after="30s"),
            "cascade": Cascade("test", "test-model", below=0.6),
            "vote": Vote(["test", "test-model", dead], quorum=2, tie="review"),
            "nested": Fallback([Vote(["test", dead], quorum=2), Cascade(["m", "t"], agree=True, then="test")]),
        }

        @sw.workflow(max_calls=10)
        async def triage(job: list[str]) -> str:
            name, text = job
            found = await sw.llm.classify(
                text, labels=LABELS, model=policies[name], base_url=server.url, cache=Cache(ttl="7d"), redact=Redact()
            )
            asked = ", ".join(f"{each.model} {'from the cache' if each.cached else each.status}" for each in found.path)
            return (
                f"{found.label or 'for a person: ' + found.reason:<10} {asked}; redacted: {found.redacted or 'nothing'}"
            )

        with sw.Engine("policies.db") as engine:
            for name, policy in policies.items():
                print(f"\n{policy}")
                for text in TICKETS:
                    print(f"  {engine.start(triage, [name, text]).result(timeout=60)}")
        estimate = sw.llm.estimate(TICKETS * 1000, labels=LABELS, model="openai:gpt-4o-mini", base_url=server.url)
        print(f"\nfour thousand of them with openai:gpt-4o-mini would take\n{estimate}")


if __name__ == "__main__":
    main()
