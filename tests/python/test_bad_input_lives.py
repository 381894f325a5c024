"""The bad-input catalogue, entries 50 and 62: steps that end, fork or cripple their process. Real processes, all of them."""

from __future__ import annotations

import contextlib
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from flows import doubles

import stepwell as sw

PROGRAM = Path(__file__).with_name("poison_program.py")


def life(folder: Path, how: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(PROGRAM), str(folder / "s.db"), str(folder / "journal"), how]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("how", ["fork", "fork_later"])
def test_62_a_step_that_forks_and_a_child_that_goes_on(how: str, tmp_path: Path) -> None:
    """The child's code gets as far as its step's end; were it still there, its standard output would stay open."""
    done = life(tmp_path, how)
    assert (done.returncode, done.stdout.split()) == (0, ["380", "1"]), done.stderr
    assert (tmp_path / "journal").read_text().count("poison") == 1


@pytest.mark.kill
def test_62_a_step_that_closes_every_descriptor_ends_the_process_not_the_store(tmp_path: Path) -> None:
    """The loop finds its own descriptor gone and aborts, before anything is written into somebody else's."""
    for _ in range(3):
        assert life(tmp_path, "close_fds").returncode == -signal.SIGABRT
    with contextlib.closing(sqlite3.connect(tmp_path / "s.db")) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    done = life(tmp_path, "harmless")
    assert (done.returncode, done.stdout.split()) == (0, ["380", "1"]), done.stderr
    lines = (tmp_path / "journal").read_text().splitlines()
    assert all(lines.count(f"innocent {x}") >= 1 for x in range(20))


@pytest.mark.kill
def test_50_a_run_that_gets_on_in_each_life_is_no_poison(tmp_path: Path) -> None:
    """Fifteen kills, a recorded step between any two of them: it ends."""
    command = [sys.executable, str(PROGRAM), str(tmp_path / "s.db"), str(tmp_path / "journal"), "advance"]
    for _ in range(15):
        assert subprocess.run(command, check=False, timeout=60).returncode == 7
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout.split()) == (0, ["380", "15"]), done.stderr


def until_it_ends(folder: Path, how: str) -> tuple[subprocess.CompletedProcess[str], int]:
    """Return the process that ended by itself, and how many were killed before it."""
    for lives in range(13):
        done = life(folder, how)
        if done.returncode == 0:
            return done, lives
        assert done.returncode == (-signal.SIGSEGV if how == "segfault" else 7), done.stderr
    pytest.fail("thirteen lives, and no end")


@pytest.mark.kill
@pytest.mark.timeout(120)
def test_50_who_stood_beside_poison_in_each_crash_is_not_given_up(tmp_path: Path) -> None:
    """After three crashes those who were in flight are tried one at a time, and only the one under trial is counted."""
    done, lives = until_it_ends(tmp_path, "beside")
    assert done.stdout.split() == [str(sum(2 * x for x in range(5))), "SW-E1008"]
    assert lives == 10
    lines = (tmp_path / "journal").read_text().splitlines()
    assert sorted(lines) == [*(f"innocent {x}" for x in range(5)), *["poison 1"] * 10]


@pytest.mark.kill
@pytest.mark.timeout(120)
@pytest.mark.parametrize("how", ["exit", "segfault"])
def test_50_a_step_that_ends_its_process_is_given_up(how: str, tmp_path: Path) -> None:
    """After ten lives it is a dead letter; what stood beside it was done once."""
    done, lives = until_it_ends(tmp_path, how)
    assert done.stdout.split() == [str(sum(2 * x for x in range(20))), "SW-E1008"]
    assert (tmp_path / "journal").read_text().splitlines().count("poison 1") == lives == 10
    with sw.Engine(tmp_path / "s.db") as engine:
        (letter,) = engine.dead_letters()
        assert (letter.key, letter.status, letter.input) == ("bad", sw.RunStatus.DEAD, 1)
        assert engine.find(doubles, "nothing") is None
