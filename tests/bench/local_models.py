#!/usr/bin/env python3
"""Accuracy, calibration and speed of `model="local"` on public data and on the demo tickets.

    python3 tests/bench/local_models.py [FOLDER_WITH_THE_CSV_FILES]

The folder is `../shared/data` beside the repository unless given. A file that is absent is skipped, and said so. The
label names are all the model gets; no file here was used to set anything in it, except those marked "set on".
"""

from __future__ import annotations

import csv
import json
import os
import sys
import time
from importlib.resources import files
from pathlib import Path

from stepwell.llm._local import LocalClassifier

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy is not imported yet; a second core would only spin

ROOT = Path(__file__).resolve().parents[2]

# name, file, text column, label column, every n-th row, rows at most, filter, what it is for
SETS = [
    ("banking77, 5,000 rows", "banking77_train.csv", "text", "category", 2, 5_000, None, "measure"),
    ("clinc150, 150 intents", "clinc150_train_10shot.csv", "text", "intent", 1, None, None, "measure"),
    ("cfpb, 5 products", "cfpb_500_with_7_llms.csv", "narrative", "product", 1, None, None, "measure"),
    ("insurance, 10 labels", "insurance_train.csv", "text", "label", 1, None, None, "measure"),
    ("hint3 curekart", "hint3_train.csv", "text", "intent", 1, None, ("bot", "curekart"), "set on"),
    ("hint3 powerplay11", "hint3_train.csv", "text", "intent", 1, None, ("bot", "powerplay11"), "set on"),
    ("hint3 sofmattress", "hint3_train.csv", "text", "intent", 1, None, ("bot", "sofmattress"), "set on"),
    ("endava, 8 queues", "it_tickets_endava_train_3200.csv", "text", "queue", 2, None, None, "set on"),
    ("bitext, 11 categories", "bitext_customer_support_4514.csv", "text", "category", 3, None, None, "set on"),
    ("bitext, 27 intents", "bitext_customer_support_4514.csv", "text", "intent", 3, None, None, "set on"),
    ("clinc150, 10 domains", "clinc150_train_10shot.csv", "text", "domain", 1, None, None, "set on"),
]


def calibration_error(right: list[bool], sure: list[float]) -> float:
    """Mean distance between the confidence and the share of right answers, over ten bins, weighted by their rows."""
    bins: list[list[int]] = [[] for _ in range(10)]
    for index, value in enumerate(sure):
        bins[min(int(value * 10), 9)].append(index)
    gap = 0.0
    for bin_ in bins:
        if bin_:
            gap += abs(sum(right[i] for i in bin_) - sum(sure[i] for i in bin_))
    return gap / len(right)


def measure(name: str, texts: list[str], gold: list[str], purpose: str) -> None:
    """Classify the texts with a fresh classifier, so that no word is known beforehand, and print one JSON line.

    The speed counts processor time: it is what one core does when nobody else uses it.
    """
    classifier = LocalClassifier(sorted(set(gold)))
    classifier.load()
    start = time.process_time()
    answers = classifier.classify_many(texts)
    seconds_new = time.process_time() - start
    start = time.process_time()
    classifier.classify_many(texts)
    seconds_known = time.process_time() - start
    right = [label == expected for (label, _), expected in zip(answers, gold, strict=True)]
    sure = [confidence for _, confidence in answers]
    row = {
        "set": name,
        "for": purpose,
        "rows": len(texts),
        "labels": len(classifier.labels),
        "accuracy": round(sum(right) / len(right), 4),
        "mean_confidence": round(sum(sure) / len(sure), 3),
        "calibration_error": round(calibration_error(right, sure), 3),
        "per_core_second_words_new": round(len(texts) / seconds_new),
        "per_core_second_words_known": round(len(texts) / seconds_known),
    }
    print(json.dumps(row), flush=True)


def main(arguments: list[str]) -> int:
    """Measure what is there; 0 also when files are absent."""
    folder = Path(arguments[0]) if arguments else ROOT.parent / "shared" / "data"
    with files("stepwell").joinpath("demo/tickets.csv").open(encoding="utf-8", newline="") as file:
        demo = list(csv.DictReader(file))
    measure("demo tickets", [f"{t['subject']}\n\n{t['body']}" for t in demo], [t["queue"] for t in demo], "demo")
    for name, file_name, text, label, every, rows_max, only, purpose in SETS:
        path = folder / file_name
        if not path.is_file():
            print(f"skipped: {name}: no {file_name}")
            continue
        with path.open(encoding="utf-8", newline="") as file:
            rows = [row for row in csv.DictReader(file) if only is None or row[only[0]] == only[1]]
        rows = rows[::every][:rows_max]
        measure(name, [row[text] for row in rows], [row[label] for row in rows], purpose)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
