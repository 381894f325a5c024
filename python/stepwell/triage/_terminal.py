"""A report as plain text for a terminal or a log, 80 to 100 columns wide."""

from __future__ import annotations

import shutil
import unicodedata
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ._report import Report
    from ._scores import LabelScore, Scores

WIDTH_MIN, WIDTH_MAX = 80, 100
LABELS_SHOWN_MAX = 24
EXTREMES = 6
CONFUSIONS_SHOWN = 5
UNKNOWN_SHOWN = 4
CURVE_POINTS_MIN = 3
BAR_COLUMNS_MIN = 4
TENTH_OF_CENT = 0.001


def print_report(report: Report, stream: IO[str] | None = None) -> None:
    """Writes the report to a stream (standard output when none is given), as wide as the terminal up to 100 columns."""
    import sys

    out = sys.stdout if stream is None else stream
    columns = shutil.get_terminal_size((88, 24)).columns if getattr(out, "isatty", lambda: False)() else 88
    text = report_text(report, width=min(WIDTH_MAX, max(WIDTH_MIN, columns - 1)))
    encoding = getattr(out, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        text = _ascii(text).encode(encoding or "ascii", "replace").decode(encoding)
    out.write(text)
    out.flush()


def report_text(report: Report, *, width: int) -> str:
    """The report as text with a line feed at its end."""
    lines = [*_heading(report, width), ""]
    lines += _status_lines(report)
    if report.scores is not None:
        lines += _score_lines(report.scores)
    lines += ["", *_labels(report, width)]
    if report.scores is not None:
        lines += _confusion_lines(report.scores, width) + _threshold_lines(report.scores)
    lines += _problem_lines(report, width)
    return "\n".join(_safe(line).rstrip() for line in lines) + "\n"


def _heading(report: Report, width: int) -> list[str]:
    about = "  ".join(f"{key} {value}" for key, value in report.about.items())
    first = f"triage report  {report.name}  {report.rows:,} rows"
    if about and cells(first) + 2 + cells(about) <= width:
        return [f"{first}  {about}"]
    return [cut(first, width), *([cut(f"  {about}", width)] if about else [])]


def _status_lines(report: Report) -> list[str]:
    shares = "   ".join(
        f"{name} {count:,} ({percent(count / max(report.rows, 1))})" for name, count in report.statuses.items()
    )
    cost = (
        f"{money(report.cost_usd)}   {money(report.cost_per_thousand_usd)} a thousand rows"
        f"   tokens in {short(report.tokens_in)} out {short(report.tokens_out)}   retried {report.retried:,}"
    )
    return [f"  rows       {shares}", f"  cost       {cost}"]


def _score_lines(scores: Scores) -> list[str]:
    low, high = scores.interval
    interval = f"(95 % interval {low * 100:.1f} to {high * 100:.1f})"
    share = f"{percent(scores.accuracy)} of {scores.rows:,} rows with gold"
    lines = [f"  accuracy   {share}   {interval}   macro F1 {scores.macro_f1:.3f}"]
    if scores.ok_accuracy is not None:
        lines.append(
            f"  automatic  {percent(scores.ok_accuracy)} of {scores.ok_rows:,} ok rows"
            f"   coverage {percent(scores.coverage)}"
            + (f"   calibration error {scores.calibration_error:.3f}" if scores.calibration_error is not None else "")
        )
    if scores.unknown_gold:
        names = ", ".join(scores.unknown_gold[:UNKNOWN_SHOWN]) + (
            ", ..." if len(scores.unknown_gold) > UNKNOWN_SHOWN else ""
        )
        lines.append(
            f"  note       {len(scores.unknown_gold)} gold labels were not among the labels asked for: {names}"
        )
    return lines


def _labels(report: Report, width: int) -> list[str]:
    if report.scores is not None:
        return _scored_labels(report.scores, width)
    total = max(sum(report.label_counts.values()), 1)
    items = list(report.label_counts.items())
    shown = items if len(items) <= LABELS_SHOWN_MAX else items[: LABELS_SHOWN_MAX - 1]
    name_width = _name_width((name for name, _ in shown), width - 40)
    peak = max((count for _, count in items), default=1) or 1
    lines = [f"  {pad('label', name_width)}     rows   share"]
    for name, count in shown:
        lines.append(
            f"  {pad(name, name_width)} {count:>8,}  {percent(count / total):>6}  "
            f"{bar(count / peak, width - name_width - 24)}"
        )
    if len(shown) < len(items):
        rest = items[len(shown) :]
        lines.append(f"  ... {len(rest)} more labels with {sum(c for _, c in rest):,} rows")
    return lines


def _scored_labels(scores: Scores, width: int) -> list[str]:
    ordered = sorted(scores.labels, key=lambda s: (s.f1, s.label))
    many = len(ordered) > LABELS_SHOWN_MAX
    parts: list[tuple[str, list[LabelScore]]] = [("labels, weakest first", ordered)]
    if many:
        parts = [
            (f"weakest {EXTREMES} of {len(ordered)} labels", ordered[:EXTREMES]),
            (f"strongest {EXTREMES}", ordered[: -EXTREMES - 1 : -1]),
        ]
    name_width = _name_width((s.label for _, part in parts for s in part), width - 46)
    name_width = max(name_width, *(len(title) for title, _ in parts))
    lines: list[str] = []
    for title, part in parts:
        lines.append(f"  {pad(title, name_width)}   rows  given  precision  recall     F1")
        for s in part:
            graph = bar(s.f1, min(20, width - name_width - 46))
            lines.append(
                f"  {pad(s.label, name_width)} {s.support:>6,} {s.predicted:>6,}     {percent(s.precision):>6}  "
                f"{percent(s.recall):>6}  {s.f1:.3f}  {graph}"
            )
    if many:
        lines.append(f"  ... {len(ordered) - 2 * EXTREMES} labels between; the HTML report has all of them")
    return lines


def _confusion_lines(scores: Scores, width: int) -> list[str]:
    if not scores.confusions:
        return []
    lines = ["", "  most often confused"]
    for c in scores.confusions[:CONFUSIONS_SHOWN]:
        lines.append(cut(f"  {c.count:>6,} x  {c.gold} -> {c.predicted}   ({percent(c.share)} of {c.gold})", width))
        if c.samples:
            lines.append(cut(f'            "{c.samples[0]}"', width))
    return lines


def _threshold_lines(scores: Scores) -> list[str]:
    """A handful of points of the curve: what a person must read to reach an accuracy."""
    if len(scores.curve) < CURVE_POINTS_MIN:
        return []
    lines = ["", "  send rows below this confidence to a person", "  confidence   stays automatic   accuracy of those"]
    shown: list[float] = []
    for target in (1.0, 0.9, 0.75, 0.5, 0.25):
        point = min(scores.curve, key=lambda p: abs(p.coverage - target))
        if point.coverage not in shown:
            shown.append(point.coverage)
            lines.append(
                f"        {point.threshold:.2f}            {percent(point.coverage):>6}              "
                f"{percent(point.accuracy):>6}"
            )
    return lines


def _problem_lines(report: Report, width: int) -> list[str]:
    if not report.problems:
        return []
    lines = ["", "  rows that need a look"]
    for p in report.problems:
        lines.append(cut(f"  {p.count:>6,} x  {p.status:<7}{p.reason}   first: row {p.first_row:,}", width))
        if p.error:
            lines.append(cut(f"            {p.error}", width))
    return lines


# -- small shapes ------------------------------------------------------------------------------------------------------


def percent(share: float) -> str:
    """0.8734 as "87.3 %"; never rounded up to 100 or down to 0, which would hide the exceptions."""
    value = share * 100
    shown = min(value, 99.9) if share < 1 else 100.0
    return f"{max(shown, 0.1) if share > 0 else 0.0:.1f}%"


def money(usd: float) -> str:
    """Dollars with as many digits as the size deserves."""
    if usd == 0:
        return "$0"
    return f"${usd:,.2f}" if usd >= 1 else f"${usd:.4f}" if usd >= TENTH_OF_CENT else f"${usd:.6f}"


def short(count: float) -> str:
    """2,134,000 as "2.1M"."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size * 0.9995:
            return f"{count / size:.1f}{unit}" if count < size * 99.95 else f"{count / size:.0f}{unit}"
    return f"{count:.0f}"


def bar(share: float, width: int) -> str:
    """A bar of block characters, in eighths."""
    if width < BAR_COLUMNS_MIN:
        return ""
    eighths = round(min(max(share, 0.0), 1.0) * width * 8)
    return "█" * (eighths // 8) + ("", "▏", "▎", "▍", "▌", "▋", "▊", "▉")[eighths % 8]


def cells(text: str) -> int:
    """Terminal columns that a text takes: wide characters two, combining marks none."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def cut(text: str, width: int) -> str:
    """A text that takes at most `width` columns."""
    if cells(text) <= width:
        return text
    used, kept = 0, []
    for c in text:
        used += cells(c)
        if used > width - 1:
            break
        kept.append(c)
    return "".join(kept) + "…"


def pad(text: str, width: int) -> str:
    """A text that takes exactly `width` columns."""
    text = cut(text, width)
    return text + " " * (width - cells(text))


def _name_width(names: Iterable[str], most: int) -> int:
    return max(5, min(most, max((cells(name) for name in names), default=5)))


def _safe(text: str) -> str:
    """A ticket must not move the cursor or change colours of the reader's terminal."""
    return "".join(c if c.isprintable() else "?" for c in text)


def _ascii(text: str) -> str:
    table = {ord("█"): "#", ord("…"): "~", **{ord(c): "" for c in "▏▎▍▌▋▊▉"}}
    return text.translate(table)
