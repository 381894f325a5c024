"""DBOS Transact on SQLite.

    dbos_peer.py queue|steps|latency FOLDER wal|default COUNT [COUNT_ONE]

`default` is DBOS as it comes: a rollback journal. `wal` sets the write-ahead log, with full synchronisation, on the file
before DBOS opens it; that is several times faster, and as durable. Workflows are `async def`, which is faster here than
threads. Prints one JSON line.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import sys
import threading
import time
from pathlib import Path

from dbos import DBOS

POLL_SECONDS = 0.01  # the default is 1 s
PAUSE = threading.Event()
SECONDS_MAX = 60

folder, journal = Path(sys.argv[2]), sys.argv[3]
file = folder / "dbos.db"
with sqlite3.connect(file) as fresh:
    fresh.execute(f"pragma journal_mode={'wal' if journal == 'wal' else 'delete'}")
fresh.close()
DBOS(
    config={
        "name": "bench",
        "system_database_url": f"sqlite:///{file}",
        "log_level": "ERROR",
        "enable_otlp": False,
    }
)

started: list[int] = []


@DBOS.workflow()
async def noop(_number: int) -> None:
    started.append(time.monotonic_ns())


@DBOS.step()
async def step(number: int) -> int:
    return number


@DBOS.workflow()
async def three(number: int) -> int:
    for _ in range(3):
        number = await step(number)
    return number


@DBOS.workflow()
async def many(count: int) -> float:
    began = time.perf_counter()
    for number in range(count):
        await step(number)
    return count / (time.perf_counter() - began)


def wait_finished(count: int) -> None:
    """Until that many workflows are recorded as done."""
    reader = sqlite3.connect(file, timeout=30)
    deadline = time.monotonic() + SECONDS_MAX
    while time.monotonic() < deadline:
        found = reader.execute("select count(*) from workflow_status where status = 'SUCCESS'").fetchone()[0]
        if found >= count:
            return
        PAUSE.wait(0.02)
    raise SystemExit(f"dbos: {found} of {count} workflows ended within {SECONDS_MAX} s")


async def enqueue(name: str, count: int) -> None:
    for number in range(count):
        await DBOS.enqueue_workflow_async(name, noop, number)


async def enqueue_together(name: str, count: int, at_once: int = 64) -> None:
    numbers = iter(range(count))

    async def lane() -> None:
        for number in numbers:
            await DBOS.enqueue_workflow_async(name, noop, number)

    await asyncio.gather(*(lane() for _ in range(at_once)))


def queue(count: int, count_one: int) -> dict[str, float]:
    """One by one; in bulk, which is many at once for want of a call for many; drain what is there."""
    began = time.perf_counter()
    asyncio.run(enqueue("bench", count_one))
    one = count_one / (time.perf_counter() - began)
    began = time.perf_counter()
    asyncio.run(enqueue_together("bench", count - count_one))
    bulk = (count - count_one) / (time.perf_counter() - began)
    # The queue is registered only now, so the backlog is complete before anybody takes from it.
    DBOS.register_queue("bench", polling_interval_sec=POLL_SECONDS)
    wait_finished(count)
    seconds = (time.monotonic_ns() - started[0]) / 1e9
    return {"start_one_per_s": one, "start_bulk_per_s": bulk, "drain_per_s": count / seconds}


async def run_three(count: int) -> float:
    began = time.perf_counter()
    handles = await asyncio.gather(*(DBOS.start_workflow_async(three, number) for number in range(count)))
    await asyncio.gather(*(handle.get_result() for handle in handles))
    return count / (time.perf_counter() - began)


async def run_many(count: int) -> float:
    handle = await DBOS.start_workflow_async(many, count)
    return await handle.get_result()


def steps(count: int, workflows: int) -> dict[str, float]:
    """Steps of one workflow, one after the other; then many workflows of three steps at once."""
    return {"seq_per_s": asyncio.run(run_many(count)), "steps3_per_s": asyncio.run(run_three(workflows))}


def wait_started(count: int) -> bool:
    deadline = time.monotonic() + SECONDS_MAX
    while len(started) < count and time.monotonic() < deadline:
        PAUSE.wait(0.001)
    return len(started) >= count


def latency(count: int) -> dict[str, float]:
    """From the call of enqueue to the first line of the workflow, one at a time."""
    DBOS.register_queue("bench", polling_interval_sec=POLL_SECONDS)
    values = []
    for number in range(-1, count):
        sent, before = time.monotonic_ns(), len(started)
        asyncio.run(enqueue("bench", 1))
        if not wait_started(before + 1):
            raise SystemExit("dbos: an enqueued workflow did not start")
        if number >= 0:  # the first one waits for the thread of the queue
            values.append((started[before] - sent) / 1e6)
    values.sort()
    return {"p50_ms": values[len(values) // 2], "p99_ms": values[int(len(values) * 0.99)]}


if __name__ == "__main__":
    counts = [int(each) for each in sys.argv[4:]]
    DBOS.launch()
    measures = {"queue": queue, "steps": steps, "latency": latency}[sys.argv[1]](*counts)
    DBOS.destroy()
    print(json.dumps(measures))
