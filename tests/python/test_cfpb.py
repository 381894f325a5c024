"""500 real complaints and what seven real models said to each, replayed over HTTP: what a policy makes of them is what plain
Python computes from the file, to the row and to the call.

The file is `data/cfpb_500_with_7_llms.csv` of the shared folder (`../shared`, or what STEPWELL_SHARED names).
"""

from __future__ import annotations

import csv
import json
import os
from collections import Counter
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import stepwell as sw
from stepwell.llm import Cascade, Fallback, Vote
from stepwell.testing.llm_server import LlmServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SHARED = Path(os.environ.get("STEPWELL_SHARED", Path(__file__).resolve().parents[3] / "shared"))
FILE = SHARED / "data" / "cfpb_500_with_7_llms.csv"
pytestmark = pytest.mark.skipif(not FILE.is_file(), reason="the shared data is not here")

# A model's name here, its prediction's column and its time's.
COLUMNS = {
    "gpt-4o": ("gpt_4o_prediction", "time-gpt-4o"),
    "gpt-4o-mini": ("gpt_4o_mini_prediction", "time-gpt-4o-mini"),
    "sonnet": ("claude_3_5_sonnet_prediction", "time-claude-3-5-sonnet-latest"),
    "haiku": ("claude_3_5_haiku_prediction", "time-claude-3-5-haiku-latest"),
    "deepseek": ("deepseek-chat_prediction", "time-deepseek-chat"),
    "flash": ("gemini-2.0-flash_prediction", "time-gemini-2.0-flash"),
    "flash-lite": ("gemini-2.0-flash-lite_prediction", "time-gemini-2.0-flash-lite"),
}
RETRY = sw.Retry(max_attempts=1)
Row = dict[str, str]


@cache
def rows() -> list[Row]:
    with FILE.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


@cache
def labels() -> tuple[str, ...]:
    return tuple(sorted({row["product"] for row in rows()}))


def said(row: Row, model: str) -> str:
    return row[COLUMNS[model][0]]


def text_of(row: Row) -> str:
    """What a row's ticket says: its number, too, for some complaints stand in the file twice, with other times."""
    return f"{row['id']}: {row['narrative']}"


def serve(folder: Path, timeout_s: float = float("inf")) -> LlmServer:
    """Start the models. One that took longer than `timeout_s` never answers: who waits so long in earnest hears nothing."""
    answers = folder / "answers.jsonl"
    with answers.open("w", encoding="utf-8") as out:
        for row in rows():
            for model, (prediction, time) in COLUMNS.items():
                is_late = float(row[time]) > timeout_s
                out.write(
                    json.dumps({"model": model, "text": text_of(row), "content": row[prediction], "hang": is_late})
                )
                out.write("\n")
    return LlmServer(answers=answers)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlmServer]:
    with serve(tmp_path_factory.mktemp("cfpb")) as running:
        yield running


def run(server: LlmServer, model: Any, concurrency: int = 64) -> tuple[list[str | None], list[list[list[Any]]], int]:
    """Classify every row in a run of its own; return the labels, who was asked for each, and how many calls arrived."""

    @sw.workflow(name="cfpb")
    async def flow(text: str) -> Any:
        found = await sw.llm.classify(
            text, labels=labels(), model=model, base_url=server.url, retry=RETRY, repair=0, timeout="120s"
        )
        return [found.label, found.status, [[each.model, each.status] for each in found.path]]

    before = server.count()
    with sw.Engine() as engine:
        engine.breaker(
            "*", sw.Breaker(failures=1_000)
        )  # a model that is late 352 times is asked 500 times all the same
        results = engine.map(flow, [text_of(row) for row in rows()], concurrency=concurrency).results()
    for label, status, _ in results:
        assert (label in labels()) == (status == "ok")
        assert (label is None) == (status == "review")
    return [each[0] for each in results], [each[2] for each in results], server.count() - before


def accuracy(found: list[str | None]) -> float:
    return sum(label == row["product"] for label, row in zip(found, rows(), strict=True)) / len(rows())


def in_taxonomy(label: str) -> str | None:
    return label if label in labels() else None


@pytest.mark.parametrize("model", COLUMNS)
def test_single_models(server: LlmServer, model: str) -> None:
    found, _, calls = run(server, model)
    assert found == [in_taxonomy(said(row, model)) for row in rows()]
    assert calls == len(rows()) == 500
    published = {
        "gpt-4o": 0.748, "gpt-4o-mini": 0.692, "sonnet": 0.760, "haiku": 0.730, "deepseek": 0.730, "flash": 0.770,
        "flash-lite": 0.736,
    }  # fmt: skip
    assert accuracy(found) == pytest.approx(published[model])


def plurality(models: list[str], first_wins: bool) -> Callable[[Row], str | None]:  # noqa: FBT001
    """Count votes by hand; a tie goes to the model named first of those that lead, or to nobody."""

    def decide(row: Row) -> str | None:
        votes = [vote for vote in (in_taxonomy(said(row, model)) for model in models) if vote is not None]
        counts = Counter(votes)
        leading = [vote for vote in votes if counts[vote] == max(counts.values())]
        return leading[0] if first_wins or len(set(leading)) == 1 else None

    return decide


def test_a_vote_of_seven(server: LlmServer) -> None:
    models = list(COLUMNS)
    found, path, calls = run(server, Vote(models))
    assert found == [plurality(models, first_wins=False)(row) for row in rows()]
    assert accuracy(found) == pytest.approx(0.750)
    assert found.count(None) == 2, "ties, which nobody decides"
    assert calls == 7 * 500
    strange = [
        (row["id"], model)
        for row, each in zip(rows(), path, strict=True)
        for model, status in each
        if status == "review"
    ]
    assert sorted(strange) == [("393", "gpt-4o"), ("77", "flash-lite")], "two real answers outside of the taxonomy"


def test_a_vote_of_three(server: LlmServer) -> None:
    models = ["flash", "haiku", "gpt-4o-mini"]
    found, _, calls = run(server, Vote(models, quorum=2, tie="first"))
    assert found == [plurality(models, first_wins=True)(row) for row in rows()]
    assert accuracy(found) == pytest.approx(0.740)
    assert calls == 3 * 500
    undecided, _, _ = run(server, Vote(models, quorum=2))
    assert undecided.count(None) == 11, "three-way ties"


def test_a_cascade(server: LlmServer) -> None:
    found, path, calls = run(server, Cascade(["gpt-4o-mini", "flash"], agree=True, then="sonnet"))
    agree = [said(row, "gpt-4o-mini") == said(row, "flash") for row in rows()]
    assert found == [said(row, "flash" if same else "sonnet") for row, same in zip(rows(), agree, strict=True)]
    assert accuracy(found) == pytest.approx(0.758)
    assert [len(each) == 2 for each in path] == agree
    assert (sum(agree), 500 - sum(agree)) == (415, 85)
    assert calls == 2 * 500 + 85
    right = sum(label == row["product"] for label, row, same in zip(found, rows(), agree, strict=True) if same)
    assert right / 415 == pytest.approx(0.798, abs=5e-4)


@pytest.mark.parametrize(("timeout_s", "expected", "timeouts"), [(30, 0.748, 231), (10, 0.768, 352)])
def test_a_slow_model_and_the_next_one(tmp_path: Path, timeout_s: int, expected: float, timeouts: int) -> None:
    """The wait is 3 s, however long it was in earnest, so that it depends on the file alone who is late."""
    late = [float(row[COLUMNS["deepseek"][1]]) > timeout_s for row in rows()]
    with serve(tmp_path, timeout_s) as server:
        found, path, calls = run(server, Fallback(["deepseek", "flash"], after="3s"), concurrency=500)
    assert [each[0] for each in path] == [["deepseek", "timeout" if is_late else "ok"] for is_late in late]
    assert found == [said(row, "flash" if is_late else "deepseek") for row, is_late in zip(rows(), late, strict=True)]
    assert accuracy(found) == pytest.approx(expected)
    assert sum(late) == timeouts
    assert calls == 500 + timeouts


@pytest.mark.parametrize(
    ("model", "strange"), [("gpt-4o", ("393", "auto_loan")), ("flash-lite", ("77", "student_loans"))]
)
def test_an_answer_outside_of_the_taxonomy_is_handed_on(
    server: LlmServer, model: str, strange: tuple[str, str]
) -> None:
    alone, _, _ = run(server, model)
    handed_on, _, calls = run(server, Fallback([model, "sonnet"]))
    [odd] = [row for row in rows() if said(row, model) not in labels()]
    assert (odd["id"], said(odd, model)) == strange
    at = rows().index(odd)
    assert (alone[at], handed_on[at]) == (None, said(odd, "sonnet"))
    assert calls == 501
