"""Calls that the core makes for a run, as its code meets them: asked for, held back, answered, failed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stepwell import _codec
from stepwell._errors import StepFailed
from stepwell._step_context import step_key_of
from stepwell._types import run_name
from stepwell._workflow import current_scope

if TYPE_CHECKING:
    from stepwell._activation import Activation

#: ReportKind and ItemKind of the core.
CALL, CALL_HELD = 4, 8
# How a wait begins whose call was not sent yet. Which calls had to wait is no part of what a workflow is.
HELD = "held:"
# Where a request may hold a Costing (stepwell.llm._budget) in the place of its spending.
_SPENDING = 6


def held(item: tuple[Any, ...]) -> tuple[bool, bool, bytes, int]:
    """Turn the item of a call that was held into an answer that is not final: the topic, and the time it is due."""
    return (False, False, item[4].encode(), item[3])


async def make_call(activation: Activation, name: str, request: tuple[Any, ...]) -> tuple[bytes, int]:
    """Have the core make a call and return the recorded body and the attempts it took.

    `request` is the tail of the core's report. A call that may not be sent for a while (an open circuit, a budget that is
    used up, a peer that asked for an hour) is waited for as a sleep or a signal is: in the store.
    """
    step = activation.identify(name)
    answer, _ = activation.recorded(step)
    wait_name = _wait_name(activation, step) if answer is None else ""
    while answer is None or not answer[0]:
        ready = _ready(activation, step, request)
        answer = await activation.expect(step, (CALL, activation.run, activation.token, step, *ready))
        if not answer[0]:
            _ask_for_more(activation, step, request, answer[2])
            await activation.wait(wait_name, answer[2].decode(), answer[3])
    if not answer[1]:
        raise step_failed(activation.run, step, answer[2], answer[3])
    return answer[2], answer[3]


def make_call_blocking(activation: Activation, name: str, request: tuple[Any, ...]) -> tuple[bytes, int]:
    """Make the same call from a plain def workflow."""
    step = activation.identify(name)
    answer, _ = activation.recorded(step)
    wait_name = _wait_name(activation, step) if answer is None else ""
    while answer is None or not answer[0]:
        ready = _ready(activation, step, request)
        answer = activation.expect_blocking((CALL, activation.run, activation.token, step, *ready))
        if not answer[0]:
            _ask_for_more(activation, step, request, answer[2])
            activation.wait_blocking(wait_name, answer[2].decode(), answer[3])
    if not answer[1]:
        raise step_failed(activation.run, step, answer[2], answer[3])
    return answer[2], answer[3]


def _wait_name(activation: Activation, step: str) -> str:
    """Return the name of the call's waits; those that an earlier activation recorded are over, and not asked for again."""
    name = HELD + step.removeprefix(current_scope.get())
    while activation.has_recorded_next(name):
        activation.identify(name)
    return name


def _ready(activation: Activation, step: str, request: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the request as it is sent: with the step's idempotency key, and with what it may cost."""
    http = request[0]
    if http[0] == "POST" and not any(name.lower() == "idempotency-key" for name, _ in http[2]):
        key = ("Idempotency-Key", step_key_of(activation.run, step))
        request = ((http[0], http[1], (*http[2], key), *http[3:]), *request[1:])
    costing = request[_SPENDING] if len(request) > _SPENDING else ()
    if not costing:
        return request
    if costing.budget is None and not activation.budgets and not activation.worker.budgets:
        return (*request[:_SPENDING], (), *request[_SPENDING + 1 :])
    return costing.apply(activation, request)  # type: ignore[no-any-return]


def _ask_for_more(activation: Activation, step: str, request: tuple[Any, ...], topic: bytes) -> None:
    """Open the approval of the budget that had no room, if it has one."""
    if not topic.startswith(b"budget:"):
        return
    from stepwell._budgets import ask_for_more, refused_by
    from stepwell.llm._budget import budgets_of

    account = refused_by(topic, step)
    for budget in budgets_of(activation, request[_SPENDING].budget):
        if budget.ask is not None and account.partition("/")[0] == budget.known_as:
            ask_for_more(activation.worker, budget, account)


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
