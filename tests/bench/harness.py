"""Arms, rounds and medians; child processes with their CPU, their memory and the load of everybody else.

An arm is a function that takes a `Bench`, measures one thing once and answers `{measure: number}`. Every round runs every
arm once, so that a slow minute of the machine hits ours and theirs alike; a figure is the median over the rounds.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from . import install
from .servers import EpollServer, RedisServer

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CACHE = ROOT / "build" / "bench"
CHILD_SECONDS_MAX = 90  # a peer that hangs must not hang the bench
SAMPLE_SECONDS = 0.2
PSS_EVERY_LOOKS = 10
TICKS = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")

Measures = dict[str, float]
Measure = Callable[["Bench"], Measures]
ARMS: dict[str, Measure] = {}


class ArmError(Exception):
    """One arm could not be measured; the others go on."""


def arm(name: str) -> Callable[[Measure], Measure]:
    """Register a function as the arm `who.what`; arms of one `what` run next to each other."""

    def register(measure: Measure) -> Measure:
        if name in ARMS:
            raise ValueError(f"the arm {name} is registered twice")
        ARMS[name] = measure
        return measure

    return register


# --- what /proc says ---


def process_tree(pid: int) -> list[int]:
    """The process and its living descendants."""
    found = [pid]
    for parent in found:
        try:
            for task in Path(f"/proc/{parent}/task").iterdir():
                found += [int(word) for word in (task / "children").read_text(encoding="ascii").split()]
        except OSError:
            continue
    return found


def cpu_seconds(pid: int) -> float:
    """CPU of a process tree, children that have ended and were waited for included."""
    ticks = 0
    for each in process_tree(pid):
        try:
            stat = Path(f"/proc/{each}/stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        ticks += sum(int(word) for word in stat.rpartition(")")[2].split()[11:15])
    return ticks / TICKS


def rss_mib(pid: int) -> float:
    """Resident memory of a process tree; pages that are shared count once a process."""
    pages = 0
    for each in process_tree(pid):
        try:
            pages += int(Path(f"/proc/{each}/statm").read_text(encoding="ascii").split()[1])
        except OSError:
            continue
    return pages * PAGE_BYTES / 2**20


def pss_mib(pid: int) -> float:
    """Proportional memory of a process tree: a page that n processes share counts 1/n for each."""
    kib = 0
    for each in process_tree(pid):
        try:
            lines = Path(f"/proc/{each}/smaps_rollup").read_text(encoding="ascii").splitlines()
        except OSError:
            continue
        kib += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return kib / 1024


def machine_cpu_seconds() -> float:
    """CPU that all processes of the machine have used since it started."""
    words = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()[1:]
    user, nice, system, _idle, _iowait, irq, softirq, steal = (int(word) for word in words[:8])
    return (user + nice + system + irq + softirq + steal) / TICKS


@dataclass
class ForeignLoad:
    """Cores that processes other than ours kept busy, between two moments."""

    began: float = field(default_factory=time.monotonic)
    machine: float = field(default_factory=machine_cpu_seconds)
    ours: float = field(default_factory=lambda: cpu_seconds(os.getpid()))

    def cores(self) -> float:
        """How many cores, on average since this object was made."""
        busy = machine_cpu_seconds() - self.machine - (cpu_seconds(os.getpid()) - self.ours)
        return max(0.0, busy / max(0.001, time.monotonic() - self.began))


# --- what an arm is given ---


@dataclass
class Bench:
    """What an arm works with: servers, folders and child processes. All of it ends with the bench."""

    quick: bool = False
    stack: ExitStack = field(default_factory=ExitStack)
    servers: dict[tuple[int, int], EpollServer] = field(default_factory=dict)
    redis_server: RedisServer | None = None
    streams: EpollServer | None = None

    def count(self, full: int) -> int:
        """How many of something to do: a fifth when it has to be quick."""
        return max(1, full // 5) if self.quick else full

    def redis(self) -> str:
        """The URL of our own Redis, emptied."""
        if self.redis_server is None:
            self.redis_server = self.stack.enter_context(RedisServer())
        self.redis_server.empty()
        return self.redis_server.url

    def server(self, delay_ms: int, delay_ms_max: int | None = None) -> str:
        """The URL of an HTTP server that answers after that delay, evenly spread if there is a maximum."""
        key = (delay_ms, delay_ms if delay_ms_max is None else delay_ms_max)
        if key not in self.servers:
            self.servers[key] = self.stack.enter_context(EpollServer(install.our_server("epoll_server"), *key))
        return self.servers[key].url

    def stream_server(self) -> str:
        """The URL of an HTTP server that streams 200 tokens, 50 a second."""
        if self.streams is None:
            self.streams = self.stack.enter_context(EpollServer(install.our_server("stream_server"), 200, 50))
        return self.streams.url

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """An empty folder on the same disk as the sources, gone afterwards."""
        top = CACHE / "scratch"
        top.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=top))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def node(self, script: str, *arguments: object) -> Measures:
        """Run a Node peer."""
        return self.run(
            [install.node(), HERE / "peers" / script, *arguments], {"BENCH_NODE": str(install.node_folder())}
        )

    def peer_python(
        self, script: str, *arguments: object, core: int | None = None, path: Path | None = None
    ) -> Measures:
        """Run a Python peer, in the environment of the peers; what `path` holds goes before that."""
        environment = {} if path is None else {"PYTHONPATH": str(path)}
        return self.run([install.peer_python(), HERE / "peers" / script, *arguments], environment, core=core)

    def our_python(self, script: str, *arguments: object, core: int | None = None) -> Measures:
        """Run a program of ours, in the environment that runs the bench."""
        return self.run([sys.executable, HERE / script, *arguments], core=core)

    def run(
        self, command: list[object], environment: dict[str, str] | None = None, *, core: int | None = None
    ) -> Measures:
        """Run a child to its end; its last line is JSON. Adds the CPU it used and the most memory its tree held.

        `core` pins it, so that a client and its server do not fight; a machine with one core ignores that.
        """
        pins = core is not None and core < (os.cpu_count() or 1) and shutil.which("taskset")
        words = [*(("taskset", "-c", str(core)) if pins else ()), *(str(word) for word in command)]
        # The name of our own folder must not shadow what a peer imports.
        env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | (environment or {})
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as error:
            child = subprocess.Popen(
                words, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=error, start_new_session=True
            )
            rss, pss, cpu = watch(child)
            out.seek(0)
            error.seek(0)
            lines, problems = out.read().strip().splitlines(), error.read().strip()
        if child.returncode or not lines:
            name = " ".join(str(word) for word in command[1:3])
            raise ArmError(f"{name} ended with {child.returncode}: {problems[-800:]}")
        return {**json.loads(lines[-1]), "child_cpu_s": cpu, "child_rss_mb": rss, "child_pss_mb": pss}


def ended_children_cpu_seconds() -> float:
    """CPU of the children that we have waited for; servers that still run are not in it."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def watch(child: subprocess.Popen[bytes] | subprocess.Popen[str]) -> tuple[float, float, float]:
    """Wait for a child, sampling: the most RSS and PSS of its tree in MiB; then its CPU seconds, its children's included."""
    deadline = time.monotonic() + CHILD_SECONDS_MAX
    before = ended_children_cpu_seconds()
    rss = pss = 0.0
    looks = 0
    try:
        while True:
            try:
                child.wait(SAMPLE_SECONDS)
                break
            except subprocess.TimeoutExpired:
                rss = max(rss, rss_mib(child.pid))
                # Rarely: the kernel walks all pages of the child, which waits meanwhile; its latencies would show it.
                if (looks := looks + 1) % PSS_EVERY_LOOKS == 1:
                    pss = max(pss, pss_mib(child.pid))
            if time.monotonic() > deadline:
                raise ArmError(f"did not end within {CHILD_SECONDS_MAX} s")
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)  # the group is the child's own
            child.wait()
    return rss, pss, ended_children_cpu_seconds() - before


# --- rounds ---


@dataclass
class Results:
    """Every number of every round."""

    rounds: dict[str, list[Measures]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    def series(self, key: str) -> list[float | None]:
        """The rounds of one `arm:measure`; None where a round lacks it."""
        name, _, measure = key.partition(":")
        return [measures.get(measure) for measures in self.rounds.get(name, [])]

    def median(self, key: str) -> float | None:
        """The median of one `arm:measure`."""
        values = [value for value in self.series(key) if value is not None]
        return statistics.median(values) if values else None

    def ratio(self, ours: str, peer: str) -> float | None:
        """The median of the ratios, each taken within its round."""
        pairs = zip(self.series(ours), self.series(peer), strict=False)
        values = [mine / theirs for mine, theirs in pairs if mine is not None and theirs]
        return statistics.median(values) if values else None

    def medians(self) -> dict[str, Measures]:
        """The median of everything."""
        names = {name: sorted({key for each in rounds for key in each}) for name, rounds in self.rounds.items()}
        return {name: {key: self.median(f"{name}:{key}") or 0.0 for key in keys} for name, keys in names.items()}


def run_rounds(bench: Bench, arms: list[str], rounds: int, log: Callable[[str], None]) -> Results:
    """Run all arms, then all again the other way round, and so on."""
    results = Results()
    for number in range(rounds):
        for name in arms if number % 2 == 0 else reversed(arms):
            foreign, began = ForeignLoad(), time.monotonic()
            try:
                measures = ARMS[name](bench)
            except (ArmError, install.MissingError) as error:
                results.failures[name] = str(error)
                results.rounds.setdefault(name, []).append({})
                log(f"round {number + 1}  {name:<22} failed: {error}")
                continue
            measures |= {"seconds": time.monotonic() - began, "foreign_cores": foreign.cores()}
            results.rounds.setdefault(name, []).append(measures)
            shown = "  ".join(f"{key} {value:,.4g}" for key, value in measures.items())
            log(f"round {number + 1}  {name:<22} {shown}")
    return results
