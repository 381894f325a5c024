"""Waits for people. An approval is a run of its own, a child of the run that asks: it waits in the store, not in memory.

The child holds question, decisions, times and verdict; its history is the audit log. An escalation is one more run, started
with the commit that records that its time has come, so it happens once, is retried, and fails alone.
"""

from __future__ import annotations

import json
import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar, Unpack, overload

from stepwell import _codec
from stepwell._activation import CHILD
from stepwell._approvals.case import (
    DECISION_STEP,
    DECISION_TOPIC,
    ApprovalRequest,
    ApprovalStatus,
    Case,
    Decision,
    case_of,
    hash_of,
    is_name,
    moment,
    request_of,
)
from stepwell._calls import step_failed
from stepwell._errors import ApprovalRejected, ApprovalTimeout, InputError
from stepwell._starts import start_request
from stepwell._types import Duration, RunStatus, duration_ms, run_name
from stepwell._waits import _activation
from stepwell._workflow import Step, workflow

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stepwell._activation import Activation, Answer

T = TypeVar("T")
_QUESTION_CHARS_MAX = 10_000
_ESCALATIONS_MAX = 100
_WAIT_MS_MAX = 100 * 365 * 86_400_000


class ApprovalOptions(TypedDict, total=False):
    """What a question may say besides its text and the type of its answer."""

    #: What the approver needs to see: any value with a JSON form.
    evidence: Any
    #: What will be sent or done. Decisions are bound to its SHA-256.
    payload: Any
    #: Without a decision by then the default is the answer, or ApprovalTimeout is raised.
    deadline: Duration | None
    #: The answer at the deadline (for a question of yes or no: True or False); recorded as decided by "deadline".
    default: Any
    #: Steps to call while nobody has decided: [("2m", page_on_call), ...], each once, so long after the question; or one
    #: step, called when half of the time to the deadline is over. A step gets an ApprovalRequest and must stand at the top
    #: level of a module. If it fails, the approval goes on.
    escalate: Sequence[tuple[Duration, Step[..., Any]]] | Step[..., Any]
    #: So many different people must give the same answer (default 1).
    quorum: int
    #: So many must say no to end it (default 1).
    reject_quorum: int
    #: Who may decide; None: anybody who can reach the engine.
    approvers: Sequence[str] | None
    #: A name to find it by: engine.approval(key).
    key: str


# -- asking --------------------------------------------------------------------------------------------------------------


@overload
async def approval(question: str, **options: Unpack[ApprovalOptions]) -> Decision: ...
@overload
async def approval(question: str, *, type: type[T], **options: Unpack[ApprovalOptions]) -> T: ...
@overload
async def approval(question: str, *, type: Any, **options: Unpack[ApprovalOptions]) -> Any: ...
async def approval(question: str, *, type: Any = Decision, **options: Unpack[ApprovalOptions]) -> Any:  # noqa: A002
    """Ask people and wait for their answer, for days if need be, without costing memory.

    `type`: Decision (yes or no, by whom; the default), bool, or any type with a JSON form: a pydantic model, a dataclass,
    an enum, a Literal. Options: see ApprovalOptions. People answer with `engine.approvals()` or `stepwell approve`.

    Raises ApprovalTimeout SW-E2020 after the deadline without a default, ApprovalRejected SW-E2029 when a question that is
    not of yes or no is rejected, StepFailed SW-E1006 when the approval's run is cancelled, InputError SW-E2028 for a
    question that cannot be asked.
    """
    activation = _activation("approval")
    request = _request(activation, question, type, options)
    return _answered(activation, question, type, await activation.wait("approval", request, kind=CHILD))


@overload
def approval_blocking(question: str, **options: Unpack[ApprovalOptions]) -> Decision: ...
@overload
def approval_blocking(question: str, *, type: type[T], **options: Unpack[ApprovalOptions]) -> T: ...
@overload
def approval_blocking(question: str, *, type: Any, **options: Unpack[ApprovalOptions]) -> Any: ...
def approval_blocking(question: str, *, type: Any = Decision, **options: Unpack[ApprovalOptions]) -> Any:  # noqa: A002
    """Ask people from a plain workflow, whose thread is free meanwhile."""
    activation = _activation("approval_blocking")
    request = _request(activation, question, type, options)
    return _answered(activation, question, type, activation.wait_blocking("approval", request, kind=CHILD))


def _request(activation: Activation, question: str, kind: Any, options: ApprovalOptions) -> tuple[Any, ...]:
    # Not recorded here: the child's input, which only the first request makes, holds the time.
    asked = ask(int(activation.worker.time() * 1000), question, kind, options)
    for flow in (approval_flow, *((escalation_flow, plain_escalation_flow) if asked["escalate"] else ())):
        activation.worker.need(flow, None)
    name = approval_flow.name
    return (name, name, "", 0, _codec.encode(asked, "approval"))


def _answered(activation: Activation, question: str, kind: Any, answer: Answer) -> Any:
    _, ok, payload, attempts = answer
    if not ok:
        raise step_failed(activation.run, "approval", payload, attempts)
    end = json.loads(payload)
    run = run_name(activation.run)
    if "answer" not in end:
        if end["status"] == ApprovalStatus.EXPIRED:
            raise ApprovalTimeout(
                "SW-E2020", f"nobody decided in time: {question[:200]}", hint="give a default, or escalate", run_id=run
            )
        by = ", ".join(end["by"])
        raise ApprovalRejected("SW-E2029", f"rejected by {by}: {question[:200]}", got=end["comment"], run_id=run)
    if kind is Decision:
        return Decision(end["answer"], ", ".join(end["by"]), end["comment"], moment(end["at"]))
    return _codec.decode(_codec.encode(end["answer"]), kind, "answer of the approval")


# -- what is asked ---------------------------------------------------------------------------------------------------------


def _bad(message: str, got: Any = None, expected: str = "") -> InputError:
    return InputError("SW-E2028", message, got=got, expected=expected)


def ask(asked_at: int, question: str, kind: Any, options: ApprovalOptions) -> dict[str, Any]:
    """Return the input of the approval's run, checked. Raises InputError SW-E2028."""
    if unknown := options.keys() - ApprovalOptions.__annotations__.keys():
        known = ", ".join(sorted(ApprovalOptions.__annotations__))
        raise _bad(f"unknown option {', '.join(sorted(unknown))}", expected=known)
    if not isinstance(question, str) or not 0 < len(question) <= _QUESTION_CHARS_MAX:
        raise _bad("the question must be a text", repr(question)[:80], f"1 to {_QUESTION_CHARS_MAX} characters")
    payload = _plain(options.get("payload"), "payload")
    asked: dict[str, Any] = {
        "question": question,
        **_type(kind),
        "evidence": _plain(options.get("evidence"), "evidence"),
        "payload": payload,
        "payload_hash": hash_of(payload),
        "asked_at": asked_at,
        "key": options.get("key", ""),
        **_people(options),
        **_times(asked_at, options),
    }
    if "default" in options:
        if asked["deadline_at"] < 0:
            raise _bad("a default without a deadline would never be taken", expected="deadline=")
        asked["default"] = _default(kind, options["default"])
    return asked


def _plain(value: Any, what: str) -> Any:
    return json.loads(_codec.encode(value, what))


def _type(kind: Any) -> dict[str, Any]:
    if kind is Decision or kind is bool:
        return {"kind": "yes or no", "schema": {"type": "boolean"}, "type": ""}
    try:
        schema = {} if _codec.is_plain(kind) and kind in (Any, object) else _codec.schema_of(kind)
    except Exception as error:
        raise _bad("answers of this type have no JSON form", repr(kind)) from error
    return {"kind": "typed", "schema": schema, "type": reference(kind) if isinstance(kind, type) else ""}


def _default(kind: Any, default: Any) -> Any:
    if kind is Decision or kind is bool:
        default = default.approved if isinstance(default, Decision) else default
        if not isinstance(default, bool):
            raise _bad("the default does not fit the type", repr(default), "True or False")
        return default
    value = _plain(default, "default")
    try:
        _codec.decode(_codec.encode(value), kind, "default")
    except InputError as error:
        raise _bad(f"the default does not fit the type: {error.message}", repr(default)[:80]) from None
    return value


def _people(options: ApprovalOptions) -> dict[str, Any]:
    quorum, reject_quorum = options.get("quorum", 1), options.get("reject_quorum", 1)
    approvers = options.get("approvers")
    if approvers is not None:
        if isinstance(approvers, str) or not approvers or not all(is_name(each) for each in approvers):
            raise _bad("approvers must be names", repr(approvers)[:80], "a list of at least one, or None for anybody")
        approvers = list(dict.fromkeys(approvers))
    for name, number in (("quorum", quorum), ("reject_quorum", reject_quorum)):
        most = len(approvers) if approvers is not None else 1_000
        if not isinstance(number, int) or not 1 <= number <= most:
            raise _bad(f"{name} can never be reached", number, f"1 to {most}")
    return {"quorum": quorum, "reject_quorum": reject_quorum, "approvers": approvers}


def _times(asked_at: int, options: ApprovalOptions) -> dict[str, Any]:
    deadline = options.get("deadline")
    wait_ms = -1 if deadline is None else duration_ms(deadline, "deadline")
    if wait_ms > _WAIT_MS_MAX:
        raise _bad("the deadline is too far away", repr(deadline), "at most 100 years")
    escalate = options.get("escalate", ())
    if isinstance(escalate, Step):
        if wait_ms < 0:
            raise _bad("a single escalation step needs a deadline", expected='deadline=, or [("2m", step)]')
        escalate = [(timedelta(milliseconds=max(1, wait_ms // 2)), escalate)]
    if len(escalate) > _ESCALATIONS_MAX:
        raise _bad("too many escalations", len(escalate), f"at most {_ESCALATIONS_MAX}")
    times: list[list[Any]] = []
    for after, step in escalate:
        after_ms = duration_ms(after, "escalate")
        if 0 <= wait_ms <= after_ms or after_ms > _WAIT_MS_MAX:
            raise _bad("an escalation would come too late", repr(after), "before the deadline, in 100 years at most")
        name = reference(step) if isinstance(step, Step) else ""
        if not name:
            raise _bad("not a step that can be found again", repr(step), "a @sw.step at the top level of a module")
        times.append([asked_at + after_ms, name, step.is_async])
    times.sort(key=lambda each: each[0])
    return {"deadline_at": asked_at + wait_ms if wait_ms > 0 else -1, "escalate": times}


def reference(thing: Any) -> str:
    """Return the name under which another process finds a step or class ("module:name"); nothing if it would not."""
    name = f"{getattr(thing, '__module__', '')}:{getattr(thing, '__qualname__', '')}"
    return name if find(name) is thing else ""


def find(name: str) -> Any:
    """Return what a reference names in the loaded modules, or None. Nothing is imported: names come from the store."""
    module, _, path = name.partition(":")
    thing: Any = sys.modules.get(module)
    for part in path.split("."):
        thing = getattr(thing, part, None)
    return thing


# -- the run that waits ------------------------------------------------------------------------------------------------------


@workflow(name="stepwell.approval")
async def approval_flow(asked: dict[str, Any]) -> dict[str, Any]:
    """Take decisions and times, in the order of the store, until the case is closed."""
    activation = _activation("an approval")
    case = Case(asked)
    while case.end is None:
        _, is_decision, payload, _ = await activation.wait(DECISION_STEP, DECISION_TOPIC, case.next_due())
        if is_decision:
            case.take_bytes(payload)
        elif (index := case.time_came()) is not None:
            _escalate(activation, asked["escalate"][index], index)
    return case.end


def escalation_key(approval_run: int, index: int) -> str:
    """Return the key of an escalation's run."""
    return f"{run_name(approval_run)}/{index}"


def _escalate(activation: Activation, escalation: list[Any], index: int) -> None:
    """Start an escalation's run with the commit that records it. Not here: other engines have the user's code."""
    step = activation.identify("escalate")
    if activation.recorded(step)[0] is not None:
        return
    _, name, is_async = escalation
    flow = escalation_flow if is_async else plain_escalation_flow
    value = {"approval": activation.run, "step": name}
    request = start_request(flow, value, escalation_key(activation.run, index))[1:]
    activation.decide(step, name, (*request, 0, -1, -1, ""))


@workflow(name="stepwell.escalation")
async def escalation_flow(value: dict[str, Any]) -> bool:
    """Call a user's async step, unless somebody has decided meanwhile."""
    step, request = _escalation(value)
    if request is not None:
        await step(request)
    return request is not None


@workflow(name="stepwell.escalation.plain")
def plain_escalation_flow(value: dict[str, Any]) -> bool:
    """Call a user's plain step on a thread of the pool."""
    step, request = _escalation(value)
    if request is not None:
        step(request)
    return request is not None


def _escalation(value: dict[str, Any]) -> tuple[Step[..., Any], ApprovalRequest | None]:
    activation = _activation("an escalation")
    step = find(value["step"])
    if not isinstance(step, Step):
        raise InputError(
            "SW-E2031",
            "the escalation's step is not in this process",
            got=value["step"],
            hint="import its module before the engine serves, then replay this run",
        )
    (row,) = activation.worker.core.find(run=value["approval"], with_events=True)
    is_open = activation.note("is open", not RunStatus(row[1]).is_final and case_of(row).end is None)
    return step, request_of(run_name(value["approval"]), json.loads(row[6])) if is_open else None
