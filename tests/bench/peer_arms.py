"""The peers' arms. Ours stand in `ours`; a figure appears once both of its arms do."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from . import install
from .harness import HERE, ArmError, Bench, Measures, arm

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

HTTP_SECONDS = 1.5
LATENCY_JOBS = 300
CLIENT_CORE = 1  # the HTTP server has core 0
SPREAD_MS = (200, 1000)
STREAMS = 1_000  # at once; each lasts 4 s
STREAM_RAMP_SECONDS = 2


@arm("bullmq.queue")
def bullmq_queue(bench: Bench) -> Measures:
    return bench.node("bullmq.mjs", "queue", bench.redis(), bench.count(20_000), bench.count(2_000))


@arm("celery.queue")
def celery_queue(bench: Bench) -> Measures:
    return bench.peer_python("celery_peer.py", "queue", bench.redis(), bench.count(2_000), bench.count(1_000))


@arm("dbos.queue")
def dbos_queue(bench: Bench) -> Measures:
    with bench.scratch() as folder:
        return bench.peer_python("dbos_peer.py", "queue", folder, "wal", bench.count(800), bench.count(300))


@arm("dbos.steps")
def dbos_steps(bench: Bench) -> Measures:
    with bench.scratch() as folder:
        return bench.peer_python("dbos_peer.py", "steps", folder, "wal", bench.count(500), bench.count(200))


@arm("dbos_default.steps")
def dbos_default_steps(bench: Bench) -> Measures:
    """As it comes, with a rollback journal: for the record, no figure is taken from it."""
    with bench.scratch() as folder:
        return bench.peer_python("dbos_peer.py", "steps", folder, "default", bench.count(200), bench.count(60))


@arm("sqlite3.steps")
def sqlite3_steps(bench: Bench) -> Measures:
    with bench.scratch() as folder:
        return bench.our_python("peers/sqlite_peer.py", folder, 1.5)


@arm("bullmq.latency")
def bullmq_latency(bench: Bench) -> Measures:
    return bench.node("bullmq.mjs", "latency", bench.redis(), bench.count(LATENCY_JOBS))


@arm("celery.latency")
def celery_latency(bench: Bench) -> Measures:
    return bench.peer_python("celery_peer.py", "latency", bench.redis(), bench.count(LATENCY_JOBS))


@arm("dbos.latency")
def dbos_latency(bench: Bench) -> Measures:
    with bench.scratch() as folder:
        return bench.peer_python("dbos_peer.py", "latency", folder, "wal", bench.count(100))


@arm("peers.import")
def peers_import(bench: Bench) -> Measures:
    return bench.peer_python("import_peers.py", bench.count(5), "dbos", "celery.app", "openai", "aiohttp")


# --- HTTP ---


def client_arm(
    peer: str, concurrency: int, path: Callable[[], Path | None] = lambda: None
) -> Callable[[Bench], Measures]:
    """One client at one concurrency, the server answering at once and after 200 ms."""

    def measure(bench: Bench) -> Measures:
        cells = [word for delay in (0, 200) for word in (bench.server(delay), delay, 0)]
        words = ("http_peers.py", peer, concurrency, HTTP_SECONDS, *cells)
        return bench.peer_python(*words, core=CLIENT_CORE, path=path())

    return measure


def many_arm(peer: str) -> Callable[[Bench], Measures]:
    """5,000 calls in flight at 200 to 1,000 ms."""

    def measure(bench: Bench) -> Measures:
        low, high = SPREAD_MS
        cell = (bench.server(low, high), low, high - low)
        measures = bench.peer_python("http_peers.py", peer, 5_000, 3, *cell, core=CLIENT_CORE)
        return {name.removesuffix(f"_{low}ms"): value for name, value in measures.items()}

    return measure


def wrk_arm(concurrency: int) -> Callable[[Bench], Measures]:
    """What the server can do at all, from a client that does nothing with the answers."""

    def measure(bench: Bench) -> Measures:
        program = shutil.which("wrk")
        if program is None:
            raise ArmError("wrk is needed: apt-get install wrk")
        measures: Measures = {}
        for delay in (0, 200):
            command = [program, "-t1", f"-c{concurrency}", "-d2s", "--timeout", "10s", "-s", HERE / "peers" / "wrk.lua"]
            found = bench.run([*command, f"{bench.server(delay)}/v1/chat/completions"], core=CLIENT_CORE)
            if found["failed"] or not found["requests"]:
                raise ArmError(f"wrk: {found['failed']:.0f} calls failed, {found['requests']:.0f} ended")
            cpu_us = found["child_cpu_s"] / found["requests"] * 1e6
            cell = {"per_s": found["requests"] / found["seconds"], "cpu_us": cpu_us, "p50_ms": found["p50_ms"]}
            measures |= {f"{name}_{delay}ms": value for name, value in cell.items()}
        return measures

    return measure


for in_flight in (1, 64, 256, 1024):
    for client in ("aiohttp", "httpx", "openai"):
        arm(f"{client}.http{in_flight}")(client_arm(client, in_flight))
    arm(f"wrk.http{in_flight}")(wrk_arm(in_flight))
for in_flight in (64, 1024):
    arm(f"aiohttp38.http{in_flight}")(client_arm("aiohttp", in_flight, install.old_aiohttp))
arm("aiohttp_uvloop.http64")(client_arm("aiohttp_uvloop", 64))
# Not httpx: each request looks at every pair of its connections, so 5,000 in flight do not even start within 90 s.
for client in ("aiohttp", "openai"):
    arm(f"{client}.http5000")(many_arm(client))


def stream_arm(peer: str) -> Callable[[Bench], Measures]:
    """Streams at once, read by a peer."""

    def measure(bench: Bench) -> Measures:
        words = (peer, bench.count(STREAMS), STREAM_RAMP_SECONDS, bench.stream_server())
        return bench.peer_python("stream_peers.py", *words, core=CLIENT_CORE)

    return measure


for client in ("aiohttp", "openai"):
    arm(f"{client}.stream")(stream_arm(client))
