"""Labels in each form, from our own test server: what its faults come to, and whole tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from llm_answers import FORMS, QUICK

import stepwell as sw
from stepwell.testing.llm_server import Faults, LlmServer, predict
from stepwell.triage import triage_table

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LABELS = ["Billing", "Technical", "General"]


@pytest.fixture(scope="module")
def server() -> Iterator[LlmServer]:
    with LlmServer() as running:
        yield running


def place(form: str, server: LlmServer, name: str = "test") -> dict[str, Any]:
    return {"model": name if form == "compatible" else f"{form}:{name}", "base_url": server.url, "retry": QUICK}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["fenced", "wrong_label", "empty", "unknown_tool", "two_choices", "nan", "529"])
def test_a_fault_of_the_server_ends_in_a_label(form: str, kind: str) -> None:
    """One fault in all: it is passed over, retried by the core, or repaired in the second round."""
    with LlmServer(faults=Faults(share=1.0, kinds={kind: 1.0}, max_faults=1)) as spoiling:
        found = sw.llm.Classifier(LABELS, **place(form, spoiling)).classify_blocking("a technical question")
    assert (found.label, found.status) == ("Technical", "ok")
    assert found.label == predict("a technical question", LABELS)[0]


@pytest.mark.parametrize("form", FORMS)
def test_a_cut_off_answer_goes_to_review(form: str) -> None:
    """It is a result, not a fault: another answer would be cut off as well."""
    with LlmServer(faults=Faults(share=1.0, kinds={"cut_json": 1.0}, max_faults=1)) as spoiling:
        found = sw.llm.Classifier(LABELS, **place(form, spoiling)).classify_blocking("a technical question")
        assert (found.label, found.reason, spoiling.count()) == (None, "the answer was cut off", 1)


@pytest.mark.parametrize("form", FORMS)
def test_a_table_is_sorted_by_a_model_of_each_form(form: str, server: LlmServer, tmp_path: Path) -> None:
    table = tmp_path / "tickets.csv"
    table.write_text("text\na billing matter\na technical matter\nsomething general\n")
    where = place(form, server)
    found = triage_table(table, labels=LABELS, model=where["model"], base_url=server.url, store=None, quiet=True)
    assert [outcome.label for outcome in found.outcomes if outcome] == LABELS
