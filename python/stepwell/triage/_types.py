"""The small values that triage passes around: a row that cannot be sent, and what became of a row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

RowStatus = Literal["ok", "review", "error"]

# Names of the types that pandas uses for "no value" beside None and NaN; by name, so that pandas is not imported.
NULL_TYPES = ("NAType", "NaTType")


@dataclass(slots=True)
class Outcome:
    """What became of one input row.

    `reason` is one short word (`"low_confidence"`, `"empty"`, `"ragged"`, ...; empty for a plain success) that reports
    group by; `error` is the sentence a person reads.
    """

    label: str | None
    confidence: float | None
    status: RowStatus
    reason: str = ""
    attempts: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    cost_usd: float = 0.0
    error: str = ""


@dataclass(slots=True, frozen=True)
class RowProblem:
    """Why one input row is not sent to a model; the other rows go on.

    `line` is the first line of the row in its file (1 is the header's first line), or the row's number for a frame.
    """

    code: str
    reason: str
    message: str
    line: int
    status: Literal["review", "error"] = "error"

    def outcome(self) -> Outcome:
        """The outcome of this row: no label, no attempt, no cost."""
        return Outcome(None, None, self.status, self.reason, error=f"{self.code} {self.message}")
