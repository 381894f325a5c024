"""An order: charged once however often it is tried, its mail sent with the commit of its step, its times kept.

Run it, kill it wherever you like, run it again: the same key finds the same run.
"""

from __future__ import annotations

import stepwell as sw

ASKED: list[str] = []


@sw.workflow
async def send_mail(text: str) -> str:
    """Stand for a mail: a run of its own, with its own retries."""
    return f"sent: {text}"


@sw.workflow
async def tell_somebody(breach: sw.Breach) -> str:
    """Hear of a time that was not kept."""
    return f"{breach.step or breach.workflow} took longer than {breach.sla_ms} ms"


@sw.step(retry=sw.Retry(max_attempts=5, base="10ms", cap="20ms"), sla="5ms", on_breach=tell_somebody)
async def charge(order: dict[str, int]) -> str:
    """Stand for a payment API that answers badly twice; it knows a repeated request by its key."""
    ASKED.append(sw.step_key())
    if len(ASKED) < 3:
        raise ConnectionError("the bank did not answer")
    return f"{order['total']} EUR charged"


@sw.step
async def confirm(order: dict[str, int]) -> str:
    """Send begins with the commit of this step, or not at all."""
    sw.send(send_mail, f"order {order['id']} is on its way", key=f"order-{order['id']}")
    return "told"


@sw.workflow(sla="1m")
async def fulfil(order: dict[str, int]) -> str:
    """Charge, then tell."""
    charged = await charge(order)
    await confirm(order)
    return charged


def main() -> None:
    """Start an order twice; look at what was kept of it."""
    with sw.Engine("orders.db", workflows=[fulfil, send_mail, tell_somebody]) as engine:
        run = engine.start(fulfil, {"id": 7, "total": 20}, key="order-7")
        print(run.result(timeout=30), "|", len(set(ASKED)), "key for", len(ASKED), "attempts")
        again = engine.start(fulfil, {"total": 20, "id": 7}, key="order-7")  # the order of members does not matter
        print("the same run:", again.id == run.id)
        try:
            engine.start(fulfil, {"id": 7, "total": 21}, key="order-7")
        except sw.ConflictError as error:
            print(error.code)
        mail = engine.find(send_mail, "order-7")
        print(mail.result(timeout=30) if mail else "no mail")
        for entry in run.history():
            print(entry.name, entry.kind, f"attempt {entry.attempt}", f"took {entry.took}", f"waited {entry.waited}")
        print(len(engine.breaches(fulfil)), "breaches")


if __name__ == "__main__":
    main()
