"""Calls that the core makes for a run, as its code meets them: asked for, held back, answered, failed."""

from __future__ import annotations

import functools
import json
import re
from typing import TYPE_CHECKING, Any

from stepwell import _codec
from stepwell._errors import InputError, StepFailed
from stepwell._step_context import step_key_of
from stepwell._types import run_name
from stepwell._workflow import current_scope

if TYPE_CHECKING:
    from stepwell._activation import Activation
    from stepwell.llm._cache import Keeper

#: ReportKind and ItemKind of the core.
CALL, CALL_HELD = 4, 8
_STEP_SUCCEEDED, _STEP_FAILED = 2, 3
_NO_RETRY = (1, 1, 1, 1, 0)
_EVENT_ATTEMPT_FAILED = 3
_IS_CALL = re.compile(r"(?:^|/)llm\.")
# How a wait begins whose call was not sent yet. Which calls had to wait is no part of what a workflow is.
HELD = "held:"
# Where a request may hold a Costing (stepwell.llm._costing) in the place of its spending.
_SPENDING = 6


def held(item: tuple[Any, ...]) -> tuple[bool, bool, bytes, int]:
    """Turn the item of a call that was held into an answer that is not final: the topic, and the time it is due."""
    return (False, False, item[4].encode(), item[3])


async def make_call(
    activation: Activation, name: str, request: tuple[Any, ...], cache: Keeper | None = None
) -> tuple[bytes, int]:
    """Have the core make a call and return the recorded body and the attempts it took.

    `request` is the tail of the core's report. A call that may not be sent for a while (an open circuit, a budget that is
    used up, a peer that asked for an hour) is waited for as a sleep or a signal is: in the store. An answer that `cache` has
    is recorded in its place, with no attempt.
    """
    step = activation.identify(name)
    answer, _ = activation.recorded(step)
    if answer is None and (
        instead := instead_of(activation, step, None if cache is None else await cache.afind(request))
    ):
        answer = await activation.expect(step, instead)
    waits = wait_name(activation, step) if answer is None else ""
    while answer is None or not answer[0]:
        report = (CALL, activation.run, activation.token, step, *ready(activation, step, request))
        answer = await activation.expect(step, report)
        if not answer[0]:
            ask_for_more(activation, step, request, answer[2])
            await activation.wait(waits, answer[2].decode(), answer[3])
    if not answer[1]:
        raise step_failed(activation.run, step, answer[2], answer[3])
    return answer[2], answer[3]


def make_call_blocking(
    activation: Activation, name: str, request: tuple[Any, ...], cache: Keeper | None = None
) -> tuple[bytes, int]:
    """Make the same call from a plain def workflow."""
    step = activation.identify(name)
    answer, _ = activation.recorded(step)
    if answer is None and (instead := instead_of(activation, step, None if cache is None else cache.find(request))):
        answer = activation.expect_blocking(instead)
    waits = wait_name(activation, step) if answer is None else ""
    while answer is None or not answer[0]:
        report = (CALL, activation.run, activation.token, step, *ready(activation, step, request))
        answer = activation.expect_blocking(report)
        if not answer[0]:
            ask_for_more(activation, step, request, answer[2])
            activation.wait_blocking(waits, answer[2].decode(), answer[3])
    if not answer[1]:
        raise step_failed(activation.run, step, answer[2], answer[3])
    return answer[2], answer[3]


def instead_of(activation: Activation, step: str, hit: bytes | None) -> tuple[Any, ...] | None:
    """Return the report that takes a call's place: a cached answer, or the refusal of a call too many. None: make it."""
    head = (activation.run, activation.token, step)
    if hit is not None:
        return (_STEP_SUCCEEDED, *head, 0, hit, 0, 0)
    most = activation.flow.max_calls or activation.worker.calls_per_run
    if most is None:
        return None
    if activation.calls_made is None:
        activation.calls_made = _recorded_calls(activation)
    if step in activation.calls_made or len(activation.calls_made) < most:
        activation.calls_made.add(step)
        return None
    error = InputError(
        "SW-E2154",
        f"the run has made {most} calls, the most it may",
        hint="raise max_calls of the workflow, or calls_per_run of the engine, if that is meant",
    )
    # Recorded, so that a replay, whose branches go on in another order, refuses the same one.
    return (_STEP_FAILED, *head, 1, _codec.encode_error(error), 0, 0, False, _NO_RETRY)


def _recorded_calls(activation: Activation) -> set[str]:
    """Return the recorded steps that were calls: neither answered by a cache, nor by the local model, nor refused."""
    found = set()
    for name, (kind, attempt, _, payload, *_) in (activation.history or {}).items():
        if not _IS_CALL.search(name) or HELD in name or (attempt == 0 and kind != _EVENT_ATTEMPT_FAILED):
            continue
        body = json.loads(payload) if payload[:1] == b"{" and b'"SW-E2154"' not in payload else {}
        is_local = isinstance(body, dict) and body.get("model") == "local" and "confidence" in body
        if not is_local and b'"SW-E2154"' not in payload:
            found.add(name)
    return found


def wait_name(activation: Activation, step: str) -> str:
    """Return the name of the call's waits; those that an earlier activation recorded are over, and not asked for again."""
    name = HELD + step.removeprefix(current_scope.get())
    while activation.has_recorded_next(name):
        activation.identify(name)
    return name


@functools.lru_cache(maxsize=256)
def _has_key(headers: tuple[tuple[str, str], ...]) -> bool:
    return any(name.lower() == "idempotency-key" for name, _ in headers)


def ready(activation: Activation, step: str, request: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the request as it is sent: with the step's idempotency key, and with what it may cost."""
    http = request[0]
    if http[0] == "POST" and not _has_key(http[2]):
        key = ("Idempotency-Key", step_key_of(activation.run, step))
        request = ((http[0], http[1], (*http[2], key), *http[3:]), *request[1:])
    costing = request[_SPENDING] if len(request) > _SPENDING else ()
    if not costing:
        return request
    if costing.budget is None and not activation.budgets and not activation.worker.budgets:
        return (*request[:_SPENDING], (), *request[_SPENDING + 1 :])
    return costing.apply(activation, request)  # type: ignore[no-any-return]


def ask_for_more(activation: Activation, step: str, request: tuple[Any, ...], topic: bytes) -> None:
    """Open the approval of the budget that had no room, if it has one."""
    if not topic.startswith(b"budget:"):
        return
    from stepwell._budgets.asking import ask_for_more
    from stepwell._budgets.policy import budgets_of
    from stepwell._budgets.verbs import refused_by

    account = refused_by(topic, step)
    costing = request[_SPENDING]
    for budget in budgets_of(activation, costing.budget):
        if budget.ask is not None and account.partition("/")[0] == budget.known_as:
            usd, tokens = costing.apply(activation, request)[_SPENDING][:2]
            ask_for_more(activation.worker, budget, account, (usd, tokens))


def step_failed(run: int, step: str, payload: bytes, attempts: int) -> StepFailed:
    """Build the exception for a step that was recorded as failed."""
    error = _codec.decode_error(payload)
    error.setdefault("attempts", attempts)
    kind = error.get("type")
    message = error.get("message", "no message was recorded")
    text = f"step {step!r} failed: {kind}: {message}" if kind else f"step {step!r} failed: {message}"
    return StepFailed(
        error.get("code", "SW-E2001"), text, error=error, hint=error.get("hint", ""), run_id=run_name(run)
    )
