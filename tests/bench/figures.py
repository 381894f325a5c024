"""What is compared with what, and the goals. The names are stable: whoever reads the JSON may rely on them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """Ours, alone or divided by a peer's, against a goal. `ours` and `peer` are `who.what:measure`."""

    name: str
    ours: str
    peer: str = ""
    goal: float | None = None
    is_lower_better: bool = False

    def arms(self) -> list[str]:
        """The arms that this figure is made of."""
        return [key.partition(":")[0] for key in (self.ours, self.peer) if key]

    def is_met(self, value: float) -> bool | None:
        """Whether the goal is reached; None when there is none."""
        if self.goal is None:
            return None
        return value <= self.goal if self.is_lower_better else value >= self.goal


def at_least(name: str, ours: str, peer: str = "", goal: float | None = None) -> Figure:
    """More is better."""
    return Figure(name, ours, peer, goal)


def at_most(name: str, ours: str, peer: str = "", goal: float | None = None) -> Figure:
    """Less is better."""
    return Figure(name, ours, peer, goal, is_lower_better=True)


# runs.*, start.*: no-op runs with their history, SQLite, durability="full"; `drain` is `async def`, `drain_def` plain `def`.
# Peers stand with their best: Celery without late acknowledgement if that is faster, DBOS with a write-ahead log, aiohttp
# in its newest version; aiohttp38 is Debian 12's, half as fast, which the goals were set against.
FIGURES = (
    at_least("runs.vs_bullmq", "stepwell.queue:drain_per_s", "bullmq.queue:drain_per_s", 1.75),
    at_least("runs.vs_celery", "stepwell.queue:drain_per_s", "celery.queue:drain_best_per_s", 20),
    at_least("runs.vs_dbos", "stepwell.queue:drain_per_s", "dbos.queue:drain_per_s", 100),
    at_least("runs.def_vs_bullmq", "stepwell.queue:drain_def_per_s", "bullmq.queue:drain_per_s", 2.5),
    at_least("start.vs_bullmq", "stepwell.queue:start_bulk_per_s", "bullmq.queue:start_bulk_per_s", 4),
    at_least("start.one_vs_bullmq", "stepwell.queue:start_one_per_s", "bullmq.queue:start_one_per_s", 1.1),
    at_least("start.one_vs_bare", "stepwell.queue:start_one_per_s", "core.commits:bare_one_per_s", 0.8),
    at_least("start.core_one_vs_bare", "core.commits:store_one_per_s", "core.commits:bare_one_per_s", 0.8),
    at_most("runs.rss_mb", "stepwell.queue:rss_mb", goal=60),
    at_least("seq_steps.vs_dbos", "stepwell.steps:seq_per_s", "dbos.steps:seq_per_s", 5),
    at_least("seq_steps.vs_sqlite", "stepwell.steps:seq_plain_per_s", "sqlite3.steps:commits_per_s", 0.6),
    at_least("seq_steps.async_vs_sqlite", "stepwell.steps:seq_per_s", "sqlite3.steps:commits_per_s", 0.6),
    at_least("steps3.vs_dbos", "stepwell.steps:steps3_per_s", "dbos.steps:steps3_per_s", 80),
    at_most("latency.p50_ms", "stepwell.latency:p50_ms", goal=0.6),
    at_most("latency.p99_ms", "stepwell.latency:p99_ms", goal=3),
    at_least("http64.vs_aiohttp", "stepwell.http64:per_s_0ms", "aiohttp.http64:per_s_0ms", 6),
    at_least("http64.vs_httpx", "stepwell.http64:per_s_0ms", "httpx.http64:per_s_0ms", 25),
    at_least("http64.vs_wrk", "stepwell.http64:per_s_0ms", "wrk.http64:per_s_0ms", 0.3),
    at_most("http64.cpu_vs_aiohttp", "stepwell.http64:cpu_us_0ms", "aiohttp.http64:cpu_us_0ms", 1 / 6),
    at_least("http64.vs_aiohttp38", "stepwell.http64:per_s_0ms", "aiohttp38.http64:per_s_0ms", 6),
    at_most("http64.cpu_vs_aiohttp38", "stepwell.http64:cpu_us_0ms", "aiohttp38.http64:cpu_us_0ms", 1 / 6),
    at_least("http64.vs_openai", "stepwell.http64:per_s_0ms", "openai.http64:per_s_0ms"),
    at_least("http64.core_vs_wrk", "core.http64:per_s_0ms", "wrk.http64:per_s_0ms"),
    at_least("http1024.of_ideal", "stepwell.http1024:of_ideal_200ms", goal=0.97),
    at_most("http1024.cpu_vs_aiohttp", "stepwell.http1024:cpu_us_200ms", "aiohttp.http1024:cpu_us_200ms", 1 / 5),
    at_most("http1024.cpu_vs_aiohttp38", "stepwell.http1024:cpu_us_200ms", "aiohttp38.http1024:cpu_us_200ms", 1 / 5),
    at_least("http5000.of_ideal", "stepwell.http5000:of_ideal", goal=0.97),
    at_most("http5000.added_p50_ms", "stepwell.http5000:added_p50_ms", goal=1),
    at_most("http5000.added_p99_ms", "stepwell.http5000:added_p99_ms", goal=10),
    at_least("http_durable.per_s", "stepwell.http_durable:per_s", goal=8_000),
    at_most("memory.call_kib", "stepwell.http5000:call_kib", goal=25),
    at_most("import.ms", "stepwell.import:stepwell_ms", goal=60),
    at_least("border.per_s", "stepwell.border:per_s", goal=2_000_000),
    at_least("triage200.of_ideal", "stepwell.triage:of_ideal_200ms", goal=0.9),
    at_least("triage0.rows_per_s", "stepwell.triage:rows_per_s_0ms", goal=6_000),
    # 1,000 streams of 50 tokens a second at once: CPU a token; from the server's first token to the reader's.
    at_most("stream.cpu_vs_openai", "stepwell.stream:cpu_us", "openai.stream:cpu_us", 1 / 5),
    at_most("stream.cpu_vs_aiohttp", "stepwell.stream:cpu_us", "aiohttp.stream:cpu_us"),
    at_most("stream.ttft_ms", "stepwell.stream:ttft_ms", goal=5),
    at_most("stream.durable_cpu_vs_openai", "stepwell_durable.stream:cpu_us", "openai.stream:cpu_us", 1 / 5),
    at_most("admission.us", "core.admission:us", goal=5),
    at_most("admission.line_us", "core.admission:line_us", goal=5),
    # 100,000 tickets, each a durable run of one LLM call, beside clients that keep nothing.
    at_least("classify.per_s", "stepwell.classify:per_s", goal=6_000),
    at_least("classify.vs_openai", "stepwell.classify:per_s", "openai.classify:per_s", 15),
    at_least("classify.vs_langchain", "stepwell.classify:per_s", "langchain.classify:per_s", 15),
    at_least("classify.vs_instructor", "stepwell.classify:per_s", "instructor.classify:per_s", 15),
    at_most("classify.cpu_vs_openai", "stepwell.classify:cpu_us", "openai.classify:cpu_us", 1 / 15),
    # 10,000 calls under a provider's limits: the ideal time of the time taken, and what share of the requests it refused.
    at_least("limiter.of_ideal", "stepwell.limited:of_ideal", goal=0.95),
    at_most("limiter.share_429", "stepwell.limited:share_429", goal=0.01),
    # Runs that wait: a million in a queue, 100,000 timers, a million parked, 100,000 of a killed engine.
    at_least("backlog.rate_share", "stepwell.backlog:rate_share", goal=0.8),
    at_most("backlog.rss_mb", "stepwell.backlog:large_growth_mb", goal=50),
    at_most("store.bytes_per_run", "stepwell.backlog:large_bytes_per_run", goal=600),
    at_most("keys.cost_ratio", "stepwell.keys:cost_ratio", goal=1.5),
    at_most("timers.p99_ms", "stepwell.timers:p99_ms", goal=10),
    at_most("signal.p50_ms", "stepwell.signal:p50_ms", goal=2),
    at_most("recovery.s_100k", "stepwell.recovery:s", goal=5),
    at_most("parked.rss_mb_1m", "stepwell.parked:rss_mb", goal=200),
    at_least("parked.woken_per_s", "stepwell.parked:woken_per_s"),
)
# Arms beside each other by their medians, where a single figure says too little: title, arms, columns and their measures.
TABLES = (
    (
        "under a provider's limits",
        ("stepwell.limited", "tenacity.limited", "openai.limited"),
        {"time / ideal": "of_ideal_time", "share of 429s": "share_429", "failed": "failed"},
    ),
)
# Arms that run with a group although no figure of that group reads them.
GROUP_OF_ARMS = {
    "runs": ("queue",),
    "start": ("queue", "sqlite3.steps"),
    "seq_steps": ("steps",),
    "steps3": ("dbos.steps", "dbos_default.steps"),
    "memory": ("http5000",),
    "triage200": ("triage",),
    "triage0": ("triage",),
    "store": ("backlog",),
    "limiter": ("limited",),
}


def chosen_arms(names: list[str], registered: list[str]) -> list[str]:
    """The registered arms that these figures, groups of figures, arms or kinds of arms need; all, without a name."""
    wanted: set[str] = set()
    for name in names:
        figures = [figure for figure in FIGURES if name in {figure.name, figure.name.partition(".")[0]}]
        keys = {name, *GROUP_OF_ARMS.get(name, ())}
        found = {each for each in registered if keys & {each, each.partition(".")[2]}}
        found |= {each for figure in figures for each in figure.arms() if each in registered}
        if not figures and not found:
            raise ValueError(name)
        wanted |= found
    order = list(dict.fromkeys(each.partition(".")[2] for each in registered))
    chosen = [each for each in registered if each in wanted or not names]
    return sorted(chosen, key=lambda each: order.index(each.partition(".")[2]))
