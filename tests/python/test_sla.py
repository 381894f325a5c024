"""Agreed times: breaches of steps and of runs are recorded once, seen, and told, also of runs that wait in the store."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest
from flows import comes_to, until

import stepwell as sw

if TYPE_CHECKING:
    from pathlib import Path

told: list[sw.Breach] = []


@sw.workflow
async def hears(breach: sw.Breach) -> str:
    told.append(breach)
    return breach.step


@sw.workflow
def hears_plain(breach: dict[str, Any]) -> None:
    told.append(sw.Breach(**breach))


@pytest.fixture(autouse=True)
def _nobody_told() -> None:
    told.clear()


def longer_than(ms: int) -> None:
    """Take a little longer than so many milliseconds."""
    threading.Event().wait(ms / 1000 + 0.02)


@sw.step(sla="20ms", on_breach=hears)
async def slow(ms: int) -> int:
    await asyncio.to_thread(longer_than, ms)
    return ms


@sw.step(sla="20ms", on_breach=hears_plain)
def slow_plain(ms: int) -> int:
    longer_than(ms)
    return ms


@sw.step(sla="10m", on_breach=hears)
async def quick() -> int:
    return 1


@sw.workflow
async def works(ms: int) -> int:
    return await quick() + await slow(ms)


@sw.workflow
def works_plain(ms: int) -> int:
    return slow_plain(ms)


@pytest.mark.parametrize("flow", [works, works_plain])
def test_a_slow_step_is_recorded_and_told_once(engine: sw.Engine, flow: Any) -> None:
    run = engine.start(flow, 20)
    assert run.result(20) >= 20, "its result counts"
    until(lambda: len(told) == 1)
    assert engine.breaches() == engine.breaches(flow, last="1h") == told
    (breach,) = told
    assert (breach.run, breach.workflow, breach.sla_ms) == (run.id, flow.name, 20)
    assert breach.step in ("slow", "slow_plain")
    assert breach.took_ms > 20
    assert breach.at.tzinfo is not None
    assert engine.counters()["sla_breaches"] == 1
    assert engine.breaches(hears) == []
    assert "later than agreed" in run._repr_html_()
    (kept,) = [entry for entry in run.history() if entry.kind == "breached"]
    assert kept.value["took_ms"] == breach.took_ms


def test_all_attempts_count_together(engine: sw.Engine) -> None:
    attempts: list[int] = []

    @sw.step(sla="60ms", retry=sw.Retry(max_attempts=3, base="1ms"), on_breach=hears)
    def fails() -> None:
        attempts.append(1)
        longer_than(20)
        raise ValueError("no")

    @sw.workflow
    def tries() -> None:
        fails()

    with pytest.raises(sw.RunFailed):
        engine.start(tries).result(20)
    until(lambda: len(told) == 1)
    assert len(attempts) == 3
    assert told[0].step == "fails"
    assert [breach.step for breach in engine.breaches()] == ["fails"]


@sw.workflow(sla="1h", on_breach=hears)
async def asks(_: int) -> Any:
    return await sw.wait_for_signal("answer")


def test_a_run_that_waits_for_somebody_is_judged_in_time(tmp_path: Path) -> None:
    with sw.Engine(tmp_path / "s.db") as engine:
        run = engine.start(asks, 1, sla="50ms")
        patient = engine.start(asks, 2)
        until(lambda: len(told) == 1)
        assert (told[0].run, told[0].step, told[0].sla_ms) == (run.id, "", 50)
        comes_to(run, sw.RunStatus.WAITING)
        comes_to(patient, sw.RunStatus.WAITING)
        assert engine._row(patient._run)[11] > 0, "its time is known to the store"
        assert engine._row(run._run)[11] == -1, "nothing wakes it any more but the answer"
        key = run._run
    with sw.Engine(tmp_path / "s.db", workflows=[asks, hears]) as engine:
        again = sw.Run[Any](engine, asks, key, is_new=False)
        again.signal("answer", 5)
        assert again.result(20) == 5
        assert len(engine.breaches()) == 1
        assert len(engine._core.find(workflow="hears", count_max=9)) == 1
    assert len(told) == 1


def test_a_breach_while_no_engine_is_there_is_found_afterwards(tmp_path: Path) -> None:
    with sw.Engine(tmp_path / "s.db") as engine:
        run = engine.start(asks, 1, sla="2s", on_breach=hears)
        comes_to(run, sw.RunStatus.WAITING)
        assert engine.breaches() == []
    with sw.Engine(tmp_path / "s.db") as engine:
        engine.serve(asks)
        until(lambda: len(told) == 1)
        assert told[0].took_ms >= 2_000


def test_children_batches_and_delays_have_agreed_times_too(engine: sw.Engine) -> None:
    @sw.workflow(sla="20ms", on_breach=hears, version="v2")
    def late(ms: int) -> int:
        longer_than(ms)
        return ms

    @sw.workflow
    async def parent() -> Any:
        return await sw.child(late, 20)

    engine.start(parent).result(20)
    engine.map(late, [20, 20]).results()
    [run.result(20) for run in engine.start_many(late, [20])]
    engine.start(late, 20, delay="50ms").result(20)
    until(lambda: len(told) == 5)
    assert {breach.workflow for breach in engine.breaches(late)} == {"late"}
    assert {breach.sla_ms for breach in told} == {20}
    assert {row[13] for row in engine._core.find(workflow="late", count_max=9)} == {"v2"}


def test_a_scheduled_run_has_an_agreed_time(engine: sw.Engine) -> None:
    @sw.workflow(sla="20ms", on_breach=hears)
    def late() -> None:
        longer_than(20)

    engine.apply_schedules([sw.Schedule("s", late, "0 0 1 1 *")])
    engine.schedule("s").trigger().result(20)
    until(lambda: len(told) == 1)


def test_a_replay_is_judged_for_itself(engine: sw.Engine) -> None:
    @sw.workflow
    async def breaks(ms: int) -> int:
        await slow(ms)
        raise ValueError("after it")

    run = engine.start(breaks, 20)
    with pytest.raises(sw.RunFailed):
        run.result(20)
    until(lambda: len(told) == 1)
    again = engine.replay(run, from_step="slow", value=20)
    with pytest.raises(sw.RunFailed):
        again.result(20)
    until(lambda: len(told) == 2)
    assert {breach.run for breach in engine.breaches()} == {run.id, again.id}


def test_refusals(engine: sw.Engine) -> None:
    for options, code in (
        ({"sla": "soon"}, "SW-E1010"),
        ({"sla": "0s"}, "SW-E1010"),
        ({"on_breach": hears}, "SW-E1037"),
        ({"sla": "1s", "on_breach": print}, "SW-E2005"),
    ):
        with pytest.raises(sw.InputError, match=code):
            sw.step(**options)(lambda: None)  # type: ignore[call-overload]
        with pytest.raises(sw.InputError, match=code):
            sw.workflow(**options)(lambda: None)  # type: ignore[call-overload]
    with pytest.raises(sw.InputError, match="SW-E1037"):
        engine.start(works, 1, on_breach=hears)
