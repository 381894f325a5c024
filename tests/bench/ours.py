"""Our arms: each runs `ours_program.py` in a process of its own, as the peers run theirs."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from .harness import CHILD_SECONDS_MAX, ROOT, Bench, Measures, arm
from .peer_arms import CLIENT_CORE, HTTP_SECONDS, LATENCY_JOBS, SPREAD_MS, STREAM_RAMP_SECONDS, STREAMS

if TYPE_CHECKING:
    from collections.abc import Callable

PROGRAM = "ours_program.py"
PROGRAMS = ROOT / "build" / "bench" / "tests" / "cpp"


@arm("stepwell.queue")
def queue(bench: Bench) -> Measures:
    with bench.scratch() as folder:
        return bench.our_python(PROGRAM, "queue", folder, bench.count(60_000), bench.count(2_000))


@arm("stepwell.steps")
def steps(bench: Bench) -> Measures:
    with bench.scratch() as folder:
        return bench.our_python(PROGRAM, "steps", folder, bench.count(3_000), bench.count(15_000))


@arm("core.commits")
def core_commits(bench: Bench) -> Measures:
    """The store without Python, beside a bare loop of commits in C++."""
    names = {"bare sqlite, one at a time": "bare_one_per_s", "store, one at a time": "store_one_per_s"}
    with bench.scratch() as folder:
        command = [PROGRAMS / "store_bench", folder, "1"]
        said = subprocess.run(command, check=True, capture_output=True, text=True, timeout=CHILD_SECONDS_MAX).stdout
    found = {line[:42].strip(): float(line[42:].split("/s")[0]) for line in said.splitlines() if "/s " in line}
    return {measure: found[name] for name, measure in names.items()}


@arm("core.admission")
def core_admission(bench: Bench) -> Measures:
    """What limiter and breaker cost a call, without anything else; tests/instructions.py holds it to a number."""
    found = bench.run([PROGRAMS / "admission_bench", bench.count(1_000_000)], core=CLIENT_CORE)
    return {"us": found["admission.us"], "line_us": found["admission.line_us"]}


@arm("core.http64")
def core_http64(bench: Bench) -> Measures:
    """The transport without Python."""
    url = f"{bench.server(0)}/v1/chat/completions"
    found = bench.run([PROGRAMS / "http_bench", url, 64, bench.count(100_000)], core=CLIENT_CORE)
    return {"per_s_0ms": found["requests_per_s"], "cpu_us_0ms": found["cpu_us"]}


@arm("stepwell.latency")
def latency(bench: Bench) -> Measures:
    with bench.scratch() as folder:
        return bench.our_python(PROGRAM, "latency", folder, bench.count(LATENCY_JOBS))


def http_arm(concurrency: int) -> Callable[[Bench], Measures]:
    def measure(bench: Bench) -> Measures:
        cells = [word for delay in (0, 200) for word in (bench.server(delay), delay, 0)]
        return bench.our_python(PROGRAM, "http", concurrency, HTTP_SECONDS, *cells, core=CLIENT_CORE)

    return measure


@arm("stepwell.http5000")
def http5000(bench: Bench) -> Measures:
    low, high = SPREAD_MS
    cell = (bench.server(low, high), low, high - low)
    measures = bench.our_python(PROGRAM, "http", 5_000, 3, *cell, core=CLIENT_CORE)
    return {name.removesuffix(f"_{low}ms"): value for name, value in measures.items()}


@arm("stepwell.http_durable")
def http_durable(bench: Bench) -> Measures:
    with bench.scratch() as folder:
        return bench.our_python(PROGRAM, "durable", folder, bench.server(0), 64, bench.count(30_000))


@arm("stepwell.import")
def import_time(bench: Bench) -> Measures:
    return bench.our_python(PROGRAM, "import", bench.count(10))


@arm("stepwell.border")
def border(bench: Bench) -> Measures:
    return bench.our_python(PROGRAM, "border", bench.count(4_000_000))


@arm("stepwell.triage")
def triage(bench: Bench) -> Measures:
    with bench.scratch() as folder:
        return bench.our_python(
            PROGRAM, "triage", folder, bench.count(20_000), bench.server(0), bench.server(200), 1_000
        )


def waiting_arm(kind: str, count: int) -> Callable[[Bench], Measures]:
    def measure(bench: Bench) -> Measures:
        with bench.scratch() as folder:
            return bench.our_python("ours_waiting.py", kind, folder, bench.count(count))

    return measure


def stream_arm(how: str) -> Callable[[Bench], Measures]:
    def measure(bench: Bench) -> Measures:
        words = (how, bench.count(STREAMS), STREAM_RAMP_SECONDS, bench.stream_server())
        return bench.our_python("ours_streams.py", *words, core=CLIENT_CORE)

    return measure


arm("stepwell.stream")(stream_arm("direct"))
arm("stepwell_durable.stream")(stream_arm("durable"))

WAITING = {
    "backlog": 1_000_000,
    "timers": 100_000,
    "signal": 500,
    "parked": 1_000_000,
    "recovery": 100_000,
    "keys": 100_000,
}
for kind, waiting_count in WAITING.items():
    arm(f"stepwell.{kind}")(waiting_arm(kind, waiting_count))

for in_flight in (1, 64, 256, 1024):
    arm(f"stepwell.http{in_flight}")(http_arm(in_flight))
