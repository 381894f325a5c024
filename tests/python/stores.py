"""A store to look at, and helpers that several tests share."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from flows import asks, comes_to, doubles

import stepwell as sw
from stepwell import store

if TYPE_CHECKING:
    from pathlib import Path

LONG = "all work and no play " * 500


@sw.workflow
async def echo(value: Any) -> Any:
    return value


def make_store(path: Path) -> Path:
    """A store with runs in several states."""
    with sw.Engine(path) as engine:
        for i in range(30):
            engine.start(doubles, i, key=f"d{i}").result(20)
        engine.start(echo, LONG).result(20)
        waiting = engine.start(asks, "10d", key="asks")
        comes_to(waiting, sw.RunStatus.WAITING)
        waiting.pause()
        comes_to(waiting, sw.RunStatus.PAUSED)
        waiting.signal("answer", {"a": 1}, key="once")
    return path


def change(path: Path, sql: str) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.executescript(sql)


def dump(path: Path) -> list[str]:
    """Every run as an export has it."""
    target = path.with_suffix(f".{os.urandom(4).hex()}")
    store.export(path, target)
    lines = target.read_text().splitlines()[1:-1]
    target.unlink()
    return lines


def refused(code: str, *args: Any) -> sw.WorkflowError:
    with pytest.raises(sw.WorkflowError) as caught:
        args[0](*args[1:])
    assert caught.value.code == code, str(caught.value)
    return caught.value
