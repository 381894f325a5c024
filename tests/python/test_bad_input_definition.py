"""The bad-input catalogue, entries 51 to 58: what workflows are made of. Each test bears the number of its entry."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from flows import code_of_pause, comes_to, failure_of, made, make, make_plain, still_works, until

import stepwell as sw

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PROGRAM = Path(__file__).with_name("poison_program.py")
QUICK = sw.Retry(max_attempts=3, base="1ms", cap="2ms")


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[sw.Engine]:
    made.clear()
    with sw.Engine(tmp_path / "s.db") as opened:
        yield opened


# -- names, cycles, sizes -----------------------------------------------------------------------------------------------


@sw.workflow
async def ping(x: int) -> int:
    return await sw.child(pong, x)


@sw.workflow
async def pong(x: int) -> int:
    return await sw.child(ping, x)


def test_51_a_cycle_of_workflows_ends(engine: sw.Engine) -> None:
    """The hundredth generation fails, and with it all of them."""
    error = failure_of(engine.start(ping, 1))
    assert "SW-E2044" in str(error.error)
    still_works(engine)


@pytest.mark.parametrize("name", ["", "a/b", "a#2", "x" * 201, "new\nline", "nul\0", "\u202e", 7, "gather/0/make"])
def test_53_names_that_a_history_could_not_tell_apart(name: Any) -> None:
    """Refused where the step or workflow is defined."""
    with pytest.raises(sw.InputError, match="SW-E2041"):
        sw.step(name=name)(make.fn)
    with pytest.raises(sw.InputError, match="SW-E2041"):
        sw.workflow(name=name)(make.fn)


def test_53_names_that_differ_by_case_or_normal_form_stay_apart(engine: sw.Engine) -> None:
    """They are different names, on a replay too."""
    names = ["caf\u00e9", "cafe\u0301", "CAFÉ", "straße", "STRASSE", "ss"]
    steps = {name: sw.step(name=name)(lambda name=name: name) for name in names}

    @sw.workflow
    def calls_all(_: int) -> list[str]:
        return [steps[name]() for name in names + names]

    run = engine.start(calls_all, 0)
    assert run.result(20) == names + names
    assert engine.replay(run, from_step=names[-1]).result(20) == names + names


def test_53_one_step_called_twice_and_two_steps_of_one_name(engine: sw.Engine) -> None:
    """Told apart by their order."""
    twin = sw.step(name="make")(lambda what: f"twin {what}")

    @sw.workflow
    async def mixes(_: int) -> list[str]:
        return [await make("a"), twin("b"), await make("c")]

    run = engine.start(mixes, 0)
    assert run.result(20) == ["a", "twin b", "c"]
    assert engine.replay(run, from_step="make#3").result(20) == ["a", "twin b", "c"]


def test_53_signals_whose_names_look_like_occurrences(engine: sw.Engine) -> None:
    """They are not taken for them."""

    @sw.workflow
    async def listens(_: int) -> list[Any]:
        return [await sw.wait_for_signal("x"), await sw.wait_for_signal("x"), await sw.wait_for_signal("x#2")]

    run = engine.start(listens, 0)
    for name, value in (("x#2", 3), ("x", 1), ("x", 2)):
        run.signal(name, value)
    assert run.result(20) == [1, 2, 3]


def test_53_two_workflows_of_one_name(engine: sw.Engine) -> None:
    """The engine refuses the second one; running a notebook's cell again is no second one."""

    @sw.workflow(name="same")
    async def one(x: int) -> int:
        return x

    @sw.workflow(name="same")
    async def other(x: int) -> int:
        return -x

    assert engine.start(one, 1).result(20) == 1
    with pytest.raises(sw.ConflictError, match="SW-E2043"):
        engine.serve(other)
    assert engine.start(one, 1).result(20) == 1


def test_54_a_dependency_that_is_missing(engine: sw.Engine) -> None:
    """The run fails with the module's name and can be replayed once it is there."""

    @sw.step
    def imports(name: str) -> str:
        return __import__(name).__name__

    @sw.workflow
    def needs(name: str) -> str:
        make_plain("before")
        return imports(name)

    run = engine.start(needs, "no_such_module_at_all")
    assert "ModuleNotFoundError: No module named 'no_such_module_at_all'" in failure_of(run).message
    (letter,) = engine.dead_letters()
    assert engine.replay(letter.run, value="json").result(20) == "json"


def test_55_ten_thousand_steps(engine: sw.Engine) -> None:
    """They are recorded and the run ends."""

    @sw.step
    def one(x: int) -> int:
        return x

    @sw.workflow
    def many(count: int) -> int:
        return sum(one(1) for _ in range(count))

    assert engine.start(many, 10_000).result(50) == 10_000


def test_55_a_fan_out_without_bounds(engine: sw.Engine) -> None:
    """More than 100,000 branches are refused before the first of them begins, an endless iterator too."""

    @sw.workflow
    async def fans_out(how: str) -> int:
        if how == "map":
            return len(await sw.map(make, map(str, range(1_000_000))))
        if how == "endless":
            return len(await sw.map(make, map(str, itertools.count())))
        branches = [make("x") for _ in range(200_000)]
        try:
            return len(await sw.gather(*branches))
        finally:
            for branch in branches:
                branch.close()

    for how in ("map", "endless", "gather"):
        assert failure_of(engine.start(fans_out, how)).code == "SW-E2042"
    assert not made
    still_works(engine)


def test_56_an_empty_workflow(engine: sw.Engine) -> None:
    """It succeeds with None; one of two inputs is refused where it is defined."""

    @sw.workflow
    async def empty() -> None:
        pass

    @sw.workflow
    def empty_too(_: Any = None) -> None: ...

    assert engine.start(empty).result(20) is None
    assert engine.start(empty_too).result(20) is None
    nameless = functools.partial(make.fn, "x")
    with pytest.raises(sw.InputError, match="SW-E2041"):
        sw.workflow(nameless)
    assert engine.start(sw.workflow(name="named")(functools.partial(make.fn, "x"))).result(20) == "x"
    with pytest.raises(sw.InputError, match="SW-E2003"):

        @sw.workflow
        def of_two(a: int, b: int) -> None: ...


# -- code that changes ---------------------------------------------------------------------------------------------------


def changing(body: Callable[[], Any], returns: Any = Any) -> sw.Workflow[..., Any]:
    async def flow(_: int) -> Any:
        return await body()

    flow.__annotations__["return"] = returns
    return sw.workflow(name="changing")(flow)


@dataclasses.dataclass
class Money:
    cents: int


def first_life(path: Path) -> None:
    """Record the steps `a` and `b`, and wait."""

    async def body() -> Any:
        done = [await NAMED["a"]("a"), await NAMED["b"]("b")]
        return [*done, await sw.wait_for_signal("go")]

    with sw.Engine(path) as engine:
        comes_to(engine.start(changing(body), 0, key="one"), sw.RunStatus.WAITING)


def next_life(path: Path, body: Callable[[], Any]) -> tuple[sw.RunStatus, Any]:
    flow = changing(body)
    with sw.Engine(path, workflows=[flow]) as engine:
        run = engine.find(flow, "one")
        assert run is not None
        run.signal("go", "gone", key="go")
        until(lambda: run.status().is_final or run.status() == sw.RunStatus.PAUSED)
        status = run.status()
        assert status != sw.RunStatus.PAUSED or code_of_pause(engine, run) == "SW-E2008"
        return status, run.result(1) if status == sw.RunStatus.SUCCEEDED else None


NAMED = {name: sw.step(name=name)(make.fn) for name in ("a", "b", "c")}


async def as_it_was() -> Any:
    return [await NAMED["a"]("a"), await NAMED["b"]("b"), await sw.wait_for_signal("go")]


async def without_b() -> Any:
    return [await NAMED["a"]("a"), await sw.wait_for_signal("go")]


async def b_renamed() -> Any:
    return [await NAMED["a"]("a"), await NAMED["c"]("b"), await sw.wait_for_signal("go")]


async def reordered() -> Any:
    return [await NAMED["b"]("b"), await NAMED["a"]("a"), await sw.wait_for_signal("go")]


@pytest.mark.parametrize("body", [without_b, b_renamed], ids=lambda body: body.__name__)
def test_57_changed_code_pauses_and_the_old_code_goes_on(body: Callable[[], Any], tmp_path: Path) -> None:
    """The run is paused with what differs (SW-E2008); nothing recorded is done again."""
    made.clear()
    first_life(tmp_path / "s.db")
    assert next_life(tmp_path / "s.db", body)[0] == sw.RunStatus.PAUSED
    flow = changing(as_it_was)
    with sw.Engine(tmp_path / "s.db", workflows=[flow]) as engine:
        run = engine.find(flow, "one")
        assert run is not None
        run.resume()
        if body is without_b:
            assert run.result(20) == ["a", "b", "gone"]
        else:  # what the changed code did is recorded too, and the old code does not ask for it
            comes_to(run, sw.RunStatus.PAUSED)
    assert made.count("a") == 1


def test_57_reordered_steps_answer_from_the_history(tmp_path: Path) -> None:
    """Nothing is done again."""
    made.clear()
    first_life(tmp_path / "s.db")
    assert next_life(tmp_path / "s.db", reordered) == (sw.RunStatus.SUCCEEDED, ["b", "a", "gone"])
    assert made == ["a", "b"]


def test_57_a_step_whose_type_changed(tmp_path: Path) -> None:
    """The run fails with what was recorded and what was asked for; nothing is done again."""
    made.clear()
    first_life(tmp_path / "s.db")

    @sw.step(name="a")
    async def another_type(_: str) -> Money:
        return Money(1)

    async def body() -> Any:
        return [await another_type("a"), await NAMED["b"]("b"), await sw.wait_for_signal("go")]

    flow = changing(body)
    with sw.Engine(tmp_path / "s.db", workflows=[flow]) as engine:
        run = engine.find(flow, "one")
        assert run is not None
        run.signal("go", "gone", key="go")
        assert failure_of(run).code == "SW-E1211"
        assert made == ["a", "b"]


def test_58_values_of_the_outside_world_are_recorded(tmp_path: Path) -> None:
    """now, uuid and random give the recorded value again."""

    @sw.workflow
    async def looks_around(_: int) -> list[str]:
        seen = [sw.now().isoformat(), str(sw.uuid()), str(sw.random())]
        await make(seen[1])
        return [*seen, await sw.wait_for_signal("go")]

    made.clear()
    with sw.Engine(tmp_path / "s.db") as engine:
        comes_to(engine.start(looks_around, 0, key="one"), sw.RunStatus.WAITING)
    with sw.Engine(tmp_path / "s.db", workflows=[looks_around]) as engine:
        run = engine.find(looks_around, "one")
        assert run is not None
        run.signal("go", "gone")
        assert run.result(20)[1] == made[0]
    assert len(made) == 1


def test_58_a_branch_that_depends_on_the_process_pauses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once the run would end without what is recorded, it is paused instead (SW-E2008)."""

    async def body() -> Any:
        side = os.environ["SIDE"]
        return [await NAMED[side](side), await sw.wait_for_signal("go")]

    made.clear()
    monkeypatch.setenv("SIDE", "a")
    with sw.Engine(tmp_path / "s.db") as engine:
        comes_to(engine.start(changing(body), 0, key="one"), sw.RunStatus.WAITING)
    monkeypatch.setenv("SIDE", "b")
    assert next_life(tmp_path / "s.db", body)[0] == sw.RunStatus.PAUSED
    assert made.count("a") == 1
