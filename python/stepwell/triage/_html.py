"""The HTML report: one self-contained page, and a smaller fragment for notebooks. Every text of a ticket is escaped."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from ._pictures import curve_picture, matrix_picture, reliability_picture
from ._style import CSS
from ._terminal import money, percent, short

if TYPE_CHECKING:
    from ._report import Report
    from ._scores import Confusion, LabelScore, Scores

FRAGMENT_LABELS = 8
FRAGMENT_MATRIX_MAX = 12
FRAGMENT_CONFUSIONS = 4
PAGE_CONFUSIONS = 8
SIDE_BY_SIDE_MAX = 10
SPREAD_MAX = 160
UNKNOWN_SHOWN = 8
GOOD_F1, FAIR_F1 = 0.8, 0.5

_LOGO = (
    '<svg width="40" height="40" viewBox="0 0 40 40" aria-hidden="true"><rect width="40" height="40" rx="10" '
    'class="fill"/>'
    '<g style="fill:var(--on)"><rect x="8" y="9" width="24" height="4" rx="2"/><rect x="12" y="18" width="16" '
    'height="4" rx="2" opacity=".8"/>'
    '<rect x="16" y="27" width="8" height="4" rx="2" opacity=".6"/></g></svg>'
)


def page(report: Report) -> str:
    """The whole page."""
    quality = _matrix(report.scores) + _label_table(report.scores)
    if report.scores is not None and len(report.scores.labels) <= SIDE_BY_SIDE_MAX:
        quality = f'<div class="pair">{quality}</div>'
    body = "".join(
        [
            _header(report),
            _tiles(report),
            _statuses(report),
            _charts(report.scores),
            quality,
            _confusions(report.scores, PAGE_CONFUSIONS, samples=2),
            _spread(report),
            _problems(report),
        ]
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" '
        'content="width=device-width,initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>Triage report: {escape(report.name)}</title><style>body{{margin:0}}{CSS}"
        ".sw-report{background:var(--page);min-height:100vh}</style></head>"
        f'<body class="sw-report"><div class="wrap">{body}<footer>Made by Stepwell. Everything on this page is in '
        f"the file itself."
        "</footer></div></body></html>\n"
    )


def fragment(report: Report) -> str:
    """The same in short for a notebook cell, at most about 50 KB."""
    scores = report.scores
    parts = [_header(report), _tiles(report), _statuses(report), _charts(scores)]
    if scores is not None:
        if len(scores.labels) <= FRAGMENT_MATRIX_MAX:
            parts.append(_matrix(scores))
        parts.append(_confusions(scores, FRAGMENT_CONFUSIONS, samples=1))
        parts.append(_label_table(scores, FRAGMENT_LABELS))
    else:
        parts.append(_spread(report, 24))
    parts.append(_problems(report, 5))
    return f'<div class="sw-report inline"><style>{CSS}</style><div class="wrap">{"".join(parts)}</div></div>'


def _header(report: Report) -> str:
    about = "".join(f"<span>{escape(key)} <b>{escape(value)}</b></span>" for key, value in report.about.items())
    return (
        f'<header>{_LOGO}<div><h1>Triage report</h1><p class="about"><span><b>{escape(report.name)}</b></span>'
        f"<span>{report.rows:,} rows</span>{about}</p></div></header>"
    )


def _tiles(report: Report) -> str:
    scores, rows = report.scores, max(report.rows, 1)
    tiles = []
    if scores is not None:
        low, high = scores.interval
        tiles.append(("Accuracy", percent(scores.accuracy), f"{low * 100:.1f} to {high * 100:.1f} (95%)"))
        if scores.ok_accuracy is not None:
            tiles.append(("When automatic", percent(scores.ok_accuracy), f"on {percent(scores.coverage)} of rows"))
        tiles.append(("Macro F1", f"{scores.macro_f1:.3f}", f"mean of {len(scores.labels):,} labels"))
    else:
        used = sum(1 for count in report.label_counts.values() if count)
        tiles.append(
            ("Labelled", percent(report.statuses["ok"] / rows), f"{used:,} of {len(report.label_counts):,} labels used")
        )
        if report.mean_confidence is not None:
            tiles.append(("Mean confidence", f"{report.mean_confidence:.2f}", "as the model states it"))
    tiles.append(
        ("For a person", f"{report.statuses['review']:,}", f"{percent(report.statuses['review'] / rows)} of rows")
    )
    tiles.append(("Failed", f"{report.statuses['error']:,}", f"{report.retried:,} rows retried"))
    tiles.append(("Cost", money(report.cost_usd), f"{short(report.tokens_in)} + {short(report.tokens_out)} tokens"))
    cells = "".join(
        f'<div class="tile"><div class="k">{k}</div><div class="v">{v}</div><div class="n">{n}</div></div>'
        for k, v, n in tiles
    )
    return f'<div class="tiles">{cells}</div>'


def _statuses(report: Report) -> str:
    names = {"ok": "labelled automatically", "review": "for a person to read", "error": "failed"}
    rows = max(report.rows, 1)
    split = "".join(
        f'<i class="{name}" style="flex:{count / rows:.5f} 0 0"></i>'
        for name, count in report.statuses.items()
        if count
    )
    legend = "".join(
        f'<span><span class="dot {name}"></span>{names[name]} <b>{count:,}</b> {percent(count / rows)}</span>'
        for name, count in report.statuses.items()
    )
    return (
        f'<section><h2>How the rows ended</h2><div class="split">{split}</div>'
        f'<div class="legend">{legend}</div></section>'
    )


def _charts(scores: Scores | None) -> str:
    if scores is None or len(scores.curve) <= 1 or not scores.bins:
        return ""
    error = "" if scores.calibration_error is None else f" Calibration error {scores.calibration_error:.3f}."
    return (
        '<div class="pair"><section><h2>How much can stay automatic</h2><p class="why">Accuracy of the surest rows, '
        "if all rows below "
        f"a confidence go to a person.</p>{curve_picture(scores.curve)}</section><section><h2>Does the confidence "
        f"mean what it says"
        f'</h2><p class="why">Bars on the dashed line keep their promise; pale bars hold few rows.{error}</p>'
        f"{reliability_picture(scores.bins)}</section></div>"
    )


def _matrix(scores: Scores | None) -> str:
    if scores is None:
        return ""
    picture, left_out = matrix_picture(scores)
    more = f" The {left_out:,} labels with the fewest mistakes are left out." if left_out else ""
    unknown = ""
    if scores.unknown_gold:
        names = ", ".join(escape(name) for name in scores.unknown_gold[:UNKNOWN_SHOWN]) + (
            ", ..." if len(scores.unknown_gold) > UNKNOWN_SHOWN else ""
        )
        unknown = (
            f'<p class="note">{len(scores.unknown_gold):,} gold labels were not among the labels asked for: {names}</p>'
        )
    return (
        '<section><h2>Confusion matrix</h2><p class="why">Rows are the gold label, columns the label given; the '
        "shade is the share of "
        f"the row. Green is right, red is wrong.{more}</p>{picture}{unknown}</section>"
    )


def _confusions(scores: Scores | None, count: int, samples: int) -> str:
    if scores is None or not scores.confusions:
        return ""
    cards = "".join(_confusion(c, samples) for c in scores.confusions[:count])
    return (
        '<section><h2>Most often confused</h2><p class="why">Gold label, the label given instead, and a few tickets '
        "to judge who is right."
        f'</p><div class="mix">{cards}</div></section>'
    )


def _confusion(c: Confusion, samples: int) -> str:
    quotes = "".join(f"<q>{escape(text)}</q>" for text in c.samples[:samples])
    return (
        f'<article><div><span class="from">{escape(c.gold)}</span> &#8594; <span class="to">'
        f"{escape(c.predicted)}</span></div>"
        f'<div class="n">{c.count:,} rows, {percent(c.share)} of this gold label</div>{quotes}</article>'
    )


def _label_table(scores: Scores | None, count: int | None = None) -> str:
    if scores is None:
        return ""
    ordered = sorted(scores.labels, key=lambda s: (s.f1, s.label))
    shown = ordered[:count]
    rows = "".join(_label_row(s) for s in shown)
    note = (
        "Weakest first."
        if len(shown) == len(ordered)
        else f"The weakest {len(shown)} of {len(ordered):,}; save_html has all of them."
    )
    return (
        f'<section><h2>Each label</h2><p class="why">{note} Precision: how many of the rows given the label are '
        f"right. Recall: how many "
        'of its rows were found.</p><div class="scroll"><table><thead><tr><th class="l">label</th><th>gold</th><th>'
        "given</th>"
        f"<th>precision</th><th>recall</th><th>F1</th></tr></thead><tbody>{rows}</tbody></table></div></section>"
    )


def _label_row(s: LabelScore) -> str:
    tone = "ok" if s.f1 >= GOOD_F1 else "review" if s.f1 >= FAIR_F1 else "error"
    return (
        f'<tr><td class="l">{escape(s.label)}</td><td>{s.support:,}</td><td>{s.predicted:,}</td><td>'
        f"{percent(s.precision)}</td>"
        f'<td>{percent(s.recall)}</td><td>{s.f1:.3f}<span class="meter"><i class="{tone}" '
        f'style="width:{s.f1 * 100:.1f}%"></i></span></td></tr>'
    )


def _spread(report: Report, count: int = SPREAD_MAX) -> str:
    """Label distribution; with gold as twin bars, which show at once what the model over- and underuses."""
    gold = report.gold_counts
    names = list(report.label_counts) + [name for name in gold if name not in report.label_counts]
    if not names:
        return ""
    peak = max([*report.label_counts.values(), *gold.values(), 1])
    rows = []
    for name in names[:count]:
        given = report.label_counts.get(name, 0)
        twin = f'<i class="gold" style="width:{gold.get(name, 0) / peak * 100:.1f}%"></i>' if gold else ""
        label = escape(name, quote=True)
        rows.append(
            f'<div class="r"><span class="name" title="{label}">{label}</span><span class="bars">'
            f'<i class="given" style="width:{given / peak * 100:.1f}%"></i>{twin}</span><span class="num">'
            f"{given:,}</span></div>"
        )
    more = f'<p class="note">and {len(names) - count:,} more labels</p>' if len(names) > count else ""
    legend = (
        '<div class="legend"><span><span class="dot given"></span>given</span><span><span class="dot gold"></span>'
        "gold</span></div>"
        if gold
        else ""
    )
    return (
        f'<section><h2>Labels given</h2><p class="why">Most frequent first.</p><div class="spread">'
        f"{''.join(rows)}</div>{more}{legend}"
        "</section>"
    )


def _problems(report: Report, count: int = 99) -> str:
    if not report.problems:
        return ""
    rows = "".join(
        f'<tr><td class="l"><span class="tag {p.status}">{p.status}</span> {escape(p.reason)}</td><td>'
        f"{p.count:,}</td><td>{p.first_row:,}</td>"
        f'<td class="say">{escape(p.error or p.sample)}</td></tr>'
        for p in report.problems[:count]
    )
    return (
        '<section><h2>Rows that need a look</h2><p class="why">Grouped by reason, with the first row of each.</p>'
        '<div class="scroll"><table>'
        '<thead><tr><th class="l">reason</th><th>rows</th><th>first row</th><th class="l">what happened</th></tr>'
        "</thead>"
        f"<tbody>{rows}</tbody></table></div></section>"
    )
