"""A process that its own steps end. poison_program.py STORE JOURNAL HOW

HOW: exit, beside (exit, with all others in flight), segfault, close_fds, fork, fork_later, advance (one step further in
each life), or else a step without harm.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from pathlib import Path

import stepwell as sw

how = sys.argv[3]
is_poison_near = threading.Event()
journal = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


def note(line: str) -> None:
    os.write(journal, line.encode() + b"\n")


@sw.step
def poison(x: int) -> int:
    note(f"poison {x}")
    if how == "exit":
        os._exit(7)
    elif how == "beside":
        is_poison_near.set()
        threading.Event().wait(0.3)
        os._exit(7)
    elif how == "segfault":
        ctypes.string_at(8)
    elif how == "close_fds":
        keep = journal
        os.closerange(3, keep)
        os.closerange(keep + 1, 1024)
    elif how == "fork" and os.fork() == 0:
        return -1  # the child goes on as if nothing had happened
    return x


@sw.step
def slow(x: int) -> int:
    """Take half a second, or for ever when poison is at work."""
    if is_poison_near.wait(0.5):
        threading.Event().wait()
    note(f"innocent {x}")
    return 2 * x


@sw.step
async def innocent(x: int) -> int:
    note(f"innocent {x}")
    return 2 * x


@sw.step
async def forks(x: int) -> int:
    note(f"poison {x}")
    return -1 if os.fork() == 0 else x


@sw.workflow
def slowly(x: int) -> int:
    return slow(x)


@sw.workflow
def poisoned(x: int) -> int:
    return poison(x)


@sw.workflow
async def forks_later(x: int) -> int:
    return await forks(x)


@sw.step
def advance(number: int) -> int:
    lived = Path(sys.argv[2]).read_text().count("life") if number else 0
    if number > lived:
        note("life")
        os._exit(7)
    return number


@sw.workflow
def advances(_: int) -> int:
    return [advance(number) for number in range(16)][-1]


@sw.workflow
async def harmless(x: int) -> int:
    return await innocent(x)


def main() -> None:
    parent = os.getpid()
    with sw.Engine(Path(sys.argv[1])) as engine:
        many = range(5) if how == "beside" else range(20)
        flow = slowly if how == "beside" else harmless
        good = engine.start_many(flow, many, keys=[f"good-{x}" for x in many])
        bad = engine.start({"fork_later": forks_later, "advance": advances}.get(how, poisoned), 1, key="bad")
        results = [run.result(20) for run in good]
        try:
            value = bad.result(20)
        except sw.RunFailed as error:
            value = error.code
        if os.getpid() == parent:
            print(sum(results), value, flush=True)


if __name__ == "__main__":
    main()
