"""Approvals from outside: who is asked what, and how they answer."""

from __future__ import annotations

import asyncio
import json
import uuid
from typing import TYPE_CHECKING, Any

from stepwell import _codec
from stepwell._approvals.case import (
    REFUSED_COUNT_MAX,
    ApprovalRequest,
    ApprovalStatus,
    AuditEntry,
    Case,
    canonical,
    case_of,
    moment,
    request_of,
)
from stepwell._errors import BusyError, ConflictError, InputError, NotFoundError, WaitTimeout, WorkflowError
from stepwell._pages import pages
from stepwell._run import Run
from stepwell._types import RunStatus, run_name, run_number

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from stepwell._engine import Engine
    from stepwell._workflow import Workflow

APPROVAL_FLOW = "stepwell.approval"
_WAIT_S = 30.0


class Approval:
    """A question to people, as it stood when it was read. Deciding returns it as it stands then.

    Immutable; methods that ask the engine may be called from any thread.
    """

    def __init__(self, engine: Engine, row: tuple[Any, ...]) -> None:
        self._engine = engine
        self._run: int = row[0]
        self._case: Case = case_of(row)
        self._parent: int = row[12]
        self._is_cancelled = _is_cancelled(row)
        self._ended_at: int = row[9]
        #: What is asked: question, evidence, payload, payload_hash, asked_at, deadline_at, approvers, quorum, key.
        self.request: ApprovalRequest = request_of(self.id, self._case.asked)

    @property
    def id(self) -> str:
        """The name of the approval's run, e.g. `r_1a2b3c`."""
        return run_name(self._run)

    @property
    def asked_by(self) -> str:
        """The name of the run that waits for the answer."""
        return run_name(self._parent)

    @property
    def question(self) -> str:
        """What is asked."""
        return self.request.question

    @property
    def evidence(self) -> Any:
        """What the approver needs to see."""
        return self.request.evidence

    @property
    def payload(self) -> Any:
        """What will be sent or done."""
        return self.request.payload

    @property
    def payload_hash(self) -> str:
        """The SHA-256 that decisions are bound to; empty without a payload."""
        return self.request.payload_hash

    @property
    def schema(self) -> dict[str, Any]:
        """The JSON schema of the answer, for forms."""
        schema: dict[str, Any] = self._case.asked["schema"]
        return schema

    @property
    def asked_at(self) -> datetime:
        """When it was asked (UTC)."""
        return self.request.asked_at

    @property
    def deadline_at(self) -> datetime | None:
        """When it closes by itself."""
        return self.request.deadline_at

    @property
    def decided_at(self) -> datetime | None:
        """When it was decided or closed."""
        return moment(self._case.end["at"]) if self._case.end else None

    @property
    def time_to_decide(self) -> timedelta | None:
        """How long the answer took; None while it is open, and when nobody decided."""
        end = self._case.end
        return moment(end["at"]) - self.asked_at if end and end["status"] != ApprovalStatus.EXPIRED else None

    @property
    def status(self) -> ApprovalStatus:
        """Where it stands."""
        if self._case.end is not None:
            return ApprovalStatus(self._case.end["status"])
        return ApprovalStatus.CANCELLED if self._is_cancelled else ApprovalStatus.PENDING

    @property
    def answer(self) -> Any:
        """The answer as plain JSON; None while there is none."""
        return (self._case.end or {}).get("answer")

    @property
    def decisions(self) -> list[AuditEntry]:
        """The decisions that count, in their order."""
        return [entry for entry in self._case.entries if entry.what in ("approved", "rejected", "answered")]

    def audit(self) -> list[AuditEntry]:
        """Return all that happened, in order: what was asked, decided, refused and escalated, and how that went.

        Decisions that came after the end were refused to their senders and are not kept.
        """
        from stepwell._approvals.flows import escalation_flow, escalation_key, plain_escalation_flow

        entries = []
        index = 0
        for entry in self._case.entries:
            if entry.what != "escalated":
                entries.append(entry)
                continue
            flow = escalation_flow if self._case.asked["escalate"][index][2] else plain_escalation_flow
            rows = self._engine._core.find(workflow=flow.name, key=escalation_key(self._run, index))  # noqa: SLF001
            entries.append(AuditEntry(entry.at, entry.what, detail=f"{entry.detail} {_how_it_went(rows)}"))
            index += 1
        if self.status == ApprovalStatus.CANCELLED:
            now = int(self._engine._worker.time() * 1000)  # noqa: SLF001
            entries.append(AuditEntry(moment(self._ended_at or now), "cancelled"))
        return entries

    # -- deciding -------------------------------------------------------------------------------------------------------

    def approve(self, *, by: str, comment: str = "", payload_hash: str | None = None) -> Approval:
        """Say yes. See `decide`."""
        return self._decide(by, comment, payload_hash, answer=True)

    def reject(self, *, by: str, comment: str = "", payload_hash: str | None = None) -> Approval:
        """Say no; any question can be rejected. See `decide`."""
        return self._decide(by, comment, payload_hash, is_reject=True)

    def decide(self, answer: Any, *, by: str, comment: str = "", payload_hash: str | None = None) -> Approval:
        """Answer, and return the approval once the answer is durable and counts.

        `payload_hash`: of the payload that the person has seen (default: this object's own). Raises
        - ConflictError: SW-E2021 decided already (the text says by whom, what and when), SW-E2022 after the deadline,
          SW-E2024 another payload, SW-E2026 this person has decided before, SW-E2027 cancelled meanwhile;
        - InputError: SW-E2023 not an approver, SW-E2025 the answer does not fit;
        - BusyError SW-E2030 when too many attempts were refused; WaitTimeout SW-E1004 when the decision is kept but the
          engine did not get to it: do not decide again, look again.
        """
        is_reject = answer is False and self._case.is_yes_or_no
        return self._decide(by, comment, payload_hash, answer=None if is_reject else answer, is_reject=is_reject)

    async def aapprove(self, *, by: str, comment: str = "", payload_hash: str | None = None) -> Approval:
        """Say yes without blocking the caller's event loop."""
        return await asyncio.to_thread(self.approve, by=by, comment=comment, payload_hash=payload_hash)

    async def areject(self, *, by: str, comment: str = "", payload_hash: str | None = None) -> Approval:
        """Say no without blocking the caller's event loop."""
        return await asyncio.to_thread(self.reject, by=by, comment=comment, payload_hash=payload_hash)

    async def adecide(self, answer: Any, *, by: str, comment: str = "", payload_hash: str | None = None) -> Approval:
        """Answer without blocking the caller's event loop."""
        return await asyncio.to_thread(self.decide, answer, by=by, comment=comment, payload_hash=payload_hash)

    def _decide(
        self, by: str, comment: str, payload_hash: str | None, *, answer: Any = None, is_reject: bool = False
    ) -> Approval:
        plain = json.loads(_codec.encode(answer, "answer"))
        decision = {
            "id": uuid.uuid4().hex,
            "is_reject": is_reject,
            "answer": plain,
            "by": by if isinstance(by, str) else "",
            "comment": str(comment)[:10_000],
            "at": int(self._engine._worker.time() * 1000),  # noqa: SLF001
            "hash": self.payload_hash if payload_hash is None else str(payload_hash)[:200],
        }
        if not is_reject and (why := self._misfit(plain)):
            decision["misfit"] = why
        return self._engine.approval(self._run)._take(decision)  # noqa: SLF001

    def _take(self, decision: dict[str, Any]) -> Approval:
        """Send a decision if this approval is still open, and return it as it stands then."""
        if len(self._case.refusals) >= REFUSED_COUNT_MAX and self._case.judge(decision)[0]:
            raise BusyError("SW-E2030", "too many refused decisions", run_id=self.id, hint="see approval.audit()")
        now = self._tell(decision) if self.status == ApprovalStatus.PENDING else self
        return now._outcome(decision)  # noqa: SLF001

    def _misfit(self, answer: Any) -> str:
        """Say why the type itself refuses an answer, if this process has the type; the schema is looked at by the case."""
        from stepwell._approvals.flows import find

        kind = find(self._case.asked["type"]) if self._case.asked["type"] else None
        if not isinstance(kind, type):
            return ""
        try:
            _codec.decode(_codec.encode(answer), kind, "answer")
        except InputError as error:
            return error.message
        return ""

    def _tell(self, decision: dict[str, Any]) -> Approval:
        """Send a decision and wait for its outcome, which the store's order decides: the first wins."""
        run: Run[Any] = Run(self._engine, self._engine._approval_flow(), self._run, is_new=False)  # noqa: SLF001
        try:
            run.signal("decision", decision, key=decision["id"])
        except ConflictError:  # it has ended since it was read
            return self._engine.approval(self._run)
        now = self._engine.approval(self._run)
        if now.status == ApprovalStatus.PENDING:
            return now
        # Decided, as the store's order has it: the run must agree before anybody is told so.
        try:
            run.result(_WAIT_S)
        except WaitTimeout:
            text = f"the decision is kept, but its run did not get to it in {_WAIT_S:g} s"
            raise WaitTimeout("SW-E1004", text, run_id=self.id, hint="do not decide again, look again") from None
        except WorkflowError:  # cancelled
            pass
        return self._engine.approval(self._run)

    def _outcome(self, decision: dict[str, Any]) -> Approval:
        """Return the approval if the decision counts; raise what its sender must know if it does not."""
        case = self._case
        if any(vote["id"] == decision["id"] for vote in case.votes):
            return self
        if case.end is None and self._is_cancelled:
            raise ConflictError("SW-E2027", "the approval was cancelled", run_id=self.id, hint=_HINTS["SW-E2027"])
        code, why = case.refusals.get(decision["id"]) or case.judge(decision)
        kind = InputError if code in ("SW-E2023", "SW-E2025") else ConflictError
        got = canonical(decision["answer"])[:200] if code == "SW-E2025" else None
        raise kind(code, f"{_TITLES[code]}: {why}", got=got, run_id=self.id, hint=_HINTS[code])

    def __repr__(self) -> str:
        """Name question and status."""
        return f"<approval {self.id} {self.question[:60]!r}: {self.status}>"


_TITLES = {
    "SW-E2021": "it is decided already",
    "SW-E2022": "it is too late",
    "SW-E2023": "not an approver",
    "SW-E2024": "the payload is another one",
    "SW-E2025": "the answer does not fit",
    "SW-E2026": "each person counts once",
}
_HINTS = {
    "SW-E2021": "see approval.audit(); to decide anew, ask anew",
    "SW-E2022": "ask anew; a late decision never counts",
    "SW-E2023": "let one of its approvers decide",
    "SW-E2024": "show the present payload and its payload_hash to the approver",
    "SW-E2025": "see approval.schema; the approval stays open",
    "SW-E2026": "let another approver decide",
    "SW-E2027": "the run that asked has ended, or somebody cancelled the approval",
}


def _is_cancelled(row: tuple[Any, ...]) -> bool:
    status = RunStatus(row[1])
    is_told = any(topic == "cancel" for topic, *_ in row[14])
    return is_told or (status.is_final and status != RunStatus.SUCCEEDED)


def _how_it_went(rows: list[tuple[Any, ...]]) -> str:
    if not rows:
        return "(to be called)"
    status = RunStatus(rows[0][1])
    if status == RunStatus.SUCCEEDED:
        return "(called)" if json.loads(rows[0][7]) else "(not called: decided meanwhile)"
    if not status.is_final:
        return "(to be called)"
    return f"(failed: {_codec.decode_error(rows[0][7]).get('message', '')})"


class ApprovalInbox:
    """What an engine adds for people."""

    _core: Any
    _has_looked_for_approvals = False

    def _need(self, flow: Workflow[..., Any]) -> None:
        raise NotImplementedError

    def approvals(self, *, pending: bool = True, limit: int = 1_000) -> list[Approval]:
        """Return approvals, the newest first and at most `limit`: those that wait for people, or with `pending=False` all."""
        if limit < 1:
            raise InputError("SW-E1014", "limit must be at least 1", got=limit)
        self._approval_flow()
        found: list[Approval] = []
        for row in pages(self._core, APPROVAL_FLOW):
            if pending and RunStatus(row[1]).is_final:
                continue
            approval = self.approval(row[0])
            if not pending or approval.status == ApprovalStatus.PENDING:
                found.append(approval)
            if len(found) == limit:
                break
        return found

    def approval(self, approval: str | int) -> Approval:
        """Return one approval by its id ("r_1a2b3c") or its key (the newest with it). NotFoundError SW-E1005 without it."""
        flow = self._approval_flow()
        run = approval if isinstance(approval, int) else run_number(approval)
        rows = self._core.find(run=run, with_events=True) if run else []
        if not rows and isinstance(approval, str):
            for row in pages(self._core, flow.name):
                if json.loads(row[6])["key"] == approval:
                    rows = self._core.find(run=row[0], with_events=True)
                    break
        if not rows or rows[0][3] != flow.name:
            raise NotFoundError("SW-E1005", f"there is no approval {approval!r}", hint="engine.approvals() lists them")
        return Approval(self, rows[0])  # type: ignore[arg-type]  # an Engine is an ApprovalInbox

    def _approval_flow(self) -> Workflow[..., Any]:
        """Return the workflow of approvals, which this engine drives from now on."""
        from stepwell._approvals.flows import approval_flow

        self._need(approval_flow)
        return approval_flow

    def _serve_approvals(self, flow: Workflow[..., Any]) -> None:
        """Drive approvals that an earlier process left, and their escalations, in an engine that has the user's code."""
        if self._has_looked_for_approvals or flow.name.startswith("stepwell."):
            return
        self._has_looked_for_approvals = True
        if self._core.find(workflow=APPROVAL_FLOW):
            from stepwell._approvals.flows import escalation_flow, plain_escalation_flow

            for each in (self._approval_flow(), escalation_flow, plain_escalation_flow):
                self._need(each)
