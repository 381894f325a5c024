"""The engine and its process: opening and closing, threads, forks, exits, imports, public names."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import stepwell as sw

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def engine() -> Iterator[sw.Engine]:
    with sw.Engine() as opened:
        yield opened


@sw.workflow
def plain_flow(x: int) -> int:
    return 4 * x + 2


def test_open_and_close_a_hundred_times_leaks_nothing(tmp_path: Path) -> None:
    def count_fds() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    sw.Engine(tmp_path / "s.db").close()
    threads, fds = threading.active_count(), count_fds()
    for _ in range(100):
        with sw.Engine(tmp_path / "s.db") as engine:
            engine.start(plain_flow, 1)
    assert threading.active_count() <= threads
    assert count_fds() <= fds


def test_a_closed_engine_says_so() -> None:
    engine = sw.Engine()
    engine.close()
    engine.close()
    with pytest.raises(sw.ClosedError, match="SW-E1001"):
        engine.start(plain_flow, 1)


def test_whoever_waits_hears_that_the_engine_closed(tmp_path: Path) -> None:
    engine = sw.Engine(tmp_path / "s.db")

    @sw.workflow
    async def endless(x: int) -> None:
        await asyncio.Event().wait()

    run = engine.start(endless, 1)
    batch = engine.map(endless, range(3))
    heard: list[str] = []

    def hear(wait: Callable[[], object]) -> None:
        try:
            wait()
        except sw.ClosedError as error:
            heard.append(error.code)

    waits = [run.result, batch.results, lambda: engine._wait_on_pump(run._run, -1)]
    threads = [threading.Thread(target=hear, args=(wait,)) for wait in waits]
    for thread in threads:
        thread.start()
    closing = threading.Timer(0.2, engine.close, (0,))
    closing.start()
    for thread in threads:
        thread.join(20)
    closing.join()
    assert heard == ["SW-E1001"] * 3


def test_many_threads_submit(engine: sw.Engine) -> None:
    results: list[int] = []

    def submit(base: int) -> None:
        results.extend(engine.start(plain_flow, base + n).result(30) for n in range(25))

    threads = [threading.Thread(target=submit, args=(100 * n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 200


def run_python(code: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, timeout=50, check=False
    )


def test_exit_with_work_in_flight(tmp_path: Path) -> None:
    """With and without close, many times: the interpreter ends, quietly."""
    code = """
import asyncio, stepwell as sw
@sw.workflow
async def flow(x): await asyncio.Event().wait()
@sw.workflow
def quick(x): return x
engine = sw.Engine("s.db")
for n in range(50): engine.start(flow, n)
for n in range(50): engine.start(quick, n)
"""
    for _ in range(5):
        done = run_python(code, tmp_path)
        assert (done.returncode, done.stderr) == (0, "")


def test_ctrl_c_is_heard_while_waiting(tmp_path: Path) -> None:
    """A blocking call in the core must not make the process deaf."""
    code = """
import asyncio, stepwell as sw
@sw.workflow
async def endless(x): await asyncio.Event().wait()
with sw.Engine("s.db") as engine:
    run = engine.start(endless, 1)
    try:
        run.result(0.2)
    except sw.WaitTimeout as error:
        print(error.code, flush=True)
    run.result()
"""
    child = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline().strip() == b"SW-E1004"
    for _ in range(20):  # the first may come before it waits
        child.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(0.5)
            break
    _, error = child.communicate(timeout=20)
    assert b"KeyboardInterrupt" in error
    assert child.returncode not in (0, -signal.SIGKILL)


def test_a_forked_child_is_refused(tmp_path: Path) -> None:
    code = """
import os, stepwell as sw
@sw.workflow
def flow(x): return x
engine = sw.Engine("s.db")
engine.start(flow, 1).result(10)
pid = os.fork()
if pid == 0:
    try:
        engine.start(flow, 2)
    except sw.ClosedError as error:
        os._exit(7 if error.code == "SW-E1002" else 1)
    os._exit(2)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
assert engine.start(flow, 3).result(10) == 3
engine.close()
"""
    done = run_python(code, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_import_is_light() -> None:
    heavy = ("asyncio", "pydantic", "numpy", "stepwell._core", "ssl")
    code = f"import sys, stepwell; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_public_names() -> None:
    assert sorted(sw.__all__) == sorted(set(sw.__all__))
    for name in sw.__all__:
        assert getattr(sw, name) is not None
    assert set(sw.__all__) <= set(dir(sw))
    with pytest.raises(AttributeError):
        _ = sw.no_such_name  # type: ignore[attr-defined]
