"""What if another model had sorted last week's tickets? The runs are looked at anew; the store is not changed.

The models are a server on this machine, so that it runs without a key.
"""

from __future__ import annotations

import stepwell as sw
from stepwell.testing.llm_server import LlmServer

LABELS = ["Billing", "Technical", "General"]
TICKETS = [
    "I was charged twice", "the app crashes", "thank you", "my invoice is wrong", "cannot log in",
    "billing address", "technical issue", "a general remark",
]  # fmt: skip


@sw.step
async def route(label: str | None) -> str:
    """Stand for a call to the help desk: a what-if does not make it again."""
    return f"queue of {label}"


def main() -> None:
    """Sort, then ask what if."""
    with LlmServer() as server:

        @sw.workflow
        async def triage(text: str) -> str:
            found = await sw.llm.classify(text, labels=LABELS, model="test", base_url=server.url)
            return await route(found.label)

        with sw.Engine("whatif.db") as engine:
            engine.map(triage, TICKETS, key=lambda text: text).results()

        print("the local model, in the sandbox: no call leaves the process")
        print(sw.whatif("whatif.db", triage, model="local"))
        calls = server.count()
        print("\nanother prompt, live")
        print(sw.whatif("whatif.db", triage, prompt="Billing is about money.", live=True))
        print(f"\n{server.count() - calls} calls were made, none of them in the store's runs")


if __name__ == "__main__":
    main()
