"""Workflows and helpers that several tests share."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

import stepwell as sw

if TYPE_CHECKING:
    from collections.abc import Callable


def until(is_so: Callable[[], bool]) -> None:
    """Wait for a condition, patiently."""
    end = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < end, "it did not come about"


def comes_to(run: sw.Run[Any], status: sw.RunStatus) -> None:
    until(lambda: run.status() == status)


#: What the steps below have done, in order.
made: list[str] = []


@sw.step
async def make(what: str) -> str:
    made.append(what)
    return what


@sw.step
def make_plain(what: str) -> str:
    made.append(what)
    return what


@sw.workflow
async def asks(timeout: str) -> Any:
    return await sw.wait_for_signal("answer", returns=dict[str, int], timeout=timeout, default="nobody")


@sw.workflow
async def doubles(x: int) -> int:
    await make(f"double {x}")
    return 2 * x


def failure_of(run: sw.Run[Any]) -> sw.RunFailed:
    """Return what a run failed with."""
    with pytest.raises(sw.RunFailed) as failure:
        run.result(20)
    return failure.value


def still_works(engine: sw.Engine) -> None:
    """See that whatever happened before has hurt nobody else."""
    assert engine.start(doubles, 7).result(20) == 14


def code_of_pause(engine: sw.Engine, run: sw.Run[Any]) -> str:
    """Return why a run was paused."""
    events = engine._row(run._run, with_events=True)[10]
    return str(json.loads(next(event[3] for event in reversed(events) if event[0] == 6))["code"])
