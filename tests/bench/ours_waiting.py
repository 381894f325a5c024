"""What is measured of runs that wait: in long queues, for times, for signals, for a dead engine's successor.

ours_waiting.py backlog|keys|timers|signal|parked|recovery FOLDER COUNT    The last line is JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal as signals
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parent / "peers"))

from drive import at, rss_kib

import stepwell as sw
from stepwell._starts import start_request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Measures = dict[str, float]
SMALL = 10_000
JOB = {"payload": "x" * 186}  # 200 bytes as JSON
TIMERS_WITHIN_S = 10
pause = threading.Event()  # never set
late_ms: list[float] = []
begun = 0


@sw.workflow
async def noop(job: dict[str, str]) -> None:
    """Do nothing."""


@sw.workflow
async def waits(n: int) -> None:
    await sw.wait_for_signal("go")


@sw.workflow
async def times_itself() -> None:
    sent = await sw.wait_for_signal("go")
    late_ms.append((time.time() - sent) * 1000)


@sw.workflow
async def timed(due: float) -> None:
    late_ms.append((time.time() - due) * 1000)


@sw.workflow
async def never_ends(n: int) -> None:
    global begun  # noqa: PLW0603 - counted on one thread
    begun += 1
    await asyncio.get_running_loop().create_future()


def until(is_so: Callable[[], bool], look_s: float = 0.01) -> None:
    while not is_so():
        pause.wait(look_s)


def start_all(engine: sw.Engine, requests: Iterable[tuple[Any, ...]]) -> None:
    chunk: list[tuple[Any, ...]] = []
    for request in requests:
        chunk.append(request)
        if len(chunk) == 500:
            engine._core.start(chunk)
            chunk = []
    if chunk:
        engine._core.start(chunk)


def backlog(folder: Path, count: int) -> Measures:
    measures: Measures = {}
    for queued, name in ((min(SMALL, count), "small"), (count, "large")):
        path = folder / f"{name}.db"
        with sw.Engine(path) as engine:
            start_all(engine, (start_request(noop, JOB, None) for _ in range(queued)))
            before, began = rss_kib(), time.perf_counter()
            engine.serve(noop)
            until(lambda: engine.counters()["runs_succeeded"] == queued, 0.005)  # noqa: B023 - waited for here
            measures[f"{name}_per_s"] = queued / (time.perf_counter() - began)
            measures[f"{name}_growth_mb"] = (rss_kib() - before) / 1024
        measures[f"{name}_bytes_per_run"] = path.stat().st_size / queued
    measures["rate_share"] = measures["large_per_s"] / measures["small_per_s"]
    return measures


def keys(folder: Path, count: int) -> Measures:
    """A queue of many keys, one run of each at a time, beside a plain one: started, then drained; the better of two."""
    took: dict[str, float] = {"plain_s": 1e9, "keyed_s": 1e9}
    for turn in range(2):
        for name in ("plain_s", "keyed_s"):
            with sw.Engine(folder / f"{name}{turn}.db") as engine:
                if name == "keyed_s":
                    engine.queue(noop, per_group=1)
                groups = (f"customer-{n % SMALL}" if name == "keyed_s" else "" for n in range(count))
                tails = ((0, -1, -1, "", [], group, ()) for group in groups)
                began = time.perf_counter()
                start_all(engine, ((*start_request(noop, JOB, None), *tail) for tail in tails))
                engine.serve(noop)
                until(lambda: engine.counters()["runs_succeeded"] == count, 0.005)
                took[name] = min(took[name], time.perf_counter() - began)
    return {**took, "cost_ratio": took["keyed_s"] / took["plain_s"]}


def timers(folder: Path, count: int) -> Measures:
    with sw.Engine(folder / "timers.db") as engine:
        engine.serve(timed)
        # All are pending before the first is due.
        first = time.time() + 5 + count / 20_000
        dues = [first + TIMERS_WITHIN_S * n / count for n in range(count)]
        start_all(engine, ((*start_request(timed, due, None), 0, int(due * 1000), -1, "") for due in dues))
        until(lambda: len(late_ms) == count, 0.1)
    late_ms.sort()
    return {"p50_ms": at(late_ms, 0.5), "p99_ms": at(late_ms, 0.99)}


def signal(folder: Path, count: int) -> Measures:
    with sw.Engine(folder / "signal.db") as engine:
        runs = [engine.start(times_itself) for _ in range(count)]
        until(lambda: engine.counters()["runs_in_flight"] == 0)
        for run in runs:
            run.signal("go", time.time())
            pause.wait(0.005)
        until(lambda: len(late_ms) == count)
    late_ms.sort()
    return {"p50_ms": at(late_ms, 0.5), "p99_ms": at(late_ms, 0.99)}


def parked(folder: Path, count: int) -> Measures:
    path, woken = folder / "parked.db", min(count, SMALL)
    with sw.Engine(path) as engine:
        began = time.perf_counter()
        engine.serve(waits, concurrency=2_000)
        start_all(engine, (start_request(waits, n, None) for n in range(count)))
        core = engine._core
        # The newest run is the last to be laid aside.
        until(lambda: core.find(workflow="waits")[0][1] == sw.RunStatus.WAITING, 0.05)
        until(lambda: engine.counters()["runs_in_flight"] == 0)
        took = time.perf_counter() - began
    with sw.Engine(path) as engine:
        engine.serve(waits, concurrency=2_000)
        measures = {"per_s": count / took, "rss_mb": rss_kib() / 1024}
        runs = [row[0] for row in engine._core.find(workflow="waits", count_max=woken)]
        began = time.perf_counter()
        for run in runs:
            engine._core.tell(run, "signal:go", b"null", "")
        until(lambda: engine.counters()["runs_succeeded"] == woken)
        measures["woken_per_s"] = woken / (time.perf_counter() - began)
    return measures


def recovery(folder: Path, count: int) -> Measures:
    program = [sys.executable, __file__, "victim", str(folder), str(count)]
    victim = subprocess.Popen(program, stdout=subprocess.PIPE, text=True)
    assert victim.stdout is not None
    assert victim.stdout.readline() == "all are running\n"
    os.kill(victim.pid, signals.SIGKILL)
    victim.wait()
    began = time.perf_counter()
    with sw.Engine(folder / "recovery.db") as engine:
        opened = time.perf_counter()
        engine.serve(never_ends, concurrency=count)
        until(lambda: begun == count)
        measures = {"s": time.perf_counter() - began, "open_s": opened - began}
        engine.close(0)
    return measures


def victim(folder: Path, count: int) -> Measures:
    with sw.Engine(folder / "recovery.db") as engine:
        engine.serve(never_ends, concurrency=count)
        start_all(engine, (start_request(never_ends, n, None) for n in range(count)))
        until(lambda: begun == count)
        print("all are running", flush=True)
        pause.wait()
    return {}


KINDS = {
    "backlog": backlog,
    "keys": keys,
    "timers": timers,
    "signal": signal,
    "parked": parked,
    "recovery": recovery,
    "victim": victim,
}

if __name__ == "__main__":
    print(json.dumps(KINDS[sys.argv[1]](Path(sys.argv[2]), int(sys.argv[3]))))
