"""Counts the instructions of hot paths with callgrind: they do not depend on who shares the machine, so they can be a gate.

    python tests/instructions.py [FOLDER]    FOLDER holds the programs (build/release/tests/cpp)

Exits with 1 when a path takes more instructions than its bound allows. Standard library only.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
CALLS = 4_000


class HotPath(NamedTuple):
    """A hot path: its program, the function that is counted, and how many instructions one call may take."""

    name: str
    program: str
    function: str
    bound: int


# Bounds lie about a fifth above what was measured when they were set; who makes a path faster lowers its bound.
PATHS = [
    HotPath("admission", "admission_bench", "*admit_all*", 2_400),
    HotPath("budgets", "admission_bench", "*pay_all*", 15_000),
]


def instructions(program: Path, function: str, calls: int) -> int:
    """Return the instructions of one call of `function`'s loop."""
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", f"--toggle-collect={function}"]
    done = subprocess.run([*command, program, str(calls)], capture_output=True, text=True, check=False)
    found = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode or found is None or found[1] == "0":
        raise RuntimeError(f"callgrind counted nothing in {program.name}:\n{done.stdout}{done.stderr}")
    return int(found[1]) // calls


def main() -> int:
    """Count each path, and compare."""
    if shutil.which("valgrind") is None:
        print("instructions: SKIPPED, valgrind is not installed")
        return 0
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build" / "release" / "tests" / "cpp"
    is_over = False
    for path in PATHS:
        count = instructions(folder / path.program, path.function, CALLS)
        verdict = "ok" if count <= path.bound else "TOO MANY"
        print(f"instructions: {path.name} {count:,} a call, at most {path.bound:,}: {verdict}")
        is_over = is_over or count > path.bound
    return int(is_over)


if __name__ == "__main__":
    sys.exit(main())
