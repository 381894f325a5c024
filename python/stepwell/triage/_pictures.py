"""The pictures of the HTML report as inline SVG: coloured by the style's variables, and without ids."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from ._terminal import percent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._scores import Bin, CurvePoint, Scores

MATRIX_LABELS_MAX = 80
NUMBERS_MAX = 24
NO_LABEL = "(no label)"

_W, _H = 460, 270
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 14, 12, 40


def curve_picture(points: Sequence[CurvePoint]) -> str:
    """Accuracy of what stays automatic over the share that stays automatic; marked points carry their threshold."""
    floor = _floor(min(p.accuracy for p in points))
    spots = [(_x(p.coverage), _y((p.accuracy - floor) / (1 - floor))) for p in points]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in spots)
    parts = _axes("share of rows that stays automatic", [floor + (1 - floor) * i / 4 for i in range(5)])
    parts.append(
        f'<polygon class="area" points="{spots[0][0]:.1f},{_y(0):.1f} {path} {spots[-1][0]:.1f},{_y(0):.1f}"/>'
    )
    parts.append(f'<polyline class="curve" points="{path}"/>')
    taken = -1.0
    for target in (0.25, 0.5, 0.75, 1.0):
        index = min(range(len(points)), key=lambda i: abs(points[i].coverage - target))
        point, (x, y) = points[index], spots[index]
        if x - taken < 50 and taken >= 0:
            continue
        taken = x
        title = (
            f"below {point.threshold:.2f} to a person: {percent(point.coverage)} stays automatic, "
            f"{percent(point.accuracy)} of it right"
        )
        below = y < _TOP + 26
        parts.append(
            f'<g><title>{title}</title><circle class="mark" cx="{x:.1f}" cy="{y:.1f}" r="4"/>'
            f'<text class="strong" text-anchor="{"end" if x > _W - 40 else "middle"}" x="{min(x, _W - 8):.1f}" '
            f'y="{y + 18 if below else y - 10:.1f}">&#8805; {point.threshold:.2f}</text></g>'
        )
    return _svg(_W, _H, "accuracy by coverage", parts)


def reliability_picture(bins: Sequence[Bin]) -> str:
    """Promised against kept: each bar is the accuracy of one range of confidence, the dashed line is honesty."""
    parts = _axes("confidence", [i / 4 for i in range(5)])
    most = max(b.count for b in bins)
    for b in bins:
        x, width = _x(b.low) + 2, _x(b.high) - _x(b.low) - 4
        title = (
            f"confidence {b.low:.1f} to {b.high:.1f}: {b.count:,} rows, "
            f"promised {percent(b.confidence)}, kept {percent(b.accuracy)}"
        )
        top = _y(b.accuracy)
        # Rare ranges are paler: their accuracy is mostly chance.
        opacity = 0.3 + 0.7 * (b.count / most) ** 0.5
        parts.append(
            f'<g><title>{title}</title><rect class="quiet" x="{x:.1f}" y="{_TOP}" width="{width:.1f}" '
            f'height="{_y(0) - _TOP:.1f}" rx="3" opacity=".55"/><rect class="fill" x="{x:.1f}" y="{top:.1f}" '
            f'width="{width:.1f}" height="{max(_y(0) - top, 1):.1f}" rx="3" opacity="{opacity:.2f}"/></g>'
        )
    parts.append(f'<line class="ideal" x1="{_x(0)}" y1="{_y(0)}" x2="{_x(1)}" y2="{_y(1)}"/>')
    return _svg(_W, _H, "reliability of the confidence", parts)


def _floor(lowest: float) -> float:
    return max(0.0, min(0.8, int(lowest * 10 - 0.5) / 10))


def _x(share: float) -> float:
    return _LEFT + share * (_W - _LEFT - _RIGHT)


def _y(share: float) -> float:
    return _TOP + (1 - share) * (_H - _TOP - _BOTTOM)


def _axes(x_name: str, y_ticks: Sequence[float]) -> list[str]:
    parts = []
    for i, value in enumerate(y_ticks):
        y = _y(i / (len(y_ticks) - 1))
        parts.append(
            f'<line class="axis" x1="{_LEFT}" x2="{_W - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text text-anchor="end" x="{_LEFT - 8}" y="{y + 4:.1f}">{value * 100:.0f}%</text>'
        )
    parts += [
        f'<text text-anchor="{("start", "middle", "middle", "middle", "end")[i]}" x="{_x(i / 4):.1f}" '
        f'y="{_H - 22}">{i * 25}%</text>'
        for i in range(5)
    ]
    parts.append(f'<text text-anchor="middle" x="{_x(0.5):.1f}" y="{_H - 5}">{x_name}</text>')
    return parts


def matrix_picture(scores: Scores) -> tuple[str, int]:
    """The confusion matrix, shaded by share of the gold row, and how many labels were left out to keep it readable."""
    names = [s.label for s in scores.labels]
    left_out = max(0, len(names) - MATRIX_LABELS_MAX)
    if left_out:
        wrong = {s.label: s.support + s.predicted - 2 * s.correct for s in scores.labels}
        keep = set(sorted(names, key=lambda name: -wrong[name])[:MATRIX_LABELS_MAX])
        names = [name for name in names if name in keep]
    columns = [*names, NO_LABEL] if any(name in scores.unlabelled for name in names) else names
    step = (
        54
        if len(names) <= 7
        else 46
        if len(names) <= 12
        else 34
        if len(names) <= NUMBERS_MAX
        else max(9.0, 800 / len(names))
    )
    font = min(12.0, max(7.0, step * 0.85))
    margin = min(236.0, max(60.0, max(len(name) for name in columns) * font * 0.58 + 14))
    parts = [f'<g style="font-size:{font:.1f}px">']
    parts += _matrix_names(names, columns, step, font, margin)
    parts += _matrix_cells(scores, names, columns, step, margin)
    parts.append("</g>")
    # A few labels make a small picture; it is not blown up to the width of the page.
    return _svg(
        margin + len(columns) * step + 40, margin + len(names) * step + 6, "confusion matrix", parts, fixed=True
    ), left_out


def _matrix_names(names: Sequence[str], columns: Sequence[str], step: float, font: float, margin: float) -> list[str]:
    letters = int((margin - 10) / (font * 0.58))
    style = f'style="font-size:{font:.1f}px"'
    parts = []
    for i, name in enumerate(names):
        y = margin + i * step
        parts.append(
            f'<text {style} text-anchor="end" x="{margin - 7:.1f}" y="{y + step / 2 + font * 0.35:.1f}">'
            f"{_name(name, letters)}</text>"
        )
        parts.append(
            f'<rect class="quiet" x="{margin:.1f}" y="{y + 1:.1f}" width="{len(columns) * step:.1f}" '
            f'height="{step - (2 if step > 20 else 1):.1f}" rx="2" opacity=".6"/>'
        )
    for i, name in enumerate(columns):
        x = margin + i * step + step / 2 + font * 0.35
        parts.append(
            f'<text {style} transform="translate({x:.1f} {margin - 6:.1f}) rotate(-90)">{_name(name, letters)}</text>'
        )
    return parts


def _matrix_cells(
    scores: Scores, names: Sequence[str], columns: Sequence[str], step: float, margin: float
) -> list[str]:
    row_of = {name: i for i, name in enumerate(names)}
    column_of = {name: i for i, name in enumerate(columns)}
    support = {s.label: s.support for s in scores.labels}
    entries = [*scores.matrix.items(), *(((gold, NO_LABEL), count) for gold, count in scores.unlabelled.items())]
    gap = 2 if step > 20 else 1
    parts = []
    for (gold, predicted), count in entries:
        if gold not in row_of or predicted not in column_of:
            continue
        x, y = margin + column_of[predicted] * step, margin + row_of[gold] * step
        share = count / support[gold]
        opacity = 0.16 + 0.84 * share ** (0.8 if gold == predicted else 0.6)
        kind = "hit" if gold == predicted else "miss"
        shape = f"{step - gap:.1f}"
        cell = (
            f"<g><title>{escape(gold)} &#8594; {escape(predicted)}: {count:,} ({percent(share)})</title><rect "
            f'class="{kind}" '
            f'x="{x + gap / 2:.1f}" y="{y + gap / 2:.1f}" width="{shape}" height="{shape}" '
            f'rx="{4 if step > 20 else 1.5}" '
            f'fill-opacity="{opacity:.2f}"/>'
        )
        if step > 20:
            tone = "in on" if opacity > 0.62 else "in"
            number = f"{count:,}" if count < 10_000 else f"{count / 1000:.0f}k"
            cell += f'<text class="{tone}" x="{x + step / 2:.1f}" y="{y + step / 2 + 4:.1f}">{number}</text>'
        parts.append(cell + "</g>")
    return parts


def _name(name: str, letters: int) -> str:
    return escape(name if len(name) <= letters else name[: max(1, letters - 1)] + "…")


def _svg(width: float, height: float, title: str, parts: Sequence[str], *, fixed: bool = False) -> str:
    # The pixel width is a wish: the style lets pictures shrink with the page but never grow.
    shape = f'width="{width:.0f}"' if fixed else 'width="100%"'
    return (
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" {shape} role="img" aria-label="{title}">'
        + "".join(parts)
        + "</svg>"
    )
