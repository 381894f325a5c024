"""How good the labels are, measured against a gold column. The big loops run inside `Counter` and `sort`."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._types import Outcome

SAMPLES_MAX = 3
SAMPLE_CHARS_MAX = 220
CONFUSIONS_MAX = 12
BINS = 10
CURVE_ROWS_MIN = 25


@dataclass(slots=True)
class LabelScore:
    """One label: `support` rows have it as gold, `predicted` rows were given it, `correct` rows both."""

    label: str
    support: int
    predicted: int
    correct: int
    precision: float
    recall: float
    f1: float


@dataclass(slots=True)
class Confusion:
    """Rows of the gold label `gold` that were given `predicted`; `share` is their part of all rows of that label."""

    gold: str
    predicted: str
    count: int
    share: float
    samples: list[str] = field(default_factory=list)


@dataclass(slots=True)
class CurvePoint:
    """If rows below `threshold` went to a person, `coverage` of all rows stayed automatic, `accuracy` of them right."""

    threshold: float
    coverage: float
    accuracy: float


@dataclass(slots=True)
class Bin:
    """Rows whose confidence is from `low` to below `high`: what they promised and what they kept."""

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


@dataclass(slots=True)
class Scores:
    """Quality over the rows that have a gold label (`rows`); a row without a label counts as wrong."""

    rows: int
    correct: int
    accuracy: float
    interval: tuple[float, float]
    ok_rows: int
    ok_accuracy: float | None
    coverage: float
    macro_f1: float
    labels: list[LabelScore]
    matrix: dict[tuple[str, str], int]
    unlabelled: dict[str, int]
    confusions: list[Confusion]
    curve: list[CurvePoint]
    bins: list[Bin]
    calibration_error: float | None
    unknown_gold: list[str]


def score(
    outcomes: Sequence[Outcome], golds: Sequence[str | None], texts: Sequence[str], labels: Sequence[str] | None = None
) -> Scores | None:
    """All measures at once, or None when no row has a gold label.

    Gold labels are compared without regard to case, as two labels never differ in case alone; `labels` are the labels
    that were asked for, if known.
    """
    spelling = {label.casefold(): label for label in (labels or sorted({o.label for o in outcomes if o.label}))}
    cache: dict[str | None, str | None] = {None: None}
    for gold in set(golds):
        if gold is not None:
            cache[gold] = spelling.setdefault(gold.casefold(), gold)
    truth = [cache[gold] for gold in golds]
    pairs = Counter((gold, outcome.label) for gold, outcome in zip(truth, outcomes, strict=True) if gold is not None)
    rows = sum(pairs.values())
    if rows == 0:
        return None
    matrix = {(g, p): n for (g, p), n in pairs.items() if p is not None}
    correct = sum(n for (g, p), n in matrix.items() if g == p)
    ok = Counter(
        gold == outcome.label
        for gold, outcome in zip(truth, outcomes, strict=True)
        if gold is not None and outcome.status == "ok"
    )
    ok_rows = ok[True] + ok[False]
    scores = _label_scores(pairs)
    ranked = _ranked(truth, outcomes)
    bins = _bins(ranked)
    known = {label.casefold() for label in labels} if labels else None
    return Scores(
        rows=rows,
        correct=correct,
        accuracy=correct / rows,
        interval=wilson(correct, rows),
        ok_rows=ok_rows,
        ok_accuracy=ok[True] / ok_rows if ok_rows else None,
        coverage=ok_rows / rows,
        macro_f1=sum(s.f1 for s in scores) / len(scores),
        labels=scores,
        matrix=matrix,
        unlabelled={g: n for (g, p), n in pairs.items() if p is None},
        confusions=_confusions(matrix, scores, truth, outcomes, texts),
        curve=_curve(ranked, rows),
        bins=bins,
        calibration_error=sum(b.count * abs(b.confidence - b.accuracy) for b in bins) / len(ranked) if ranked else None,
        unknown_gold=sorted({g for g, _ in pairs if known is not None and g.casefold() not in known}),
    )


def wilson(successes: int, count: int) -> tuple[float, float]:
    """The 95 % Wilson interval of a share."""
    z = 1.959964
    share = successes / count
    middle = share + z * z / (2 * count)
    half = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)


def _label_scores(pairs: Counter[tuple[str, str | None]]) -> list[LabelScore]:
    support: Counter[str] = Counter()
    predicted: Counter[str] = Counter()
    for (gold, label), count in pairs.items():
        support[gold] += count
        if label is not None:
            predicted[label] += count
    result = []
    for label in sorted(support.keys() | predicted.keys(), key=lambda name: (name.casefold(), name)):
        hits, wanted, given = pairs[label, label], support[label], predicted[label]
        precision = hits / given if given else 0.0
        recall = hits / wanted if wanted else 0.0
        f1 = 2 * hits / (wanted + given)
        result.append(LabelScore(label, wanted, given, hits, precision, recall, f1))
    return result


def _confusions(
    matrix: dict[tuple[str, str], int],
    scores: list[LabelScore],
    truth: Sequence[str | None],
    outcomes: Sequence[Outcome],
    texts: Sequence[str],
) -> list[Confusion]:
    support = {s.label: s.support for s in scores}
    wrong = sorted((-count, pair) for pair, count in matrix.items() if pair[0] != pair[1])[:CONFUSIONS_MAX]
    samples: defaultdict[tuple[str | None, str | None], list[str]] = defaultdict(list)
    wanted = {pair for _, pair in wrong}
    for gold, outcome, text in zip(truth, outcomes, texts, strict=True):
        pair = (gold, outcome.label)
        if pair in wanted and len(samples[pair]) < SAMPLES_MAX:
            samples[pair].append(shorten(text))
    return [Confusion(g, p, -n, -n / support[g], samples[g, p]) for n, (g, p) in wrong]


def shorten(text: str) -> str:
    """A ticket on one line, short enough for a report."""
    line = " ".join(text[: SAMPLE_CHARS_MAX * 8].split())
    return line if len(line) <= SAMPLE_CHARS_MAX else line[: SAMPLE_CHARS_MAX - 1].rstrip() + "…"


def _ranked(truth: Sequence[str | None], outcomes: Sequence[Outcome]) -> list[tuple[float, bool]]:
    """Confidence and correctness of every scored row that has both a label and a confidence, surest first."""
    pairs = [
        (outcome.confidence, gold == outcome.label)
        for gold, outcome in zip(truth, outcomes, strict=True)
        if gold is not None and outcome.label is not None and outcome.confidence is not None
    ]
    ranked = [(value, right) for value, right in pairs if value is not None and not math.isnan(value)]
    ranked.sort(reverse=True)
    return ranked


def _curve(ranked: Sequence[tuple[float, bool]], rows: int) -> list[CurvePoint]:
    """At most about 100 points, cut only where the confidence changes: equal confidences cannot be told apart."""
    points: list[CurvePoint] = []
    correct = 0
    step = max(1, rows // 100)
    # The first few rows say nothing: an accuracy over five rows only makes the picture jump.
    last = min(CURVE_ROWS_MIN, len(ranked)) - step
    for index, (confidence, right) in enumerate(ranked, 1):
        correct += right
        at_end = index == len(ranked)
        if at_end or (index - last >= step and ranked[index][0] != confidence):
            points.append(CurvePoint(confidence, index / rows, correct / index))
            last = index
    return points


def _bins(ranked: Sequence[tuple[float, bool]]) -> list[Bin]:
    counts, sums, hits = [0] * BINS, [0.0] * BINS, [0] * BINS
    for confidence, right in ranked:
        index = min(BINS - 1, max(0, int(confidence * BINS)))
        counts[index] += 1
        sums[index] += confidence
        hits[index] += right
    return [
        Bin(i / BINS, (i + 1) / BINS, counts[i], sums[i] / counts[i], hits[i] / counts[i])
        for i in range(BINS)
        if counts[i]
    ]
