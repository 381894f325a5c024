"""How an activation ends: with a result, with an error, with what was done undone, or paused because the code changed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from stepwell import _codec
from stepwell._activation import MISMATCH, RUN_COMPENSATED, RUN_FAILED, RUN_SUCCEEDED
from stepwell._errors import StepFailed
from stepwell._workflow import current_scope

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stepwell._activation import Activation

Report = tuple[Any, ...]


def succeeded(activation: Activation, value: Any) -> Report:
    """Return the report of a result; of a pause if the code did not ask for all that its history holds."""
    run, token = activation.run, activation.token
    if activation.history is not None and (unasked := activation.unasked()):
        return (MISMATCH, run, token, json.dumps(mismatch_error(activation, unasked)).encode())
    return (RUN_SUCCEEDED, run, token, _codec.encode(value, activation.flow.result_words))


def mismatch_error(activation: Activation, unasked: list[str], new: Iterable[str] = ()) -> dict[str, Any]:
    """Return the error that shows what was recorded, what of it the code asked for, and what it asked for besides (`new`)."""
    recorded = sorted(activation.history or ())
    shown = [
        f"  {'recorded, not asked for' if step in unasked else 'recorded, asked for':<24} {step}" for step in recorded
    ]
    shown += [f"  {'asked, not recorded':<24} {step}" for step in new]
    return {
        "code": "SW-E2008",
        "message": f"workflow {activation.flow.name!r} was changed while this run was under way:\n" + "\n".join(shown),
        "recorded": recorded,
        "unasked": unasked,
        "asked": sorted(activation.occurrences),
        "hint": "bring the steps back (or guard the change with sw.patched), then resume the run",
    }


async def failed(activation: Activation, error: BaseException) -> Report:
    """Undo what the steps of an async workflow did, the last one first, and return the report of the failure."""
    undone: list[str] = []
    kept: dict[str, str] = {}
    for undo, name, value in reversed(activation.undos or ()):
        scope = current_scope.set(f"undo {name}/")
        try:
            if undo.is_async:
                await activation.run_async_step(undo, (value,), {})
            else:
                activation.run_sync_step(undo, (value,), {})
            undone.append(name)
        except StepFailed as failure:
            kept[name] = failure.message
        finally:
            current_scope.reset(scope)
    return _report(activation, error, undone, kept)


def failed_blocking(activation: Activation, error: BaseException) -> Report:
    """Do the same for a plain workflow, whose steps never await."""
    try:
        failed(activation, error).send(None)
    except StopIteration as end:
        report: Report = end.value
        return report
    raise AssertionError("a plain step awaited something")


def _report(activation: Activation, error: BaseException, undone: list[str], kept: dict[str, str]) -> Report:
    payload = _codec.encode_error(error)
    if undone or kept:
        payload = json.dumps({**json.loads(payload), "undone": undone, "not_undone": kept}).encode()
    kind = RUN_COMPENSATED if undone and not kept else RUN_FAILED
    return (kind, activation.run, activation.token, payload)
