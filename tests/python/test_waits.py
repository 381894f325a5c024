"""Workflows that wait: sleeps, signals, children, races; what they record, and what survives a new start."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from flows import asks, comes_to, doubles, made, make, make_plain, until

import stepwell as sw

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _nothing_made() -> None:
    made.clear()


# -- sleeping --------------------------------------------------------------------------------------------------------


@sw.workflow
async def naps(duration: str) -> list[str]:
    first = await make("before")
    await sw.sleep(duration)
    return [first, await make("after")]


@sw.workflow
def plain_naps(duration: str) -> list[str]:
    first = make_plain("before")
    sw.sleep_blocking(duration)
    return [first, make_plain("after")]


@pytest.mark.parametrize("flow", [naps, plain_naps])
@pytest.mark.parametrize("duration", ["20ms", "3s"])
def test_sleep_short_ones_in_memory_long_ones_in_the_store(engine: sw.Engine, flow: Any, duration: str) -> None:
    run = engine.start(flow, duration)
    if duration == "3s":
        comes_to(run, sw.RunStatus.WAITING)
        assert engine.counters()["runs_in_flight"] == 0
    assert run.result(20) == ["before", "after"]
    assert made == ["before", "after"]


@pytest.mark.parametrize("flow", [naps, plain_naps])
def test_sleep_goes_on_in_another_process_and_does_not_begin_anew(tmp_path: Path, flow: Any) -> None:
    with sw.Engine(tmp_path / "s.db") as engine:
        run = engine.start(flow, "2s", key="k")
        comes_to(run, sw.RunStatus.WAITING)
    with sw.Engine(tmp_path / "s.db") as engine:
        run = engine.start(flow, "2s", key="k")
        assert run.result(20) == ["before", "after"]
        history = run.history()
        (timer,) = [entry for entry in history if entry.kind == "timer set"]
        (woken,) = [entry for entry in history if entry.kind == "succeeded" and entry.name == timer.name]
        assert woken.at >= datetime.fromisoformat(timer.value)
    assert made == ["before", "after"]


def test_sleep_until_a_time_that_has_passed_returns_at_once(engine: sw.Engine) -> None:
    @sw.workflow
    async def past() -> str:
        await sw.sleep_until(sw.now() - timedelta(days=1))
        return "on"

    assert engine.start(past).result(20) == "on"


def test_sleep_until_wants_a_zone() -> None:
    with pytest.raises(sw.InputError, match="SW-E2010"):
        asyncio.run(sw.sleep_until(datetime(2026, 1, 1)))  # noqa: DTZ001 - that is the point


# -- signals ---------------------------------------------------------------------------------------------------------


@sw.workflow
def plain_asks(timeout: str) -> Any:
    return sw.wait_for_signal_blocking("answer", timeout=timeout, default="nobody")


@pytest.mark.parametrize("flow", [asks, plain_asks])
def test_signal_wakes_a_run_that_waits_in_the_store(engine: sw.Engine, flow: Any) -> None:
    run = engine.start(flow, "1h")
    comes_to(run, sw.RunStatus.WAITING)
    run.signal("answer", {"yes": 1})
    assert run.result(20) == {"yes": 1}


@pytest.mark.parametrize("flow", [asks, plain_asks])
def test_signal_timeout_gives_the_default(engine: sw.Engine, flow: Any) -> None:
    assert engine.start(flow, "30ms").result(20) == "nobody"


def test_signal_that_comes_early_is_kept_across_processes(tmp_path: Path) -> None:
    with sw.Engine(tmp_path / "s.db") as engine:
        run = engine.start(asks, "1h", key="k", delay="1s")
        assert run.status() == sw.RunStatus.WAITING
        run.signal("answer", {"early": 1})
    with sw.Engine(tmp_path / "s.db") as engine:
        again = engine.start(asks, "1h", key="k")
        assert again.id == run.id
        assert again.result(20) == {"early": 1}


def test_signals_are_taken_in_order_each_once_and_a_known_key_is_dropped(engine: sw.Engine) -> None:
    @sw.workflow
    async def collects() -> list[int]:
        return [await sw.wait_for_signal("n") for _ in range(3)]

    run = engine.start(collects)
    for number, key in ((1, "a"), (99, "a"), (2, "b"), (98, "b"), (3, "")):
        run.signal("n", number, key=key)
    assert run.result(20) == [1, 2, 3]
    with pytest.raises(sw.ConflictError, match="SW-E1015"):
        run.signal("n", 4)


def test_orders_have_twins_for_event_loops(engine: sw.Engine) -> None:
    async def give_orders() -> None:
        run = await engine.astart(asks, "1h")
        await run.apause()
        await run.aresume()
        await run.asignal("answer", {"n": 1})
        assert await run == {"n": 1}
        other = await engine.astart(asks, "1h")
        await other.acancel()
        with pytest.raises(sw.RunCancelled):
            await other

    asyncio.run(give_orders())


def test_signal_without_default_raises_when_nobody_answers(engine: sw.Engine) -> None:
    @sw.workflow
    async def insists() -> str:
        try:
            await sw.wait_for_signal("answer", timeout="10ms")
        except sw.WaitTimeout as error:
            return error.code
        return "answered"

    assert engine.start(insists).result(20) == "SW-E2006"


def test_signal_of_a_wrong_type_fails_the_run_with_a_code(engine: sw.Engine) -> None:
    run = engine.start(asks, "1h")
    run.signal("answer", ["not", "a", "dict"])
    with pytest.raises(sw.RunFailed) as caught:
        run.result(20)
    assert caught.value.code == "SW-E1211"


# -- children --------------------------------------------------------------------------------------------------------


@sw.workflow
def plain_doubles(x: int) -> int:
    if x < 0:
        raise ValueError("negative")
    return 2 * x


@sw.workflow
async def parent(xs: list[int]) -> list[int]:
    one = await sw.child(plain_doubles, 100)
    return [one, *await sw.gather(*[sw.child(doubles, x) for x in xs])]


def test_children_are_runs_of_their_own(engine: sw.Engine) -> None:
    assert engine.start(parent, [1, 2, 3]).result(20) == [200, 2, 4, 6]
    assert sorted(made) == ["double 1", "double 2", "double 3"]
    assert engine.counters()["runs_succeeded"] == 5


def test_child_of_a_plain_workflow(engine: sw.Engine) -> None:
    @sw.workflow
    def plain_parent(x: int) -> int:
        return sw.child_blocking(plain_doubles, x) + 1

    assert engine.start(plain_parent, 4).result(20) == 9


def test_child_that_fails_raises_in_its_parent(engine: sw.Engine) -> None:
    @sw.workflow
    async def careful() -> str:
        try:
            await sw.child(plain_doubles, -1)
        except sw.StepFailed as error:
            return str(error.error["message"])
        return "no error"

    assert engine.start(careful).result(20) == "negative"


def test_child_is_cancelled_with_its_parent(engine: sw.Engine) -> None:
    @sw.workflow
    async def waits_for_child() -> Any:
        return await sw.child(asks, "1h")

    run = engine.start(waits_for_child)
    until(lambda: len(engine._core.find(workflow="asks", count_max=5)) == 1)
    run.cancel()
    with pytest.raises(sw.RunCancelled):
        run.result(20)
    until(lambda: engine._core.find(workflow="asks")[0][1] == sw.RunStatus.CANCELLED)


def test_functions_with_children_and_sleeps_need_no_engine() -> None:
    assert asyncio.run(parent([1])) == [200, 2]
    assert asyncio.run(naps("1ms")) == ["before", "after"]


# -- fan-out and races -----------------------------------------------------------------------------------------------


def test_map_bounds_what_runs_at_once_and_keeps_the_order(engine: sw.Engine) -> None:
    running = 0
    most = 0

    @sw.step
    async def slow(x: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _ in range(5):
            await asyncio.sleep(0)
        running -= 1
        return x * x

    @sw.workflow
    async def fans_out(count: int) -> list[int]:
        return await sw.map(slow, range(count), concurrency=4)

    assert engine.start(fans_out, 30).result(20) == [x * x for x in range(30)]
    assert most <= 4


def test_map_over_a_workflow_makes_children(engine: sw.Engine) -> None:
    @sw.workflow
    async def family(count: int) -> list[int]:
        return await sw.map(doubles, range(count), concurrency=5)

    assert engine.start(family, 12).result(20) == [2 * x for x in range(12)]
    assert engine.counters()["runs_succeeded"] == 13


@sw.workflow
async def races(patience: str) -> list[Any]:
    who, value = await sw.first(answer=sw.wait_for_signal("answer"), nobody=sw.sleep(patience))
    more = await sw.wait_for_signal("answer", timeout="10s", default="none")
    return [who, value, more]


def test_first_the_signal_wins(engine: sw.Engine) -> None:
    run = engine.start(races, "1h")
    comes_to(run, sw.RunStatus.WAITING)
    run.signal("answer", 1)
    run.signal("answer", 2)
    assert run.result(20) == ["answer", 1, 2]


def test_first_a_loser_takes_no_signal(engine: sw.Engine) -> None:
    run = engine.start(races, "20ms")
    comes_to(run, sw.RunStatus.WAITING)
    run.signal("answer", 1)
    assert run.result(20) == ["nobody", None, 1]


async def helper(x: int) -> int:
    return sum(await sw.map(doubles, [x, x + 1]))


@sw.workflow
async def patient_parent(x: int) -> int:
    return await helper(x)


def test_children_of_a_laid_aside_parent_go_on_after_a_restart(tmp_path: Path) -> None:
    """Nothing runs the parent's code until they end, so whoever serves the parent must serve them."""
    with sw.Engine(tmp_path / "s.db") as engine:
        engine.queue("doubles").pause()
        comes_to(engine.start(patient_parent, 10, key="one"), sw.RunStatus.WAITING)
        until(lambda: engine.queue("doubles").info().queued == 2)
    with sw.Engine(tmp_path / "s.db", workflows=[patient_parent]) as engine:
        run = engine.find(patient_parent, "one")
        assert run is not None
        assert run.status() == sw.RunStatus.WAITING
        engine.queue("doubles").resume()
        assert run.result(20) == 42
