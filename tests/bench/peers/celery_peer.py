"""Celery on a Redis that keeps nothing.

    celery_peer.py queue REDIS_URL COUNT COUNT_ONE   start one by one, start in bulk, drain a backlog in three settings
    celery_peer.py latency REDIS_URL COUNT           idle start-to-running

Prints one JSON line. The same file is the application that the worker imports; CELERY_BENCH_URL and
CELERY_BENCH_LATE configure it there.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import redis
from celery import Celery

if TYPE_CHECKING:
    from collections.abc import Iterator

PAYLOAD = {
    "user_id": 123456,
    "action": "send_email",
    "address": "user@example.com",
    "template": "welcome",
    "name": "Jo",
    "plan": "free",
    "lang": "en",
    "trace": "0123456789abcdef0123456789abcdef",
    "amount": 12.5,
    "at": "2026-01-01T00:00:00Z",
    "note": "x" * 20,
}
PREFORK = ("-P", "prefork", "-c", "2")
SOLO = ("-P", "solo")
PAUSE = threading.Event()  # never set: waiting on it is a pause
DRAIN_SECONDS_MAX = 40

URL = os.environ.get("CELERY_BENCH_URL", "")
app = Celery("celery_peer", broker=URL)
app.conf.update(
    task_ignore_result=True,
    task_acks_late=os.environ.get("CELERY_BENCH_LATE") == "1",
    broker_connection_retry_on_startup=True,
    worker_hijack_root_logger=False,
)


@app.task
def noop(payload: dict[str, Any]) -> None:
    """Do nothing."""


@app.task
def stamp(sent_ns: int) -> None:
    """Say how long ago the caller started this."""
    app.connection_for_write().channel().client.rpush("latency", time.monotonic_ns() - sent_ns)


@contextmanager
def worker(url: str, pool: tuple[str, ...], *, late: bool) -> Iterator[subprocess.Popen[bytes]]:
    """A worker process, ended afterwards."""
    command = [sys.executable, "-m", "celery", "-A", "celery_peer", "worker", "-l", "ERROR", *pool]
    command += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    env = os.environ | {"CELERY_BENCH_URL": url, "CELERY_BENCH_LATE": str(int(late)), "C_FORCE_ROOT": "1"}
    here = Path(__file__).resolve().parent
    with subprocess.Popen(command, env=env, cwd=here, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
        try:
            yield child
        finally:
            child.terminate()
            try:
                child.wait(10)
            except subprocess.TimeoutExpired:
                child.kill()


def tree(pid: int) -> list[int]:
    """A process and its children."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    return [pid, *(int(child) for child in children)]


def cpu_seconds(pid: int) -> float:
    """CPU of the worker and of its pool."""
    stats = [Path(f"/proc/{each}/stat").read_text(encoding="utf-8") for each in tree(pid)]
    ticks = sum(int(word) for stat in stats for word in stat.rpartition(")")[2].split()[11:13])
    return ticks / os.sysconf("SC_CLK_TCK")


def memory_mib(pid: int) -> float:
    """Proportional memory of the worker and of its pool."""
    texts = [Path(f"/proc/{each}/smaps_rollup").read_text(encoding="ascii") for each in tree(pid)]
    return sum(int(line.split()[1]) for text in texts for line in text.splitlines() if line.startswith("Pss:")) / 1024


def redis_cpu(client: redis.Redis) -> float:
    """CPU seconds of the server."""
    said = client.info("cpu")
    return float(said["used_cpu_user"]) + float(said["used_cpu_sys"])


def start_in_bulk(count: int) -> float:
    """Starts a second over one producer, which is as fast as Celery gets: it has no call for many."""
    began = time.perf_counter()
    with app.producer_or_acquire() as producer:
        for _ in range(count):
            noop.apply_async((PAYLOAD,), producer=producer)
    return count / (time.perf_counter() - began)


def drain(url: str, client: redis.Redis, count: int, pool: tuple[str, ...], *, late: bool) -> dict[str, float]:
    """Time from the first job gone to none left, so that the worker's start does not count."""
    client.flushdb()
    start_in_bulk(count)
    with worker(url, pool, late=late) as child:
        deadline, began, first, cpu, server = time.monotonic() + DRAIN_SECONDS_MAX, 0.0, 0, 0.0, 0.0
        while time.monotonic() < deadline:
            left = int(client.llen("celery")) + int(client.hlen("unacked"))
            if left < count and not began:
                began, first, cpu, server = time.perf_counter(), left, cpu_seconds(child.pid), redis_cpu(client)
            if left == 0:
                seconds = time.perf_counter() - began
                used = cpu_seconds(child.pid) - cpu + redis_cpu(client) - server
                rates = {"drain_per_s": first / seconds, "drain_cpu_us": used / first * 1e6}
                return {**rates, "rss_mb": memory_mib(child.pid)}
            PAUSE.wait(0.02)
    raise SystemExit(f"celery {pool}: not drained within {DRAIN_SECONDS_MAX} s")


def queue(url: str, count: int, count_one: int) -> dict[str, float]:
    """All settings; the best drain is what a careful user could reach, with or without late acknowledgement."""
    client = redis.Redis.from_url(url)
    start_in_bulk(50)
    client.flushdb()
    began = time.perf_counter()
    for _ in range(count_one):
        noop.delay(PAYLOAD)
    one = count_one / (time.perf_counter() - began)
    client.flushdb()
    bulk = start_in_bulk(count)
    late = drain(url, client, count, PREFORK, late=True)
    others = {
        "solo": drain(url, client, count, SOLO, late=False),
        "prefork": drain(url, client, count, PREFORK, late=False),
    }
    rates = {f"drain_{name}_per_s": each["drain_per_s"] for name, each in others.items()}
    best = max(late["drain_per_s"], *rates.values())
    return {"start_one_per_s": one, "start_bulk_per_s": bulk, **late, **rates, "drain_best_per_s": best}


def latency(url: str, count: int) -> dict[str, float]:
    """Start a job every 10 ms; the worker notes when it runs."""
    client = redis.Redis.from_url(url)
    with worker(url, PREFORK, late=True) as child:
        stamp.delay(time.monotonic_ns())
        deadline = time.monotonic() + DRAIN_SECONDS_MAX
        while not client.llen("latency") and time.monotonic() < deadline:
            PAUSE.wait(0.05)
        client.delete("latency")
        for _ in range(count):
            stamp.delay(time.monotonic_ns())
            PAUSE.wait(0.01)
        while int(client.llen("latency")) < count and time.monotonic() < deadline:
            PAUSE.wait(0.05)
        values = sorted(int(value) / 1e6 for value in client.lrange("latency", 0, -1))
        memory = memory_mib(child.pid)
    return {"p50_ms": values[len(values) // 2], "p99_ms": values[int(len(values) * 0.99)], "rss_mb": memory}


if __name__ == "__main__":
    mode, redis_url, *counts = sys.argv[1:]
    app.conf.broker_url = redis_url
    print(json.dumps((queue if mode == "queue" else latency)(redis_url, *(int(each) for each in counts))))
