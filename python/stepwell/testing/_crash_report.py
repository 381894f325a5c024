"""What `crash_everywhere` found, readable."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from stepwell._types import RunStatus

_SHOWN_MAX = 12


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended: with a value, or with what was recorded of its error. `others`: the ends of runs that it started."""

    status: RunStatus
    value: Any = None
    error: dict[str, Any] = field(default_factory=dict)
    effects: Counter[str] = field(default_factory=Counter)
    others: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        """Say it on one line."""
        if self.status is RunStatus.SUCCEEDED:
            return f"succeeded with {self.value!r}"[:300]
        kind, message = self.error.get("type") or self.error.get("code", ""), self.error.get("message", "")
        return f"{self.status.name.lower()}: " + (f"{kind}: {message}" if kind else str(message))[:2_000]

    def same_end(self, other: Outcome) -> bool:
        """Whether both ended alike: the same value, or the same kind of error."""
        return (self.status, self.value, self.error.get("type")) == (other.status, other.value, other.error.get("type"))


@dataclass(frozen=True, slots=True)
class Crash:
    """One crash: at which commit (0: none), whether that commit was kept, and what was found wrong afterwards."""

    commit: int
    kept: bool
    outcome: Outcome | None
    findings: tuple[str, ...]

    @property
    def where(self) -> str:
        """The crash in words."""
        if self.commit == 0:
            return "without a crash"
        return f"crash at commit {self.commit}, {'kept but not acknowledged' if self.kept else 'lost'}"


@dataclass(frozen=True, slots=True)
class CrashReport:
    """What came of all crashes. `ok`: nothing was found. `str(report)` is what a failing test shows."""

    workflow: str
    commits: int
    expected: Outcome
    crashes: tuple[Crash, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    @property
    def findings(self) -> tuple[str, ...]:
        """Everything found, each with its crash."""
        return tuple(f"{crash.where}: {finding}" for crash in self.crashes for finding in crash.findings)

    def __str__(self) -> str:
        """Tell what was tried and what was found, the same finding of several crashes once."""
        tried = sum(1 for crash in self.crashes if crash.commit)
        lines = [
            f"workflow {self.workflow!r}: {tried} crashes at {self.commits} commits; undisturbed it {self.expected}"
        ]
        places: dict[str, list[str]] = {}
        for crash in self.crashes:
            for finding in crash.findings:
                places.setdefault(finding, []).append(crash.where)
        for finding, where in list(places.items())[:_SHOWN_MAX]:
            more = f" (and {len(where) - 1} more)" if len(where) > 1 else ""
            lines.append(f"- {where[0]}{more}:\n    " + finding.replace("\n", "\n    "))
        if len(places) > _SHOWN_MAX:
            lines.append(f"- and {len(places) - _SHOWN_MAX} other findings")
        if not places:
            lines.append("- every crash was survived")
        return "\n".join(lines)


class CrashFound(AssertionError):
    """A workflow does not survive every crash. `report` has it all."""

    def __init__(self, report: CrashReport) -> None:
        super().__init__(str(report))
        self.report = report
