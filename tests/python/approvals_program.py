"""A process that is made to be killed: runs that ask people, are escalated, and act on what was approved.

approvals_program.py STORE JOURNAL COUNT    Each effect is a line of the journal, written before its step is recorded; so is
each decision whose sender has heard that it counts.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import stepwell as sw

journal = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


def write(what: str, number: Any, *more: Any) -> None:
    os.write(journal, json.dumps([what, number, *more]).encode() + b"\n")


@sw.step
async def page(request: sw.ApprovalRequest) -> None:
    write("page", request.payload["number"], sw.step_key())


@sw.step
async def pay(number: int, by: str) -> str:
    write("pay", number, sw.step_key(), by)
    return f"paid {number}"


@sw.step
def pay_plain(number: int, by: str) -> str:
    write("pay", number, sw.step_key(), by)
    return f"paid {number}"


@sw.workflow
async def asks(number: int) -> list[Any]:
    said = await sw.approval(
        f"Pay {number}?",
        payload={"number": number},
        approvers=["ann", "bob", "eve"],
        quorum=2,
        escalate=[(f"{20 + number % 5 * 300}ms", page)],
        deadline="10m",
    )
    return [said.by, await pay(number, said.by)]


@sw.workflow
def plain_asks(number: int) -> list[Any]:
    said = sw.approval_blocking(f"Pay {number}?", payload={"number": number}, approvers=["ann", "bob", "eve"], quorum=2)
    return [said.by, pay_plain(number, said.by)]


def answer(engine: sw.Engine) -> None:
    """Decide all that is open: everybody says yes, so the third of each comes too late."""
    for approval in engine.approvals():
        for by in ("ann", "bob", "eve"):
            try:
                approval.approve(by=by)
            except sw.ConflictError as error:
                assert error.code in ("SW-E2021", "SW-E2026"), error  # noqa: PT017 - not a test, but what one looks at
            else:
                write("counted", approval.payload["number"], by)


def main() -> None:
    count = int(sys.argv[3])
    with sw.Engine(Path(sys.argv[1]), workflows=[asks, plain_asks]) as engine:
        runs = [engine.start(asks if n % 2 else plain_asks, n, key=f"n{n}") for n in range(count)]
        while not all(run.status().is_final for run in runs):
            answer(engine)
        for number, run in enumerate(runs):
            by, paid = run.result(1)
            assert len(by.split(", ")) == 2, by
            assert paid == f"paid {number}"
            write("result", number, by)


if __name__ == "__main__":
    main()
