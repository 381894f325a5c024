"""Questions to people, and who escalates them: shared by the tests of approvals."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any, Literal

import pydantic
import pytest
from flows import made, until

import stepwell as sw


def only(engine: sw.Engine) -> sw.Approval:
    """Wait until one approval is pending, and return it."""
    until(lambda: len(engine.approvals()) == 1)
    return engine.approvals()[0]


def what(approval: sw.Approval) -> list[str]:
    return [entry.what for entry in approval.audit()]


class Queue(enum.Enum):
    BILLING = "billing"
    TECHNICAL = "technical"


class Triage(pydantic.BaseModel):
    queue: Literal["billing", "technical"]
    urgency: int = pydantic.Field(ge=1, le=5)

    @pydantic.model_validator(mode="after")
    def not_both(self) -> Triage:
        if self.queue == "billing" and self.urgency == 5:
            raise ValueError("a bill is never that urgent")
        return self


@dataclass
class Amount:
    euros: int
    reason: str = ""


@sw.step
async def page_on_call(request: sw.ApprovalRequest) -> str:
    made.append(f"page: {request.question} {request.evidence}")
    return "paged"


@sw.step
def mail_the_head(request: sw.ApprovalRequest) -> None:
    made.append(f"mail: {request.question}")


@sw.step
async def broken_pager(request: sw.ApprovalRequest) -> None:
    made.append("broken")
    raise ConnectionError("the pager is down")


# The options of the approvals below: what differs from test to test.
@sw.workflow(name="asks_people")
async def asks(kind: str) -> Any:
    return await sw.approval("Refund?", **options[kind])


@sw.workflow(name="asks_people_plainly")
def plain_asks(kind: str) -> Any:
    return sw.approval_blocking("Refund?", **options[kind])


options: dict[str, Any] = {
    "plain": {},
    "evidence": {"evidence": {"ticket": 7}, "payload": {"to": "ann", "euros": 20}, "key": "ticket-7"},
    "bool": {"type": bool},
    "two": {"quorum": 2},
    "two of three": {"quorum": 2, "reject_quorum": 2, "approvers": ["ann", "bob", "eve"]},
    "listed": {"approvers": ["ann", "bob"]},
    "triage": {"type": Triage},
    "two triage": {"type": Triage, "quorum": 2, "approvers": ["ann", "bob"]},
    "deadline": {"deadline": "50ms"},
    "long deadline": {"deadline": "3s"},
    "moment": {"deadline": "600ms", "default": False},
    "default no": {"deadline": "50ms", "default": False},
    "default triage": {"type": Triage, "deadline": "50ms", "default": Triage(queue="technical", urgency=2)},
    "pages": {"evidence": 7, "escalate": [("30ms", page_on_call), ("60ms", mail_the_head), ("1h", broken_pager)]},
    "pages late": {"escalate": [("4s", page_on_call)], "deadline": "1h"},
    "half": {"deadline": "3s", "default": True, "escalate": mail_the_head},
    "broken": {"escalate": [("10ms", broken_pager)]},
    "many": {"quorum": 2, "approvers": [f"p{number}" for number in range(40)]},
}
both = pytest.mark.parametrize("flow", [asks, plain_asks])
