"""A batch that may cost fifty cents: it stops before the call that would not fit, and goes on when somebody raises the cap.

Runs against a test server on this machine; nothing is paid. `python examples/budget.py`
"""

from __future__ import annotations

import stepwell as sw
from stepwell.testing.llm_server import LlmServer

LABELS = ["Billing", "Technical", "General"]
PRICE = (60.0, 240.0)  # dollars for a million tokens, in and out: dear, so that the cap is near


def main() -> None:
    """Run into a cap, look, raise it, and go on."""
    with LlmServer() as server, sw.Engine("budget.db") as engine:

        @sw.workflow
        async def triage(ticket: str) -> str:
            answer = await sw.llm.classify(ticket, labels=LABELS, model="test-model", base_url=server.url)
            return answer.label or "?"

        tickets = [f"ticket {number}: I was charged twice" for number in range(60)]
        batch = engine.map(triage, tickets, key=str, budget=sw.Budget(usd="0.5", name="support", price=PRICE))
        finished = 0
        while finished < len(tickets):
            finished += len(batch.take(timeout=0.2) or ())
            account = engine.budget("support")
            if account.waiting and not account.reserved_usd:
                print(f"{finished} of {len(tickets)} finished: {account!r}")
                account.raise_to(usd=5, by="ann", why="the backlog is worth it")
        account = engine.budget("support")
        print(f"all {finished} finished: ${account.spent_usd} of ${account.cap_usd} for {account.calls} calls")
        for change in account.changes():
            print(f"  {change.what} to ${change.cap_usd} by {change.by}: {change.why}")


if __name__ == "__main__":
    main()
