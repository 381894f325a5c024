"""Queues with limits, through the whole engine: concurrency, groups, rates, turns, pause, drain, starts that join."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from flows import comes_to, until

import stepwell as sw
from stepwell import testing

if TYPE_CHECKING:
    from pathlib import Path


class Watch:
    """Sees how many runs are under way at once, in all and by group. Nobody leaves before a `crowd` was in together."""

    def __init__(self, crowd: int) -> None:
        self._crowd = asyncio.Event()
        self._crowd_size = crowd
        self._lock = threading.Lock()
        self._now: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.order: list[str] = []

    async def pass_by(self, group: str) -> None:
        with self._lock:
            self.order.append(group)
            for name in ("", group):
                self._now[name] += 1
                self.most[name] = max(self.most[name], self._now[name])
        if self.most[""] >= self._crowd_size:
            self._crowd.set()
        await asyncio.wait_for(self._crowd.wait(), 30)
        for _ in range(20):  # the others get their turns
            await asyncio.sleep(0)
        with self._lock:
            for name in ("", group):
                self._now[name] -= 1


def watched(crowd: int = 1) -> tuple[Watch, sw.Workflow[..., Any]]:
    watch = Watch(crowd)

    @sw.workflow
    async def visit(group: str) -> str:
        await watch.pass_by(group)
        return group

    return watch, visit


def test_concurrency_of_a_queue_is_never_passed_and_everything_is_run() -> None:
    watch, visit = watched(crowd=3)
    with sw.Engine() as engine:
        engine.queue(visit, concurrency=3)
        runs = [engine.start(visit, "any") for _ in range(60)]
        assert [run.result(timeout=30) for run in runs] == ["any"] * 60
    assert watch.most[""] == 3


def test_concurrency_per_group_lets_other_groups_pass(tmp_path: Path) -> None:
    watch, visit = watched(crowd=2)
    with sw.Engine(tmp_path / "queues.db") as engine:
        queue = engine.queue("visits", per_group=1)
        runs = [engine.start(visit, f"g{i % 5}", queue="visits", group=f"g{i % 5}") for i in range(100)]
        for run in runs:
            run.result(timeout=30)
        assert queue.info() == sw.QueueInfo("visits", 0, 0, 0, None, 1, None, fair=False, paused=False)
    assert {watch.most[f"g{i}"] for i in range(5)} == {1}
    assert watch.most[""] > 1


def test_limits_outlive_the_engine(tmp_path: Path) -> None:
    path = tmp_path / "queues.db"
    with sw.Engine(path) as engine:
        engine.queue("q", concurrency=7, per_group=2, rate=sw.Rate(10, "2s"), fair=True)
    with sw.Engine(path) as engine:
        info = engine.queue("q").info()
        assert (info.concurrency, info.per_group, info.rate, info.fair) == (7, 2, sw.Rate(10, "2000ms"), True)
        assert engine.queue("q", rate=None, concurrency=None).info().rate is None


def test_rate_spreads_runs_over_time() -> None:
    watch, visit = watched()
    with testing.Engine(auto=False) as engine:
        queue = engine.queue(visit, rate=sw.Rate(5, "1h"))
        runs = [engine.start(visit, "any") for _ in range(14)]
        for hour in (1, 2):
            until(lambda hour=hour: len(watch.order) == 5 * hour)  # type: ignore[misc]
            engine.clock.advance("59m")
            assert queue.info().queued == 14 - 5 * hour
            engine.clock.advance("1m")
        for run in runs:
            run.result(timeout=30)
    assert len(watch.order) == 14


def test_fair_groups_take_turns() -> None:
    watch, visit = watched()
    with sw.Engine() as engine:
        queue = engine.queue(visit, concurrency=1, fair=True)
        queue.pause()
        runs = [engine.start(visit, "greedy", group="greedy") for _ in range(50)]
        runs += [engine.start(visit, "small", group="small") for _ in range(3)]
        queue.resume()
        for run in runs:
            run.result(timeout=30)
    assert max(i for i, group in enumerate(watch.order) if group == "small") < 15


def test_limits_change_while_runs_are_queued() -> None:
    watch, visit = watched(crowd=2)
    with sw.Engine() as engine:
        queue = engine.queue(visit, concurrency=1)
        runs = [engine.start(visit, "any") for _ in range(40)]
        queue.limit(concurrency=8)
        for run in runs:
            run.result(timeout=30)
    assert 1 < watch.most[""] <= 8


def test_pause_holds_queued_runs_and_resume_lets_them_go(tmp_path: Path) -> None:
    _, visit = watched()
    path = tmp_path / "queues.db"
    with sw.Engine(path) as engine:
        engine.queue(visit).pause()
        run = engine.start(visit, "any", key="a")
        with pytest.raises(sw.WaitTimeout):
            run.result(timeout=0.1)
        assert engine.queue(visit).info().queued == 1
    with sw.Engine(path, workflows=[visit]) as engine:
        assert engine.queue(visit).info().paused
        engine.queue(visit).resume()
        found = engine.find(visit, "a")
        assert found is not None
        assert found.result(timeout=10) == "any"


def test_drain_waits_for_what_is_running() -> None:
    done: list[int] = []
    gate = threading.Event()

    @sw.workflow
    def slow(n: int) -> None:
        gate.wait(20)
        done.append(n)

    with sw.Engine() as engine:
        queue = engine.queue(slow, concurrency=2)
        for n in range(6):
            engine.start(slow, n)
        until(lambda: queue.info().running == 2)
        with pytest.raises(sw.WaitTimeout, match="2 runs under way"):
            queue.drain("50ms")
        gate.set()
        queue.drain("10s")
        assert len(done) == 2
        assert queue.info().queued == 4
        queue.resume()


def test_debounce_keeps_the_last_input() -> None:
    seen: list[int] = []

    @sw.workflow
    async def reindex(n: int) -> int:
        seen.append(n)
        return n

    with sw.Engine() as engine:
        runs = [engine.start(reindex, n, collapse=sw.Debounce("doc-7", "500ms")) for n in range(5)]
        assert [run.is_new for run in runs] == [True, False, False, False, False]
        assert {run.id for run in runs} == {runs[0].id}
        assert runs[-1].result(timeout=10) == 4
        assert engine.start(reindex, 9, collapse=sw.Debounce("doc-7", "10ms")).result(timeout=10) == 9
    assert seen == [4, 9]


def test_singleton_gives_the_run_that_is_under_way() -> None:
    @sw.workflow
    async def sync_all(n: int) -> int:
        await sw.wait_for_signal("go")
        return n

    with sw.Engine() as engine:
        first = engine.start(sync_all, 1, collapse=sw.Singleton("sync"))
        second = engine.start(sync_all, 2, collapse=sw.Singleton("sync"))
        assert (first.id, second.is_new) == (second.id, False)
        first.signal("go")
        assert second.result(timeout=10) == 1
        third = engine.start(sync_all, 3, collapse=sw.Singleton("sync"))
        third.signal("go")
        assert third.result(timeout=10) == 3


def test_collect_gives_one_run_a_list() -> None:
    batches: list[list[int]] = []

    @sw.workflow
    async def store_all(rows: list[int]) -> int:
        batches.append(rows)
        return len(rows)

    with sw.Engine() as engine:
        runs = [engine.start(store_all, n, collapse=sw.Collect(size=4, wait="600ms")) for n in range(10)]
        assert [run.result(timeout=10) for run in runs] == [4] * 8 + [2] * 2
    assert sorted(batches) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_a_run_of_a_workflow_that_is_not_served_is_paused_and_goes_on_later(tmp_path: Path) -> None:
    """Bad input 42: a queue that hands out a workflow nobody here knows."""
    path = tmp_path / "queues.db"

    @sw.workflow
    async def stranger(n: int) -> int:
        return n + 1

    @sw.workflow
    async def known(n: int) -> int:
        return n

    with sw.Engine(path) as engine:
        engine.queue("shared").pause()
        engine.start(stranger, 1, key="a", queue="shared")
    with sw.Engine(path) as engine:
        engine.serve(known, queue="shared")
        engine.queue("shared").resume()
        run = engine.find(stranger, "a")
        assert run is not None
        comes_to(run, sw.RunStatus.PAUSED)
        engine.serve(stranger, queue="shared")
        run.resume()
        assert run.result(timeout=10) == 2


def test_bad_limits_and_starts_are_refused_with_their_codes() -> None:
    _, visit = watched()
    with sw.Engine() as engine:
        for limits in (
            {"concurrency": 0},
            {"per_group": -1},
            {"rate": sw.Rate(0, "1s")},
            {"speed": 3},
            {"concurrency": True},
        ):
            with pytest.raises(sw.InputError, match="SW-E1023"):
                engine.queue(visit, **limits)  # type: ignore[arg-type]
        with pytest.raises(sw.InputError, match="SW-E1010"):
            engine.queue(visit, rate=sw.Rate(1, "soon"))
        with pytest.raises(sw.InputError, match="SW-E1024"):
            engine.start(visit, "a", key="k", collapse=sw.Singleton("s"))
        with pytest.raises(sw.InputError, match="SW-E1202"):
            engine.start(visit, "a", collapse=sw.Debounce("", "1s"))
        with pytest.raises(sw.InputError, match="SW-E1202"):
            engine.start(visit, "a", group="g" * 256)
        with pytest.raises(sw.InputError, match="SW-E1023"):
            engine.start(visit, "a", collapse=sw.Collect(1, "1s"))
        assert engine.start(visit, "ok").result(timeout=10) == "ok"
