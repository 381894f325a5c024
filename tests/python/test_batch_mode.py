"""`classify_batch` against the batch endpoints of the test server: what comes back, what does not, kills at every point."""

from __future__ import annotations

import asyncio
import json
import random
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from kills import run_and_kill

import stepwell as sw
from stepwell.llm import _batch_mode
from stepwell.llm._batch_api import AnthropicBatches, OpenAiBatches
from stepwell.testing import crash_everywhere
from stepwell.testing.llm_server import Faults, LlmServer, predict

LABELS = ["Billing", "Technical", "General"]
TEXTS = [f"{number}: I was charged twice, please look at my {LABELS[number % 3]} trouble" for number in range(8)]
MODELS = ["openai:gpt-4o-mini", "openai-responses:gpt-4o-mini", "anthropic:claude-3-5-haiku-latest"]
KEY = "sk-" + "secret"  # a traceback shows lines of source
PROGRAM = Path(__file__).parent / "batch_mode_program.py"


@sw.workflow
async def label_all(job: dict[str, Any]) -> list[sw.llm.Classification]:
    return await sw.llm.classify_batch(job["texts"], labels=LABELS, api_key=KEY, pause="20ms", **job["more"])


@sw.workflow
def label_all_plain(job: dict[str, Any]) -> list[sw.llm.Classification]:
    return sw.llm.classify_batch_blocking(job["texts"], labels=LABELS, api_key=KEY, pause="20ms", **job["more"])


def labelled(
    server: LlmServer, model: str, texts: list[str] = TEXTS, flow: Any = label_all, **more: Any
) -> list[sw.llm.Classification]:
    """Run `label_all` in an engine of its own."""
    with sw.Engine() as engine:
        job = {"texts": texts, "more": {"model": model, "base_url": server.url, **more}}
        found: list[sw.llm.Classification] = engine.start(flow, job).result(timeout=60)
        return found


def listed(server: LlmServer, path: str) -> list[dict[str, Any]]:
    """All entries of one of the server's lists."""
    entries: list[dict[str, Any]] = []
    more = ""
    while True:
        with urllib.request.urlopen(f"{server.url}/{path}?limit=100{more}") as answer:  # noqa: S310 - of this machine
            page = json.load(answer)
        entries += page["data"]
        if not page.get("has_more"):
            return entries
        name = "after_id" if "messages" in path else "after"
        more = f"&{name}={page['data'][-1]['id']}"


def batches(server: LlmServer, model: str) -> list[dict[str, Any]]:
    return listed(server, "messages/batches" if model.startswith("anthropic") else "batches")


@pytest.mark.parametrize("model", MODELS)
def test_rows_come_back_in_their_order_at_half_the_price(model: str) -> None:
    with LlmServer() as server:
        found = labelled(server, model)
        alone = [
            sw.llm.classify_blocking(text, labels=LABELS, model=model, base_url=server.url, api_key="k")
            for text in TEXTS
        ]
        assert len(batches(server, model)) == 1
    assert [each.label for each in found] == [predict(text, LABELS)[0] for text in TEXTS]
    assert [(each.status, each.confidence, each.tokens_in, each.tokens_out, each.model) for each in found] == [
        (each.status, each.confidence, each.tokens_in, each.tokens_out, each.model) for each in alone
    ]
    assert all(each.cost_usd > 0 for each in alone)
    assert [each.cost_usd for each in found] == pytest.approx([each.cost_usd / 2 for each in alone])


@pytest.mark.parametrize(("model", "api"), [(MODELS[0], OpenAiBatches), (MODELS[2], AnthropicBatches)])
@pytest.mark.parametrize(("limit", "value", "count"), [("requests_max", 3, 3), ("bytes_max", 2_500, 4)])
def test_more_than_a_batch_may_hold_makes_several(
    model: str, api: type, limit: str, value: int, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, limit, value)
    with LlmServer() as server:
        found = labelled(server, model)
        made = batches(server, model)
    assert [each.label for each in found] == [predict(text, LABELS)[0] for text in TEXTS]
    assert len(made) >= count
    assert sum(sum(each["request_counts"].values()) for each in made) in (len(TEXTS), 2 * len(TEXTS))


@pytest.mark.parametrize("model", ["openai:expiring", "anthropic:expiring"])
def test_rows_that_expired_say_so_and_may_be_asked_again(model: str) -> None:
    with LlmServer() as server:
        found = labelled(server, model)
        assert [each.status for each in found] == ["ok", "ok", "review"] * 2 + ["ok", "ok"]
        assert "expired" in found[2].reason
        assert found[2].label is None
        assert found[2].cost_usd == 0
        asked = server.counts()["charged"]
        found = labelled(server, model, unanswered="live")
        assert [each.label for each in found] == [predict(text, LABELS)[0] for text in TEXTS]
        assert server.counts()["charged"] == asked + len(TEXTS)


def test_a_batch_that_is_refused_as_a_whole_loses_no_row() -> None:
    with LlmServer() as server:
        found = labelled(server, "openai:unbatchable")
        assert {each.status for each in found} == {"review"}
        assert {each.reason for each in found} == {"the provider refused the batch: Enqueued token limit reached."}
        found = labelled(server, "openai:unbatchable", unanswered="live")
    assert {each.status for each in found} == {"ok"}


@pytest.mark.parametrize("model", [MODELS[0], MODELS[2]])
def test_rows_that_fail_are_told_one_by_one(model: str) -> None:
    kinds = {"500": 1.0, "malformed": 1.0, "wrong_label": 1.0, "empty": 1.0, "refusal": 1.0}
    with LlmServer(faults=Faults(share=0.5, kinds=kinds), seed=3) as server:
        found = labelled(server, model, [f"{number} billing" for number in range(60)])
        answers = [each["answer"] for each in server.journal()]
    assert set(answers) == {"ok", *kinds}
    for each, answer in zip(found, answers, strict=True):
        assert (each.status == "ok") == (answer == "ok"), (answer, each)
        assert bool(each.reason) == (answer != "ok")


def test_the_reasons_of_very_many_rows_fit_into_one_record() -> None:
    texts = [f"{number} billing" for number in range(10_100)]
    with LlmServer(faults=Faults(share=1.0, kinds={"500": 1.0})) as server:
        reasons = [each.reason for each in labelled(server, MODELS[0], texts)]
    assert all(reason.startswith("the provider's batch: ") for reason in reasons)
    whole = [reason for reason in reasons if len(reason) > 40]
    assert len(whole) == 10_000
    assert len(set(whole)) == 1


@pytest.mark.parametrize("model", ["openai:doubtful", "anthropic:doubtful"])
def test_a_batch_whose_making_was_in_doubt_is_made_once(model: str) -> None:
    with LlmServer() as server:
        found = labelled(server, model)
        assert {each.status for each in found} == {"ok"}
        assert len(batches(server, model)) == 1
        assert server.counts()["charged"] == len(TEXTS)


@pytest.mark.parametrize("model", [MODELS[0], MODELS[2]])
def test_a_wrong_key_ends_the_run_and_is_not_told(model: str) -> None:
    with LlmServer(require_key="another") as server, pytest.raises(sw.RunFailed, match="401") as caught:
        labelled(server, model)
    assert "SW-E2191" in str(caught.value.error) + caught.value.code
    assert KEY not in json.dumps(caught.value.error) + str(caught.value)


@pytest.mark.parametrize(
    "more",
    [
        {"model": "local"},
        {"model": "gemini:gemini-2.0-flash"},
        {"model": "azure:gpt-4o"},
        {"model": MODELS[0], "unanswered": "drop"},
    ],
)
def test_what_has_no_batches(more: dict[str, str]) -> None:
    job = {"texts": TEXTS, "more": {"base_url": "http://127.0.0.1:9", **more}}
    with sw.Engine() as engine, pytest.raises(sw.RunFailed, match="SW-E2190"):
        engine.start(label_all, job).result(timeout=30)


def test_outside_of_a_run_nothing_is_sent() -> None:
    with pytest.raises(sw.InputError, match="SW-E2009"):
        asyncio.run(sw.llm.classify_batch(TEXTS, labels=LABELS, model=MODELS[0], api_key="k"))


@pytest.mark.parametrize("model", MODELS)
def test_a_plain_workflow_has_a_twin(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Six batches, four of them under way at once, by one thread: the same answers as from the async one."""
    for api in (OpenAiBatches, AnthropicBatches):
        monkeypatch.setattr(api, "requests_max", 5)
    texts = TEXTS * 4
    with LlmServer() as server:
        plain = labelled(server, model, texts, label_all_plain)
        assert len(batches(server, model)) == 7
        assert plain == labelled(server, model, texts)
    assert [each.label for each in plain] == [predict(text, LABELS)[0] for text in texts]


def test_a_plain_workflow_asks_again_what_had_no_answer() -> None:
    with LlmServer() as server:
        found = labelled(server, "openai:expiring", TEXTS, label_all_plain, unanswered="live")
        assert [each.label for each in found] == [predict(text, LABELS)[0] for text in TEXTS]
        assert server.counts()["charged"] == len(TEXTS)
    with pytest.raises(sw.InputError, match="SW-E2009"):
        sw.llm.classify_batch_blocking(TEXTS, labels=LABELS, model=MODELS[0], api_key="k")


def test_a_replay_finds_the_rows_of_the_batch_that_the_first_run_made() -> None:
    """The key by which rows are told is recorded: the replay has another number than the run."""
    with LlmServer() as server, sw.Engine() as engine:
        job = {"texts": TEXTS, "more": {"model": MODELS[0], "base_url": server.url}}
        first = engine.start(label_all, job)
        answers = first.result(timeout=60)
        again = engine.replay(first, from_step="map/0/llm.batch.look#2").result(timeout=60)
        assert len(batches(server, MODELS[0])) == 1
    assert again == answers
    assert {each.status for each in again} == {"ok"}


def test_a_run_goes_on_with_the_cuts_that_it_began_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs that began before cuts were recorded had smaller batches; later versions may have larger ones."""
    monkeypatch.setattr(_batch_mode, "_ROWS_BEFORE", 3)
    for name, count, is_recorded in (("before", 3, False), ("recorded", 4, True)):
        with LlmServer() as server:
            job = {"texts": TEXTS, "more": {"model": MODELS[0], "base_url": server.url}}
            with monkeypatch.context() as then:
                then.setattr(OpenAiBatches, "requests_max", 2)
                if not is_recorded:
                    then.setattr(_batch_mode._waits, "patched", lambda _: False)
                with sw.Engine(tmp_path / f"{name}.db") as engine:
                    run = engine.start(label_all, job, key="one")
                    while len(batches(server, MODELS[0])) < count:
                        assert not run.status().is_final
            with sw.Engine(tmp_path / f"{name}.db") as engine:
                found = engine.start(label_all, job, key="one").result(timeout=60)
            assert [each.label for each in found] == [predict(text, LABELS)[0] for text in TEXTS]
            assert len(batches(server, MODELS[0])) == count
            assert server.counts()["charged"] == len(TEXTS)


def test_no_rows_make_no_batch() -> None:
    with LlmServer() as server:
        assert labelled(server, MODELS[0], []) == []
        assert batches(server, MODELS[0]) == []


def test_results_may_be_larger_than_any_other_answer() -> None:
    """One batch, whose results are larger than an answer may be; where they may not be, the run says so and goes on later."""
    texts = [f"{number} billing" for number in range(22_000)]
    with LlmServer() as server:
        job = {"texts": texts, "more": {"model": "openai:" + "m" * 190, "base_url": server.url}}
        with sw.Engine(egress=sw.Egress(bulk_bytes_max=4 << 20)) as engine:
            run = engine.start(label_all, job)
            with pytest.raises(sw.RunFailed, match="larger than 4194304 bytes") as caught:
                run.result(timeout=60)
            assert caught.value.code == "SW-E1304"
        found = labelled(server, "openai:" + "m" * 190, texts)
        sizes = [each["bytes"] for each in listed(server, "files") if "output" in each["filename"]]
        assert len(sizes) == len(batches(server, MODELS[0])) == 2
    assert min(sizes) > 16 << 20
    assert {each.status for each in found} == {"ok"}


@pytest.mark.parametrize("flow", [label_all, label_all_plain])
@pytest.mark.parametrize("model", [MODELS[0], MODELS[2]])
def test_a_crash_at_any_commit_makes_no_second_batch(model: str, flow: Any) -> None:
    with LlmServer() as server:
        more = {"model": model, "base_url": server.url, "unanswered": "live"}
        report = crash_everywhere(flow, {"texts": TEXTS[:3], "more": more})
        assert report.ok
        assert report.commits >= 8
        made = batches(server, model)
        assert len(made) == 1 + 2 * report.commits
        assert server.counts()["charged"] == 3 * len(made)
        assert model.startswith("anthropic") or len(listed(server, "files")) == 2 * len(made)


@pytest.mark.kill
@pytest.mark.parametrize("model", ["openai:m", "anthropic:m"])
def test_kills_at_random_make_no_second_batch(model: str, tmp_path: Path) -> None:
    draw, killed = random.Random(11), 0
    with LlmServer(latency="10ms") as server:
        for number in range(3):
            store = tmp_path / f"{number}.db"
            command = [sys.executable, PROGRAM, store, server.url, model, str(40 + number), "one"]
            command = [str(word) for word in command]
            for _ in range(6):
                # Upload, lookups, making, three looks, fetching: about as many requests as one life makes.
                if run_and_kill(command, draw, lambda: server.counts()["batch_requests"], 5, (300, 300)) == 0:
                    break
                killed += 1
            else:
                assert run_and_kill(command, None, lambda: 0, 0, (1, 1)) == 0
            assert len(batches(server, model)) == number + 1
        assert server.counts()["charged"] == 40 + 41 + 42
    assert killed > 2
