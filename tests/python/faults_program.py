"""A process that is stopped, forked, filled up or ended under load.

faults_program.py MODE FOLDER    MODE: serve, fill, fork, exit, raise

It prints the number of each run on a line once its start was answered: those must survive. `fill` judges by itself.
"""

from __future__ import annotations

import itertools
import os
import random
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest

import stepwell as sw

if TYPE_CHECKING:
    from collections.abc import Iterator

BALLAST = "ballast"
FORKS = 10


@sw.step
async def double(x: int) -> int:
    return 2 * x


@sw.step
def add_one(x: int) -> int:
    return x + 1


@sw.workflow
async def counts(x: int) -> int:
    await sw.sleep("20ms")
    return add_one(await double(x))


@sw.workflow
async def keeps(text: str) -> int:
    return len(text)


def tell(number: int) -> None:
    os.write(1, b"%d\n" % number)


def start(engine: sw.Engine, number: int) -> None:
    engine.start(counts, number, key=str(number))
    tell(number)


def serve(path: Path) -> None:
    """Start runs until the input ends; then close in good order."""
    is_over = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), is_over.set()), daemon=True).start()
    with sw.Engine(path, lease="30ms") as engine:
        for number in itertools.count():
            start(engine, number)
            if is_over.is_set():
                break


def fill(path: Path) -> None:
    """Fill a small file system, meet the error, make room, go on with all that was acknowledged."""
    kept = fill_up(path)
    # The rescue makes a copy, and there is no room for one.
    with pytest.raises(sw.StoreError, match=r"SW-E1104.*full.*as much free space"):
        sw.Engine(path).close()
    assert not path.with_name(f"{path.name}.rescue").exists(), "part of a copy takes what space is left"
    (path.parent / BALLAST).unlink()
    with sw.Engine(path) as engine:
        engine.serve(keeps)
        for number in kept:
            run = engine.find(keeps, str(number))
            assert run is not None, f"run {number} was acknowledged and is lost"
            assert run.result(30) == len(noise(number))
        assert engine.start(keeps, "room again").result(30) == 10
    assert path.with_name(f"{path.name}.broken").exists()
    print(f"disk full: {len(kept)} acknowledged, 0 lost")


def noise(number: int) -> str:
    """Return what cannot be compressed, the same for the same number."""
    return random.Random(number).randbytes(40_000).hex()


def fill_up(path: Path) -> list[int]:
    """Start runs until the disk is full; return those that were acknowledged."""
    engine = sw.Engine(path)
    kept: list[int] = []
    errors: list[sw.StoreError] = []
    for number in range(5_000):
        try:
            engine.start(keeps, noise(number), key=str(number))
            assert not errors, "acknowledged after a disk error"
            kept.append(number)
        except sw.StoreError as error:
            errors.append(error)
            if len(errors) == 3:
                break
    assert len(errors) == 3, "the file system did not fill up"
    engine.close(0)
    assert {error.code for error in errors} == {"SW-E1105"}, errors
    assert "disk is full" in str(errors[0]), errors[0]
    assert "free at least" in str(errors[0]), errors[0]
    return kept


def keep_forking(path: Path) -> None:
    """Fork while four threads start runs. A child is refused and leaves; its parent must not notice."""
    with sw.Engine(path) as engine:
        engine.serve(counts)
        is_over = threading.Event()

        def load(base: int) -> None:
            for number in itertools.count(base):
                start(engine, number)
                if is_over.is_set():
                    return

        threads = [threading.Thread(target=load, args=(1_000_000 * n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        codes = []
        for _ in range(FORKS):
            pid = os.fork()
            if pid == 0:
                leave_as_child(engine)
            codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        is_over.set()
        for thread in threads:
            thread.join()
        assert codes == [7] * FORKS, codes


def leave_as_child(engine: sw.Engine) -> NoReturn:
    try:
        engine.start(counts, -1, key="from a child")
    except sw.ClosedError as error:
        os._exit(7 if error.code == "SW-E1002" else 3)
    os._exit(2)


def end_under_load(path: Path, mode: str) -> None:
    """Leave with runs in flight, and without closing."""
    engine = sw.Engine(path)
    for number in range(300):
        start(engine, number)
    if mode == "exit":
        sys.exit(5)
    raise RuntimeError("nobody catches this")


def acknowledged(output: str | bytes) -> Iterator[int]:
    return map(int, output.split())


def main() -> None:
    mode, path = sys.argv[1], Path(sys.argv[2]) / "s.db"
    if mode == "serve":
        serve(path)
    elif mode == "fill":
        fill(path)
    elif mode == "fork":
        keep_forking(path)
    else:
        end_under_load(path, mode)


if __name__ == "__main__":
    main()
