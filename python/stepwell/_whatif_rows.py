"""The rows of a what-if, their summary, and the file that they go to."""

from __future__ import annotations

import csv
import json
import threading
from collections import Counter
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

from stepwell._errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_SHOWN_PAIRS = 12


@dataclass(slots=True)
class WhatIfRow:
    """One LLM call of a recorded run, as it was answered and as it would be.

    `status`: "ok", "review" (the new answer is for people), "failed" (there is none), "unanswered" (the sandbox knows none).
    `run_then`: the run would end with the "same" result or "another", would be "left" where it asks for what was not
    recorded, or would fail ("raised"). Seconds of the recorded answer are those of its attempts; of the new one,
    those until it came.
    """

    run: str
    step: str
    settings: str
    before: str
    after: str = ""
    changed: bool = False
    status: Literal["ok", "review", "failed", "unanswered"] = "ok"
    usd_before: float | None = None
    usd_after: float | None = None
    seconds_before: float = 0.0
    seconds_after: float = 0.0
    run_then: Literal["same", "another", "left", "raised"] = "left"


@dataclass(frozen=True, slots=True)
class WhatIf:
    """What came of it; `str(report)` is a summary. `skipped`: runs that made no such call."""

    rows: tuple[WhatIfRow, ...]
    runs: int
    skipped: int

    @property
    def confusion(self) -> dict[tuple[str, str], int]:
        """How often which answer became which, the most frequent first."""
        answered = [row for row in self.rows if row.status in ("ok", "review")]
        return dict(Counter((row.before, row.after) for row in answered).most_common())

    def __str__(self) -> str:
        """Show counts, changes, cost and time."""
        answered = [row for row in self.rows if row.status in ("ok", "review")]
        changed = [row for row in answered if row.changed]
        share = f" ({len(changed) / len(answered):.1%})" if answered else ""
        lines = [
            f"{'runs':<12} {self.runs}, {self.skipped} of them without such a call",
            f"{'calls':<12} {len(self.rows)}, {len(self.rows) - len(answered)} of them without a new answer",
            f"{'changed':<12} {len(changed)}{share}",
            f"{'cost':<12} {_sum(answered, 'usd_before')} before, {_sum(answered, 'usd_after')} after",
        ]
        if answered:
            mean = {
                name: sum(getattr(row, name) for row in answered) / len(answered)
                for name in ("seconds_before", "seconds_after")
            }
            lines.append(f"{'seconds each':<12} {mean['seconds_before']:.3f} before, {mean['seconds_after']:.3f} after")
        then = Counter(row.run_then for row in {row.run: row for row in self.rows}.values())
        lines.append(f"{'the runs':<12} " + ", ".join(f"{count} {name}" for name, count in then.most_common()))
        pairs = [(pair, count) for pair, count in self.confusion.items() if pair[0] != pair[1]]
        lines += [
            f"  {count:>6}  {before or '(review)'} -> {after or '(review)'}"
            for (before, after), count in pairs[:_SHOWN_PAIRS]
        ]
        return "\n".join(lines)


def _sum(rows: list[WhatIfRow], name: str) -> str:
    found = [getattr(row, name) for row in rows]
    known = sum(each for each in found if each is not None)
    unknown = sum(each is None for each in found)
    return f"${known:.6f}" + (f" and {unknown} of unknown price" if unknown else "")


class RowFile:
    """The file of rows: what it holds is known, what is new is added run by run."""

    def __init__(self, path: Path, settings: str) -> None:
        if path.suffix not in (".jsonl", ".csv"):
            raise InputError("SW-E2159", "--out is neither .jsonl nor .csv", got=path.name)
        self._path, self._lock = path, threading.Lock()
        self._is_csv = path.suffix == ".csv"
        self._names = [each.name for each in fields(WhatIfRow)]
        self.known: dict[str, list[WhatIfRow]] = {}
        for row in self._read() if path.exists() else ():
            if row.settings != settings:
                raise InputError(
                    "SW-E2159", f"{path} holds answers of other settings", got=row.settings[:300], expected=settings[:300],
                    hint="write to another file, or remove this one",
                )  # fmt: skip
            self.known.setdefault(row.run, []).append(row)

    def _read(self) -> Iterator[WhatIfRow]:
        data = self._path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data):  # a row that was cut off by a crash: its run is looked at again
            self._path.write_bytes(whole)
        text = whole.decode("utf-8")
        given = csv.DictReader(text.splitlines()) if self._is_csv else map(json.loads, text.splitlines())
        try:
            for row in given:
                yield WhatIfRow(**(_typed(row) if self._is_csv else row))
        except (TypeError, ValueError) as error:
            raise InputError("SW-E2159", f"{self._path} is no file of what-if rows: {error}") from None

    def add(self, run: str, rows: list[WhatIfRow]) -> None:
        """Add a run's rows, all or none of them."""
        with self._lock, self._path.open("a", encoding="utf-8", newline="") as file:
            self.known[run] = rows
            if self._is_csv:
                writer = csv.DictWriter(file, self._names, lineterminator="\n")
                if file.tell() == 0:
                    writer.writeheader()
                writer.writerows(
                    {**asdict(row), "before": _line(row.before), "after": _line(row.after)} for row in rows
                )
            else:
                file.write("".join(json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in rows))


def _line(text: str) -> str:
    return " ".join(text.split())


def _typed(row: dict[str, str]) -> dict[str, Any]:
    """Return a CSV row's values as what they were."""
    made: dict[str, Any] = dict(row)
    made["changed"] = row["changed"] == "True"
    for name in ("seconds_before", "seconds_after"):
        made[name] = float(row[name])
    for name in ("usd_before", "usd_after"):
        made[name] = float(row[name]) if row[name] else None
    return made
