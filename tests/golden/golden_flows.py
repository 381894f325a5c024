"""The workflows of the golden stores. Their names and steps are in files of released versions: add, never change."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import stepwell as sw

LONG = {"ticket": "printer on fire\n" * 500}


@sw.step
async def note(text: str) -> str:
    return f"noted {text}"


@sw.step
def note_plain(text: str) -> str:
    return f"noted {text}"


def give_back(_: dict[str, int]) -> None:
    """Undo a payment."""


@sw.step(undo=give_back)
async def pay(amount: int) -> dict[str, int]:
    return {"paid": amount}


@sw.workflow
async def ends_well(who: str) -> list[str]:
    return [await note(who), await note("again")]


@sw.workflow
async def ends_badly(who: str) -> None:
    await note(who)
    raise ValueError(f"{who} cannot be served")


@sw.workflow
async def is_undone(amount: int) -> None:
    await pay(amount)
    raise RuntimeError("no stock")


@sw.workflow
async def kills_its_process(_: str) -> None:
    os._exit(3)


@sw.workflow
async def asks(question: str) -> str:
    first = await note(question)
    answer = await sw.wait_for_signal("answer", returns=str)
    return f"{first}: {answer}"


@sw.workflow
async def naps(duration: str) -> str:
    await sw.sleep(duration)
    return await note("slept")


@sw.workflow
async def has_a_child(question: str) -> str:
    return f"child said: {await sw.child(asks, question)}"


@sw.workflow
async def is_long(ticket: dict[str, str]) -> int:
    kept = await note(ticket["ticket"])
    return len(kept)


@sw.step
def stops_the_process(_: str) -> str:
    if sign := os.environ.get("GOLDEN_STOP"):
        while not Path(sign).exists():  # what else is asked for is written first
            pass
        os._exit(4)
    return "went on"


@sw.workflow
def is_interrupted(what: str) -> list[str]:
    return [note_plain(what), stops_the_process(what)]


FLOWS: tuple[sw.Workflow[..., Any], ...] = (
    ends_well,
    ends_badly,
    is_undone,
    kills_its_process,
    asks,
    naps,
    has_a_child,
    is_long,
    is_interrupted,
)
