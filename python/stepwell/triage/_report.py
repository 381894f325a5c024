"""What a triage came to: how rows ended, what they cost, and with a gold column how good the labels are."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stepwell._errors import InputError

from ._scores import Confusion, LabelScore, Scores, score, shorten
from ._terminal import print_report

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ._read import Table
    from ._types import Outcome

__all__ = ["Confusion", "LabelScore", "Problem", "Report", "Scores", "build_report", "print_report"]

PROBLEMS_MAX = 12


@dataclass(slots=True)
class Problem:
    """Rows that did not end well for one reason, with the first of them as a sample."""

    status: str
    reason: str
    count: int
    error: str
    sample: str
    first_row: int


@dataclass(repr=False)
class Report:
    """The numbers of one triage. Shows itself in a notebook; `print_report` writes it to a terminal.

    `label_counts` has every label that was asked for or given, most frequent first. `about` is shown in the heading as
    it is, for example `{"model": "local", "run": "r_7"}`. `scores` is None without a gold column.
    """

    name: str
    rows: int
    statuses: dict[str, int]
    label_counts: dict[str, int]
    gold_counts: dict[str, int]
    cost_usd: float
    tokens_in: int
    tokens_out: int
    attempts: int
    retried: int
    mean_confidence: float | None
    problems: list[Problem]
    scores: Scores | None
    about: dict[str, str] = field(default_factory=dict)

    @property
    def cost_per_thousand_usd(self) -> float:
        """Cost of a thousand rows of this kind."""
        return self.cost_usd / self.rows * 1000 if self.rows else 0.0

    def to_json(self, *, indent: int | None = 2) -> str:
        """Everything as JSON; the confusion matrix as a list of gold, predicted, count."""
        values: dict[str, Any] = asdict(self)
        values["cost_per_thousand_usd"] = self.cost_per_thousand_usd
        if self.scores is not None:
            values["scores"]["matrix"] = [
                {"gold": g, "predicted": p, "count": n} for (g, p), n in sorted(self.scores.matrix.items())
            ]
        return json.dumps(values, indent=indent, ensure_ascii=False)

    def to_html(self) -> str:
        """One page that needs nothing else: no script, no network, light and dark."""
        from ._html import page

        return page(self)

    def save_html(self, path: str | Path) -> Path:
        """Writes `to_html` to a file. Raises InputError SW-E2245 when the disk refuses."""
        target = Path(path)
        try:
            target.write_text(self.to_html(), encoding="utf-8", errors="backslashreplace")
        except OSError as error:
            raise InputError(
                "SW-E2245",
                "the report could not be written",
                got=(error.strerror or str(error)).lower(),
                loc=str(path),
                expected="room and permission for the file",
                hint="make room and run the same command again",
            ) from error
        return target

    def _repr_html_(self) -> str:
        from ._html import fragment

        return fragment(self)

    def __repr__(self) -> str:
        ok = self.statuses["ok"]
        quality = "" if self.scores is None else f", accuracy {self.scores.accuracy:.3f}"
        return f"Report({self.name!r}, {self.rows:,} rows, {ok:,} ok{quality}, ${self.cost_usd:.4f})"

    def __str__(self) -> str:
        from ._terminal import report_text

        return report_text(self, width=90)


def build_report(
    table: Table,
    outcomes: Sequence[Outcome],
    *,
    labels: Sequence[str] | None = None,
    about: Mapping[str, str] | None = None,
) -> Report:
    """The report of a table and its outcomes, one for each row; the gold column is the one `open_table` was given."""
    if len(outcomes) != len(table):
        raise ValueError(f"{len(outcomes)} results for {len(table)} rows: there is exactly one result for each row")
    golds = table.golds()
    scores = score(outcomes, golds, table.texts, labels) if golds is not None else None
    counts = Counter(o.label for o in outcomes if o.label is not None)
    label_counts = dict(counts.most_common())
    label_counts.update({label: 0 for label in labels or () if label not in counts})
    confidences = [o.confidence for o in outcomes if o.confidence is not None]
    attempts = [o.attempts for o in outcomes]
    statuses = Counter(o.status for o in outcomes)
    return Report(
        name=table.name,
        rows=len(table),
        statuses={name: statuses.get(name, 0) for name in ("ok", "review", "error")},
        label_counts=label_counts,
        gold_counts={s.label: s.support for s in scores.labels} if scores else {},
        cost_usd=sum(o.cost_usd for o in outcomes),
        tokens_in=sum(o.tokens_in for o in outcomes),
        tokens_out=sum(o.tokens_out for o in outcomes),
        attempts=sum(attempts),
        retried=sum(n > 1 for n in attempts),
        mean_confidence=sum(confidences) / len(confidences) if confidences else None,
        problems=_problems(table, outcomes),
        scores=scores,
        about=dict(about or {}),
    )


def _problems(table: Table, outcomes: Sequence[Outcome]) -> list[Problem]:
    grouped: dict[tuple[str, str], Problem] = {}
    for index, outcome in enumerate(outcomes):
        if outcome.status == "ok":
            continue
        key = (outcome.status, outcome.reason)
        found = grouped.get(key)
        if found is None:
            grouped[key] = Problem(
                outcome.status,
                outcome.reason or "unknown",
                1,
                shorten(outcome.error),
                shorten(table.texts[index]),
                index + 1,
            )
        else:
            found.count += 1
    return sorted(grouped.values(), key=lambda p: (-p.count, p.status, p.reason))[:PROBLEMS_MAX]
