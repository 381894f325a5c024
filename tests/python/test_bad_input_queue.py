"""The bad-input catalogue, entries 37 to 50: what is put into queues. Each test bears the number of its entry."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import pickle
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from flows import asks, code_of_pause, comes_to, doubles, failure_of, made, make, until

import stepwell as sw

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 1 << 20


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[sw.Engine]:
    made.clear()
    with sw.Engine(tmp_path / "s.db") as opened:
        yield opened


@sw.workflow
async def echoes(x: Any) -> Any:
    await make("echo")
    return x


@sw.workflow
def echoes_plainly(x: Any) -> Any:
    return x


@dataclasses.dataclass
class Order:
    id: str
    amount: int


@sw.workflow
async def books(order: Order) -> int:
    await make(f"book {order.id}")
    return order.amount


def raw_start(engine: sw.Engine, flow: sw.Workflow[..., Any], payload: bytes, key: str = "") -> sw.Run[Any]:
    """Start with bytes that our own encoder would never make, as another program might write them."""
    engine.serve(flow)
    answer = engine._core.start([(0, flow.name, flow.name, key, 1 if key else 0, payload)])[0]
    return engine._started(flow, answer)


class Bomb:
    """Its pickle makes a file when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("flow", [echoes, echoes_plainly, books], ids=lambda flow: flow.name)
@pytest.mark.parametrize(
    "payload", [b"", b"hello", b"\xff\xfe\x00", b"\x81\xa1a\x01"], ids=["empty", "text", "utf-16", "msgpack"]
)
def test_37_a_payload_that_is_not_json(engine: sw.Engine, flow: sw.Workflow[..., Any], payload: bytes) -> None:
    """The run fails before its first step; it is a dead letter with its bytes kept."""
    error = failure_of(raw_start(engine, flow, payload))
    assert error.code == "SW-E1211"
    assert not made


def test_38_pickled_bytes_are_never_unpickled(engine: sw.Engine, tmp_path: Path) -> None:
    """They are no JSON: the run fails, and nothing of them is executed."""
    bomb = pickle.dumps(Bomb(tmp_path / "exploded"))
    assert failure_of(raw_start(engine, echoes, bomb)).code == "SW-E1211"
    assert not (tmp_path / "exploded").exists()


def test_39_a_truncated_payload(engine: sw.Engine) -> None:
    """The run fails before its first step, wherever the cut is."""
    whole = b'{"id":"o-1","amount":12}'
    for cut in (1, len(whole) // 2, len(whole) - 1):
        assert failure_of(raw_start(engine, books, whole[:cut])).code == "SW-E1211"
    assert not made
    assert raw_start(engine, books, whole).result(20) == 12


def test_40_an_input_of_another_version_of_the_code(engine: sw.Engine) -> None:
    """It is kept as a dead letter and can be replayed with an input that fits."""
    run = raw_start(engine, books, b'{"order_id":"o-1","cents":1200}')
    assert failure_of(run).code == "SW-E1211"
    assert not made
    (letter,) = engine.dead_letters()
    assert letter.input == {"order_id": "o-1", "cents": 1200}
    assert engine.replay(letter.run, value=Order("o-1", 12)).result(20) == 12


def test_42_a_run_of_a_workflow_that_nobody_serves(engine: sw.Engine) -> None:
    """It is paused and says why (SW-E1020); the others of its queue go on."""
    engine.serve(echoes)
    answer = engine._core.start([(0, "stranger", echoes.name, "", 0, b"1")])[0]
    run = engine._started(echoes, answer)
    comes_to(run, sw.RunStatus.PAUSED)
    assert code_of_pause(engine, run) == "SW-E1020"
    assert engine.start(echoes, 2).result(20) == 2
    run.cancel()
    with pytest.raises(sw.RunCancelled):
        run.result(20)


def test_43_a_run_that_does_not_exist_or_has_ended(engine: sw.Engine) -> None:
    """Every verb says so; reports for it change nothing."""
    nobody: sw.Run[Any] = sw.Run(engine, echoes, 12345, is_new=False)
    done = engine.start(echoes, 1)
    done.result(20)
    for verb in (nobody.status, lambda: nobody.result(1), lambda: nobody.signal("x"), nobody.pause, nobody.cancel):
        with pytest.raises(sw.NotFoundError, match="SW-E1005"):
            verb()
    with pytest.raises(sw.NotFoundError, match="SW-E1005"):
        engine.replay(12345)
    for verb in (lambda: done.signal("x"), done.pause, done.resume):
        with pytest.raises(sw.ConflictError, match="SW-E1015"):
            verb()
    done.cancel()
    assert done.result(1) == 1
    # Reports for runs that are not ours change nothing.
    engine._core.complete([(0, 12345, 1, b"9"), (0, done._run, 1, b"9"), (2, done._run, 77, "echo", 1, b"9", 0, 0)])
    assert engine.start(echoes, 3).result(20) == 3
    assert done.result(1) == 1


def test_45_a_payload_of_ten_mebibytes(engine: sw.Engine) -> None:
    """It is kept and comes back; more than 32 MiB are refused at the door, whatever they are."""
    value = "x" * (10 * MIB)
    run = engine.start(echoes, value, key="big")
    assert run.result(60) == value
    assert engine.start(echoes, value, key="big")._run == run._run
    with pytest.raises(sw.InputError, match="SW-E1203"):
        engine.start(echoes, "x" * (33 * MIB))
    waits = engine.start(asks, "1m")
    with pytest.raises(sw.InputError, match="SW-E1203"):
        waits.signal("answer", "x" * (33 * MIB))
    waits.signal("answer", {"x": 1})
    assert waits.result(20) == {"x": 1}


def test_46_a_start_and_a_signal_delivered_a_thousand_times(engine: sw.Engine) -> None:
    """One run, one value taken."""
    runs = engine.start_many(doubles, [5] * 1000, keys=["same"] * 1000)
    assert len({run._run for run in runs}) == 1
    assert sum(run.is_new for run in runs) == 1
    assert runs[0].result(20) == 10
    assert made == ["double 5"]
    run = engine.start(asks, "1m")
    delivered = 0
    with contextlib.suppress(sw.ConflictError):  # it was taken, and the run has ended
        for delivered in range(1, 1001):  # noqa: B007 - looked at below
            run.signal("answer", {"x": 1}, key="once")
    assert run.result(20) == {"x": 1}
    assert delivered


def test_47_signals_and_reports_out_of_order(engine: sw.Engine) -> None:
    """Signals wait for whoever asks for their name, in the order of each name."""

    @sw.workflow
    async def in_order(_: int) -> list[Any]:
        return [
            await sw.wait_for_signal("first"),
            await sw.wait_for_signal("second"),
            await sw.wait_for_signal("first"),
        ]

    run = engine.start(in_order, 0)
    for name, value in (("second", 2), ("first", 1), ("first", 3)):
        run.signal(name, value)
    assert run.result(20) == [1, 2, 3]


def test_48_due_times_of_the_far_past_and_the_far_future(engine: sw.Engine) -> None:
    """The past is due at once, the year 9999 waits and can be cancelled, more than a million days are refused."""

    @sw.workflow
    async def sleeps_until(when: datetime) -> str:
        await sw.sleep_until(when)
        return "awake"

    for year in (1, 1900, 1969):
        assert engine.start(sleeps_until, datetime(year, 1, 2, tzinfo=UTC)).result(20) == "awake"
    far = engine.start(sleeps_until, datetime(9999, 12, 31, tzinfo=UTC))
    comes_to(far, sw.RunStatus.WAITING)
    late = engine.start(doubles, 1, delay="900000d")
    assert late.status() in (sw.RunStatus.QUEUED, sw.RunStatus.WAITING)
    for run in (far, late):
        run.cancel()
        with pytest.raises(sw.RunCancelled):
            run.result(20)
    for option in ({"delay": "99999999999999999999d"}, {"timeout": "9" * 400 + "s"}):
        with pytest.raises(sw.InputError, match="SW-E1010"):
            engine.start(doubles, 1, **option)  # type: ignore[arg-type]


def test_49_attempt_counters_out_of_range(engine: sw.Engine) -> None:
    """A policy outside 1 to 1000 is refused; a report with a foreign token is dropped."""
    for attempts in (-1, 0, 1001, 2**31, 2**63):
        with pytest.raises(sw.InputError, match="SW-E1011"):
            sw.Retry(max_attempts=attempts)

    run = engine.start(asks, "1m")
    comes_to(run, sw.RunStatus.WAITING)
    # A report whose token is not the run's, whatever attempt it claims.
    engine._core.complete([(2, run._run, 0, "make", attempt, b'"x"', 0, 0) for attempt in (-1, 2**31 - 1)])
    run.signal("answer", {"x": 1})
    assert run.result(20) == {"x": 1}


@sw.workflow
async def never_ends(steps: int) -> None:
    for number in range(LIVES[0]):
        await make(f"step {number}")
    await asyncio.Event().wait()


#: How often the engine was opened: each life of `never_ends` gets one step further.
LIVES = [0]


def test_50_an_engine_that_is_closed_often_is_no_crash(tmp_path: Path) -> None:
    """Twenty clean restarts, as deployments are, leave a run that takes longer than all of them alive."""
    made.clear()
    for LIVES[0] in (0,) * 15 + (1, 2, 3, 4, 5):
        with sw.Engine(tmp_path / "s.db", workflows=[never_ends]) as engine:
            run = engine.start(never_ends, 0, key="one")
            until(lambda: run._run in engine._worker.active)  # noqa: B023 - called at once
            until(lambda: len(made) == LIVES[0])
            assert run.status() == sw.RunStatus.RUNNING
            engine.close(0)
    assert made == [f"step {number}" for number in range(5)]
