"""What-if: recorded runs asked differently. The store stays as it is, nothing is called without leave, the table is right."""

from __future__ import annotations

import csv
import hashlib
import json
import sys
from typing import TYPE_CHECKING, Any

import pytest

import stepwell as sw
from stepwell.__main__ import main
from stepwell.llm import Cache, Vote
from stepwell.testing.llm_server import Faults, LlmServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LABELS = ["Billing", "Technical", "General"]
TEXTS = [
    f"ticket {n}: {word}" for n, word in enumerate(["billing", "technical", "general", "invoice charged twice"] * 3)
]
URL = {"of": ""}
done: list[str] = []
before: dict[str, str] = {}


@sw.step
async def route(label: str | None) -> str:
    done.append(str(label))
    return f"to {label}"


@sw.workflow(name="tickets")
async def tickets(text: str) -> Any:
    found = await sw.llm.classify(text, labels=LABELS, model="old", base_url=URL["of"], cache=Cache())
    if found.label == "General":
        await sw.sleep("1ms")
    return [found.label, await route(found.label)]


@sw.workflow(name="tickets_plain")
def tickets_plain(text: str) -> Any:
    said = sw.llm.chat_blocking(text, model="old", system="Be brief.", base_url=URL["of"])
    again = sw.llm.chat_blocking(said.text, model="old", base_url=URL["of"])
    return again.text


@pytest.fixture(scope="module")
def server() -> Iterator[LlmServer]:
    with LlmServer() as running:
        URL["of"] = running.url
        yield running


@pytest.fixture(scope="module")
def store(server: LlmServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    assert server.url == URL["of"]
    path = tmp_path_factory.mktemp("whatif") / "runs.db"
    with sw.Engine(path) as engine:
        for text, (label, _) in zip(TEXTS, engine.map(tickets, TEXTS, concurrency=4).results(), strict=True):
            before[text] = label
        assert len(engine.map(tickets_plain, TEXTS[:3], concurrency=1).results()) == 3
    done.clear()
    return path


@pytest.fixture(autouse=True)
def nothing_changes(store: Path) -> Iterator[None]:
    found = {each.name: hashlib.sha256(each.read_bytes()).hexdigest() for each in store.parent.iterdir()}
    yield
    assert {each.name: hashlib.sha256(each.read_bytes()).hexdigest() for each in store.parent.iterdir()} == found
    assert done == [], "no step executes"


def test_in_the_sandbox_the_local_model_answers(store: Path, server: LlmServer) -> None:
    calls = server.count()
    report = sw.whatif(store, tickets, model="local")
    assert server.count() == calls
    assert (report.runs, report.skipped, len(report.rows)) == (len(TEXTS), 0, len(TEXTS))
    after = [sw.llm.classify_blocking(text, labels=LABELS, model="local").label for text in TEXTS]
    expected: dict[tuple[str, str], int] = {}
    for text, label in zip(TEXTS, after, strict=True):
        pair = (before[text], label or "")
        expected[pair] = expected.get(pair, 0) + 1
    assert report.confusion == expected
    assert sum(row.changed for row in report.rows) == sum(count for (a, b), count in expected.items() if a != b)
    assert all(row.run_then == "same" for row in report.rows if not row.changed)
    assert all(row.step == "llm.classify" and row.usd_after == 0 for row in report.rows)


def test_a_function_answers_and_leads_elsewhere(store: Path) -> None:
    report = sw.whatif(
        store, tickets, answer=lambda text, settings: settings["labels"][0] if "billing" in text else "Refunds"
    )
    by_status = {status: [row for row in report.rows if row.status == status] for status in ("ok", "review")}
    assert (len(by_status["ok"]), len(by_status["review"])) == (3, 9)
    assert {row.after for row in by_status["review"]} == {""}, "what is outside of the taxonomy is no category"
    # The step `route` is recorded whatever its argument: the result shows the new label and the old route.
    assert {row.run_then for row in by_status["review"]} == {"another"}
    assert {row.run_then for row in by_status["ok"]} == {"same"}
    general = sw.whatif(store, tickets, answer=lambda *_: "General")
    assert {row.run_then for row in general.rows if row.before != "General"} == {"left"}, (
        "it would sleep, which none had done"
    )


def test_the_cache_of_the_store_answers_and_what_it_does_not_hold_is_not_asked(store: Path, server: LlmServer) -> None:
    calls = server.count()
    same = sw.whatif(store, tickets, model="old", base_url=server.url)
    assert {row.status for row in same.rows} == {"ok"}
    assert not any(row.changed for row in same.rows)
    other = sw.whatif(store, tickets, model="openai:gpt-4o")
    assert {row.status for row in other.rows} == {"unanswered"}
    assert "12 of them without a new answer" in str(other)
    assert server.count() == calls


def test_live_it_really_asks(store: Path, server: LlmServer) -> None:
    with LlmServer(faults=Faults(share=1.0, kinds={"wrong_label": 1.0}, max_faults_per_call=100)) as new:
        report = sw.whatif(
            store, tickets, model="openai:gpt-4o-mini", base_url=new.url, live=True, last=5, concurrency=2
        )
        assert new.count() == 10, "and once more, to repair"
    assert [row.status for row in report.rows] == ["review"] * 5
    assert all(row.usd_after and row.seconds_after > 0 and row.seconds_before >= 0 for row in report.rows)
    calls = server.count()
    voted = sw.whatif(store, tickets, model=Vote(["a", "b"]), base_url=server.url, live=True)
    assert server.count() == calls + 2 * len(TEXTS)
    assert not any(row.changed for row in voted.rows)
    prompted = sw.whatif(store, tickets, prompt="Billing is about money.", live=True, last=2)
    assert "Billing is about money." in json.dumps([row.settings for row in prompted.rows])
    assert server.count() == calls + 2 * len(TEXTS) + 2


def test_a_model_that_fails_is_told(store: Path) -> None:
    with LlmServer(faults=Faults(share=1.0, kinds={"quota": 1.0}, max_faults_per_call=100)) as broken:
        report = sw.whatif(store, tickets, model="m", base_url=broken.url, live=True, last=2)
    assert [(row.status, row.after) for row in report.rows] == [("failed", "SW-E1307")] * 2


def test_chats_in_plain_code_all_or_one_by_name(store: Path, server: LlmServer) -> None:
    calls = server.count()
    both = sw.whatif(
        store,
        tickets_plain,
        step="llm.chat",
        answer=lambda what, _: sw.llm.Chat(f"<{what}>", "", sw.llm.Usage(), "stop"),
    )
    assert len(both.rows) == 6
    assert both.rows[0].step == "llm.chat"
    first, second = both.rows[:2]
    assert second.before == f"You said: {first.before}"
    assert second.after == f"<{first.after}>", "the second question holds the first one's new answer"
    one = sw.whatif(
        store, tickets_plain, step="llm.chat#2", answer=lambda what, _: sw.llm.Chat(what, "", sw.llm.Usage(), "stop")
    )
    assert [row.step for row in one.rows] == ["llm.chat#2"] * 3
    assert server.count() == calls


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv"])
def test_it_goes_on_from_its_file(store: Path, server: LlmServer, tmp_path: Path, name: str) -> None:
    out = tmp_path / name
    options: dict[str, Any] = {"model": "new", "base_url": server.url, "live": True, "out": out}
    calls = server.count()
    sw.whatif(store, tickets, last=4, **options)
    assert server.count() == calls + 4
    whole = out.read_bytes()
    out.write_bytes(whole[:-20])  # a crash in the middle of a row
    report = sw.whatif(store, tickets, **options)
    assert server.count() == calls + len(TEXTS) + 1
    assert len(report.rows) == len(TEXTS)
    again = sw.whatif(store, tickets, **options)
    assert sorted(again.rows, key=str) == sorted(report.rows, key=str)
    assert server.count() == calls + len(TEXTS) + 1
    if name.endswith("csv"):
        with out.open(encoding="utf-8", newline="") as lines:
            assert len(list(csv.DictReader(lines))) == len(TEXTS)
    with pytest.raises(sw.InputError, match=r"SW-E2159 .* other settings"):
        sw.whatif(store, tickets, **options | {"model": "newer"})


def test_the_command(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    base = ["whatif", str(store), "tickets", "-m", __name__]
    assert main([*base, "--model", "local", "--out", str(tmp_path / "rows.csv")]) == 0
    assert "12, 0 of them without such a call" in capsys.readouterr().out
    assert main([*base, "--model", "local", "--last", "2", "--json"]) == 0
    assert [json.loads(line)["step"] for line in capsys.readouterr().out.splitlines()] == ["llm.classify"] * 2
    for wrong in (
        ["--model", "local", "--step", "route"],
        [],
        ["--model", "local", "--prompt", str(tmp_path / "none")],
    ):
        assert main([*base, *wrong]) == 2
        assert "SW-E2159" in capsys.readouterr().err
    assert main(["whatif", str(store), "nothing", "-m", __name__, "--model", "local"]) == 2


def test_a_bad_model_name_ends_it(store: Path) -> None:
    with pytest.raises(sw.WorkflowError, match="SW-E2103"):
        sw.whatif(store, tickets, model="gpt-4o")
