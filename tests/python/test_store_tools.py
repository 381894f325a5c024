"""`stepwell store`: what it says, what it finds, and that it never harms a store."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from flows import until
from stores import LONG, change, dump, echo, make_store, refused

import stepwell as sw
from stepwell import store
from stepwell.__main__ import main
from stepwell.store._file import LOOK, opened


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store with runs in several states."""
    return make_store(tmp_path / "s.db")


# -- info ------------------------------------------------------------------------------------------------------------


def test_info_counts_what_is_there(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = store.info(path)
    assert found.runs == {"asks": {"paused": 1}, "doubles": {"succeeded": 30}, "echo": {"succeeded": 1}}
    assert (found.run_count, found.event_count, found.messages) == (32, 31, 1)
    assert found.largest_bytes == 2 * (len(LONG) + 2)
    assert (found.long_payloads, found.long_payload_bytes) == (1, len(LONG) + 2)
    assert main(["store", "info", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["largest_run"] == found.largest_run
    assert main(["store", "info", str(path)]) == 0
    assert "30 succeeded" in capsys.readouterr().out


def test_info_changes_nothing_even_of_a_store_whose_process_died(path: Path) -> None:
    program = (
        "import os, sys, stepwell as sw\n"
        "@sw.workflow\nasync def stops(x):\n    os._exit(1)\n"
        "sw.Engine(sys.argv[1]).start(stops, 1).result()"
    )
    subprocess.run([sys.executable, "-c", program, str(path)], check=False, timeout=30)
    files = [path, path.with_name("s.db-wal")]
    before = [file.read_bytes() for file in files]
    assert store.info(path).runs["stops"] == {"running": 1}
    assert store.verify(path) == []
    assert [file.read_bytes() for file in files] == before


def test_a_store_in_use_is_refused_with_its_owner(path: Path, tmp_path: Path) -> None:
    with sw.Engine(path):
        for verb in (store.info, store.verify, store.compact):
            assert f"process {os.getpid()}" in str(refused("SW-E1101", verb, path))
        refused("SW-E1101", store.backup, path, tmp_path / "b.db")
        refused("SW-E1101", store.export, path, tmp_path / "e.jsonl")
    assert not list(tmp_path.glob("*.partial"))


def test_159_files_that_are_no_stores_are_refused_and_left_alone(tmp_path: Path) -> None:
    files = {"empty.db": b"", "byte.db": b"x", "text.db": b"hello, world\n" * 500}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    change(tmp_path / "other.db", "CREATE TABLE t(x); INSERT INTO t VALUES(1)")
    for name in (*files, "other.db", "missing.db"):
        for verb in (store.info, store.verify):
            with pytest.raises(sw.WorkflowError) as caught:
                verb(tmp_path / name)
            assert caught.value.code in ("SW-E1102", "SW-E1106"), name
    refused("SW-E1102", store.compact, tmp_path / "missing.db")
    assert {name: (tmp_path / name).read_bytes() for name in files} == files
    assert not (tmp_path / "missing.db").exists()


# -- verify ----------------------------------------------------------------------------------------------------------


BREAKAGES = {
    "stands nowhere": "DELETE FROM finished WHERE run = (SELECT max(run) FROM finished)",
    "2 places at once": "INSERT INTO leased SELECT run, 1, 1 FROM finished LIMIT 1",
    "a gap": "UPDATE events SET seq = 7 WHERE run = (SELECT min(run) FROM events)",
    "counts 9 events": "UPDATE finished SET event_count = 9 WHERE run = (SELECT max(run) FROM finished)",
    "key does not lead to it": "DELETE FROM keys WHERE key = 'd3'",
    "events without a run": "INSERT INTO events VALUES(12, 0, 1, 1, 's', 1, x'31', 0, 0)",
    "a key that names no run": "INSERT INTO keys VALUES(1, 'stray', 12, 0)",
    "messages without a run": "INSERT INTO messages VALUES(12, 1, 't', NULL, 1, x'31')",
    "still holds messages": "INSERT INTO messages SELECT run, 1, 't', NULL, 1, x'31' FROM finished LIMIT 1",
    "place without a run": "INSERT INTO waiting VALUES(12, 0, 0, 0, NULL, 0)",
    "not its run's": "INSERT INTO ready SELECT 99, 5, run, run, 0, 0, 0 FROM runs LIMIT 1",
    "counted 3 times and used 2": "UPDATE blobs SET reference_count = 3",
    "is not there": "DELETE FROM blob_bytes",
    "has no name": "DELETE FROM names WHERE name = 'asks'",
    "wrong kind": "UPDATE runs SET created_at = 'noon' WHERE key = 'd1'",
    "not final": "UPDATE finished SET status = 0 WHERE run = (SELECT max(run) FROM finished)",
}


@pytest.mark.parametrize("what", BREAKAGES)
def test_162_163_verify_names_each_kind_of_breakage(path: Path, capsys: pytest.CaptureFixture[str], what: str) -> None:
    assert store.verify(path, payloads=True) == []
    change(path, BREAKAGES[what])
    found = store.verify(path)
    assert any(what in str(each) for each in found), found
    assert main(["store", "verify", str(path)]) == 1
    assert what in capsys.readouterr().out


def test_162_verify_finds_payloads_that_are_not_json(path: Path) -> None:
    change(path, "UPDATE runs SET input = x'7B' WHERE key = 'd5'")
    assert store.verify(path) == []
    assert "input is not JSON" in str(store.verify(path, payloads=True)[0])


def looked_at(path: Path) -> tuple[str, list[store.Finding]]:
    try:
        return "", store.verify(path)
    except sw.WorkflowError as error:
        return error.code, []


@pytest.mark.parametrize("damage", ["zeroed", "flipped", "cut"])
def test_160_damaged_pages_are_named_or_harmless(path: Path, damage: str) -> None:
    whole = path.read_bytes()
    runs = dump(path)
    named = 0
    for page in range(len(whole) // 4096):
        broken = bytearray(whole)
        if damage == "zeroed":
            broken[page * 4096 : page * 4096 + 4096] = bytes(4096)
        elif damage == "flipped":
            broken[page * 4096 + 5] ^= 0x10
        else:
            broken = broken[: page * 4096]
        path.write_bytes(bytes(broken))
        code, found = looked_at(path)
        assert code in ("", "SW-E1102", "SW-E1103", "SW-E1106")
        named += bool(code or found)
        if not code and not found:
            assert dump(path) == runs, f"page {page} was damaged and nobody noticed"
    assert named > len(whole) // 4096 * 0.8
    path.write_bytes(whole)
    assert store.verify(path) == []


def test_160_a_foreign_or_cut_log_brings_no_damage(path: Path, tmp_path: Path) -> None:
    runs = dump(path)
    other = tmp_path / "other.db"
    program = (
        "import os, sys, stepwell as sw\n"
        "@sw.workflow\nasync def one(x):\n    return x\n"
        "sw.Engine(sys.argv[1]).start(one, 1).result()\nos._exit(0)"
    )
    subprocess.run([sys.executable, "-c", program, str(other)], check=False, timeout=30)
    log = other.with_name("other.db-wal").read_bytes()
    assert log
    for foreign in (log, log[:10_000], log[:31], b"", os.urandom(5_000)):
        path.with_name("s.db-wal").write_bytes(foreign)
        found = store.verify(path)
        assert found or dump(path) == runs
    path.with_name("s.db-wal").unlink()


def test_164_read_only_and_166_copied_files(path: Path, tmp_path: Path) -> None:
    copied = tmp_path / "copied.db"
    with sw.Engine(path) as engine:  # cp of a store in use, without its log: old, or torn, but never quietly wrong
        engine.start(echo, "later", key="later").result(20)
        shutil.copy(path, copied)
    found = store.verify(copied)
    assert found or {line for line in dump(copied) if '"later"' not in line} <= set(dump(path))
    path.chmod(0o400)
    if os.geteuid() != 0:
        refused("SW-E1102", store.compact, path)
    path.chmod(0o600)


# -- copies ----------------------------------------------------------------------------------------------------------


def test_compact_gives_room_back_and_keeps_everything(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with sw.Engine(path) as engine:
        engine.start_many(echo, [os.urandom(3_000).hex() for _ in range(300)])
        until(lambda: engine.counters()["runs_succeeded"] == 300)
    runs = dump(path)
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE filler(x)")
        db.executemany("INSERT INTO filler VALUES(?)", [(os.urandom(4_000),)] * 500)
        db.commit()
        db.execute("DROP TABLE filler")
    before = path.stat().st_size
    assert main(["store", "compact", str(path)]) == 0
    assert "before" in capsys.readouterr().out
    assert path.stat().st_size < before - 1_000_000
    assert path.stat().st_mode & 0o777 == 0o600
    assert dump(path) == runs
    assert sorted(file.name for file in path.parent.iterdir()) == ["s.db", "s.db.lock"]


def test_backup_is_whole_private_and_never_overwrites(path: Path, tmp_path: Path) -> None:
    target = tmp_path / "backup.db"
    assert main(["store", "backup", str(path), str(target)]) == 0
    assert dump(target) == dump(path)
    assert target.stat().st_mode & 0o777 == 0o600
    kept = target.read_bytes()
    refused("SW-E1107", store.backup, path, target)
    refused("SW-E1107", store.backup, path, path)
    refused("SW-E1107", store.backup, path, tmp_path / "no folder" / "b.db")
    assert target.read_bytes() == kept


def test_online_backup_is_consistent_while_runs_go_on(path: Path, tmp_path: Path) -> None:
    target = tmp_path / "backup.db"
    with sw.Engine(path) as engine:
        for i in range(40):
            engine.start(echo, os.urandom(80_000).hex(), key=f"big{i}").result(20)
        meanwhile: list[Any] = []

        def goes_on(done: int, pages: int) -> None:
            assert 0 <= done <= pages
            meanwhile.append(engine.start(echo, len(meanwhile), key=f"m{len(meanwhile)}"))
            meanwhile[-1].result(20)

        assert engine.backup(target, progress=goes_on) == target.stat().st_size
        assert len(meanwhile) > 2, "it was one slice: the store is too small for this test"
        refused("SW-E1107", engine.backup, target)

        def breaks_off(done: int, pages: int) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            engine.backup(tmp_path / "stopped.db", progress=breaks_off)
    assert store.verify(target) == []
    with sw.Engine(target) as engine:
        run = engine.find(echo, f"m{len(meanwhile) - 2}")
        assert run is not None, "what was committed before the last slice is in the copy"
        assert run.result(20) == len(meanwhile) - 2
    assert not list(tmp_path.glob("stopped*"))
    assert not list(tmp_path.glob("*.partial*"))


def test_a_store_in_memory_has_no_backup(tmp_path: Path) -> None:
    with sw.Engine() as engine:
        refused("SW-E1109", engine.backup, tmp_path / "b.db")


# -- disks that fail -------------------------------------------------------------------------------------------------

FULL = """
import resource, signal, sys
import stepwell as sw
from stepwell import store
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
verb, path, target, limit = sys.argv[1:]
resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
try:
    {"export": store.export, "backup": store.backup, "compact": lambda p, _: store.compact(p)}[verb](path, target)
except sw.StoreError as error:
    print(error.code)
"""


@pytest.mark.parametrize("verb", ["export", "backup", "compact"])
def test_149_a_full_disk_leaves_the_store_whole_and_no_litter(path: Path, tmp_path: Path, verb: str) -> None:
    runs = dump(path)
    target = tmp_path / "target"
    done = subprocess.run(
        [sys.executable, "-c", FULL, verb, str(path), str(target), "5000"], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() in ("SW-E1104", "SW-E1105", "SW-E1107"), done.stderr
    # The mark: the next open makes a copy before it trusts what could not be written.
    assert {file.name for file in tmp_path.iterdir()} - {"s.db-wal", "s.db.failed"} == {"s.db", "s.db.lock"}
    assert dump(path) == runs


def test_compact_checks_the_room_first(path: Path) -> None:
    if not shutil.which("unshare"):
        pytest.skip("no unshare: a small file system cannot be made")
    room_kib = path.stat().st_size // 1024 + 32  # for the file, and not for another one
    script = (
        f"mount -t tmpfs -o size={room_kib}k none /mnt && cp {path} /mnt/s.db && "
        f"{sys.executable} -m stepwell store compact /mnt/s.db; echo $?; ls /mnt"
    )
    done = subprocess.run(["unshare", "-rm", "sh", "-c", script], capture_output=True, text=True, check=False)
    if "mount" in done.stderr or "unshare" in done.stderr:
        pytest.skip(f"a small file system cannot be made: {done.stderr.strip()}")
    assert "SW-E1105" in done.stderr
    assert done.stdout.split() == ["1", "s.db", "s.db.lock"]


def test_rescue_does_what_an_engine_would(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = dump(path)
    assert main(["store", "rescue", str(path)]) == 0
    assert "nothing to rescue" in capsys.readouterr().out
    path.with_name("s.db.failed").touch()
    assert store.info(path).needs_rescue
    assert main(["store", "rescue", str(path)]) == 0
    assert path.with_name("s.db.broken").exists()
    assert not store.info(path).needs_rescue
    assert dump(path) == runs


def test_a_copy_that_is_stopped_while_the_disk_takes_it_in_is_not_put_in_place(path: Path, tmp_path: Path) -> None:
    """The last of a copy is a wait for the disk, in which SQLite has nothing to stop any more."""
    with opened(path, LOOK) as file:
        file.interrupt()
        with pytest.raises(sw.RunCancelled, match="the store is as it was"):
            file.back_up(str(tmp_path / "backup.db"))
    assert sorted(each.name for each in tmp_path.iterdir()) == ["s.db", "s.db.lock"]


def test_147_ctrl_c_stops_a_verb_and_leaves_the_store_whole(path: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE filler(x)")
        db.executemany("INSERT INTO filler VALUES(?)", [(os.urandom(4_000),)] * 20_000)
        db.commit()
    target = tmp_path / "backup.db"
    process = subprocess.Popen([sys.executable, "-m", "stepwell", "store", "backup", str(path), str(target)])
    until(lambda: Path(f"{target}.partial").exists() or process.poll() is not None)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    assert sorted(file.name for file in tmp_path.iterdir()) == ["s.db", "s.db.lock"]
    assert store.verify(path, quick=True) == []
