"""Triage by the provider's batch API: the same report for half the price, nothing paid twice, whatever ends the process."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import random
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from kills import run_and_kill
from test_batch_mode import batches

import stepwell as sw
from stepwell.__main__ import main
from stepwell.llm._batch_api import OpenAiBatches
from stepwell.testing.llm_server import Faults, LlmServer, predict
from stepwell.triage import triage_table
from stepwell.triage._by_batch import ByBatch
from stepwell.triage._job import prepare, run
from stepwell.triage._progress import Progress, live_line

if TYPE_CHECKING:
    from pathlib import Path

LABELS = ["Billing", "Technical", "General"]
TEXTS = [f"ticket {n}: my {'billing' if n % 3 else 'technical'} question" for n in range(60)]
RIGHT = [predict(text, LABELS)[0] for text in TEXTS]
MODELS = ["openai:gpt-4o-mini", "anthropic:claude-3-5-haiku-latest"]


def options(server: LlmServer, tmp_path: Path, model: str = MODELS[0], **more: Any) -> dict[str, Any]:
    about = {"model": model, "base_url": server.url, "api_key": "k", "store": tmp_path / "s.db", "pause": "20ms"}
    return {"labels": LABELS, "quiet": True, "mode": "batch", **about, **more}


def charged(server: LlmServer) -> int:
    return int(server.counts()["charged"])


def write_csv(path: Path, texts: list[str]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("body", "queue"), *((text, predict(text, LABELS)[0]) for text in texts)])
    return path


@pytest.mark.parametrize("model", MODELS)
def test_the_same_rows_and_report_for_half_the_price(model: str, tmp_path: Path) -> None:
    source = write_csv(tmp_path / "in.csv", [*TEXTS, " "])
    with LlmServer() as server:
        by_batch = triage_table(source, gold="queue", **options(server, tmp_path, model))
        assert len(batches(server, model)) == 1
        live = triage_table(source, gold="queue", **options(server, tmp_path, model, mode="live", store=None))
        assert len(batches(server, model)) == 1
        again = triage_table(source, gold="queue", **options(server, tmp_path, model))
        assert charged(server) == 2 * len(TEXTS)
    assert [each.label for each in by_batch.outcomes] == [*RIGHT, None]
    assert [each.reason for each in by_batch.outcomes] == [each.reason for each in live.outcomes]
    mine, theirs = json.loads(by_batch.report.to_json()), json.loads(live.report.to_json())
    for name in ("rows", "statuses", "label_counts", "gold_counts", "tokens_in", "attempts", "problems", "scores"):
        assert mine[name] == theirs[name], name
    assert theirs["cost_usd"] > 0
    assert mine["cost_usd"] == pytest.approx(theirs["cost_usd"] / 2)
    assert "mode batch" in str(by_batch.report)
    assert again.outcomes == by_batch.outcomes
    assert again.progress.resumed == len(TEXTS)


def test_what_is_refused_is_refused_before_anything_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy = sw.llm.Fallback(["openai:a", "openai:b"])
    for model in ("local", "gemini:gemini-2.0-flash", "mistral:m", policy, sw.llm.Vote([MODELS[0], "openai:b"])):
        with pytest.raises(sw.InputError, match=r"SW-E2190[\s\S]*anthropic, groq, openai") as caught:
            sw.triage(tmp_path / "not there.csv", labels=LABELS, model=model, mode="batch")
        assert "live" in caught.value.hint
    with pytest.raises(sw.InputError, match=r'SW-E2246[\s\S]*"live" or "batch"'):
        sw.triage(tmp_path / "not there.csv", labels=LABELS, model=MODELS[0], mode="bulk")
    command = ["triage", str(tmp_path / "not there.csv"), "--labels", "A,B", "--out", str(tmp_path / "out.csv")]
    assert main([*command, "--mode", "batch"]) == 2
    assert "SW-E2190" in capsys.readouterr().err
    assert main([*command, "--mode", "fast"]) == 2
    assert "SW-E2246" in capsys.readouterr().err


def test_rows_that_one_mode_answered_are_not_asked_by_the_other(tmp_path: Path) -> None:
    """Live, then by batch: some rows were given up live, and only those make the batch. And the other way round."""
    half = Faults(share=0.5, kinds={"quota": 1.0}, max_faults_per_call=1_000)
    with LlmServer(faults=half, seed=5) as server:
        job = prepare(TEXTS, **{k: v for k, v in options(server, tmp_path, mode="live").items() if k != "quiet"})
        job.classifier._retry = sw.Retry(max_attempts=1)  # type: ignore[union-attr]
        live = run(job, quiet=True)
        failed = [index for index, each in enumerate(live.outcomes) if each.status == "error"]
        assert 10 < len(failed) < 50
        server.set_faults(Faults())
        before = charged(server)
        by_batch = triage_table(TEXTS, **options(server, tmp_path))
        assert charged(server) == before + len(failed)
        assert [each.label for each in by_batch.outcomes] == RIGHT
        assert by_batch.progress.resumed == len(TEXTS) - len(failed)
        assert triage_table(TEXTS, **options(server, tmp_path, mode="live")).outcomes == by_batch.outcomes
        assert charged(server) == before + len(failed)


def test_rows_without_an_answer_are_errors_and_asked_anew_by_the_next_start(tmp_path: Path) -> None:
    with LlmServer() as server:
        seen: list[list[str]] = []
        for _ in range(3):
            found = triage_table(TEXTS[:9], **options(server, tmp_path, "openai:expiring"))
            seen.append([each.status for each in found.outcomes])
        assert found.outcomes[2].reason == "" or "expired" in found.outcomes[2].error
        made = batches(server, "openai")
    assert seen[0] == ["ok", "ok", "error"] * 3
    assert seen[1] == ["ok"] * 8 + ["error"]  # of three rows the third expires
    assert seen[2] == ["ok"] * 9
    assert [each["request_counts"]["total"] for each in made] == [1, 3, 9]


def test_more_than_a_batch_may_hold_makes_several(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OpenAiBatches, "requests_max", 8)
    with LlmServer() as server:
        found = triage_table(TEXTS, **options(server, tmp_path))
        assert len(batches(server, "openai")) == 8
    assert [each.label for each in found.outcomes] == RIGHT


def test_what_is_redacted_does_not_reach_the_batch(tmp_path: Path) -> None:
    with LlmServer() as server:
        texts = [f"{text}, write to jane{n}@example.com" for n, text in enumerate(TEXTS[:6])]
        found = triage_table(texts, **options(server, tmp_path, redact=sw.llm.Redact()))
        assert [each.label for each in found.outcomes] == RIGHT[:6]
        import urllib.request

        names = [each["input_file_id"] for each in batches(server, "openai")]
        url = f"{server.url}/files/{names[0]}/content"
        with urllib.request.urlopen(url) as answer:  # noqa: S310 - of this machine
            sent = answer.read().decode()
    assert "jane" not in sent
    assert "EMAIL" in sent


def test_a_key_that_was_revoked_in_between_costs_no_second_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run that waited for the batch fails with 401; the next start goes on from the look that was refused."""
    with LlmServer(require_key="right") as server:
        asked = OpenAiBatches.state

        async def refused(self: OpenAiBatches, batch: str) -> Any:
            headers = tuple(
                (name, "Bearer wrong" if name == "authorization" else value) for name, value in self.model.headers
            )
            self.model = sw.llm.Model(
                **{**{n: getattr(self.model, n) for n in self.model.__slots__}, "headers": headers}
            )
            return await asked(self, batch)

        with monkeypatch.context() as patch:
            patch.setattr(OpenAiBatches, "state", refused)
            found = triage_table(TEXTS, **options(server, tmp_path, api_key="right"))
        assert {each.status for each in found.outcomes} == {"error"}
        assert "401" in found.outcomes[0].error
        found = triage_table(TEXTS, **options(server, tmp_path, api_key="right"))
        assert [each.label for each in found.outcomes] == RIGHT
        assert charged(server) == len(TEXTS)


def test_the_line_says_what_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)  # where it is set, there is no live line
    monkeypatch.setenv("TERM", "xterm")
    assert "waiting for 3 batches, looked 0:12 ago" in live_line(
        "triage", Progress(0, 90, batches=3, looked_s=12.3), 100
    )
    assert "waiting for 1 batch  " in live_line("triage", Progress(0, 90, batches=1), 100) + "  "

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    with LlmServer() as server:
        triage_table(TEXTS, **options(server, tmp_path, quiet=False, stream=screen, pause="300ms"))
    assert re.search(r"waiting for 1 batch, looked 0:\d\d ago", screen.getvalue())


def program(server: LlmServer, folder: Path, model: str) -> list[str]:
    command = [sys.executable, "-m", "stepwell", "triage", str(folder / "in.csv"), "--labels", ",".join(LABELS)]
    command += ["--model", model, "--base-url", server.url, "--mode", "batch", "--pause", "20ms", "--gold", "queue"]
    return [*command, "--out", str(folder / "out.csv"), "--store", str(folder / "s.db"), "--quiet"]


def labels_in(path: Path) -> list[str]:
    with path.open(newline="", encoding="utf-8") as file:
        return [row["label"] for row in csv.DictReader(file)]


def test_ctrl_c_loses_nothing(tmp_path: Path) -> None:
    write_csv(tmp_path / "in.csv", TEXTS)
    with LlmServer() as server:
        command = program(server, tmp_path, MODELS[0])
        command[command.index("20ms")] = "30s"
        for _ in range(2):
            with subprocess.Popen(command[:-1], stderr=subprocess.PIPE, text=True) as child:
                assert child.stderr is not None
                lines = [child.stderr.readline()]
                for _ in range(3_000):  # until the batch is there and was looked at
                    made = batches(server, "openai")
                    if (made and made[0]["status"] == "in_progress") or child.poll() is not None:
                        break
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        child.wait(0.02)
                child.send_signal(signal.SIGINT)
                said = "".join([*lines, child.stderr.read()])
                assert child.wait(60) != 0
            assert "Traceback" not in said
            assert "60 left, the same command continues" in said
        assert len(batches(server, "openai")) == 1
        about = {"base_url": server.url, "gold": "queue", "store": tmp_path / "s.db"}
        job = prepare(tmp_path / "in.csv", labels=LABELS, model=MODELS[0], mode="batch", **about)
        with sw.Engine(tmp_path / "s.db") as engine:  # what is waited for is known before the run wakes
            by_batch = ByBatch(job, engine)
            assert by_batch.recorded() == {}
            for ended, _ in zip(by_batch.drain(list(range(len(TEXTS)))), range(100), strict=False):
                assert ended == {}
                if by_batch.waiting.looked_at is not None:
                    break
            assert by_batch.waiting.batches == {batches(server, "openai")[0]["id"]}


@pytest.mark.kill
@pytest.mark.parametrize("model", ["openai:m", "anthropic:m"])
def test_kills_at_random_pay_nothing_twice(model: str, tmp_path: Path) -> None:
    draw, killed = random.Random(7), 0
    with LlmServer(latency="10ms") as server:
        for number in range(3):
            folder = tmp_path / str(number)
            folder.mkdir()
            texts = [f"{number}: {text}" for text in TEXTS]
            write_csv(folder / "in.csv", texts)
            command = program(server, folder, model)
            for _ in range(5):
                if run_and_kill(command, draw, lambda: server.counts()["batch_requests"], 5, (300, 300)) == 0:
                    break
                killed += 1
            else:
                assert run_and_kill(command, None, lambda: 0, 0, (1, 1)) == 0
            assert labels_in(folder / "out.csv") == [predict(text, LABELS)[0] for text in texts]
            assert len(batches(server, model)) == number + 1
        assert charged(server) == 3 * len(TEXTS)
    assert killed > 2
