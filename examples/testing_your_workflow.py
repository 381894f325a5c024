"""Crash a workflow at each of its commits, before the world does it: the careful one survives, the careless one is caught.

Run it with Python; in a project of yours the body of `main` is three lines of a pytest test (docs/guide/testing.md).
"""

from __future__ import annotations

import stepwell as sw
from stepwell.testing import Engine, Journal, crash_everywhere

#: What the outside world saw: a stand-in for the bank and the mail server, which know a repeated request by its key.
world = Journal()


@sw.step(retry=sw.Retry(max_attempts=3))
async def charge(eur: int) -> str:
    """Charge the card: twice with one key is once."""
    world.note("charge", eur, key=sw.step_key())
    return f"{eur} EUR charged"


@sw.step
async def charge_carelessly(eur: int) -> str:
    """Do the same without a key: who calls twice pays twice."""
    world.note("charge", eur)
    return f"{eur} EUR charged"


@sw.step
async def mail(text: str) -> None:
    """Send a mail."""
    world.note("mail", text, key=sw.step_key())


@sw.workflow
async def order(eur: int) -> str:
    """Charge, wait for somebody to approve, remind after a week."""
    receipt = await charge(eur)
    approved = await sw.wait_for_signal("approved", timeout="3d", default=False)
    await sw.sleep("7d")
    await mail(f"{receipt}, approved: {approved}")
    return receipt


@sw.workflow
async def careless_order(eur: int) -> str:
    """Forget the key."""
    return await charge_carelessly(eur)


def main() -> None:
    """Crash both everywhere; then look at one of them day by day."""
    print(crash_everywhere(order, 20, journal=world, signals={"approved": True}))
    print(crash_everywhere(careless_order, 20, journal=world, raises=False))
    with Engine(auto=False) as engine:
        run = engine.start(order, 20)
        engine.clock.advance("4d")  # nobody approved in time
        engine.clock.advance("7d")
        print(f"after eleven days, in no time: {run.result()}")


if __name__ == "__main__":
    main()
