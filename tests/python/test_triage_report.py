"""The report: its numbers against a plain recount, its words on a terminal, its page with hostile tickets."""

import io
import json
import random
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from stepwell.triage._read import open_table
from stepwell.triage._report import build_report, print_report
from stepwell.triage._scores import wilson
from stepwell.triage._terminal import cells, money, percent, short
from stepwell.triage._types import Outcome

DATA = Path(__file__).parents[3] / "shared" / "data"
LABELS = ["Billing", "Technical", "General"]
HOSTILE = '</style></title><script>alert(1)</script><img src=x onerror="alert(2)"> & \x1b[31mred'


def small():
    rows = [
        ("a", "Billing", Outcome("Billing", 0.9, "ok", "", 1, 10, 2, 0.001)),
        ("b", "billing ", Outcome("Technical", 0.8, "ok", "", 2, 10, 2, 0.001)),
        ("c", "Technical", Outcome("Technical", 0.7, "ok", "", 1, 10, 2, 0.001)),
        ("d", "Technical", Outcome("Technical", 0.3, "review", "low_confidence", 1, 10, 2, 0.001, "confidence 0.30")),
        ("e", "General", Outcome(None, None, "error", "timeout", 5, 40, 0, 0.002, "SW-E3301 no answer")),
        ("f", "", Outcome("Billing", 0.95, "ok", "", 1, 10, 2, 0.001)),
    ]
    table = open_table([{"text": text, "gold": gold} for text, gold, _ in rows], gold="gold")
    return build_report(table, [outcome for _, _, outcome in rows], labels=LABELS, about={"model": "local"})


def large(count: int, label_count: int, text: str = "my card has not arrived yet"):
    random.seed(7)
    labels = [f"label_{i:03}" for i in range(label_count)]
    golds = [random.choice(labels) for _ in range(count)]
    table = open_table([{"text": text, "gold": gold} for gold in golds], gold="gold")
    outcomes = []
    for gold in golds:
        confidence = random.random()
        label = gold if random.random() < 0.5 + confidence / 2 else random.choice(labels)
        outcomes.append(Outcome(label, confidence, "ok" if confidence > 0.3 else "review", "low", 1, 100, 8, 1e-5))
    return table, outcomes, labels


def test_small_numbers_by_hand():
    report = small()
    assert report.statuses == {"ok": 4, "review": 1, "error": 1}
    assert report.label_counts == {"Technical": 3, "Billing": 2, "General": 0}
    assert (report.tokens_in, report.tokens_out, report.attempts, report.retried) == (90, 10, 11, 2)
    assert report.cost_usd == pytest.approx(0.007)
    scores = report.scores
    assert (scores.rows, scores.correct, scores.ok_rows) == (5, 3, 3)
    assert (scores.accuracy, scores.coverage) == (0.6, 0.6)
    assert scores.ok_accuracy == pytest.approx(2 / 3)
    by_name = {s.label: s for s in scores.labels}
    assert (by_name["Billing"].support, by_name["Billing"].predicted, by_name["Billing"].correct) == (2, 1, 1)
    assert by_name["Technical"].precision == pytest.approx(2 / 3)
    assert (by_name["Technical"].recall, by_name["General"].f1) == (1.0, 0.0)
    assert scores.macro_f1 == pytest.approx((2 / 3 + 4 / 5 + 0) / 3)
    assert scores.matrix == {("Billing", "Billing"): 1, ("Billing", "Technical"): 1, ("Technical", "Technical"): 2}
    assert scores.unlabelled == {"General": 1}
    assert [(c.gold, c.predicted, c.count, c.share, c.samples) for c in scores.confusions] == [
        ("Billing", "Technical", 1, 0.5, ["b"])
    ]
    assert scores.unknown_gold == []


def test_against_a_plain_recount():
    table, outcomes, labels = large(2_000, 9)
    scores = build_report(table, outcomes, labels=labels).scores
    golds = table.golds()
    assert scores.accuracy == sum(o.label == g for o, g in zip(outcomes, golds, strict=True)) / 2_000
    for s in scores.labels:
        assert s.support == golds.count(s.label)
        assert s.predicted == sum(o.label == s.label for o in outcomes)
    assert sum(scores.matrix.values()) == 2_000
    for point in scores.curve:
        kept = [(o, g) for o, g in zip(outcomes, golds, strict=True) if o.confidence >= point.threshold]
        assert point.coverage == len(kept) / 2_000
        assert point.accuracy == pytest.approx(sum(o.label == g for o, g in kept) / len(kept))
    assert scores.curve[-1].coverage == 1.0
    assert sum(b.count for b in scores.bins) == 2_000
    gaps = [b.count * abs(b.confidence - b.accuracy) for b in scores.bins]
    assert scores.calibration_error == pytest.approx(sum(gaps) / 2_000)


def test_against_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    table, outcomes, labels = large(3_000, 20)
    scores = build_report(table, outcomes, labels=labels).scores
    expected = metrics.f1_score(table.golds(), [o.label for o in outcomes], average="macro")
    assert scores.macro_f1 == pytest.approx(expected)


def test_wilson_interval():
    low, high = wilson(80, 100)
    assert (round(low, 4), round(high, 4)) == (0.7112, 0.8666)
    assert wilson(0, 5)[0] == 0.0
    assert wilson(5, 5)[1] == 1.0


def test_without_gold_without_confidence_and_all_failed():
    table = open_table(["a", "b"])
    for outcome in (Outcome("x", None, "ok"), Outcome(None, None, "error", "timeout", error="no answer")):
        report = build_report(table, [outcome, outcome])
        assert report.scores is None
        for text in (str(report), report.to_html(), report._repr_html_(), report.to_json()):
            assert text
    gold = open_table([{"text": "a", "q": "x"}, {"text": "b", "q": ""}], gold="q")
    report = build_report(gold, [Outcome(None, None, "error", "timeout")] * 2)
    assert (report.scores.accuracy, report.scores.ok_accuracy, report.scores.curve) == (0.0, None, [])
    assert "0.0%" in str(report)
    assert report.to_html()
    nothing = open_table([{"text": "a", "q": None}], gold="q")
    assert build_report(nothing, [Outcome("x", 1.0, "ok")]).scores is None
    with pytest.raises(ValueError, match="1 results for 2 rows"):
        build_report(table, [outcome])


def test_gold_labels_that_were_not_asked_for():
    table = open_table([{"text": "a", "q": "Sales"}, {"text": "b", "q": "BILLING"}], gold="q")
    report = build_report(table, [Outcome("Billing", 0.9, "ok")] * 2, labels=LABELS)
    assert report.scores.unknown_gold == ["Sales"]
    assert report.scores.accuracy == 0.5
    assert "not among the labels asked for: Sales" in str(report)
    assert "Sales" in report.to_html()


@pytest.mark.parametrize("label_count", [3, 24, 77, 200])
def test_terminal_text_fits(label_count):
    table, outcomes, labels = large(
        1_000, label_count, "a long ticket with \t tabs, \x1b[2J escapes and \u30c6\u30b9\u30c8 " * 9
    )
    report = build_report(table, outcomes, labels=labels, about={"model": "openai:gpt-4o-mini", "run": "r" * 60})
    stream = io.StringIO()
    print_report(report, stream)
    lines = stream.getvalue().split("\n")
    assert max(cells(line) for line in lines) <= 100
    assert len(lines) < 60
    assert "\x1b" not in stream.getvalue()
    for word in (
        "accuracy",
        "coverage",
        "macro F1",
        "most often confused",
        "send rows below this confidence to a person",
    ):
        assert word in stream.getvalue()
    if label_count > 24:
        assert f"weakest 6 of {len(report.scores.labels)} labels" in stream.getvalue()


def test_terminal_text_for_many_labels_without_gold():
    table, outcomes, labels = large(500, 77)
    table.gold = None
    text = str(build_report(table, outcomes, labels=labels))
    assert "... 54 more labels" in text


def test_terminal_that_knows_only_ascii():
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    print_report(small(), stream)
    assert b"#" in raw.getvalue()


class Reader(HTMLParser):
    """Collects the tags of a page and checks that they close in order."""

    VOID = frozenset({"meta", "br", "img", "circle", "rect", "line", "polyline", "polygon"})

    def __init__(self):
        super().__init__()
        self.tags, self.open, self.attributes = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.mark.parametrize("label_count", [3, 77, 300])
def test_html_is_whole_small_and_self_contained(label_count):
    table, outcomes, labels = large(20_000, label_count)
    report = build_report(table, outcomes, labels=labels)
    page, inline = report.to_html(), report._repr_html_()
    assert len(page.encode()) < 2_000_000
    assert len(inline.encode()) < 50_000
    for text in (page, inline):
        reader = Reader()
        reader.feed(text)
        assert reader.open == []
        assert "script" not in reader.tags
        assert not re.search(r"(src|href)=|url\(|@import|https?:", text)
    assert "prefers-color-scheme:dark" in page


def test_hostile_tickets_labels_and_names_stay_text(tmp_path):
    path = tmp_path / "<b>t&.jsonl"
    path.write_text("".join(json.dumps({"text": HOSTILE, "q": q}) + "\n" for q in ("x", HOSTILE, "")), encoding="utf-8")
    table = open_table(path, gold="q")
    outcomes = [
        Outcome(HOSTILE, 0.9, "ok"),
        Outcome("x", 0.8, "ok"),
        Outcome(None, None, "error", HOSTILE, error=HOSTILE),
    ]
    report = build_report(table, outcomes, about={HOSTILE: HOSTILE})
    for text in (report.to_html(), report._repr_html_()):
        reader = Reader()
        reader.feed(text)
        assert not {"script", "img"} & set(reader.tags)
        assert "onerror" not in reader.attributes
        assert "<b>t&" not in text
        assert "&lt;script&gt;" in text
    assert "\x1b" not in str(report)


def test_json_is_complete_and_pure():
    values = json.loads(small().to_json())
    assert values["scores"]["accuracy"] == 0.6
    assert {"gold": "Billing", "predicted": "Technical", "count": 1} in values["scores"]["matrix"]
    assert values["problems"][0]["first_row"] in (4, 5)
    assert values["about"] == {"model": "local"}


def test_save_html(tmp_path):
    path = small().save_html(tmp_path / "r.html")
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_small_words():
    assert [percent(v) for v in (0, 0.00001, 0.5, 0.99999, 1)] == ["0.0%", "0.1%", "50.0%", "99.9%", "100.0%"]
    assert [money(v) for v in (0, 0.0000213, 0.0123, 1234.5)] == ["$0", "$0.000021", "$0.0123", "$1,234.50"]
    assert [short(v) for v in (0, 999, 1_000, 84_321, 999_999, 2_134_000)] == [
        "0",
        "999",
        "1.0k",
        "84.3k",
        "1.0M",
        "2.1M",
    ]


def test_twenty_thousand_rows_are_reported_in_a_small_page():
    table, outcomes, labels = large(20_000, 77)
    report = build_report(table, outcomes, labels=labels)
    print_report(report, io.StringIO())
    assert len(report.to_html()) < 1_000_000


@pytest.mark.skipif(not DATA.is_dir(), reason="the shared ticket files are not here")
def test_recorded_answers_of_a_model_give_the_published_accuracy():
    table = open_table(DATA / "cfpb_500_with_7_llms.csv", gold="product")
    outcomes = [Outcome(label, None, "ok") for label in table.column("gpt_4o_prediction")]
    report = build_report(table, outcomes)
    expected = sum(o.label == g for o, g in zip(outcomes, table.golds(), strict=True)) / 500
    assert report.scores.accuracy == expected
    assert report.scores.curve == []
    assert "Does the confidence" not in report.to_html()
