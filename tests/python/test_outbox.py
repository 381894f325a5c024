"""The outbox: what a step sends begins with the step's commit, once, or not at all."""

from __future__ import annotations

import pytest
from flows import until

import stepwell as sw

tries: list[int] = []


@sw.workflow
async def receives(n: int) -> int:
    return n * 2


@sw.step(retry=sw.Retry(max_attempts=3, base="1ms", cap="2ms"))
async def sends(n: int) -> str:
    tries.append(n)
    sw.send(receives, n, key=f"sent-{n}-{len(tries)}")
    if len(tries) < 3:
        raise ConnectionError("after it had sent")
    return "sent"


@sw.step
async def sends_and_fails(n: int) -> None:
    sw.send(receives, n, key=f"never-{n}")
    raise ValueError("no")


@sw.workflow
async def tells(n: int) -> str:
    return await sends(n)


@sw.workflow
async def tells_in_vain(n: int) -> None:
    await sends_and_fails(n)


def test_outbox_of_a_retried_step_is_sent_once_with_the_attempt_that_was_recorded(engine: sw.Engine) -> None:
    tries.clear()
    engine.serve(receives)
    assert engine.start(tells, 1).result(20) == "sent"
    assert [engine.find(receives, f"sent-1-{number}") is not None for number in (1, 2, 3)] == [False, False, True]
    found = engine.find(receives, "sent-1-3")
    assert found is not None
    assert found.result(20) == 2


def test_outbox_of_a_step_that_failed_is_not_sent(engine: sw.Engine) -> None:
    engine.serve(receives)
    with pytest.raises(sw.RunFailed):
        engine.start(tells_in_vain, 1).result(20)
    assert engine.find(receives, "never-1") is None


def test_outbox_options_are_those_of_a_start(engine: sw.Engine) -> None:
    @sw.step
    async def sends_later() -> None:
        sw.send(receives, 4, key="later", delay="1h", priority=-3, group="g")

    @sw.workflow
    async def plans() -> None:
        await sends_later()

    engine.serve(receives)
    engine.start(plans).result(20)
    found = engine.find(receives, "later")
    assert found is not None
    assert found.status() == sw.RunStatus.WAITING


def test_outbox_outside_of_a_step_is_refused(engine: sw.Engine) -> None:
    @sw.workflow
    async def sends_from_its_body() -> None:
        sw.send(receives, 1)

    with pytest.raises(sw.RunFailed, match="SW-E2009"):
        engine.start(sends_from_its_body).result(20)
    until(lambda: engine.counters()["runs_in_flight"] == 0)
