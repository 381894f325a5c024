"""The engine under test: its clock moves when everything rests, never before, and runs see its time."""

from __future__ import annotations

import asyncio
import itertools
import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from flows import asks, comes_to, doubles

import stepwell as sw
from stepwell.testing import Engine, Faults, InjectedError, Journal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PATIENT = sw.Retry(max_attempts=6, base="1h", cap="10h", max_elapsed="100d")


@pytest.fixture(params=["memory", "file"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    with Engine(None if request.param == "memory" else tmp_path / "s.db", auto=False) as opened:
        yield opened


@sw.step
async def work(x: int) -> int:
    return x + 1


@sw.step
def work_plain(x: int) -> int:
    return x + 1


@sw.workflow
async def weekly(weeks: int) -> list[datetime]:
    times = [sw.now()]
    for week in range(weeks):
        await work(week)
        await sw.sleep("7d")
        times.append(sw.now())
    return times


@sw.workflow
def weekly_plain(weeks: int) -> list[datetime]:
    times = [sw.now()]
    for week in range(weeks):
        work_plain(week)
        sw.sleep_blocking("7d")
        times.append(sw.now())
    return times


def days_between(times: list[datetime]) -> list[float]:
    return [round((b - a) / timedelta(days=1), 2) for a, b in itertools.pairwise(times)]


@pytest.mark.parametrize("flow", [weekly, weekly_plain])
def test_auto_sleeps_take_no_time_and_the_recorded_times_are_virtual(engine: Engine, flow: Any) -> None:
    engine.clock.auto = True
    before = engine.clock.now()
    run = engine.start(flow, 5)
    assert days_between(run.result(20)) == [7] * 5
    assert 35 <= (engine.clock.now() - before).days < 36
    created, finished = engine._row(run._run)[8:10]
    assert 35 <= (finished - created) / 86_400_000 < 36


@pytest.mark.parametrize("flow", [weekly, weekly_plain])
def test_advance_runs_what_comes_due_on_the_way_at_its_time(engine: Engine, flow: Any) -> None:
    run = engine.start(flow, 3)
    engine.clock.advance("6d")
    assert run.status() is sw.RunStatus.WAITING
    engine.clock.advance("20d")  # in one go, over two wake-ups
    assert run.status() is sw.RunStatus.SUCCEEDED
    assert days_between(run.result(20)) == [7, 7, 7]


def test_auto_moves_only_while_somebody_waits_for_an_end(engine: Engine) -> None:
    engine.clock.auto = True
    run = engine.start(asks, "3d")
    comes_to(run, sw.RunStatus.WAITING)
    engine.clock.settle()
    run.signal("answer", {"in": 1})  # in time, although its patience would end at once
    assert run.result(20) == {"in": 1}
    assert engine.start(asks, "3d").result(20) == "nobody"


def test_auto_moves_for_those_who_await(engine: Engine) -> None:
    engine.clock.auto = True

    async def main() -> Any:
        return await engine.start(asks, "3d")

    assert asyncio.run(main()) == "nobody"


def test_time_does_not_move_while_a_step_works(engine: Engine) -> None:
    engine.clock.auto = True
    goes_on = threading.Event()
    entered = threading.Event()

    @sw.step
    def slow() -> str:
        entered.set()
        goes_on.wait(20)
        return sw.now().isoformat()

    @sw.workflow
    def works() -> str:
        return slow()

    sleeper = engine.start(weekly, 1)
    worker = engine.start(works)
    assert entered.wait(20)
    with pytest.raises(sw.WaitTimeout):
        sleeper.result(0.2)
    with pytest.raises(sw.WaitTimeout, match="SW-E1401"):
        engine.clock.settle(timeout=0.05)
    assert engine.clock.ahead_ms == 0
    goes_on.set()
    assert sleeper.result(20)
    assert worker.result(20)
    assert engine.clock.ahead_ms > 6 * 86_400_000


@pytest.mark.parametrize("is_async", [True, False])
def test_retries_wait_in_virtual_time(engine: Engine, is_async: bool) -> None:  # noqa: FBT001
    engine.clock.auto = True
    tried: list[datetime] = []

    def attempt() -> int:
        tried.append(sw.now())
        if len(tried) < 4:
            raise OSError("not yet")
        return len(tried)

    @sw.step(retry=PATIENT)
    async def flaky() -> int:
        return attempt()

    @sw.step(retry=PATIENT)
    def flaky_plain() -> int:
        return attempt()

    @sw.workflow
    async def tries() -> list[int]:
        return await sw.gather(flaky(), work(1))

    @sw.workflow
    def tries_plain() -> list[int]:
        return [flaky_plain(), 2]

    assert engine.start(tries if is_async else tries_plain).result(20) == [4, 2]
    assert tried[-1] - tried[0] > timedelta(minutes=1)


def test_starts_follow_the_virtual_time(engine: Engine) -> None:
    later = engine.start(doubles, 4, delay="30d")
    never = engine.start(asks, "90d", timeout="10d")
    engine.clock.advance("29d")
    assert later.status() is sw.RunStatus.WAITING
    with pytest.raises(sw.RunFailed, match="SW-E1017"):
        never.result(20)
    engine.clock.advance("2d")
    assert later.result(20) == 8


def test_start_at_says_what_time_it_is() -> None:
    with Engine(start_at=datetime(2027, 2, 28, 23, 59, tzinfo=UTC), auto=False) as engine:
        engine.clock.advance("2m")
        assert engine.clock.now().strftime("%d %b") == "01 Mar"
        engine.clock.advance_to(datetime(2028, 1, 1, tzinfo=UTC))
        assert engine.clock.now().year == 2028
    with pytest.raises(sw.InputError, match="SW-E1402"):
        Engine(start_at=datetime(2027, 1, 1))  # noqa: DTZ001 - that is the point


def test_an_endless_sleeper_is_noticed(engine: Engine) -> None:
    @sw.workflow
    async def polls() -> None:
        while True:
            await sw.sleep("1m")

    engine.start(polls)
    with pytest.raises(sw.WaitTimeout, match=r"SW-E1401.*after 20 jumps"):
        engine.clock.run_until_quiet(hops_max=20)


def test_batches_move_the_clock_too(engine: Engine) -> None:
    engine.clock.auto = True
    assert sorted(engine.map(asks, ["1d", "2d", "3d"]).results()) == ["nobody"] * 3


# -- faults ----------------------------------------------------------------------------------------------------------------


@sw.step(retry=PATIENT)
async def sturdy(x: int) -> int:
    return x * 2


@sw.workflow
async def sums(count: int) -> int:
    return sum(await sw.gather(*[sturdy(x) for x in range(count)]))


def attempts_with(seed: int) -> list[tuple[str, int]]:
    journal = Journal()
    with Engine(faults=Faults(seed=seed, step_error=0.4, slow_commit=0.3), journal=journal) as engine:
        assert engine.start(sums, 10).result(20) == 90
    return sorted((each.step, each.attempt) for each in journal.attempts)


def test_faults_make_steps_retry_and_the_same_seed_makes_the_same_ones() -> None:
    first = attempts_with(7)
    assert len(first) > 10
    assert attempts_with(7) == first
    assert any(attempts_with(seed) != first for seed in (8, 9, 10))


def test_a_step_without_retries_is_left_alone() -> None:
    with Engine(faults=Faults(seed=1, step_error=1.0)) as engine:
        assert engine.start(doubles, 2).result(20) == 4


def test_busy_refuses_starts_and_takes_nothing() -> None:
    with Engine(faults=Faults(seed=3, busy=0.5)) as engine:
        refused = 0
        for x in range(40):
            try:
                engine.start(doubles, x)
            except sw.BusyError:
                refused += 1
        assert 5 < refused < 35
        engine.clock.settle()
        assert engine.counters()["runs_started"] == 40 - refused


def test_a_failure_tells_the_seed() -> None:
    with pytest.raises(ZeroDivisionError) as caught, Engine(faults=Faults(seed=77, busy=0.1)):
        raise ZeroDivisionError
    assert "seed=77" in str(caught.value.__notes__)


def test_faults_are_drawn_before_and_after_the_code() -> None:
    done: list[int] = []

    @sw.step(retry=sw.Retry(max_attempts=40, base="1s", max_elapsed="10d"))
    async def effect() -> None:
        done.append(1)

    @sw.workflow
    async def flow() -> None:
        await effect()

    journal = Journal()
    with Engine(faults=Faults(seed=5, step_error=0.9), journal=journal) as engine:
        engine.start(flow).result(20)
    assert 1 < len(done) < len(journal.attempts)


def test_bad_shares_are_refused() -> None:
    with pytest.raises(sw.InputError, match="SW-E1402"):
        Faults(step_error=2)


def test_an_injected_error_is_an_ordinary_exception() -> None:
    assert issubclass(InjectedError, Exception)
