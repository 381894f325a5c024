"""The rules of one approval: pure, so that the run that waits and everybody who looks at it come to the same verdict.

A case is what was asked plus what came, in the order in which the store took it: decisions and times.
"""

from __future__ import annotations

import enum
import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from stepwell._schema import misfit

REFUSED_COUNT_MAX = 100
_SHAPE = {"id": str, "is_reject": bool, "by": str, "comment": str, "at": int, "hash": str}
_AT_MS_MAX = 250_000_000_000_000


class ApprovalStatus(enum.StrEnum):
    """Where an approval stands. All but PENDING are final."""

    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"
    #: A typed question has its answer.
    ANSWERED = "answered"
    #: The deadline came first; the workflow has the default, or ApprovalTimeout.
    EXPIRED = "expired"
    #: Its run has ended, or somebody cancelled it.
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer to a question of yes or no. `by`: who decided (several: "ann, bob"), or "deadline"."""

    approved: bool
    by: str
    comment: str
    at: datetime


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One thing that happened to an approval.

    `what`: asked, approved, rejected, answered, refused, escalated, expired or cancelled. `detail`: for a refused decision
    its code and why, for an escalation its step and how that ended.
    """

    at: datetime
    what: str
    by: str = ""
    comment: str = ""
    answer: Any = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class ApprovalRequest:
    """What is asked, as an escalation step gets it: `async def page_on_call(request: sw.ApprovalRequest)`."""

    id: str
    question: str
    evidence: Any
    payload: Any
    #: SHA-256 of the payload's canonical JSON; empty without a payload.
    payload_hash: str
    asked_at: datetime
    deadline_at: datetime | None
    approvers: tuple[str, ...] | None
    quorum: int
    key: str


def request_of(name: str, asked: dict[str, Any]) -> ApprovalRequest:
    """Return what was asked by the approval called `name`."""
    return ApprovalRequest(
        id=name,
        question=asked["question"],
        evidence=asked["evidence"],
        payload=asked["payload"],
        payload_hash=asked["payload_hash"],
        asked_at=moment(asked["asked_at"]),
        deadline_at=moment(asked["deadline_at"]) if asked["deadline_at"] >= 0 else None,
        approvers=tuple(asked["approvers"]) if asked["approvers"] is not None else None,
        quorum=asked["quorum"],
        key=asked["key"],
    )


def moment(ms: int) -> datetime:
    """Return a time of the wall clock (UTC) from milliseconds since 1970."""
    return datetime.fromtimestamp(ms / 1000, UTC)


def canonical(value: Any) -> str:
    """Return JSON in its one canonical form: sorted members, no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def hash_of(value: Any) -> str:
    """Return what a decision is bound to: the SHA-256 of a payload's canonical JSON; nothing for no payload."""
    return "" if value is None else hashlib.sha256(canonical(value).encode("utf-8", "surrogatepass")).hexdigest()


def is_name(by: Any) -> bool:
    """Whether this can name a person."""
    return isinstance(by, str) and 0 < len(by) <= 200 and by.isprintable() and by == by.strip()


class Case:
    """One approval: feed it what came, in order; `end` is set once it is decided.

    A decision: {"id", "is_reject", "answer", "by", "comment", "at" (ms), "hash"}, and "misfit" if its sender knew better.
    """

    def __init__(self, asked: dict[str, Any]) -> None:
        self.asked = asked
        self.is_yes_or_no: bool = asked["kind"] != "typed"
        #: How it ended: status, by, comment, at, and the answer if there is one.
        self.end: dict[str, Any] | None = None
        self.votes: list[dict[str, Any]] = []
        self.entries = [AuditEntry(moment(asked["asked_at"]), "asked", detail=asked["question"])]
        #: The decisions that were refused: code and reason by id.
        self.refusals: dict[str, tuple[str, str]] = {}
        times = [(at, index) for index, (at, *_) in enumerate(asked["escalate"])]
        if asked["deadline_at"] >= 0:
            times.append((asked["deadline_at"], len(times)))
        self._times = sorted(times)

    def next_due(self) -> int:
        """Return when something happens by itself, in milliseconds since 1970; -1: never."""
        return self._times[0][0] if self._times else -1

    def time_came(self) -> int | None:
        """Return which escalation is due; None: the deadline was, and the case is closed."""
        at, index = self._times.pop(0)
        if index < len(self.asked["escalate"]):
            self.entries.append(AuditEntry(moment(at), "escalated", detail=self.asked["escalate"][index][1]))
            return index
        self._expire()
        return None

    def take_bytes(self, payload: bytes) -> None:
        """Take a signal. What is no decision is dropped: no sender of anything may break the run."""
        decision = json.loads(payload)
        if isinstance(decision, dict) and all(isinstance(decision.get(name), kind) for name, kind in _SHAPE.items()):
            decision["at"] = min(max(decision["at"], 0), _AT_MS_MAX)
            self.take({"answer": None, **decision})

    def take(self, decision: dict[str, Any]) -> None:
        """Judge a decision: count it, or refuse it and say why in `refusals`."""
        deadline_at = self.asked["deadline_at"]
        if self.end is None and 0 <= deadline_at <= decision["at"]:
            self._expire()
        code, why = self.judge(decision)
        at = moment(decision["at"])
        if code:
            self.refusals[decision["id"]] = (code, why)
            if len(self.refusals) <= REFUSED_COUNT_MAX:
                by, comment, answer = decision["by"], decision["comment"], decision["answer"]
                self.entries.append(AuditEntry(at, "refused", by, comment, answer, f"{code} {why}"))
            return
        self.votes.append(decision)
        what = "rejected" if decision["is_reject"] else "approved" if self.is_yes_or_no else "answered"
        self.entries.append(AuditEntry(at, what, decision["by"], decision["comment"], decision["answer"]))
        self._count(decision)

    def judge(self, decision: dict[str, Any]) -> tuple[str, str]:
        """Return code and reason if this decision would be refused now, empty ones if it would count."""
        asked = self.asked
        if self.end is not None:
            if self.end["status"] == ApprovalStatus.EXPIRED:
                return "SW-E2022", f"the deadline was {moment(asked['deadline_at']):%Y-%m-%d %H:%M:%S} UTC"
            who = ", ".join(self.end["by"]) or "nobody"
            said = self.end["status"]
            if said == ApprovalStatus.ANSWERED:
                said = f"answered {canonical(self.end['answer'])[:200]}"
            return "SW-E2021", f"{said} by {who} at {moment(self.end['at']):%Y-%m-%d %H:%M:%S} UTC"
        if not is_name(decision["by"]):
            return "SW-E2023", "a decision needs the name of who decides: 1 to 200 printable characters"
        if asked["approvers"] is not None and decision["by"] not in asked["approvers"]:
            return "SW-E2023", f"{decision['by']!r} is not among its approvers"
        if asked["payload_hash"] and decision["hash"] != asked["payload_hash"]:
            return "SW-E2024", f"the decision is about {decision['hash'][:16] or 'no payload'}"
        if not decision["is_reject"]:
            why = decision.get("misfit") or misfit(decision["answer"], asked["schema"])
            if why:
                return "SW-E2025", why
        if any(vote["by"] == decision["by"] for vote in self.votes):
            return "SW-E2026", f"{decision['by']!r} has decided before"
        return "", ""

    def _count(self, last: dict[str, Any]) -> None:
        asked = self.asked
        rejects = [vote for vote in self.votes if vote["is_reject"]]
        if len(rejects) >= asked["reject_quorum"]:
            self._close(ApprovalStatus.REJECTED, rejects, last["at"], answer=False)
            return
        groups: dict[str, list[dict[str, Any]]] = {}
        for vote in self.votes:
            if not vote["is_reject"]:
                groups.setdefault(canonical(vote["answer"]), []).append(vote)
        best = max(groups.values(), key=len, default=[])
        if len(best) >= asked["quorum"]:
            status = ApprovalStatus.APPROVED if self.is_yes_or_no else ApprovalStatus.ANSWERED
            self._close(status, best, last["at"], answer=best[0]["answer"])
        elif asked["approvers"] is not None and len(best) + len(asked["approvers"]) - len(self.votes) < asked["quorum"]:
            # Whoever is left cannot make a quorum any more: nobody must wait for that.
            self._close(ApprovalStatus.REJECTED, rejects or self.votes, last["at"], answer=False)

    def _close(self, status: ApprovalStatus, votes: list[dict[str, Any]], at: int, *, answer: Any) -> None:
        by = [vote["by"] for vote in votes]
        comment = "; ".join(vote["comment"] for vote in votes if vote["comment"])
        self.end = {"status": str(status), "by": by, "comment": comment, "at": at}
        if status == ApprovalStatus.ANSWERED or self.is_yes_or_no:
            self.end["answer"] = answer

    def _expire(self) -> None:
        at = self.asked["deadline_at"]
        self.end = {"status": str(ApprovalStatus.EXPIRED), "by": ["deadline"], "comment": "", "at": at}
        if "default" in self.asked:
            self.end["answer"] = self.asked["default"]
        self.entries.append(AuditEntry(moment(at), "expired", "deadline", answer=self.end.get("answer")))


# What a row of the store holds of an approval: kinds of events, names of waits.
DECISION_TOPIC, DECISION_STEP = "signal:decision", "decision"
_EVENT_SUCCEEDED, _EVENT_FAILED = 1, 2
_ROW_INPUT, _ROW_EVENTS, _ROW_MESSAGES = 6, 10, 14


def case_of(row: tuple[Any, ...]) -> Case:
    """Return the case of an approval's row, found with its events: what its run has taken, then what it will take."""
    case = Case(json.loads(row[_ROW_INPUT]))
    for kind, _, step, payload, *_ in row[_ROW_EVENTS] or ():
        if step.partition("#")[0] != DECISION_STEP:
            continue
        if kind == _EVENT_SUCCEEDED:
            case.take_bytes(payload)
        elif kind == _EVENT_FAILED:
            case.time_came()
    for topic, _, _, payload in row[_ROW_MESSAGES]:
        if topic == DECISION_TOPIC:
            case.take_bytes(payload)
    return case
