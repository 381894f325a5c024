"""A refund that waits for people: two must agree, the head is paged if nobody does, and what was approved is what is sent.

Run it, kill it wherever you like, run it again. Afterwards: `stepwell approvals approvals.db --all`.
"""

from __future__ import annotations

import time
from typing import Any

import stepwell as sw


@sw.step
async def page_the_head(request: sw.ApprovalRequest) -> None:
    """Stand for a pager. If it failed, the approval would go on."""
    print(f"  page to the head of support: {request.question} asked {request.asked_at:%H:%M:%S}, still open")


@sw.step(retry=sw.Retry(max_attempts=5))
async def publish(message: dict[str, Any]) -> None:
    """Stand for a call to the bank, which knows a repeated one by its key."""
    print(f"  published with key {sw.step_key()[:14]}...: {message}")


@sw.workflow
async def refund(ticket: dict[str, Any]) -> str:
    """Ask for exactly what will be sent; a no, and no answer at all, send nothing."""
    message = {"customer": ticket["customer"], "euros": ticket["euros"]}
    decision = await sw.approval(
        f"Refund {ticket['euros']} EUR to {ticket['customer']}?",
        evidence=ticket["text"],
        payload=message,
        approvers=["ann", "bob", "head"],
        quorum=2 if ticket["euros"] > 100 else 1,
        escalate=[("300ms", page_the_head)],
        deadline="3d",
        default=False,
        key=ticket["id"],
    )
    if not decision.approved:
        return f"refused by {decision.by}: {decision.comment}"
    await publish(message)
    return f"{message['euros']} EUR paid, approved by {decision.by}"


def decide(approval: sw.Approval, by: str, *, yes: bool, comment: str = "") -> None:
    """Answer as a person would; whoever comes too late hears who was first."""
    try:
        say = approval.approve if yes else approval.reject
        print(f"{by}: {say(by=by, comment=comment, payload_hash=approval.payload_hash).status}")
    except sw.ConflictError as error:
        print(f"{by}: {error.code} {error.message}")


def main() -> None:
    """Start two refunds and answer for the people."""
    with sw.Engine("approvals.db") as engine:
        tickets: list[dict[str, Any]] = [
            {"id": "t-1", "customer": "Kim", "euros": 20, "text": "please send money"},
            {"id": "t-2", "customer": "Lou", "euros": 900, "text": "never arrived"},
        ]
        runs = [engine.start(refund, ticket, key=ticket["id"]) for ticket in tickets]
        while len(engine.approvals(pending=False)) < len(runs):
            time.sleep(0.01)
        decide(engine.approval("t-1"), "bob", yes=False, comment="no account of ours")
        decide(engine.approval("t-1"), "ann", yes=True)
        decide(asked := engine.approval("t-2"), "ann", yes=True)
        while asked.status == "pending" and "(called)" not in str(asked.audit()):
            time.sleep(0.01)
            asked = engine.approval("t-2")
        decide(asked, "head", yes=True, comment="called the customer")
        print(*[run.result(timeout=30) for run in runs], sep="\n")
        for entry in engine.approval("t-2").audit():
            print(f"  {entry.at:%H:%M:%S}  {entry.what:<10} {entry.by:<5} {entry.comment or entry.detail}")


if __name__ == "__main__":
    main()
