"""Keep N calls in flight from asyncio and measure: the same loop for the peers and for us. Standard library only.

A call posts `BODY` with `HEADERS` and hands the parsed JSON to nobody; it answers the microseconds the server says it took
(its X-Server-Us header), or None.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

MESSAGE = "Please sort this ticket into one of our queues. " + "x" * 850
REQUEST = {"model": "bench", "temperature": 0, "messages": [{"role": "user", "content": MESSAGE}]}
BODY = json.dumps(REQUEST).encode()
HEADERS = {"content-type": "application/json", "authorization": "Bearer not-a-key"}
PATH = "/v1/chat/completions"


def cpu_seconds() -> float:
    """CPU of this process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def rss_kib() -> float:
    """Resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1024


def at(values: list[float], share: float) -> float:
    """A percentile of sorted values."""
    return values[min(len(values) - 1, int(len(values) * share))]


class Meter:
    """What ended within the window."""

    def __init__(self) -> None:
        self.is_open = False
        self.count = 0
        self.errors: list[str] = []
        self.elapsed_ms: list[float] = []
        self.added_ms: list[float] = []


async def lane(call: Callable[[], Awaitable[int | None]], meter: Meter, wait_s: float, delay_ms: float) -> None:
    """One call after the other. The first waits, so that lanes do not march in step and the window's edges cut none."""
    await pause(wait_s)
    while True:
        began = time.perf_counter()
        try:
            server_us = await call()
        except Exception as error:  # noqa: BLE001 - whatever a client raises is a failed call
            meter.errors.append(f"{type(error).__name__}: {error}")
            if len(meter.errors) > 100:
                return
            continue
        if meter.is_open:
            elapsed_ms = (time.perf_counter() - began) * 1000
            meter.count += 1
            meter.elapsed_ms.append(elapsed_ms)
            if server_us is not None:
                meter.added_ms.append(elapsed_ms - server_us / 1000)
            elif delay_ms > 0:
                meter.added_ms.append(elapsed_ms - delay_ms)


async def pause(seconds: float) -> None:
    """Give the loop that long."""
    done = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(seconds, done.set_result, None)
    await done


async def drive(
    call: Callable[[], Awaitable[int | None]],
    concurrency: int,
    *,
    delay_ms: float = 0,
    spread_ms: float = 0,
    warm_s: float = 0.6,
    seconds: float = 1.5,
    leaves_calls: bool = False,
) -> dict[str, float]:
    """Measure for `seconds` after a warm-up. `spread_ms` says that delays vary: then only the server knows what it took.

    `leaves_calls` leaves the last calls running: the process is about to end.
    """
    meter, idle_kib = Meter(), rss_kib()
    step_s = (delay_ms + spread_ms / 2) / 1000 / concurrency
    known_ms = 0 if spread_ms else delay_ms
    lanes = [asyncio.create_task(lane(call, meter, number * step_s, known_ms)) for number in range(concurrency)]
    await pause(warm_s + concurrency * step_s)
    cpu, began, meter.is_open = cpu_seconds(), time.perf_counter(), True
    await pause(seconds)
    meter.is_open = False
    took, used, busy_kib = time.perf_counter() - began, cpu_seconds() - cpu, rss_kib()
    if not leaves_calls:
        for task in lanes:
            task.cancel()
        await asyncio.gather(*lanes, return_exceptions=True)
    if meter.errors or not meter.count:
        raise SystemExit(f"{len(meter.errors)} calls failed, {meter.count} ended: {meter.errors[:1]}")
    meter.elapsed_ms.sort()
    meter.added_ms.sort()
    measures = {
        "per_s": meter.count / took,
        "cpu_us": used / meter.count * 1e6,
        "p50_ms": at(meter.elapsed_ms, 0.5),
        "p99_ms": at(meter.elapsed_ms, 0.99),
        "call_kib": (busy_kib - idle_kib) / concurrency,
    }
    if delay_ms:
        measures["of_ideal"] = measures["per_s"] / (concurrency / (delay_ms + spread_ms / 2) * 1000)
    if meter.added_ms:
        measures |= {"added_p50_ms": at(meter.added_ms, 0.5), "added_p99_ms": at(meter.added_ms, 0.99)}
    return measures
