"""The bad-input catalogue, entries 37 to 50: what is put into queues. Each test bears the number of its entry."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import pickle
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from flows import asks, comes_to, doubles, failure_of, made, make, until

import stepwell as sw

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAM = Path(__file__).with_name("poison_program.py")
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
    error = failure_of(raw_start(engine, flow, payload))
    assert error.code == "SW-E1211"
    assert not made


def test_38_pickled_bytes_are_never_unpickled(engine: sw.Engine, tmp_path: Path) -> None:
    bomb = pickle.dumps(Bomb(tmp_path / "exploded"))
    assert failure_of(raw_start(engine, echoes, bomb)).code == "SW-E1211"
    assert not (tmp_path / "exploded").exists()


def test_39_a_truncated_payload(engine: sw.Engine) -> None:
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
    engine.serve(echoes)
    answer = engine._core.start([(0, "stranger", echoes.name, "", 0, b"1")])[0]
    run = engine._started(echoes, answer)
    comes_to(run, sw.RunStatus.PAUSED)
    assert engine.start(echoes, 2).result(20) == 2
    run.cancel()
    with pytest.raises(sw.RunCancelled):
        run.result(20)


def test_43_a_run_that_does_not_exist_or_has_ended(engine: sw.Engine) -> None:
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


@pytest.mark.kill
def test_50_a_run_that_gets_on_in_each_life_is_no_poison(tmp_path: Path) -> None:
    """Fifteen kills, a recorded step between any two of them: it ends."""
    command = [sys.executable, str(PROGRAM), str(tmp_path / "s.db"), str(tmp_path / "journal"), "advance"]
    for _ in range(15):
        assert subprocess.run(command, check=False, timeout=60).returncode == 7
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout.split()) == (0, ["380", "15"]), done.stderr


@pytest.mark.kill
@pytest.mark.timeout(120)
@pytest.mark.parametrize("how", ["exit", "segfault"])
def test_50_a_step_that_ends_its_process_is_given_up(how: str, tmp_path: Path) -> None:
    """After eleven lives it is a dead letter; what stood beside it was done once."""
    store, journal = tmp_path / "s.db", tmp_path / "journal"
    lives = 0
    while True:
        done = subprocess.run(
            [sys.executable, str(PROGRAM), str(store), str(journal), how], capture_output=True, text=True, check=False
        )
        if done.returncode == 0:
            break
        assert done.returncode == (7 if how == "exit" else -signal.SIGSEGV), done.stderr
        lives += 1
        assert lives <= 12
    assert done.stdout.split() == [str(sum(2 * x for x in range(20))), "SW-E1008"]
    lines = journal.read_text().splitlines()
    assert lines.count("poison 1") == lives == 10
    with sw.Engine(store) as engine:
        (letter,) = engine.dead_letters()
        assert (letter.key, letter.status, letter.input) == ("bad", sw.RunStatus.DEAD, 1)
        assert engine.find(doubles, "nothing") is None
