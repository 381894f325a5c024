"""Long payloads: compressed, kept once, and given back to the byte."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from flows import until
from stores import echo

import stepwell as sw
from stepwell import store

if TYPE_CHECKING:
    from pathlib import Path

CONTEXT = "The printer on the third floor is on fire again. " * 420  # some 20 kB


@sw.step
async def digest(text: str) -> dict[str, Any]:
    return {"text": text, "length": len(text)}


@sw.workflow
async def reads(ticket: dict[str, str]) -> str:
    return (await digest(ticket["context"]))["text"]


def blobs_of(path: Path) -> list[tuple[int, int, int]]:
    with closing(sqlite3.connect(path)) as db:
        return db.execute(
            "SELECT reference_count, byte_count, length(content) FROM blobs JOIN blob_bytes USING(id) ORDER BY id"
        ).fetchall()


def test_long_payloads_are_kept_once_and_come_back(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    with sw.Engine(path) as engine:
        runs = engine.start_many(reads, [{"context": CONTEXT}] * 50, keys=[str(i) for i in range(50)])
        assert {run.result(20) for run in runs} == {CONTEXT}
    counts = blobs_of(path)
    assert [count for count, _, _ in counts] == [50, 50, 50], "input, step value and result, each once"
    assert all(packed * 10 < whole for _, whole, packed in counts)
    assert path.stat().st_size < 200_000
    assert store.verify(path, payloads=True) == []
    with sw.Engine(path) as engine:
        run = engine.start(reads, {"context": CONTEXT}, key="7")
        assert not run.is_new
        assert run.result(20) == CONTEXT
        assert engine.replay(runs[0]._run, key="again").result(20) == CONTEXT
    with sw.Engine(path) as engine, pytest.raises(sw.ConflictError):
        engine.start(reads, {"context": CONTEXT + "!"}, key="7")


@pytest.mark.parametrize("length", [0, 1, 4093, 4094, 4095, 4096, 100_000, 3_000_000])
@pytest.mark.parametrize("is_noise", [True, False])
def test_payloads_of_every_length_come_back(tmp_path: Path, length: int, *, is_noise: bool) -> None:
    value = os.urandom((length + 1) // 2).hex()[:length] if is_noise else "x" * length

    @sw.workflow
    async def echo(text: str) -> str:
        return text

    with sw.Engine(tmp_path / "s.db") as engine:
        run = engine.start(echo, value)
        assert run.result(20) == value
    assert len(blobs_of(tmp_path / "s.db")) == (length + 2 > 4096)
    with sw.Engine(tmp_path / "s.db") as engine:
        assert sw.Run(engine, echo, run._run, is_new=False).result(20) == value


def damage(path: Path, payload: int) -> None:
    with closing(sqlite3.connect(path)) as db:
        content = bytearray(db.execute("SELECT content FROM blob_bytes WHERE id = ?", (payload,)).fetchone()[0])
        content[len(content) // 2] ^= 4
        db.execute("UPDATE blob_bytes SET content = ? WHERE id = ?", (bytes(content), payload))
        db.commit()


def test_160_a_damaged_payload_is_named_and_never_handed_out(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    with sw.Engine(path) as engine:
        run = engine.start(reads, {"context": CONTEXT}, key="k")
        run.result(20)
    damage(path, 1)
    found = store.verify(path)
    assert [(each.run, "payload 1" in each.what) for each in found] == [(run.id, True)]
    with sw.Engine(path) as engine:
        with pytest.raises(sw.StoreError) as caught:
            engine._core.find(run=run._run)
        assert caught.value.code == "SW-E1106"
        with pytest.raises(sw.StoreError, match="SW-E1106"):
            engine.start(reads, {"context": CONTEXT}, key="k").result(20)
        with pytest.raises(sw.StoreError, match="SW-E1106"):
            sw.Run(engine, reads, run._run, is_new=False).result(20)
        assert engine.start(reads, {"context": "short"}).result(20) == "short", "nobody else is held up"


def test_160_a_run_whose_payload_is_damaged_is_paused_and_the_others_go_on(tmp_path: Path) -> None:
    """It stopped every life of the engine, and with it all others."""
    path = tmp_path / "s.db"
    with sw.Engine(path) as engine:
        engine.queue("later").pause()
        started = [engine.start(echo, letter * 9_000, key=letter, queue="later") for letter in "abc"]
    damage(path, 2)

    def taken_up(engine: sw.Engine) -> list[sw.Run[str]]:
        engine.queue("later").resume()
        engine.serve(echo, queue="later")
        return [sw.Run(engine, echo, run._run, is_new=False) for run in started]

    for _ in range(2):
        with sw.Engine(path) as engine:
            first, second, third = taken_up(engine)
            assert [first.result(20), third.result(20)] == ["a" * 9_000, "c" * 9_000]
            until(lambda run=second: run.status() == sw.RunStatus.PAUSED)
            with pytest.raises(sw.StoreError, match=r"SW-E1106 payload 2 of .* is damaged"):
                second.history()
            second.resume()
            until(lambda run=second: run.status() == sw.RunStatus.PAUSED)
        assert not path.with_name("s.db.failed").exists()
        assert not path.with_name("s.db.broken").exists()
    damage(path, 2)  # once more, so it is restored
    with sw.Engine(path) as engine:
        second = taken_up(engine)[1]
        second.resume()
        assert second.result(20) == "b" * 9_000
        assert "payload 2" in str(second.history()[0].error)


def test_160_a_run_with_a_damaged_payload_can_be_cancelled(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    with sw.Engine(path) as engine:
        engine.queue("later").pause()
        run = engine.start(echo, "a" * 9_000, queue="later")
    damage(path, 1)
    with sw.Engine(path) as engine:
        again = sw.Run(engine, echo, run._run, is_new=False)
        again.cancel()
        assert again.status() == sw.RunStatus.CANCELLED


def test_payload_that_only_looks_like_another_is_kept_apart(tmp_path: Path) -> None:
    """Nobody makes 128-bit collisions by chance, so one is made by hand."""
    path = tmp_path / "s.db"

    @sw.workflow
    async def echo(text: str) -> str:
        return text

    other = CONTEXT[::-1]
    with sw.Engine(path) as engine:
        engine.start(echo, other).result(20)
        engine.start(echo, CONTEXT).result(20)
    with closing(sqlite3.connect(path)) as db:
        (blob,) = db.execute("SELECT hash FROM blobs WHERE id = 2").fetchone()
        db.executescript("DELETE FROM blobs WHERE id = 2")
        db.execute("UPDATE blobs SET hash = ? WHERE id = 1", (blob,))
        db.execute("INSERT INTO blobs(id, hash, reference_count) VALUES(2, x'00', 2)")
        db.commit()
    with sw.Engine(path) as engine:
        run = engine.start(echo, CONTEXT)
        assert run.result(20) == CONTEXT
    assert store.verify(path) == []
    with closing(sqlite3.connect(path)) as db:
        kinds = db.execute("SELECT typeof(input) FROM runs ORDER BY run").fetchall()
    assert kinds == [("integer",), ("integer",), ("blob",)]
