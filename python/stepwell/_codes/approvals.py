"""The codes of approvals: title, cause, fix."""

from __future__ import annotations

CODES: dict[str, tuple[str, str, str]] = {
    "SW-E2020": (
        "nobody decided in time",
        "The approval's deadline passed and it has no default.",
        "Ask somebody else, raise the deadline, add escalations, or give a default.",
    ),
    "SW-E2021": (
        "decided already",
        "An approval is decided once: the first decision won.",
        "Look at approval.audit(); to decide anew, ask anew.",
    ),
    "SW-E2022": (
        "too late to decide",
        "The decision came after the approval's deadline.",
        "Ask anew; a late yes never counts.",
    ),
    "SW-E2023": (
        "not an approver",
        "The approval names the people who may decide, and this name is not among them, or is no name.",
        "Let one of its approvers decide. Names are compared as they are written.",
    ),
    "SW-E2024": (
        "another payload",
        "The decision is about a payload with another hash than the one that will be sent.",
        "Show the present payload to the approver; a changed payload needs a new approval.",
    ),
    "SW-E2025": (
        "answer does not fit",
        "The answer is not of the type that the approval asks for. The approval stays open.",
        "Give an answer that fits approval.schema; approve() is for yes and no, decide(answer) for the rest.",
    ),
    "SW-E2026": (
        "voted already",
        "This person has decided before, and each counts once. The approval waits for others.",
        "Let another approver decide.",
    ),
    "SW-E2027": (
        "approval withdrawn",
        "The approval was cancelled, mostly because the run that asked has ended.",
        "Nothing is left to decide; start the run again if it is still wanted.",
    ),
    "SW-E2028": (
        "bad approval",
        "The question cannot be asked in this form.",
        "Correct what the message names: question, type, deadline, default, escalate, quorum or approvers.",
    ),
    "SW-E2029": (
        "approval rejected",
        "The people who were asked said no, or cannot agree any more.",
        "Catch sw.ApprovalRejected where a no is an expected answer.",
    ),
    "SW-E2030": (
        "too many attempts",
        "An approval keeps 100 refused decisions; it takes no further ones that would be refused.",
        "Look at approval.audit(): somebody tries what is not allowed.",
    ),
    "SW-E2031": (
        "escalation step not found",
        "This process has no such step at the top level of a loaded module.",
        "Define the step at the top level of a module; import that module before the engine serves, then replay the run.",
    ),
}
