"""Calls that the core makes for a run, as its code meets them: asked for, held back, answered, failed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stepwell import _codec
from stepwell._errors import StepFailed
from stepwell._types import run_name

if TYPE_CHECKING:
    from stepwell._activation import Activation

#: ReportKind and ItemKind of the core.
CALL, CALL_HELD = 4, 8
# How a wait begins whose call was not sent yet. Which calls had to wait is no part of what a workflow is.
HELD = "held:"


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
    while answer is None or not answer[0]:
        answer = await activation.expect(step, (CALL, activation.run, activation.token, step, *request))
        if not answer[0]:
            await activation.wait(HELD + name, answer[2].decode(), answer[3])
    if not answer[1]:
        raise step_failed(activation.run, step, answer[2], answer[3])
    return answer[2], answer[3]


def make_call_blocking(activation: Activation, name: str, request: tuple[Any, ...]) -> tuple[bytes, int]:
    """Make the same call from a plain def workflow."""
    step = activation.identify(name)
    answer, _ = activation.recorded(step)
    while answer is None or not answer[0]:
        answer = activation.expect_blocking((CALL, activation.run, activation.token, step, *request))
        if not answer[0]:
            activation.wait_blocking(HELD + name, answer[2].decode(), answer[3])
    if not answer[1]:
        raise step_failed(activation.run, step, answer[2], answer[3])
    return answer[2], answer[3]


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
