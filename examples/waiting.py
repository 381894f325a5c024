"""A refund that needs a person: it waits for days without costing memory, asks again, and undoes what it did on a no.

Run it, kill it wherever you like, run it again: it goes on where it was, and no mail is sent twice.
"""

from __future__ import annotations

import stepwell as sw


def cancel_hold(hold: str) -> None:
    """Undo `hold_money`."""
    print(f"  {hold} released")


@sw.step(undo=cancel_hold, retry=sw.Retry(max_attempts=5))
async def hold_money(refund: int) -> str:
    """Stand for a call to the bank, which knows a repeated one by its key."""
    print(f"  holding {refund} EUR (idempotency key {sw.step_key()[:12]}...)")
    return f"hold of {refund} EUR"


@sw.step
async def mail(to: str, text: str) -> None:
    """Stand for a mail."""
    print(f"  mail to {to}: {text}")


@sw.workflow
async def pay_out(refund: int) -> str:
    """Pay: a workflow of its own, so that it has its own history."""
    return f"{refund} EUR paid"


@sw.workflow
async def refunds(refund: int) -> str:
    """Ask, ask somebody else after a while, and pay or give up."""
    await hold_money(refund)
    await mail("team lead", f"refund of {refund} EUR?")
    who, answer = await sw.first(lead=sw.wait_for_signal("answer", returns=bool), nobody=sw.sleep("1500ms"))
    if who == "nobody":
        await mail("head of support", f"nobody answered: refund of {refund} EUR?")
        answer = await sw.wait_for_signal("answer", returns=bool, timeout="3d", default=False)
    if not answer:
        raise PermissionError("the refund was refused")
    return await sw.child(pay_out, refund)


def main() -> None:
    """Start two refunds and answer for the people."""
    with sw.Engine("refunds.db") as engine:
        quick = engine.start(refunds, 20, key="ticket-1")
        slow = engine.start(refunds, 900, key="ticket-2", timeout="14d")
        if not quick.status().is_final:
            quick.signal("answer", value=True, key="once")  # a second one with this key would be dropped
        print(quick.result(timeout=30))
        try:
            slow.result(timeout=2)
        except sw.WaitTimeout:
            slow.signal("answer", value=False, key="once")
        except sw.RunFailed:
            pass  # it had ended before
        try:
            slow.result(timeout=30)
        except sw.RunFailed as error:
            print(error.message, "| undone:", error.error["undone"])
        print([(letter.workflow, letter.key) for letter in engine.dead_letters()] or "no dead letters")


if __name__ == "__main__":
    main()
