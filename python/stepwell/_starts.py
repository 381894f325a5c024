"""Starts in the core's form: what a run begins with."""

from __future__ import annotations

import hashlib
import json
import time
from typing import TYPE_CHECKING, Any, TypedDict

from stepwell import _codec
from stepwell._errors import InputError
from stepwell._queues import Collapse, Collect, collapse_request
from stepwell._types import Duration, check_text, duration_ms, is_count
from stepwell._workflow import current_activation, current_step, sla_request

if TYPE_CHECKING:
    from stepwell._budgets.policy import Budget
    from stepwell._workflow import Workflow

PRIORITY_MAX = 1_000_000


class StartOptions(TypedDict, total=False):
    """What a start may say besides workflow and input."""

    #: The same key and the same input give the same run; another input raises ConflictError SW-E1201.
    key: str | None
    #: The run begins so much later.
    delay: Duration | None
    #: A run that has not ended so long after its start fails with SW-E1017.
    timeout: Duration | None
    #: Of the runs that wait for a worker, those with the smallest priority go first (default 0).
    priority: int
    #: The queue to stand in; the workflow's own by default.
    queue: str
    #: Whom the queue's limits per group, and its turns, count: a customer, an account.
    group: str
    #: How this start joins an earlier one: Debounce, Singleton or Collect. Not together with a key.
    collapse: Collapse | None
    #: A time agreed on for this run, in the place of its workflow's; a breach is recorded and changes nothing else.
    sla: Duration | None
    #: The workflow that is started with a Breach; the workflow's own by default.
    on_breach: Workflow[..., Any] | None
    #: What the calls of the run and of its children may cost; the engine's own budget holds, too.
    budget: Budget | None


def fingerprint_of(payload: bytes) -> int:
    """Return 64 bits that tell one payload from another under the same key."""
    return int.from_bytes(hashlib.blake2b(payload, digest_size=8).digest(), "little")


def start_request(
    flow: Workflow[..., Any], value: Any, key: str | None, *, queue: str | None = None, ticket: int = 0
) -> tuple[Any, ...]:
    """Return a start without options in the core's form. Raises InputError as plain_request does."""
    plain = plain_request(flow, value, key, queue=queue, ticket=ticket)
    if not flow.version and not flow.sla:
        return plain
    tail = (0, -1, -1, flow.version)
    return (*plain, *tail, [], "", (), *sla_until(flow.sla, now_ms())) if flow.sla else (*plain, *tail)


def now_ms() -> int:
    """Return the engine's time where there is one, which tests move; else the wall clock's."""
    here = current_activation.get() or current_step.get()
    return int((time.time() if here is None else here.worker.time()) * 1000)


def sla_until(sla: tuple[int, str] | tuple[()], begins_at: int) -> tuple[int, int, str]:
    """Return the end of an agreed time for a run that may begin at `begins_at`, how long it is, who hears of a breach."""
    return (begins_at + sla[0], *sla) if sla else (-1, -1, "")


def plain_request(
    flow: Workflow[..., Any], value: Any, key: str | None, *, queue: str | None = None, ticket: int = 0
) -> tuple[Any, ...]:
    """Return the six members that every start has. Raises InputError for a bad key or an input without a JSON form."""
    payload = _codec.encode(value, f"input of workflow {flow.name!r}")
    if key is None:
        return (ticket, flow.name, queue or flow.name, "", 0, payload)
    if not isinstance(key, str) or not key or not key.isprintable() or len(key.encode()) > 255:
        raise InputError("SW-E1202", "not a usable key", got=repr(key)[:80], expected="1 to 255 printable characters")
    canonical = payload
    if b"{" in payload:  # the order of an object's members makes no other request
        canonical = json.dumps(json.loads(payload), sort_keys=True, separators=(",", ":")).encode()
    return (ticket, flow.name, queue or flow.name, key, fingerprint_of(canonical), payload)


def options_request(flow: Workflow[..., Any], value: Any, options: StartOptions, now: float) -> tuple[Any, ...]:
    """Return a start with its options in the core's form; the plainest one has no tail. `now`: the engine's time."""
    if options and (unknown := options.keys() - StartOptions.__annotations__.keys()):
        raise InputError(
            "SW-E1021",
            "a start knows no such option",
            got=", ".join(sorted(unknown))[:200],
            expected=", ".join(StartOptions.__annotations__),
        )
    queue, group, collapse = options.get("queue"), options.get("group", ""), options.get("collapse")
    if isinstance(collapse, Collect):
        value = [value]
    plain = plain_request(flow, value, options.get("key"), queue=queue)
    sla = flow.sla
    if "sla" in options or "on_breach" in options:
        sla = sla_request(options.get("sla") or _own(flow), options.get("on_breach") or flow.on_breach)
    delay, timeout, priority = options.get("delay"), options.get("timeout"), options.get("priority", 0)
    if delay is None and timeout is None and priority == 0 and not (flow.version or group or collapse or sla):
        return plain
    if not is_count(priority, PRIORITY_MAX, least=-PRIORITY_MAX):
        raise InputError(
            "SW-E1018",
            "priority is out of range",
            got=repr(priority)[:80],
            expected=f"-{PRIORITY_MAX} to {PRIORITY_MAX}",
        )
    how, wait = collapse_request(collapse)
    if how and (options.get("key") is not None or (delay is not None and wait is not None)):
        raise InputError("SW-E1024", "a start that joins others has neither a key nor a delay of its own")
    check_text(group, "group", least=0)
    begun = int(now * 1000)
    delay = delay if wait is None else wait
    wake_at = -1 if delay is None else begun + duration_ms(delay, "delay")
    deadline_at = -1 if timeout is None else begun + duration_ms(timeout, "timeout")
    request = (*plain, priority, wake_at, deadline_at, flow.version)
    if sla:
        return (*request, [], group, how, *sla_until(sla, max(begun, wake_at)))
    return (*request, [], group, how) if group or how else request


def _own(flow: Workflow[..., Any]) -> str | None:
    return f"{flow.sla[0]}ms" if flow.sla else None
