"""A night's tickets at half the price: labelled by the provider's batch API, which takes up to a day.

Run it, kill it wherever you like, run it again: it looks on after the same batch, and makes no second one. Here the provider
is a test server on this machine; against the real one leave `base_url` out and export OPENAI_API_KEY.
"""

from __future__ import annotations

import stepwell as sw
from stepwell.testing import LlmServer

LABELS = ["Billing", "Technical", "General"]
TICKETS = [f"ticket {number}: my {LABELS[number % 3].lower()} question" for number in range(300)]


@sw.workflow
async def nightly(night: dict[str, str]) -> dict[str, int | float]:
    """Label the tickets; rows that the batch did not answer are asked again, one by one."""
    answers = await sw.llm.classify_batch(
        TICKETS, labels=LABELS, model="openai:gpt-4o-mini", unanswered="live", pause="50ms", **night
    )
    counts = {label: sum(answer.label == label for answer in answers) for label in LABELS}
    return {**counts, "usd": round(sum(answer.cost_usd for answer in answers), 4)}


def main() -> None:
    """Start the night's run, or find it done."""
    with LlmServer() as provider, sw.Engine("nightly.db") as engine:
        for name, count in engine.start(nightly, {"base_url": provider.url, "api_key": "none"}).result(120).items():
            print(f"{name:<10} {count}")


if __name__ == "__main__":
    main()
