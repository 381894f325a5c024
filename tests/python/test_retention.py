"""Retention: what goes, when, and what a key still answers afterwards."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from flows import until

import stepwell as sw
from stepwell import store

if TYPE_CHECKING:
    from pathlib import Path

LONG = "a long text " * 1_000


@sw.step
async def think(text: str) -> str:
    return text


@sw.workflow
async def thinks(text: str) -> str:
    return await think(text)


@sw.workflow
async def fails(text: str) -> str:
    raise ValueError(await think(text))


@sw.workflow
async def lingers(text: str) -> str:
    return await sw.wait_for_signal("go", returns=str, default=text)


def count(path: Path, table: str) -> int:
    with closing(sqlite3.connect(path)) as db:
        return int(db.execute(f"SELECT count(*) FROM {table}").fetchone()[0])  # noqa: S608


def age(path: Path, days: int) -> None:
    """Make everything in a closed store older."""
    ms = days * 86_400_000
    with closing(sqlite3.connect(path)) as db:
        db.execute("UPDATE runs SET created_at = created_at - ?", (ms,))
        db.execute("UPDATE finished SET finished_at = finished_at - ?", (ms,))
        db.commit()


def test_without_a_policy_nothing_is_deleted(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    with sw.Engine(path) as engine:
        engine.start(thinks, "a").result(20)
    age(path, 10_000)
    with sw.Engine(path) as engine:
        engine.start(thinks, "b").result(20)
        assert engine.counters()["runs_deleted"] == 0
    assert count(path, "runs") == 2


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_finished_runs_go_and_failed_ones_stay(tmp_path: Path, kind: str) -> None:
    where = None if kind == "memory" else tmp_path / "s.db"
    with sw.Engine(where, retention="1ms") as engine:
        gone = [engine.start(thinks, LONG) for _ in range(20)]
        with pytest.raises(sw.RunFailed):
            engine.start(fails, "x", key="f").result(20)
        kept = engine.start(lingers, "waits", key="w")
        until(lambda: engine.counters()["runs_deleted"] == 20)
        with pytest.raises(sw.NotFoundError):
            gone[0].status()
        assert not kept.status().is_final
        assert len(list(engine.dead_letters())) == 1
        kept.signal("go", "on")
        assert kept.result(20) == "on"
    if where:
        assert [count(where, table) for table in ("runs", "blobs", "blob_bytes")] == [2, 0, 0]
        assert store.verify(where) == []


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_a_young_key_still_answers_when_its_run_is_trimmed(tmp_path: Path, kind: str) -> None:
    """I7: a key is kept at least its time; what the run took in and did goes before."""
    where = None if kind == "memory" else tmp_path / "s.db"
    with sw.Engine(where, retention=sw.Retention(finished="1ms")) as engine:
        run = engine.start(thinks, LONG, key="k")
        assert run.result(20) == LONG
        until(lambda: engine.counters()["runs_trimmed"] == 1)
        again = engine.start(thinks, LONG, key="k")
        assert again.id == run.id
        assert not again.is_new
        assert again.result(20) == LONG
        with pytest.raises(sw.ConflictError) as caught:
            engine.start(thinks, "another", key="k")
        assert caught.value.code == "SW-E1201"
        with pytest.raises(sw.ConflictError) as caught:
            engine.replay(run, key="r")
        assert caught.value.code == "SW-E1111"
        row = engine._core.find(run=run._run, with_events=True)[0]
        assert (row[6], row[10]) == (b"", None), "input and history are gone"
        assert engine.counters()["runs_deleted"] == 0
    if where:
        assert count(where, "events") == 0
        assert [count(where, table) for table in ("runs", "keys", "blobs")] == [1, 1, 1]
        assert store.verify(where) == []


def test_an_expired_key_starts_a_new_run(tmp_path: Path) -> None:
    """I8, also when its run was trimmed before."""
    path = tmp_path / "s.db"
    with sw.Engine(path, retention="1ms") as engine:
        old = engine.start(thinks, LONG, key="k")
        old.result(20)
        until(lambda: engine.counters()["runs_trimmed"] == 1)
    age(path, 29)
    with sw.Engine(path, retention="1ms") as engine:
        assert engine.start(thinks, LONG, key="k").id == old.id
    age(path, 2)
    with sw.Engine(path, retention="1h") as engine:
        until(lambda: engine.counters()["runs_deleted"] == 1)
        new = engine.start(thinks, "another", key="k")
        assert new.is_new
        assert new.result(20) == "another"
    assert [count(path, table) for table in ("runs", "keys", "events", "blobs")] == [1, 1, 1, 0]


def test_workflows_have_times_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    policy = sw.Retention(
        finished="100d", failed="100d", per_workflow={"thinks": "10d", "fails": sw.Retention(failed="5d")}
    )
    with sw.Engine(path) as engine:
        engine.start(thinks, "t").result(20)
        engine.start(lingers, "l").signal("go", "x")
        with pytest.raises(sw.RunFailed):
            engine.start(fails, "f").result(20)
    for days, left in ((4, 3), (2, 2), (5, 1), (100, 0)):
        age(path, days)
        with sw.Engine(path, workflows=[lingers], retention=policy) as engine:
            until(lambda: engine._core.find(count_max=10).__len__() == left)  # noqa: B023
    assert store.verify(path) == []


def test_a_long_history_goes_in_slices_and_commits_go_on(tmp_path: Path) -> None:
    path = tmp_path / "s.db"

    @sw.workflow
    async def many(n: int) -> int:
        for i in range(n):
            await think(str(i))
        return n

    with sw.Engine(path) as engine:
        engine.start(many, 3_500, key="long").result(60)
    age(path, 1)
    with sw.Engine(path, retention="1h") as engine:
        runs: list[Any] = []
        while engine.counters()["runs_trimmed"] == 0:
            runs.append(engine.start(thinks, "meanwhile"))
            assert runs[-1].result(20) == "meanwhile"
    assert count(path, "events") == len(runs)
    assert store.verify(path) == []


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        ({"keys": "23h"}, "SW-E1110"),
        ({"finished": "soon"}, "SW-E1010"),
        ({"per_workflow": {"a": sw.Retention(keys="40d")}}, "SW-E1110"),
        ({"dead": "-1s"}, "SW-E1010"),
    ],
)
def test_policies_that_break_a_promise_are_refused(bad: dict[str, Any], code: str) -> None:
    with pytest.raises(sw.InputError) as caught:
        sw.Retention(**bad)
    assert caught.value.code == code


def test_starts_that_others_could_join_go_with_their_runs(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    with sw.Engine(path) as engine:
        for number in range(100):
            key = f"one run for each customer {number}"
            collapse: Any = sw.Debounce(key, "1ms") if number % 2 else sw.Singleton(key)
            engine.start(thinks, "a", collapse=collapse).result(20)
    assert count(path, "collapsed") == 100
    age(path, 40)
    with sw.Engine(path, retention="30d") as engine:
        until(lambda: engine.counters()["runs_deleted"] == 100)
        engine.start(thinks, "b", collapse=sw.Singleton("another")).result(20)
    with sw.Engine(path, retention="1ms") as engine:
        until(lambda: engine.counters()["runs_deleted"] == 1)
    assert count(path, "collapsed") <= 1, "those of the pass before are gone"
