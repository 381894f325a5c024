"""Processes that are stopped, filled up, forked and ended under load: nothing that was acknowledged is lost."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from faults_program import BALLAST, acknowledged, counts

import stepwell as sw

PROGRAM = Path(__file__).with_name("faults_program.py")
STOPS = 50


def run_program(mode: str, folder: Path, *before: str) -> subprocess.CompletedProcess[str]:
    command = [*before, sys.executable, str(PROGRAM), mode, str(folder)]
    return subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)


def check_all_there(folder: Path, numbers: list[int]) -> None:
    """Every acknowledged run is there once and ends with its result."""
    assert numbers
    assert len(set(numbers)) == len(numbers)
    with sw.Engine(folder / "s.db") as engine:
        engine.serve(counts)
        runs = [engine.find(counts, str(number)) for number in numbers]
        lost = [number for number, run in zip(numbers, runs, strict=True) if run is None]
        assert not lost, f"{len(lost)} acknowledged runs are lost: {lost[:5]}"
        wrong = [n for n, run in zip(numbers, runs, strict=True) if run is not None and run.result(30) != 2 * n + 1]
        assert not wrong


def stop_many_times(folder: Path, stops: int) -> tuple[int, int]:
    """SIGSTOP the owner of a file past its lease, again and again; return the refusals seen and the runs kept.

    A stopped owner keeps the file's lock: a second engine is refused, however long that takes.
    """
    command = [sys.executable, str(PROGRAM), "serve", str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        lines = [child.stdout.readline()]
        refused = 0
        for _ in range(stops):
            child.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, child.pid, os.WSTOPPED)
            is_refused = False
            past_lease = time.monotonic() + 0.05
            while not is_refused or time.monotonic() < past_lease:
                with pytest.raises(sw.ConflictError, match="SW-E1101") as refusal:
                    sw.Engine(folder / "s.db")
                assert f"process {child.pid}" in str(refusal.value)
                is_refused = True
            refused += is_refused
            child.send_signal(signal.SIGCONT)
            lines += [child.stdout.readline() for _ in range(5)]  # it goes on
        child.stdin.close()
        lines.append(child.stdout.read())
        assert child.wait(20) == 0
    numbers = list(acknowledged(b"".join(lines)))
    assert numbers == list(range(len(numbers)))
    check_all_there(folder, numbers)
    return refused, len(numbers)


def test_a_stopped_owner_keeps_its_file(tmp_path: Path) -> None:
    refused, kept = stop_many_times(tmp_path, STOPS)
    print(f"zombies: {refused} stops, {refused} second engines refused, {kept} runs kept, 0 lost")
    assert refused == STOPS


def test_a_full_disk_is_named_and_rescued(tmp_path: Path) -> None:
    """On a file system of 64 MB, 40 of them taken until the program makes room."""
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-rm", "true"], check=False).returncode:
        pytest.skip("mount namespaces are not permitted here")
    script = 'mount -t tmpfs -o size=64m none "$1" && head -c 40M /dev/zero > "$1/$2" && shift 2 && exec "$@"'
    done = run_program("fill", tmp_path, "unshare", "-rm", "sh", "-c", script, "sh", str(tmp_path), BALLAST)
    assert done.returncode == 0, done.stderr
    print(done.stdout)


@pytest.mark.parametrize(("mode", "code"), [("fork", 0), ("exit", 5), ("raise", 1)])
def test_nothing_is_lost_when_a_process_forks_or_ends_under_load(tmp_path: Path, mode: str, code: int) -> None:
    done = run_program(mode, tmp_path)
    assert done.returncode == code, done.stderr
    errors = done.stderr.strip().splitlines()
    assert errors[-1:] == (["RuntimeError: nobody catches this"] if mode == "raise" else [])
    check_all_there(tmp_path, list(acknowledged(done.stdout)))
