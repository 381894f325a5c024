"""Export and import: every run comes back, and nothing is taken from a file that is not what was written."""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING, Any

import pytest
from flows import asks, doubles
from stores import change, dump, make_store, refused

import stepwell as sw
from stepwell import store
from stepwell.__main__ import main
from stepwell.store import _exchange, _records

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store with runs in several states."""
    return make_store(tmp_path / "s.db")


def test_export_and_import_give_back_every_run(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines, new = tmp_path / "runs.jsonl", tmp_path / "new.db"
    change(path, "UPDATE finished SET result = x'FF00FE' WHERE run = (SELECT min(run) FROM finished)")  # no text
    assert main(["store", "export", str(path), str(lines)]) == 0
    assert main(["store", "import", str(new), str(lines)]) == 0
    assert "32 runs added, 0 were there" in capsys.readouterr().out
    assert store.verify(new) == []
    assert dump(new) == dump(path)
    assert store.import_runs(new, lines) == store.Added(0, 32)
    with sw.Engine(new) as engine:
        assert not engine.start(doubles, 7, key="d7").is_new
        run = engine.start(asks, "10d", key="asks")
        run.resume()
        assert run.result(20) == {"a": 1}
    assert refused("SW-E1108", store.import_runs, new, lines), "the run has gone on since"
    refused("SW-E1107", store.export, path, lines)


def test_import_goes_on_where_it_was_stopped(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines, new = tmp_path / "runs.jsonl", tmp_path / "new.db"
    store.export(path, lines)
    monkeypatch.setattr(_exchange, "SLICE_RUNS", 5)

    def stops(done: int) -> None:
        if done >= 15:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.import_runs(new, lines, progress=stops)
    assert store.info(new).run_count == 15
    assert store.import_runs(new, lines) == store.Added(17, 15)
    assert dump(new) == dump(path)


def rewritten(lines: list[bytes]) -> bytes:
    """The lines with a trailer that fits them."""
    return b"".join(lines) + _records.trailer(len(lines) - 2, hashlib.sha256(b"".join(lines)).hexdigest())


def edited(line: bytes, **changes: Any) -> bytes:
    return json.dumps({**json.loads(line), **changes}).encode() + b"\n"


CUTS = {
    "empty": lambda raw: b"",
    "header only": lambda raw: raw.split(b"\n")[0] + b"\n",
    "no trailer": lambda raw: b"\n".join(raw.split(b"\n")[:-2]) + b"\n",
    "cut in a line": lambda raw: raw[: len(raw) // 2],
    "last newline missing": lambda raw: raw[:-1],
    "a line missing": lambda raw: b"\n".join(raw.split(b"\n")[:3] + raw.split(b"\n")[4:]),
    "a digit changed": lambda raw: raw.replace(b'"token":1', b'"token":2', 1),
    "lines swapped": lambda raw: b"\n".join([*(r := raw.split(b"\n"))[:2], r[3], r[2], *r[4:]]),
    "another program's": lambda raw: b'{"hello": 1}\n' * 5,
    "binary": lambda raw: os.urandom(5_000),
    "a store": lambda raw: b"SQLite format 3\0" + bytes(4096),
    "a later format": lambda raw: raw.replace(b'"stepwell_export": 3', b'"stepwell_export": 4', 1),
    "no format": lambda raw: raw.replace(b'"stepwell_export": 3', b'"stepwell_export": []', 1),
    "an archive with ../": lambda raw: b"../../etc/passwd\n\0\0" * 100,
}


@pytest.mark.parametrize("cut", CUTS)
def test_148_exports_that_are_not_whole_bring_nothing(path: Path, tmp_path: Path, cut: str) -> None:
    lines, new = tmp_path / "runs.jsonl", tmp_path / "new.db"
    store.export(path, lines)
    lines.write_bytes(CUTS[cut](lines.read_bytes()))
    error = refused("SW-E1108", store.import_runs, new, lines)
    assert "line" in error.loc
    assert not new.exists()
    assert main(["store", "import", str(new), str(lines)]) == 2


BAD_LINES: dict[str, dict[str, Any]] = {
    "status": {"status": 1},
    "run": {"run": "r_../../x"},
    "workflow": {"workflow": ""},
    "event_count": {"event_count": 5},
    "events: [0]": {"events": [[1, 1, "s"]]},
    "kind": {"events": [[77, 1, "s", "1", 5]], "event_count": 1},
    "created_at": {"created_at": 1e300},
    "token": {"token": 2**64},
    "attempt": {"events": [[1, True, "s", "1", 5]], "event_count": 1},
    "input": {"input": {"base64": "%%%"}},
    "result": {"result": None},
    "key": {"key": "k" * 300},
    "parent": {"parent": 5},
    "members": {"extra": 1},
    "is_trimmed": {"is_trimmed": 1},
    "messages": {"messages": [[1, "t", "", 1, "1"]]},
    "generation": {"streams": [["llm.stream", 0, "text"]]},
    "step": {"streams": [["", 1, "text"]]},
    "streams: expected one a step": {"streams": [["b", 1, "text"], ["a", 1, "text"]]},
    "streams: expected one a step,": {"streams": [["a", 1, "text"], ["a", 2, "text"]]},
}


@pytest.mark.parametrize("member", BAD_LINES)
def test_162_lines_with_wrong_values_are_named(path: Path, tmp_path: Path, member: str) -> None:
    lines, new = tmp_path / "runs.jsonl", tmp_path / "new.db"
    store.export(path, lines)
    parts = lines.read_bytes().splitlines(keepends=True)[:-1]
    parts[2] = edited(parts[2], **BAD_LINES[member])
    lines.write_bytes(rewritten(parts))
    error = refused("SW-E1108", store.import_runs, new, lines)
    assert error.loc == "line 3"
    assert member in error.message
    for raw in (b"[" * 100_000 + b"\n", b"null\n", b'{"run": NaN\n'):
        lines.write_bytes(rewritten([*parts[:2], raw]))
        refused("SW-E1108", store.import_runs, new, lines)


def test_162_huge_lines_are_refused_before_they_are_read(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = tmp_path / "runs.jsonl"
    store.export(path, lines)
    monkeypatch.setattr(_records, "LINE_BYTES_MAX", 2_000)
    assert "more than 2000 bytes" in str(refused("SW-E1108", store.import_runs, tmp_path / "new.db", lines))
    refused("SW-E1108", store.export, path, tmp_path / "again.jsonl")
    assert not list(tmp_path.glob("again*"))


def test_conflicts_of_ids_and_keys_are_refused_and_change_nothing(path: Path, tmp_path: Path) -> None:
    lines = tmp_path / "runs.jsonl"
    store.export(path, lines)
    parts = lines.read_bytes().splitlines(keepends=True)[:-1]
    before = dump(path)
    lines.write_bytes(rewritten([*parts[:2], edited(parts[2], run="r_77"), parts[3]]))
    assert 'its key "d0" is another run\'s here' in str(refused("SW-E1108", store.import_runs, path, lines))
    lines.write_bytes(rewritten([*parts[:2], edited(parts[2], run="r_77", key="new"), edited(parts[3], result="8")]))
    assert "not the same" in str(refused("SW-E1108", store.import_runs, path, lines))
    assert dump(path) == before, "a slice is added whole or not at all"


SCHEDULE = sw.Schedule("nightly", doubles, "0 3 * * *", value=7, tz="Europe/Berlin")


def with_settings(path: Path) -> Path:
    with sw.Engine(path) as engine:
        engine.apply_schedules([SCHEDULE])
        engine.queue("slow").limit(concurrency=2, per_group=1, rate=sw.Rate(5, "1d"))
        engine.queue("stopped").pause()
    return path


def test_schedules_and_the_limits_of_queues_come_along(tmp_path: Path) -> None:
    path, lines, new = with_settings(tmp_path / "s.db"), tmp_path / "runs.jsonl", tmp_path / "new.db"
    store.export(path, lines)
    assert store.import_runs(new, lines).added == 1, "the run that waits for the next fire"
    assert dump(new) == dump(path)
    with sw.Engine(path) as old, sw.Engine(new) as engine:
        assert engine.apply_schedules([SCHEDULE]) == sw.Applied(unchanged=("nightly",))
        for name in ("slow", "stopped"):
            assert engine.queue(name).info() == old.queue(name).info()
        assert engine.queue("stopped").info().paused
    assert store.import_runs(new, lines).known == 1


def test_settings_that_are_others_here_are_refused_before_any_run(path: Path, tmp_path: Path) -> None:
    lines = tmp_path / "runs.jsonl"
    store.export(with_settings(path), lines)
    for number, change_here in enumerate(
        (
            lambda engine: engine.queue("slow").limit(concurrency=3),
            lambda engine: engine.apply_schedules([sw.Schedule("nightly", doubles, "0 4 * * *")]),
        )
    ):
        with sw.Engine(new := tmp_path / f"{number}.db") as engine:
            change_here(engine)
        runs = store.info(new).run_count
        error = refused("SW-E1108", store.import_runs, new, lines)
        assert "not the same" in error.message
        assert store.info(new).run_count == runs


def as_format(form: int, lines: list[bytes], runs: list[dict[str, Any]]) -> bytes:
    """An export of a format that had no line of settings."""
    body = edited(lines[0], stepwell_export=form) + b"".join(json.dumps(run).encode() + b"\n" for run in runs)
    return body + _records.trailer(len(runs), hashlib.sha256(body).hexdigest())


def test_exports_of_older_formats_are_read(path: Path, tmp_path: Path) -> None:
    lines, other = tmp_path / "runs.jsonl", tmp_path / "other.db"
    store.export(path, lines)
    written = lines.read_bytes().splitlines(keepends=True)[:-1]
    runs = [json.loads(line) for line in written[2:]]
    older = [{name: run[name] for name in run if name not in ("streams", "budgets")} for run in runs]
    for form, its_runs in ((1, older), (2, runs)):
        lines.write_bytes(as_format(form, written, its_runs))
        new = tmp_path / f"{form}.db"
        assert store.import_runs(new, lines) == store.Added(32, 0)
        assert dump(new) == dump(path)
    lines.write_bytes(as_format(2, written, older))
    assert "budgets, streams" in str(refused("SW-E1108", store.import_runs, other, lines))
    lines.write_bytes(as_format(3, written, runs))
    assert refused("SW-E1108", store.import_runs, other, lines), "the settings are missing"


BAD_SETTINGS: dict[str, dict[str, Any]] = {
    "documents: [0].kind": {"documents": [["", "n", 1, 1, "{}"]]},
    "documents: [0].version": {"documents": [["schedule", "n", 0, 1, "{}"]]},
    "documents: [0]: expected": {"documents": [["schedule"]]},
    "queues: [0].in_flight_max": {"queues": [["q", -2, -1, 0, 0, False, False]]},
    "queues: [0].rate_count": {"queues": [["q", -1, -1, -1, 0, False, False]]},
    "queues: [0].rate_period_ms": {"queues": [["q", -1, -1, 1, -5, False, False]]},
    "queues: [0].is_paused": {"queues": [["q", -1, -1, 0, 0, False, 1]]},
    "accounts: [0].cap_usd": {"accounts": [["b", -2, -1, False, None, 1, ""]]},
    "accounts: [0].notes": {"accounts": [["b", 1, -1, False, None, 1, None]]},
    "members": {"more": []},
}


@pytest.mark.parametrize("member", BAD_SETTINGS)
def test_162_settings_with_wrong_values_are_named(tmp_path: Path, member: str) -> None:
    lines, new = tmp_path / "runs.jsonl", tmp_path / "new.db"
    store.export(with_settings(tmp_path / "s.db"), lines)
    parts = lines.read_bytes().splitlines(keepends=True)[:-1]
    parts[1] = edited(parts[1], **BAD_SETTINGS[member])
    lines.write_bytes(rewritten(parts))
    error = refused("SW-E1108", store.import_runs, new, lines)
    assert (error.loc, member in error.message) == ("line 2", True), error.message
    assert not new.exists()


def test_149_export_onto_the_store_itself_or_to_a_place_that_cannot_be_written(path: Path, tmp_path: Path) -> None:
    before = path.read_bytes()
    refused("SW-E1107", store.export, path, path)
    refused("SW-E1107", store.export, path, tmp_path / "none" / "e.jsonl")
    refused("SW-E1108", store.import_runs, path, path)
    refused("SW-E1108", store.import_runs, path, tmp_path / "missing.jsonl")
    assert path.read_bytes() == before


def test_streams_that_were_under_way_come_back_byte_by_byte(path: Path, tmp_path: Path) -> None:
    lines, new = tmp_path / "runs.jsonl", tmp_path / "new.db"
    change(
        path,
        "INSERT INTO stream_parts SELECT max(run), 'llm.stream', 3, 0, 'Grüße ' FROM runs;"
        "INSERT INTO stream_parts SELECT max(run), 'llm.stream', 3, 8, '請求' FROM runs;"
        "INSERT INTO stream_parts SELECT max(run), 'llm.draft', 1, 0, cast(x'66ff' AS TEXT) FROM runs;"
        "INSERT INTO stream_parts SELECT min(run), 'llm.stream', 1, 0, 'of one that has ended' FROM runs",
    )
    store.export(path, lines)
    first, *_, last = [json.loads(line) for line in lines.read_bytes().splitlines()[2:-1]]
    assert first["streams"] == [["llm.stream", 1, "of one that has ended"]]
    assert last["streams"] == [["llm.draft", 1, {"base64": "Zv8="}], ["llm.stream", 3, "Grüße 請求"]]
    store.import_runs(new, lines)
    assert dump(new) == dump(path)
    assert store.verify(new) == []
    change(new, "UPDATE stream_parts SET generation = 4 WHERE generation = 3")
    assert "not the same" in str(refused("SW-E1108", store.import_runs, new, lines))
