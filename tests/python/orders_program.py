"""A process that is made to be killed: orders that reserve, sleep, wait for payment, fan out and ship through a child.

orders_program.py STORE JOURNAL COUNT    Each effect is a line of the journal, written before its step is recorded.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import stepwell as sw

journal = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


def effect(order: int, what: str) -> str:
    os.write(journal, json.dumps([order, what, sw.step_key()]).encode() + b"\n")
    return f"{what} {order}"


@sw.step
async def reserve(order: int) -> str:
    return effect(order, "reserve")


@sw.step
async def pack(order: int) -> str:
    return effect(order, "pack")


@sw.step
def label(order: int) -> str:
    return effect(order, "label")


@sw.workflow
def ships(order: int) -> str:
    return label(order)


@sw.workflow
async def orders(order: int) -> list[Any]:
    reserved = await reserve(order)
    await sw.sleep(f"{1000 + order % 7 * 100}ms" if order % 3 else "5ms")
    paid = await sw.wait_for_signal("paid", timeout="10m")
    packed, shipped = await sw.gather(pack(order), sw.child(ships, order))
    return [reserved, paid, packed, shipped]


def main() -> None:
    count = int(sys.argv[3])
    with sw.Engine(Path(sys.argv[1])) as engine:
        runs = [engine.start(orders, order, key=f"order-{order}") for order in range(count)]
        for order, run in enumerate(runs):
            if not run.status().is_final:
                try:
                    run.signal("paid", f"payment {order}", key="payment")
                except sw.ConflictError:  # it ended between the look and the signal
                    assert run.status().is_final
        results = [run.result(timeout=60) for run in runs]
        assert all(run.result(1) == result for run, result in zip(runs, results, strict=True))
    expected = [[f"reserve {n}", f"payment {n}", f"pack {n}", f"label {n}"] for n in range(count)]
    assert results == expected, results


if __name__ == "__main__":
    main()
