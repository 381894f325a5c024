"""The compiled core. Private; batches are tuples, laid out here and in bindings/convert.cpp."""

from typing import TypeAlias, final

__version__: str

# Retry policy: attempts_max, backoff_base_ms, backoff_cap_ms, elapsed_ms_max, hedge_ms (0: none)
# Event: kind, attempt, step, payload, milliseconds since 1970, and of an attempt how long it took and waited (-1: unknown)
_Event: TypeAlias = tuple[int, int, str, bytes, int, int, int]
# Request: method, url, headers, body, connect_timeout_ms, total_timeout_ms
_Request: TypeAlias = tuple[str, str, tuple[tuple[str, str], ...], bytes, int, int]
# New run: workflow, queue, key, fingerprint, input, and if need be priority, wake_at, deadline_at, version,
# then the events that it begins with (a fork), its group, and () or how it meets an earlier start:
# kind, key, wait_ms_max, count_max; then its agreed time: its end and length
# (-1: none), and which workflow is told ("": none); then the names of its budgets, a line each
_Collapse: TypeAlias = tuple[()] | tuple[int, str, int, int]
# Start: ticket, then the members of a new run
_Start: TypeAlias = (
    tuple[int, str, str, str, int, bytes]
    | tuple[int, str, str, str, int, bytes, int, int, int, str]
    | tuple[int, str, str, str, int, bytes, int, int, int, str, list[_Event], str, _Collapse]
    | tuple[int, str, str, str, int, bytes, int, int, int, str, list[_Event], str, _Collapse, int, int, str]
    | tuple[int, str, str, str, int, bytes, int, int, int, str, list[_Event], str, _Collapse, int, int, str, str]
)
# Answer: failure (kind, code, message) or None, run, attached, status, result
_Answer: TypeAlias = tuple[tuple[int, str, str] | None, int, bool, int, bytes]
# Message: topic, key, at, payload
_Message: TypeAlias = tuple[str, str, int, bytes]
# Row: run, status, claims, workflow, queue, key, input, result, created_at, finished_at, events, wake_at, parent,
# version, messages, group
_Row: TypeAlias = tuple[
    int, int, int, str, str, str, bytes, bytes, int, int, list[_Event] | None, int, int, str, list[_Message], str
]
# in_flight_max, group_in_flight_max, rate_count, rate_period_ms, is_fair, is_paused
_Limits: TypeAlias = tuple[int, int, int, int, bool, bool]
# Queue: name, and its limits as in _Limits
_QueueLimits: TypeAlias = tuple[str, int, int, int, int, bool, bool]
# Account that somebody changed: name, cap in picodollars and tokens (-1: none), is_closed, run, changed at, notes
_ChangedAccount: TypeAlias = tuple[str, int, int, bool, int, int, str]
# Document: kind, name, version, at, body
_Document: TypeAlias = tuple[str, str, int, int, bytes]
# Account: name, then in picodollars and in tokens its cap (-1: none), spent, reserved, in doubt; calls, odd ones, waiting
# ones, is_closed, run (0: no one run's), changed at, notes
_Account: TypeAlias = tuple[str, int, int, int, int, int, int, int, int, int, int, int, bool, int, int, str]
_Rates: TypeAlias = tuple[int, int, int]
# Bucket: name, limits of all, of a tenant, learned; requests_room, tokens_room, window (-1: no limit), in_flight, waiting,
# tenants, sent, held, throttled, tokens_used, paused_until (-1: not)
_Bucket: TypeAlias = tuple[str, _Rates, _Rates, _Rates, int, int, int, int, int, int, int, int, int, int, int]
# Circuit: name, state, open_until (-1: not open), calls and failures that count, openings, held, retries_held
_Circuit: TypeAlias = tuple[str, int, int, int, int, int, int, int]
# Retention: milliseconds after the end for finished, failed and dead runs; -1: for ever
_Times: TypeAlias = tuple[int, int, int]
# Egress: allow, deny, hosts, plain_http, body_bytes_max, header_bytes_max, unpack_ratio_max, stall_ms_max,
# bulk_bytes_max
_Egress: TypeAlias = tuple[list[str], list[str], list[str] | None, bool, int, int, int, int, int]
# Tally: workflow, status, runs, events, payload_bytes, history_bytes, oldest_at, newest_at, largest, largest_bytes
_Tally: TypeAlias = tuple[str, int, int, int, int, int, int, int, int, int]
_Findings: TypeAlias = tuple[list[tuple[int, str]], int, int]
# Record: run, status, token, claims, workflow, queue, key, fingerprint, input, result, created_at, finished_at,
# priority, wake_at, deadline_at, parent, parent_step, version, group,
# sla_at, sla_ms, breach_flow, budgets, is_trimmed, event_count, events,
# messages (id, topic, key, at, payload), message keys (topic, key), and
# of streams: step, generation, text
_Record: TypeAlias = tuple[
    int, int, int, int, str, str, str, int, bytes, bytes, int, int, int, int, int, int, str, str, str,
    int, int, str, str, bool, int,
    list[_Event], list[tuple[int, str, str, int, bytes]], list[tuple[str, str]],
    list[tuple[str, int, bytes]],
]  # fmt: skip

def check_egress(policy: _Egress, /) -> None: ...
def special_range(address: str, /) -> str: ...  # "": public

@final
class StoreFile:
    @staticmethod
    def open(path: str, access: int, /) -> StoreFile: ...  # 0 look, 1 change, 2 create
    def facts(self) -> dict[str, int | str | bool]: ...
    def tally(self, after: int, run_count_max: int, /) -> tuple[list[_Tally], int, int]: ...
    def check_pages(self, is_quick: bool, /) -> list[str]: ...
    def check_runs(self, after: int, run_count_max: int, /) -> _Findings: ...
    def check_strays(self) -> _Findings: ...
    def read(self, after: int, run_count_max: int, bytes_max: int, /) -> tuple[list[_Record], int]: ...
    def add(self, records: list[_Record], /) -> tuple[int, int]: ...
    def settings(self) -> tuple[list[_Document], list[_QueueLimits], list[_ChangedAccount]]: ...
    def add_settings(
        self, documents: list[_Document], queues: list[_QueueLimits], accounts: list[_ChangedAccount], /
    ) -> None: ...
    def back_up(self, target: str, /) -> None: ...
    def compact(self) -> None: ...
    def interrupt(self) -> None: ...
    def close(self) -> None: ...

@final
class Runtime:
    @staticmethod
    def open(
        path: str,
        *,
        durable: bool = True,
        lease_ms: int = 30000,
        ca_bundle: str = "",
        proxy: str = "",
        no_proxy: str = "",
        calls_per_host_max: int = 8192,
        # ahead_ms, cut_at, keeps_cut, seed, slow_percent, busy_percent: TestWorld in stepwell/test_world.h
        test_world: tuple[int, int, bool, int, int, int] | None = None,
        retention: tuple[_Times, dict[str, _Times], int] | None = None,
        egress: _Egress | None = None,
    ) -> Runtime: ...
    def serve(self, queue: str, in_flight_max: int, channel: int, /) -> None: ...
    def start(self, requests: list[_Start], /) -> list[_Answer]: ...
    def start_async(self, requests: list[_Start], ticket: int, /) -> None: ...
    # Items by their first member (ItemKind in stepwell/runtime.h):
    # (0, run, workflow, input, events, token, budgets)  activate     (1, run, step, ok, payload, attempt)  step recorded
    # (2, run, step, attempt)  try again                     (3, run, error)  stop
    # (4, ticket, run, status, payload, is_new)  finished     (5, ticket, answers)  started
    # (6, ticket, failure, status, header lines, body, elapsed_us)  plain request answered
    # (7, run, is_pausing)  come to rest, or go on after all
    # (8, run, step, due_at, topic)  the call was not sent: wait for either, then report it anew
    def poll(self, count_max: int, timeout_ms: int, /) -> list[tuple[object, ...]]: ...
    def wake(self, /) -> None: ...
    def open_channel(self, event_fd: int, /) -> int: ...
    def close_channel(self, channel: int, /) -> None: ...
    def take(self, channel: int, count_max: int, /) -> list[tuple[object, ...]]: ...
    # Reports by their first member (ReportKind), each with run and token after it:
    # (0 | 1, ..., payload)  run succeeded, failed
    # (2, ..., step, attempt, payload, took_ms, waited_ms[, new runs[, *sla]])  step succeeded; these begin with its commit
    # (3, ..., step, attempt, error, took_ms, waited_ms, retryable, retry[, *sla])  step failed; sla: sla_ms, breach flow
    # (4, ..., step, request, retry, repeatable, json_body, required_pointer[, admission, spending, stream])  make a call
    #   admission: bucket, circuit, tenant, tokens, input pointers, output pointers, cached pointer; or ()
    #   spending: estimate in picodollars and tokens, prices of an input, output and cached token, budgets; or ()
    #     budget: account, its cap in picodollars and tokens (-1: none), due_at, fails, is_runs
    #   stream: text pointers, end events, end data, error pointers[, text events, idle_ms_max[, last pointers]]; or ()
    # (5, ..., step, topic, due_at, then_park)  wait         (6, ..., step, new run, then_park)  child, and its end
    # (7, ..., open_waits)  nothing is left to do but wait               (8, ..., step)  a wait is dropped
    # (9, ..., payload)  run compensated                     (10, ..., payload)  code and history differ
    def complete(self, reports: list[tuple[object, ...]], /) -> None: ...
    def record(self, report: tuple[object, ...], /) -> tuple[object, ...]: ...
    def wait(self, run: int, timeout_ms: int, /) -> _Answer: ...
    def watch(self, run: int, ticket: int, /) -> None: ...
    def find(
        self,
        *,
        run: int = 0,
        workflow: str = "",
        key: str = "",
        is_failed: bool = False,
        is_breached: bool = False,
        before: int = 0,
        count_max: int = 1,
        with_events: bool = False,
        with_payloads: bool = True,
    ) -> list[_Row]: ...
    def set_limits(self, queue: str, limits: _Limits, /) -> None: ...
    # Rates: requests_per_minute, tokens_per_minute, concurrency; 0: no limit. Of all, of each tenant; then burst_ms
    def set_call_limits(self, name: str, of_all: _Rates, of_tenant: _Rates, burst_ms: int, /) -> None: ...
    # window, failures_min, failure_percent, slow_ms, slow_percent, cool_down_ms, cool_down_ms_max, probes_max,
    # successes_min, retry_percent, retries_per_second_min
    def set_breaker(self, name: str, policy: list[int], /) -> None: ...
    def look_at_calls(self, /) -> tuple[list[_Bucket], list[_Circuit]]: ...
    # limits, queued, held back by their group's limit, running
    def look(self, queue: str, /) -> tuple[_Limits, int, int, int]: ...
    def keep(self, kind: str, name: str, version: int, body: bytes, /) -> None: ...
    # name, version, at, body
    def documents(self, kind: str, name: str, /) -> list[tuple[str, int, int, bytes]]: ...
    def change_budget(
        self,
        name: str,
        *,
        cap: tuple[int, int] = (-1, -1),
        makes: bool = False,
        sets_cap: bool = False,
        closes: bool = False,
        note: str = "",
    ) -> None: ...
    def budgets(self, name: str, /) -> list[_Account]: ...
    # Pages done, pages in all, and whether the copy is finished
    def backup(self, path: str, page_count_max: int, is_given_up: bool, /) -> tuple[int, int, bool]: ...
    def tell(self, run: int, topic: str, payload: bytes, key: str, /) -> None: ...
    def cancel(self, run: int, /) -> None: ...
    def send(self, requests: list[_Request], ticket: int, /) -> None: ...
    def read_stream(
        self, run: int, step: str, generation: int, offset: int, patience_ms: int, ticket: int, /
    ) -> None: ...
    def for_test_hand_out(self, count: int, /) -> None: ...
    # activity, is_idle, is_cut, is_awaited, active_count, asking_count, commit_count, wall_ms, next_in_ms
    def for_test_view(self, /) -> tuple[int, bool, bool, bool, int, int, int, int, int]: ...
    def for_test_jump(self, activity: int, by_ms: int, /) -> bool: ...
    def for_test_ahead_ms(self, /) -> int: ...
    def counters(self, /) -> dict[str, int]: ...
    def close(self, deadline_ms: int, /) -> None: ...
