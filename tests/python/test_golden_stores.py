"""Stores that earlier versions wrote: opened, found to hold what they held, and driven to their ends."""

from __future__ import annotations

import json
import shutil
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from flows import comes_to

import stepwell as sw
from stepwell import store

GOLDEN = Path(__file__).parents[1] / "golden"
sys.path.insert(0, str(GOLDEN))

import golden_flows  # noqa: E402
import make_golden  # noqa: E402

STORES = sorted(GOLDEN.glob("store-v*.db"))
INPUTS: dict[str, tuple[sw.Workflow[..., Any], Any]] = {
    "well Ada": (golden_flows.ends_well, "Ada"),
    "long": (golden_flows.is_long, golden_flows.LONG),
    "held": (golden_flows.is_interrupted, "one"),
    "queued": (golden_flows.is_interrupted, "two"),
    "nap": (golden_flows.naps, "1500ms"),
    "delayed": (golden_flows.ends_well, "Dora"),
    "ask 0": (golden_flows.asks, "question 0"),
    "ask 1": (golden_flows.asks, "question 1"),
    "parent": (golden_flows.has_a_child, "from above"),
}


@pytest.fixture(params=[*STORES, None], ids=lambda path: path.stem if path else "this version")
def golden(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    """A copy of a golden store, and what it must hold; the last one is made now, by the generator."""
    source = request.param or make_golden.make(tmp_path)
    copy = tmp_path / "copy.db"
    shutil.copy(source, copy)
    return copy, json.loads(source.with_suffix(".json").read_text())


def test_golden_store_holds_what_it_held_and_is_driven_to_its_end(golden: tuple[Path, dict[str, Any]]) -> None:
    path, known = golden
    with sw.Engine(path) as engine:  # serves nothing yet
        for key, run in known["runs"].items():
            flow = next(flow for flow in golden_flows.FLOWS if flow.name == run["workflow"])
            found = engine.find(flow, key)
            assert found is not None
            expected = "queued" if run["status"] == "running" else run["status"]  # whoever held it is dead
            assert found.status().name.lower() in (expected, "queued" if key in ("nap", "delayed") else expected), key
    assert store.verify(path, payloads=True) == []
    info = store.info(path)
    assert info.run_count == len(known["runs"]) + known["children"]
    assert info.messages == known["messages"]
    with sw.Engine(path, workflows=golden_flows.FLOWS) as engine:
        runs = {key: engine.start(flow, value, key=key) for key, (flow, value) in INPUTS.items()}
        assert not any(run.is_new for run in runs.values()), "a key was forgotten"
        assert runs["well Ada"].result(20) == ["noted Ada", "noted again"]
        assert runs["long"].result(20) == len(golden_flows.LONG["ticket"]) + len("noted ")
        assert runs["held"].result(20) == ["noted one", "went on"]
        assert runs["queued"].result(20) == ["noted two", "went on"]
        assert runs["nap"].result(20) == "noted slept"
        assert runs["delayed"].result(20) == ["noted Dora", "noted again"]
        runs["ask 0"].signal("answer", "yes")
        assert runs["ask 0"].result(20) == "noted question 0: yes"
        runs["ask 1"].resume()
        runs["ask 1"].signal("answer", "no")
        assert runs["ask 1"].result(20) == "noted question 1: no"
        for row in engine._core.find(workflow="asks", count_max=10):
            child = sw.Run(engine, golden_flows.asks, row[0], is_new=False)
            if not child.status().is_final:
                comes_to(child, sw.RunStatus.WAITING)
                child.signal("answer", "at last")
        assert runs["parent"].result(20) == "child said: noted from above: at last"
        if known["schema"] >= 5:
            assert [(each.name, each.cap_usd) for each in engine.budgets()] == [("golden", 7)]
            assert [change.by for change in engine.budget("golden").changes()][-1] == "ann"
        letters = {letter.key: letter.status for letter in engine.dead_letters()}
        assert letters == {"ends_badly 1": sw.RunStatus.FAILED, "deadly": sw.RunStatus.DEAD}
    assert store.verify(path, payloads=True) == []


def test_golden_store_of_an_older_schema_is_the_same_as_a_new_one(tmp_path: Path) -> None:
    new, old = tmp_path / "new.db", tmp_path / "old.db"
    sw.Engine(new).close()
    shutil.copy(STORES[0], old)
    sw.Engine(old).close()
    assert schema_of(old) == schema_of(new)


def schema_of(path: Path) -> tuple[Any, ...]:
    with closing(sqlite3.connect(path)) as db:
        version = db.execute("PRAGMA user_version").fetchone()
        return version, db.execute("SELECT sql FROM sqlite_schema ORDER BY name").fetchall()


def test_161_schema_of_a_newer_version_names_the_version_that_is_needed(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    sw.Engine(path).close()
    with closing(sqlite3.connect(path)) as db:
        db.executescript("PRAGMA user_version=99; UPDATE about SET value = '7.1' WHERE name = 'stepwell_needed'")
    for look in (sw.Engine, store.info, store.verify, store.compact):
        with pytest.raises(sw.InputError, match=r"schema version 99.*stepwell 7\.1 or newer") as caught:
            look(path)
        assert caught.value.code == "SW-E1103"


def test_161_schema_of_an_older_version_can_be_backed_up_and_looked_at_first(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    shutil.copy(STORES[0], path)
    before = path.read_bytes()
    assert store.info(path).schema == 3
    store.backup(path, tmp_path / "kept.db")
    with pytest.raises(sw.InputError, match="schema version 3") as caught:
        store.export(path, tmp_path / "runs.jsonl")
    assert caught.value.code == "SW-E1103"
    assert not list(tmp_path.glob("runs.jsonl*"))
    assert path.read_bytes() == before, "looking changed the file"
    store.compact(path)
    assert store.info(path).run_count > 10
