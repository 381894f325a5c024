"""Dead letters: what they keep, how they are grouped, and every way to start them again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from flows import asks, comes_to, made, make

import stepwell as sw

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

broken: set[int] = set()


@pytest.fixture(params=["memory", "file"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[sw.Engine]:
    """An open engine on each store."""
    made.clear()
    broken.clear()
    with sw.Engine(None if request.param == "memory" else tmp_path / "s.db") as opened:
        yield opened


@sw.step
async def charge(order: int) -> int:
    made.append(f"charge {order}")
    if order in broken:
        raise ValueError(f"card of order {order} refused")
    return order


@sw.workflow
async def ships(order: int) -> list[Any]:
    return [await make(f"pick {order}"), await charge(order), await make(f"ship {order}")]


def fail(engine: sw.Engine, *orders: int) -> list[sw.Run[Any]]:
    broken.update(orders)
    runs = [engine.start(ships, order, key=f"o{order}") for order in orders]
    for run in runs:
        with pytest.raises(sw.RunFailed):
            run.result(20)
    return runs


def test_dead_letters_keep_input_error_and_key(engine: sw.Engine) -> None:
    fail(engine, 1)
    engine.start(ships, 99).result(20)
    (letter,) = engine.dead_letters()
    assert (letter.workflow, letter.input, letter.key, letter.status) == ("ships", 1, "o1", sw.RunStatus.FAILED)
    assert letter.error["message"].endswith("card of order 1 refused")


def test_dead_letters_are_grouped_by_what_went_wrong(engine: sw.Engine) -> None:
    fail(engine, 1, 22, 333)

    @sw.workflow
    async def other() -> None:
        raise KeyError("x")

    with pytest.raises(sw.RunFailed):
        engine.start(other).result(20)
    groups = engine.dead_letters().groups()
    assert [count for _, count in groups] == [3, 1]
    assert "card of order # refused" in groups[0][0]
    assert len(list(engine.dead_letters(ships))) == 3
    assert [each.input for each in engine.dead_letters(ships, where=lambda letter: letter.input > 9)] == [333, 22]


def test_replay_by_filter_counts_first_sends_a_canary_and_repeats_nothing(engine: sw.Engine) -> None:
    fail(engine, 1, 2, 3)
    broken.clear()
    letters = engine.dead_letters(ships)
    assert letters.replay(dry_run=True) == 3
    canary = letters.replay(limit=1)
    assert isinstance(canary, list)
    assert [run.result(20)[1] for run in canary] == [1]
    rest = letters.replay()
    assert isinstance(rest, list)
    assert [run.result(20)[1] for run in rest] == [1, 2, 3]
    again = letters.replay()
    assert isinstance(again, list)
    assert [run.id for run in again] == [run.id for run in rest]
    assert made.count("ship 1") == 1
    assert len(list(letters)) == 3, "nothing is deleted"


def test_replay_from_a_step_keeps_what_was_recorded_before_it(engine: sw.Engine) -> None:
    (run,) = fail(engine, 1)
    broken.clear()
    made.clear()
    assert engine.replay(run, from_step="charge").result(20) == ["pick 1", 1, "ship 1"]
    assert made == ["charge 1", "ship 1"]


def test_replay_with_an_edited_input(engine: sw.Engine) -> None:
    (run,) = fail(engine, 1)
    assert engine.replay(run, value=5).result(20) == ["pick 5", 5, "ship 5"]


def test_replay_of_what_makes_no_sense_is_refused(engine: sw.Engine) -> None:
    (run,) = fail(engine, 1)
    with pytest.raises(sw.InputError, match="SW-E2012"):
        engine.replay(run, from_step="no such step")
    with pytest.raises(sw.InputError, match="SW-E1021"):
        engine.replay(run, vlaue=3)
    waiting = engine.start(asks, "1h")
    comes_to(waiting, sw.RunStatus.WAITING)
    with pytest.raises(sw.ConflictError, match="SW-E1019"):
        engine.replay(waiting)
    with pytest.raises(sw.InputError, match="SW-E1014"):
        engine.dead_letters().replay(limit=0)
    with pytest.raises(sw.NotFoundError):
        engine.replay(12345)


def test_replay_needs_to_know_the_workflow(tmp_path: Path) -> None:
    broken.add(1)
    with sw.Engine(tmp_path / "s.db") as engine:
        run = engine.start(ships, 1)
        with pytest.raises(sw.RunFailed):
            run.result(20)
    with sw.Engine(tmp_path / "s.db") as engine, pytest.raises(sw.InputError, match="SW-E1020"):
        engine.replay(run._run)
