"""What is measured of Stepwell: one kind of work a process; the last line is JSON.

ours_program.py queue|steps|latency|http|durable|import|border|triage ARGUMENTS...
"""

from __future__ import annotations

import asyncio
import csv
import json
import subprocess
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "peers"))

from drive import BODY, HEADERS, PATH, at, drive, rss_kib

import stepwell as sw

HEADER_PAIRS = tuple(HEADERS.items())
# What the peers' jobs carry: about 215 bytes.
JOB = {
    "user": 4711,
    "action": "send",
    "to": "someone@example.com",
    "template": "welcome-2",
    "variables": {"name": "Ann", "plan": "pro", "days": "14"},
    "trace": "0123456789abcdef0123456789abcdef",
    "number": 17,
    "at": "2026-11-21T12:00:00Z",
}
started_at: list[float] = []
pause = threading.Event()  # never set
Measures = dict[str, float]


@sw.workflow
async def noop(job: dict[str, object]) -> None:
    """Do nothing, on the event loop."""


@sw.workflow
def noop_def(job: dict[str, object]) -> None:
    """Do nothing, on a pool thread."""


@sw.step
async def number(n: int) -> int:
    return n


@sw.workflow
async def in_sequence(count: int) -> float:
    began = time.perf_counter()
    for n in range(count):
        await number(n)
    return time.perf_counter() - began


@sw.step
def plain_number(n: int) -> int:
    return n


@sw.workflow
def in_plain_sequence(count: int) -> float:
    began = time.perf_counter()
    for n in range(count):
        plain_number(n)
    return time.perf_counter() - began


@sw.workflow
async def three_steps(n: int) -> int:
    return await number(n) + await number(n) + await number(n)


@sw.workflow
async def stamp(job: dict[str, object]) -> None:
    started_at.append(time.perf_counter())


def queue(folder: str, count: str, singles: str) -> Measures:
    measures: Measures = {}
    for flow, name in ((noop, "drain"), (noop_def, "drain_def")):
        with sw.Engine(Path(folder) / f"{name}.db") as engine:
            core, total = engine._core, int(count)
            began = time.perf_counter()
            from stepwell._starts import start_request

            for begin in range(0, total, 500):
                core.start([start_request(flow, JOB, None) for _ in range(min(500, total - begin))])
            measures["start_bulk_per_s"] = total / (time.perf_counter() - began)
            began = time.perf_counter()
            engine.serve(flow)
            while core.counters()["runs_succeeded"] < total:
                pause.wait(0.005)
            measures[f"{name}_per_s"] = total / (time.perf_counter() - began)
            measures["rss_mb"] = max(measures.get("rss_mb", 0), rss_kib() / 1024)
    with sw.Engine(Path(folder) / "one.db") as engine:
        began = time.perf_counter()
        for _ in range(int(singles)):
            engine._core.start([start_request(noop, JOB, None)])  # queued, nobody serves: as the peers' producers
        measures["start_one_per_s"] = int(singles) / (time.perf_counter() - began)
    return measures


def steps(folder: str, count: str, runs: str) -> Measures:
    with sw.Engine(Path(folder) / "steps.db") as engine:
        engine.start(in_sequence, 100).result()
        engine.start(in_plain_sequence, 100).result()
        took = engine.start(in_sequence, int(count)).result()
        took_plain = engine.start(in_plain_sequence, int(count)).result()
        began = time.perf_counter()
        engine.map(three_steps, range(int(runs)), concurrency=500).results()
        return {
            "seq_per_s": int(count) / took,
            "seq_plain_per_s": int(count) / took_plain,
            "steps3_per_s": int(runs) / (time.perf_counter() - began),
        }


def latency(folder: str, count: str) -> Measures:
    waited: list[float] = []
    with sw.Engine(Path(folder) / "latency.db") as engine:
        for n in range(int(count) + 20):
            began = time.perf_counter()
            engine.start(stamp, JOB).result()
            if n >= 20:
                waited.append((started_at[-1] - began) * 1000)
            pause.wait(0.01)
    waited.sort()
    return {"p50_ms": at(waited, 0.5), "p99_ms": at(waited, 0.99)}


async def http_cells(concurrency: int, seconds: float, cells: list[str]) -> Measures:
    measures: Measures = {}
    for begin in range(0, len(cells), 3):
        url, delay_ms, spread_ms = cells[begin] + PATH, float(cells[begin + 1]), float(cells[begin + 2])
        with sw.Engine() as engine:

            async def call() -> int | None:
                answer = await engine.arequest("POST", url, headers=HEADER_PAIRS, body=BODY)  # noqa: B023 - awaited here
                if answer.status != 200:
                    raise RuntimeError(answer.status)
                json.loads(answer.body)
                said = answer.header("x-server-us")
                return int(said) if said else None

            found = await drive(call, concurrency, delay_ms=delay_ms, spread_ms=spread_ms, seconds=seconds)
        measures |= {f"{name}_{cells[begin + 1]}ms": value for name, value in found.items()}
    return measures


def http(concurrency: str, seconds: str, *cells: str) -> Measures:
    return asyncio.run(http_cells(int(concurrency), float(seconds), list(cells)))


def durable(folder: str, url: str, concurrency: str, count: str) -> Measures:
    from stepwell._workflow import current_activation

    request = ("POST", url + PATH, HEADER_PAIRS, BODY, 10_000, 60_000)

    @sw.workflow
    async def one_call(n: int) -> None:
        activation = current_activation.get()
        assert activation is not None
        await activation.call("call", (request, (3, 500, 30_000, 600_000), True, True, ""))

    with sw.Engine(Path(folder) / "durable.db") as engine:
        engine.map(one_call, range(500), concurrency=int(concurrency)).results()
        began = time.perf_counter()
        engine.map(one_call, range(int(count)), concurrency=int(concurrency)).results()
        return {"per_s": int(count) / (time.perf_counter() - began)}


def import_time(count: str) -> Measures:
    code = "import time; began = time.perf_counter(); import stepwell; print(time.perf_counter() - began)"
    took = sorted(float(subprocess.check_output([sys.executable, "-c", code])) * 1000 for _ in range(int(count)))
    return {"stepwell_ms": at(took, 0.5)}


def border(count: str) -> Measures:
    from stepwell import _core

    core, total = _core.Runtime.open(""), int(count)
    chunk, seen = 100_000, 0
    began = time.perf_counter()
    while seen < total:
        core.for_test_hand_out(chunk)
        left = chunk
        while left > 0:
            for item in core.poll(256, -1):
                left -= item[0] == 2
        seen += chunk
    took = time.perf_counter() - began
    core.close(0)
    return {"per_s": seen / took}


def triage(folder: str, count: str, url_0ms: str, url_200ms: str, concurrency: str) -> Measures:
    source, total = Path(folder) / "tickets.csv", int(count)
    with source.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "body"])
        writer.writerows(
            [n, f"ticket {n}: I was charged twice, please look at my invoice " + "x" * 200] for n in range(total)
        )
    measures: Measures = {}
    for url, name in ((url_0ms, "0ms"), (url_200ms, "200ms")):
        command = [sys.executable, "-m", "stepwell", "triage", str(source), "--labels", "Billing,Technical,General"]
        command += ["--model", "bench", "--base-url", f"{url}/v1", "--text-columns", "body", "--quiet"]
        command += ["--concurrency", concurrency, "--out", f"{folder}/{name}.csv", "--store", f"{folder}/{name}.db"]
        began = time.perf_counter()
        subprocess.run(command, check=True)
        took = time.perf_counter() - began
        with Path(f"{folder}/{name}.csv").open(encoding="utf-8") as file:
            assert sum(1 for _ in file) == total + 1
        measures[f"rows_per_s_{name}"] = total / took
        if name == "200ms":
            measures["of_ideal_200ms"] = total / took / (int(concurrency) / 0.2)
    return measures


KINDS = {
    "queue": queue,
    "steps": steps,
    "latency": latency,
    "http": http,
    "durable": durable,
    "import": import_time,
    "border": border,
    "triage": triage,
}

if __name__ == "__main__":
    print(json.dumps(KINDS[sys.argv[1]](*sys.argv[2:])))
