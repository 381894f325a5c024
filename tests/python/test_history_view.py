"""What people read of a run: its history, and the commands that look into a store."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from approval_flows import asks
from flows import asks as asks_for_a_signal
from flows import doubles, made, until

import stepwell as sw
from stepwell.__main__ import main

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _nothing_made() -> None:
    made.clear()


def release(seat: str) -> None:
    made.append(f"release {seat}")


def give_back(_: str) -> None:
    raise ConnectionError("the bank is down")


@sw.step(undo=release)
async def reserve(seat: str) -> str:
    return f"{seat} \u202e held"


@sw.step(undo=sw.step(retry=sw.Retry(max_attempts=2, base="1ms"))(give_back))
async def charge(seat: str) -> str:
    return f"{seat} paid"


@sw.step(retry=sw.Retry(max_attempts=3, base="1ms", cap="2ms"))
async def ship(seat: str) -> str:
    raise ValueError(f"no plane for {seat}")


@sw.workflow
async def books(seat: str) -> str:
    await sw.gather(reserve(seat), charge(seat))
    return await ship(seat)


def test_history_of_a_saga_tells_what_was_done_and_undone_in_order(engine: sw.Engine) -> None:
    run = engine.start(books, "12A")
    with pytest.raises(sw.RunFailed):
        run.result(20)
    history = run.history()
    assert history == engine.history(run.id) == engine.history(run)
    done = [(entry.name, str(entry.kind), entry.attempt) for entry in history]
    assert sorted(done[:2]) == [("gather/0/reserve", "succeeded", 1), ("gather/1/charge", "succeeded", 1)]
    assert done[2:5] == [("ship", "attempt failed", 1), ("ship", "attempt failed", 2), ("ship", "failed", 3)]
    assert [entry.is_undo for entry in history] == [False] * 5 + [True] * (len(history) - 5)
    undone = {(entry.name.partition("/")[0] + entry.name[-9:], str(entry.kind)) for entry in history if entry.is_undo}
    assert len(undone) == 3
    shipped = history[4]
    assert shipped.error is not None
    assert (shipped.value, shipped.error["type"], shipped.error["message"]) == (None, "ValueError", "no plane for 12A")
    assert "Traceback" in shipped.error["traceback"]
    assert [entry.at for entry in history] == sorted(entry.at for entry in history)
    for entry in history:
        assert entry.queued_at is not None
        assert entry.started_at is not None
        assert entry.queued_at <= entry.started_at <= entry.at
    assert all(entry.at.tzinfo is not None for entry in history)


def test_history_of_waits_and_children(engine: sw.Engine) -> None:
    @sw.workflow
    async def waits() -> int:
        await sw.wait_for_signal("go", timeout="1h")
        await sw.wait_for_signal("go", timeout="5ms", default=None)
        return await sw.child(doubles, 4)

    run = engine.start(waits)
    run.signal("go", "now")
    assert run.result(20) == 8
    history = run.history()
    kinds = {(entry.name, str(entry.kind)): entry for entry in history}
    assert kinds["signal:go", "succeeded"].value == "now"
    assert kinds["signal:go#2", "failed"].error is not None
    assert kinds["signal:go#2", "timer set"].value.endswith("+00:00")
    child = kinds["child:doubles", "child started"].value
    assert [entry.name for entry in engine.history(child)] == ["make"]
    assert kinds["child:doubles", "succeeded"].value == 8


def test_history_of_nothing(engine: sw.Engine) -> None:
    engine.start(doubles, 1).result(20)
    for unknown in ("r_1", "r_ffffffffffffffff", "r_-1", "r_", "nonsense", 0, -1, 5):
        with pytest.raises(sw.NotFoundError, match="SW-E1005"):
            engine.history(unknown)


# -- the commands ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path) -> str:
    """A store with a run of each kind."""
    path = tmp_path / "s.db"
    with sw.Engine(path) as engine:
        engine.start(doubles, 4, key="four").result(20)
        with pytest.raises(sw.RunFailed):
            engine.start(books, "12A", key="seat").result(20)
        waiting = engine.start(asks_for_a_signal, "1h", key="early")
        waiting.signal("another question", {"a": 1})
        engine.start(asks, "evidence", key="asks")
        until(lambda: len(engine.approvals()) == 1)
    return str(path)


def printed(capsys: pytest.CaptureFixture[str], *command: str, code: int = 0) -> str:
    assert main(command) == code
    out, err = capsys.readouterr()
    return err if code else out


def test_runs_lists_and_filters(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    everything = [json.loads(line) for line in printed(capsys, "runs", store, "--json").splitlines()]
    assert [each["key"] for each in everything if each["key"]] == ["asks", "early", "seat", "four"]
    failed = printed(capsys, "runs", store, "--status", "failed")
    assert len(failed.splitlines()) == 2
    assert "no plane for 12A" in failed
    (one,) = printed(capsys, "runs", store, "--workflow", "doubles", "--last", "1", "--json").splitlines()
    assert json.loads(one)["result"] == 8
    assert printed(capsys, "runs", store, "--workflow", "nobody's") == "no such runs\n"
    assert "SW-E1014" in printed(capsys, "runs", store, "--last", "0", code=2)


def test_show_prints_a_run_with_its_history(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    runs = {each["key"]: each for each in map(json.loads, printed(capsys, "runs", store, "--json").splitlines())}
    text = printed(capsys, "show", store, runs["seat"]["run"])
    assert "undone" in text
    assert "attempt 3" in text
    assert "not_undone" in text
    assert "\\u202e" in text, "what would turn the line around is spelled out"
    assert "\u202e" not in text
    shown = json.loads(printed(capsys, "show", store, runs["seat"]["run"], "--json"))
    assert [entry["kind"] for entry in shown["history"]][2:5] == ["attempt failed", "attempt failed", "failed"]
    assert "to take   another question" in printed(capsys, "show", store, runs["early"]["run"])
    assert "SW-E1005" in printed(capsys, "show", store, "r_1", code=1)


def test_people_answer_from_the_command_line(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    (asked,) = [json.loads(line) for line in printed(capsys, "approvals", store, "--json").splitlines()]
    assert (asked["question"], asked["status"], asked["payload"]) == ("Refund?", "pending", {"to": "ann", "euros": 20})
    card = printed(capsys, "approvals", store)
    assert asked["payload_hash"] in card
    assert "SW-E2024" in printed(
        capsys, "approve", store, asked["id"], "--by", "ann", "--payload-hash", "0" * 64, code=1
    )
    assert "SW-E2025" in printed(capsys, "approve", store, "ticket-7", "--by", "ann", "--answer", "[", code=2)
    assert "approved" in printed(capsys, "approve", store, "ticket-7", "--by", "ann", "--comment", "fine")
    assert "SW-E2021" in printed(capsys, "reject", store, asked["id"], "--by", "bob", code=1)
    assert printed(capsys, "approvals", store) == "nobody is asked anything\n"
    assert "refused  ann SW-E2024" in printed(capsys, "approvals", store, "--all")
    with sw.Engine(store) as engine:
        assert engine.start(asks, "evidence", key="asks").result(20)["comment"] == "fine"


def test_commands_on_no_store_and_on_one_that_is_open(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = tmp_path / "none.db"
    for command in (["runs"], ["approvals"], ["show"], ["approve", "--by", "ann"], ["reject", "--by", "ann"]):
        name, *more = command
        target = ["r_1"] if name in ("show", "approve", "reject") else []
        assert "SW-E1102" in printed(capsys, name, str(missing), *target, *more, code=2)
    assert not missing.exists()
    path = tmp_path / "s.db"
    with sw.Engine(path) as engine:
        engine.start(doubles, 1).result(20)
        done = subprocess.run(
            [sys.executable, "-m", "stepwell", "approvals", str(path)], capture_output=True, text=True, check=False
        )
    assert done.returncode == 1
    assert "SW-E1101" in done.stderr
