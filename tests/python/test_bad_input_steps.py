"""The bad-input catalogue, entries 59 to 66: what steps return, raise and do. Each test bears the number of its entry."""

from __future__ import annotations

import asyncio
import locale
import os
import signal
import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from flows import failure_of, made, make, still_works

import stepwell as sw

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

QUICK = sw.Retry(max_attempts=3, base="1ms", cap="2ms")


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[sw.Engine]:
    made.clear()
    with sw.Engine(tmp_path / "s.db") as opened:
        yield opened


# -- what steps return and raise -----------------------------------------------------------------------------------------


def self_reference() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


UNFIT = {
    "object": object,
    "lambda": lambda: lambda: 1,
    "generator": lambda: (x for x in range(3)),
    "self-reference": self_reference,
    "nan": lambda: float("nan"),
    "infinity": lambda: {"deep": [float("-inf")]},
    "bytes": lambda: b"x",
    "surrogate": lambda: "\ud800",
    "lock": threading.Lock,
    "tuple key": lambda: {(1, 2): 3},
    "huge number": lambda: 10**5000,
    "100 MiB": lambda: "x" * (100 << 20),
    "deep": lambda: eval_deep(20_000),
}


def eval_deep(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("what", UNFIT)
def test_59_a_result_that_cannot_be_kept(what: str, engine: sw.Engine) -> None:
    """The step fails without another attempt; an input is refused at the door."""
    calls: list[int] = []

    @sw.step(retry=QUICK)
    def returns_it() -> Any:
        calls.append(1)
        return UNFIT[what]()

    @sw.step(retry=QUICK)
    async def returns_it_later() -> Any:
        calls.append(1)
        return UNFIT[what]()

    @sw.workflow
    def plain(_: int) -> Any:
        return returns_it()

    @sw.workflow
    async def later(_: int) -> Any:
        return await returns_it_later()

    @sw.workflow
    async def itself(_: int) -> Any:
        return UNFIT[what]()

    code = "SW-E1203" if what == "100 MiB" else "SW-E1210"
    for flow in (plain, later, itself):
        error = failure_of(engine.start(flow, 0))
        assert code in (error.code, error.error.get("code")), error
    assert len(calls) == 2  # another attempt cannot help
    still_works(engine)
    if what != "100 MiB":
        with pytest.raises(sw.InputError, match=code):
            engine.start(itself, UNFIT[what]())


class MuteError(Exception):
    def __str__(self) -> str:
        raise SystemExit("not even this")


class NoError(BaseException):
    """Like those of libraries that must not be swallowed."""


RAISED = {
    "SystemExit": lambda: SystemExit(3),
    "KeyboardInterrupt": KeyboardInterrupt,
    "BaseException": lambda: NoError("no"),
    "GeneratorExit": GeneratorExit,
    "CancelledError": asyncio.CancelledError,
    "StopIteration": StopIteration,
    "mute": MuteError,
    "long": lambda: ValueError("x" * (40 << 20)),
    "surrogate": lambda: ValueError("\ud800"),
    "group": lambda: ExceptionGroup("many", [ValueError("one"), MuteError()]),
}


def throw(what: str) -> None:
    error = RAISED[what]()
    raise error


@pytest.mark.parametrize("what", RAISED)
def test_60_exceptions_of_every_kind_end_the_run_and_nothing_else(what: str, engine: sw.Engine) -> None:
    """SystemExit in a branch, a __str__ that raises, 40 MiB of message: recorded, cut to a readable length."""

    @sw.step
    def raises() -> None:
        throw(what)

    @sw.step(timeout="10s")
    async def raises_later() -> None:
        throw(what)

    @sw.workflow
    def plain(_: int) -> None:
        raises()

    @sw.workflow
    async def later(_: int) -> None:
        await raises_later()

    @sw.workflow
    async def in_branches(_: int) -> None:
        await sw.gather(make("beside"), raises_later())

    @sw.workflow
    async def in_a_task(_: int) -> None:
        async def body() -> None:
            throw(what)

        await asyncio.ensure_future(body())

    @sw.workflow
    async def itself(_: int) -> None:
        throw(what)

    for flow in (plain, later, in_branches, in_a_task, itself):
        error = failure_of(engine.start(flow, 0))
        assert error.code in ("SW-E2000", "SW-E2001"), error
        assert len(str(error)) < 100_000
    still_works(engine)


# -- steps that misbehave ------------------------------------------------------------------------------------------------


def test_61_a_step_that_ignores_its_cancellation_times_out(engine: sw.Engine) -> None:
    """The attempt is over a second after its timeout; what the step returns later is dropped."""
    let_go = asyncio.Event()
    ended = threading.Event()

    @sw.step(timeout="50ms")
    async def stubborn() -> None:
        while not let_go.is_set():
            try:
                await let_go.wait()
            except asyncio.CancelledError:
                made.append("cancelled")
        ended.set()

    @sw.step(timeout="50ms")
    def blocks() -> None:
        ended.wait()

    @sw.workflow
    async def later(_: int) -> None:
        await stubborn()

    @sw.workflow
    def plain(_: int) -> None:
        blocks()

    try:
        assert failure_of(engine.start(later, 0)).error["code"] == "SW-E2002"
        assert failure_of(engine.start(plain, 0)).error["code"] == "SW-E2002"
        assert "cancelled" in made
        still_works(engine)
    finally:
        engine._worker.loop.call_soon_threadsafe(let_go.set)
        assert ended.wait(20)


def test_61_a_run_whose_step_blocks_can_be_cancelled_and_the_engine_closed(tmp_path: Path) -> None:
    """At once; the next engine takes up the other run."""
    let_go = threading.Event()

    @sw.step
    def blocks() -> str:
        let_go.wait()
        return "late"

    @sw.workflow
    def plain(_: int) -> str:
        return blocks()

    engine = sw.Engine(tmp_path / "s.db")
    cancelled, left = engine.start(plain, 0), engine.start(plain, 1, key="left")
    cancelled.cancel()
    with pytest.raises(sw.RunCancelled):
        cancelled.result(20)
    engine.close(0)
    let_go.set()
    with sw.Engine(tmp_path / "s.db", workflows=[plain]) as engine:
        run = engine.find(plain, "left")
        assert run is not None
        assert run._run == left._run
        assert run.result(20) == "late"


def test_62_a_step_that_changes_folder_and_signal_handlers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store stays where it was opened; Python refuses the handler, which fails that step."""
    monkeypatch.chdir(tmp_path)
    other = tmp_path / "other"
    other.mkdir()

    @sw.step
    def moves() -> str:
        os.chdir(other)
        return "moved"

    @sw.step
    def takes_signals() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)

    @sw.workflow
    def plain(_: int) -> str:
        moved = moves()
        with pytest.raises(sw.StepFailed):  # Python lets only the main thread do it
            takes_signals()
        return moved

    with sw.Engine("here.db") as engine:
        run = engine.start(plain, 0, key="one")
        assert run.result(20) == "moved"
        with pytest.raises(sw.ConflictError, match="SW-E1101"):
            sw.Engine(tmp_path / "here.db")
    assert not list(other.iterdir())
    with sw.Engine(tmp_path / "here.db") as engine:
        found = engine.find(plain, "one")
        assert found is not None
        assert found.result(20) == "moved"


@pytest.mark.parametrize("name", ["de_DE.UTF-8", "tr_TR.UTF-8"])
def test_62_a_step_that_changes_the_locale(name: str, engine: sw.Engine) -> None:
    """Numbers are kept as before."""
    before = locale.setlocale(locale.LC_ALL)

    @sw.step
    def speaks() -> float:
        locale.setlocale(locale.LC_ALL, name)
        return 1.5

    @sw.workflow
    def plain(x: float) -> list[float]:
        return [x, speaks()]

    try:
        locale.setlocale(locale.LC_ALL, name)
    except locale.Error:
        pytest.skip(f"locale {name} is not installed")
    try:
        assert engine.start(plain, 2.25).result(20) == [2.25, 1.5]
        assert engine.start(plain, 0.1, delay="1ms", timeout="1.5h").result(20) == [0.1, 1.5]
    finally:
        locale.setlocale(locale.LC_ALL, before)


# -- recursion, sagas, times ---------------------------------------------------------------------------------------------


@sw.workflow
async def counts_down(x: int) -> int:
    return 0 if x == 0 else 1 + await sw.child(counts_down, x - 1)


@sw.workflow
def counts_down_plainly(x: int) -> int:
    return 0 if x == 0 else 1 + sw.child_blocking(counts_down_plainly, x - 1)


@pytest.mark.parametrize("flow", [counts_down, counts_down_plainly], ids=lambda flow: flow.name)
def test_63_recursive_children_are_bounded(flow: sw.Workflow[..., int], engine: sw.Engine) -> None:
    """Twenty generations are fine, a hundred and one fail."""
    assert engine.start(flow, 20).result(30) == 20
    error = failure_of(engine.start(flow, 1_000_000))
    assert "SW-E2044" in str(error.error)
    still_works(engine)


def test_65_a_compensation_that_fails_for_ever(engine: sw.Engine) -> None:
    """It is tried as often as its policy says; the others are undone, and the failure lists both kinds."""
    attempts: list[int] = []

    @sw.step(retry=QUICK)
    async def undo_it(_: str) -> None:
        attempts.append(1)
        raise OSError("the bank is closed")

    @sw.step(undo=undo_it)
    async def holds() -> str:
        return "held"

    @sw.step(undo=lambda what: made.append(f"undone {what}"))
    async def books() -> str:
        return "booked"

    @sw.workflow
    async def saga(_: int) -> None:
        await books()
        await holds()
        raise ValueError("no")

    error = failure_of(engine.start(saga, 0))
    assert len(attempts) == 3
    assert error.error["undone"] == ["books"]
    assert list(error.error["not_undone"]) == ["holds"]
    assert made == ["undone booked"]
    assert len(list(engine.dead_letters())) == 1


@pytest.mark.parametrize(
    "timeout", ["0s", "-1s", "", "5", 5, 0, -1, 2.5, True, timedelta(0), timedelta(-1), "1e3s", "1 s s", float("nan")]
)
def test_66_times_that_are_none(timeout: Any, engine: sw.Engine) -> None:
    """Refused where they are given."""
    makers = (
        lambda: sw.step(timeout=timeout)(make.fn),
        lambda: sw.Retry(base=timeout),
        lambda: engine.start(counts_down, 1, timeout=timeout),
        lambda: engine.start(counts_down, 1, delay=timeout),
        lambda: engine.queue("q", rate=sw.Rate(1, timeout)),
        lambda: sw.Engine(lease=timeout),
    )
    for maker in makers:
        with pytest.raises(sw.InputError, match="SW-E1010"):
            maker()


def test_66_a_step_that_may_take_longer_than_its_run(engine: sw.Engine) -> None:
    """The run's own deadline ends it."""

    @sw.step(timeout="10m")
    async def slow() -> None:
        await asyncio.Event().wait()

    @sw.workflow
    async def hurried(_: int) -> None:
        await slow()

    assert failure_of(engine.start(hurried, 0, timeout="100ms")).code == "SW-E1017"
