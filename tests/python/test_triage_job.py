"""The main job, end to end: files in, files out, faults, resume, bad input, the command line."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

import stepwell as sw
from stepwell.__main__ import main
from stepwell.testing.llm_server import Faults, LlmServer, predict
from stepwell.triage import triage_table
from stepwell.triage._job import prepare, run

if TYPE_CHECKING:
    from pathlib import Path

LABELS = ["Billing", "Technical", "General"]
TEXTS = [f"ticket {n}: my {'billing' if n % 3 else 'technical'} question" for n in range(300)]


def write_csv(path: Path, texts: list[str]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "body", "queue"])
        writer.writerows([n, text, predict(text, LABELS)[0]] for n, text in enumerate(texts))
    return path


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_every_row_once_with_faults(tmp_path: Path) -> None:
    source = write_csv(tmp_path / "in.csv", TEXTS)
    with LlmServer(faults=Faults(share=0.1, kinds={"429": 1, "500": 1, "reset": 1, "truncated": 1}), seed=3) as server:
        code = main(
            [
                *("triage", str(source), "--labels", ",".join(LABELS), "--model", "test", "--base-url", server.url),
                *("--gold", "queue", "--out", str(tmp_path / "out.csv"), "--store", str(tmp_path / "s.db"), "--quiet"),
            ]
        )
    assert code == 0
    rows = read_csv(tmp_path / "out.csv")
    assert [row["id"] for row in rows] == [str(n) for n in range(300)]
    assert all(row["label"] == row["queue"] and row["status"] == "ok" for row in rows)
    assert any(int(row["attempts"]) > 1 for row in rows)
    page = (tmp_path / "out.report.html").read_text(encoding="utf-8")
    assert "<svg" in page
    assert "100" in page


def test_a_second_start_calls_nothing(tmp_path: Path) -> None:
    with LlmServer() as server:
        options = {"labels": LABELS, "model": "test", "base_url": server.url, "store": tmp_path / "s.db", "quiet": True}
        first = triage_table(TEXTS, **options)  # type: ignore[arg-type]
        calls = len([entry for entry in server.journal() if "chat" in entry["path"]])
        second = triage_table(TEXTS, **options)  # type: ignore[arg-type]
        assert len([entry for entry in server.journal() if "chat" in entry["path"]]) == calls == 300
    assert second.outcomes == first.outcomes
    assert second.progress.resumed == 300


def test_rows_that_were_given_up_are_tried_anew(tmp_path: Path) -> None:
    """The quota is filled up again: the same command sends what had failed, and nothing else."""
    down = Faults(share=1.0, kinds={"quota": 1.0}, max_faults_per_call=1_000)
    with LlmServer() as server:
        options = {"labels": LABELS, "model": "test", "base_url": server.url, "store": tmp_path / "s.db"}

        def statuses(texts: list[str]) -> list[str]:
            job = prepare(texts, **options)  # type: ignore[arg-type]
            job.classifier._retry = sw.Retry(max_attempts=2, base="1ms", cap="1ms")
            return [outcome.status for outcome in run(job, quiet=True).outcomes]

        texts = TEXTS[:40]
        server.set_faults(down)
        assert statuses(texts) == ["error"] * 40
        assert statuses(texts) == ["error"] * 40, "given up twice"
        server.set_faults(Faults())
        before = server.count()
        assert statuses(texts) == ["ok"] * 40
        assert server.count() == before + 40
        assert statuses(texts) == ["ok"] * 40
        assert server.count() == before + 40, "all is recorded"


def test_frames_come_back_as_they_came() -> None:
    pandas = pytest.importorskip("pandas")
    polars = pytest.importorskip("polars")
    tickets = {"subject": ["refund", "crash"], "body": ["charge me back", "the app crashes"]}
    for frame in (pandas.DataFrame(tickets), polars.DataFrame(tickets)):
        labelled = sw.triage(frame, labels=LABELS, model="local", store=None, quiet=True)
        assert type(labelled) is type(frame)
        assert len(labelled) == 2
        assert "label" in labelled.columns


def test_rows_that_cannot_be_sent_are_marked(tmp_path: Path) -> None:
    source = tmp_path / "in.csv"
    source.write_text("id,body\n1,good billing text\n2,\n3,too,many,cells\n4,fine technical text\n", encoding="utf-8")
    with LlmServer() as server:
        result = triage_table(
            source,
            labels=LABELS,
            model="t",
            base_url=server.url,
            store=tmp_path / "s.db",
            text_columns=["body"],
            quiet=True,
        )
    statuses = [outcome.status for outcome in result.outcomes]
    assert statuses[0] == statuses[3] == "ok"
    assert statuses[1] == "review"
    assert statuses[2] == "error"


def outcome_of(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    code = main(["triage", *arguments])
    return code, capsys.readouterr().err


def test_bad_input_costs_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    write_csv(tmp_path / "in.csv", TEXTS[:5])
    (tmp_path / "empty.csv").write_bytes(b"")
    with LlmServer(require_key="right-key-0123456789") as server:
        base = ["in.csv", "--labels", "A,B", "--out", "out.csv", "--model", "m", "--base-url", server.url]
        cases = {
            "SW-E2111": base,
            "SW-E2114": [*base[:5], "--model", "missing-model", "--base-url", server.url],
            "SW-E2101": [*base[:5], "--model", "openai:gpt-4o-mini"],
            "SW-E2112": [*base[:7], "--base-url", "http://127.0.0.1:9/v1"],
            "SW-E2102": [*base[:7], "--base-url", "127.0.0.1:9"],
            "SW-E2104": [*base[:5], "--model", "openai:sk-0123456789abcdefghij"],
            "SW-E2205": ["empty.csv", *base[1:]],
            "SW-E2201": ["nowhere.csv", *base[1:]],
        }
        for code, arguments in cases.items():
            monkeypatch.setenv("OPENAI_API_KEY", "right-key-0123456789") if code == "SW-E2114" else monkeypatch.delenv(
                "OPENAI_API_KEY", raising=False
            )
            exit_code, text = outcome_of(arguments, capsys)
            assert exit_code == 2, (code, text)
            assert code in text
            assert "stepwell explain" in text
            assert "0123456789abcdefghij" not in text
        assert not [entry for entry in server.journal() if "chat" in entry["path"]]
    assert not (tmp_path / "out.csv").exists()


def test_explain_knows_every_code(capsys: pytest.CaptureFixture[str]) -> None:
    from stepwell._codes import catalogue

    for code in catalogue():
        assert main(["explain", code]) == 0
    assert "SW-E2101" in capsys.readouterr().out
    assert main(["explain", "SW-E9999"]) == 1


def test_the_demo_runs_twice(tmp_path: Path) -> None:
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-m", "stepwell", "demo", "--folder", "out"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "accuracy" in done.stdout.lower()
    rows = read_csv(tmp_path / "out" / "labelled.csv")
    assert len(rows) == 240
    assert len({row["id"] for row in rows}) == 240
    assert json.dumps(rows).count('"status": "review"') < 120
