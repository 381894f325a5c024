"""Workflows over time: starts, pauses, sagas, changed code, the outbox, and the world that a replay sees again."""

from __future__ import annotations

import asyncio
from datetime import UTC
from typing import TYPE_CHECKING, Any

import pytest
from flows import asks, comes_to, doubles, made, make, make_plain, until

import stepwell as sw

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _nothing_made() -> None:
    made.clear()


# -- the outside world -----------------------------------------------------------------------------------------------


def test_now_uuid_and_random_are_the_same_in_a_replay(tmp_path: Path) -> None:
    seen: list[tuple[Any, ...]] = []

    @sw.workflow
    async def asks_the_world() -> list[Any]:
        seen.append((sw.now(), sw.uuid(), sw.random(), sw.random()))
        await sw.wait_for_signal("go")
        return [str(each) for each in seen[-1]]

    with sw.Engine(tmp_path / "s.db") as engine:
        run = engine.start(asks_the_world, key="k")
        comes_to(run, sw.RunStatus.WAITING)
        run.signal("go")
        assert run.result(20) == [str(each) for each in seen[0]]
    assert len(seen) == 2
    assert seen[0] == seen[1]
    assert seen[0][2] != seen[0][3]
    assert seen[0][0].tzinfo is UTC


# -- starting --------------------------------------------------------------------------------------------------------


def test_delay_timeout_and_priority(engine: sw.Engine) -> None:
    assert engine.start(doubles, 1, delay="50ms").result(20) == 2
    late = engine.start(asks, "1h", timeout="3s")
    comes_to(late, sw.RunStatus.WAITING)
    with pytest.raises(sw.RunFailed, match="SW-E1017"):
        late.result(20)
    with pytest.raises(sw.InputError, match="SW-E1018"):
        engine.start(doubles, 1, priority=10**9)


def test_the_smallest_priority_runs_first(engine: sw.Engine) -> None:
    order: list[int] = []
    gate = asyncio.Event()

    @sw.workflow
    async def takes_turns(x: int) -> None:
        if x == 0:
            await gate.wait()
        order.append(x)

    engine.serve(takes_turns, concurrency=1)
    blocker = engine.start(takes_turns, 0)
    comes_to(blocker, sw.RunStatus.RUNNING)
    runs = [engine.start(takes_turns, x, priority=x) for x in (5, 3, -2, 4)]
    engine._worker.loop.call_soon_threadsafe(gate.set)
    for run in runs:
        run.result(20)
    assert order == [0, -2, 3, 4, 5]


# -- pausing ---------------------------------------------------------------------------------------------------------


def test_pause_lets_the_step_end_and_resume_goes_on(engine: sw.Engine) -> None:
    gate = asyncio.Event()

    @sw.step
    async def gated() -> str:
        made.append("gated")
        await gate.wait()
        return "done"

    @sw.workflow
    async def two_steps() -> list[str]:
        return [await gated(), await make("second")]

    run = engine.start(two_steps)
    until(lambda: made == ["gated"])
    run.pause()
    engine._worker.loop.call_soon_threadsafe(gate.set)
    comes_to(run, sw.RunStatus.PAUSED)
    assert made == ["gated"]
    run.resume()
    assert run.result(20) == ["done", "second"]
    assert made == ["gated", "second"]


def test_pause_of_a_waiting_run_keeps_signals_for_later(engine: sw.Engine) -> None:
    run = engine.start(asks, "1h")
    comes_to(run, sw.RunStatus.WAITING)
    run.pause()
    comes_to(run, sw.RunStatus.PAUSED)
    run.signal("answer", {"kept": 1})
    assert run.status() == sw.RunStatus.PAUSED
    run.resume()
    assert run.result(20) == {"kept": 1}


def test_pause_of_a_plain_workflow(engine: sw.Engine) -> None:
    @sw.workflow
    def plain_steps() -> list[str]:
        one = make_plain("one")
        sw.wait_for_signal_blocking("go")
        return [one, make_plain("two"), make_plain("three")]

    run = engine.start(plain_steps)
    comes_to(run, sw.RunStatus.WAITING)
    run.pause()
    comes_to(run, sw.RunStatus.PAUSED)
    run.signal("go")
    run.resume()
    assert run.result(20) == ["one", "two", "three"]
    assert made == ["one", "two", "three"]


# -- sagas -----------------------------------------------------------------------------------------------------------


def cancel_booking(booking: str) -> None:
    made.append(f"cancel {booking}")


@sw.step(undo=cancel_booking)
async def book(what: str) -> str:
    made.append(f"book {what}")
    return what


@sw.step(undo=cancel_booking)
def book_plain(what: str) -> str:
    made.append(f"book {what}")
    return what


@sw.workflow
async def journey(places: list[str]) -> str:
    for place in places:
        await book(place)
    raise RuntimeError("no visa")


@sw.workflow
def plain_journey(places: list[str]) -> str:
    for place in places:
        book_plain(place)
    raise RuntimeError("no visa")


@pytest.mark.parametrize("flow", [journey, plain_journey])
def test_saga_undoes_the_steps_in_reverse_order(engine: sw.Engine, flow: Any) -> None:
    run = engine.start(flow, ["flight", "hotel", "car"])
    with pytest.raises(sw.RunFailed, match="no visa") as caught:
        run.result(20)
    assert run.status() == sw.RunStatus.COMPENSATED
    assert made == ["book flight", "book hotel", "book car", "cancel car", "cancel hotel", "cancel flight"]
    assert caught.value.error["undone"] == [
        f"{(flow.name == 'journey' and 'book') or 'book_plain'}{n}" for n in ("#3", "#2", "")
    ]


def test_saga_that_cannot_be_undone_says_so(engine: sw.Engine) -> None:
    def never(_: str) -> None:
        raise OSError("the line is dead")

    @sw.step(undo=sw.Step(never, name="never", retry=sw.Retry(max_attempts=1), timeout=None))
    async def risky() -> str:
        return "done"

    @sw.workflow
    async def half() -> None:
        await book("flight")
        await risky()
        raise RuntimeError("no")

    run = engine.start(half)
    with pytest.raises(sw.RunFailed) as caught:
        run.result(20)
    assert run.status() == sw.RunStatus.FAILED
    assert list(caught.value.error["not_undone"]) == ["risky"]
    assert caught.value.error["undone"] == ["book"]


# -- changed code ----------------------------------------------------------------------------------------------------


def test_changed_code_pauses_the_run_with_a_diff_and_a_fix_lets_it_go_on(tmp_path: Path) -> None:
    def version(*names: str) -> Any:
        async def changing() -> list[str]:
            got = [await make(name) if name != "wait" else await sw.wait_for_signal("go") for name in names]
            return [each for each in got if each]

        return sw.workflow(name="changing")(changing)

    named = {name: sw.step(name=name)(make.fn) for name in ("a", "b", "c")}

    def code(*names: str) -> Any:
        async def changing() -> list[str]:
            return [await named[name](name) for name in names if name != "wait" or await sw.wait_for_signal("go")]

        return sw.workflow(name="changing")(changing)

    with sw.Engine(tmp_path / "s.db") as engine:
        run = engine.start(code("a", "b", "wait"), key="k")
        comes_to(run, sw.RunStatus.WAITING)
    with sw.Engine(tmp_path / "s.db") as engine:
        run = engine.start(code("a", "wait"), key="k")  # b is gone
        run.signal("go")
        comes_to(run, sw.RunStatus.PAUSED)
        events = engine._core.find(run=run._run, with_events=True)[0][10]
        said = events[-1][3].decode()
        assert "SW-E2008" in said
        assert '"unasked": ["b"]' in said
    with sw.Engine(tmp_path / "s.db") as engine:
        fixed = engine.start(code("c", "a", "b", "wait"), key="k")  # b is back, and an inserted step does no harm
        fixed.resume()
        assert fixed.result(20) == ["c", "a", "b"]
    assert made == ["a", "b", "c"]


def test_patched_is_true_for_new_runs_and_false_for_old_ones(tmp_path: Path) -> None:
    def code(*, is_new: bool) -> Any:
        async def patching() -> list[str]:
            out = []
            if is_new and sw.patched("check"):
                out.append(await make("check"))
            out.append(await make("ship"))
            await sw.wait_for_signal("go")
            return out

        return sw.workflow(name="patching")(patching)

    with sw.Engine(tmp_path / "s.db") as engine:
        old = engine.start(code(is_new=False), key="old")
        comes_to(old, sw.RunStatus.WAITING)
    with sw.Engine(tmp_path / "s.db") as engine:
        flow = code(is_new=True)
        old = engine.start(flow, key="old")
        new = engine.start(flow, key="new")
        for run in (old, new):
            comes_to(run, sw.RunStatus.WAITING)
            run.signal("go")
        assert old.result(20) == ["ship"]
        assert new.result(20) == ["check", "ship"]


# -- the outbox and keys ---------------------------------------------------------------------------------------------


def test_send_begins_with_the_commit_of_its_step_or_not_at_all(engine: sw.Engine) -> None:
    attempts: list[str] = []

    @sw.step(retry=sw.Retry(max_attempts=3, base="1ms"))
    async def announces(x: int) -> int:
        attempts.append(sw.step_key())
        sw.send(doubles, x)
        sw.send(doubles, 7, key="once")
        if len(attempts) < 3:
            raise RuntimeError("not yet")
        return x

    @sw.workflow
    async def announcing(x: int) -> int:
        return await announces(x)

    assert engine.start(announcing, 5).result(20) == 5
    until(lambda: engine.counters()["runs_succeeded"] == 3)
    assert sorted(made) == ["double 5", "double 7"]
    assert len(set(attempts)) == 1, "the same key on every attempt"
    assert engine.start(announcing, 6).result(20) == 6
    until(lambda: "double 6" in made)
    assert made.count("double 7") == 1


def test_calls_in_the_wrong_place_are_refused(engine: sw.Engine) -> None:
    for call in (sw.step_key, lambda: sw.send(doubles, 1)):
        with pytest.raises(sw.InputError, match="SW-E2009"):
            call()
    with pytest.raises(sw.InputError, match="SW-E2009"):
        asyncio.run(sw.wait_for_signal("answer"))

    @sw.step
    async def waits_inside() -> None:
        await sw.wait_for_signal("answer")

    @sw.workflow
    async def wrong() -> None:
        await waits_inside()

    with pytest.raises(sw.RunFailed, match="inside a step"):
        engine.start(wrong).result(20)
