"""The programme that proves that nothing is lost, as stages: simulator, power cuts, fuzzers, seeded bugs, and the soak.

`./dev test` runs its short form, `./dev soak` the long one with fresh seeds. Every seed is drawn anew; a failure prints
the one command that repeats it. Standard library only.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import time
from typing import TYPE_CHECKING

from stages import ROOT, Command, Stage, StageError, built, program, run

if TYPE_CHECKING:
    from pathlib import Path

SIM_SEEDS = 2_000
CUTS, FAULTS = 20_000, 5_000
FUZZERS = ("answer_fuzz", "egress_fuzz", "history_fuzz", "stream_fuzz", "target_fuzz")
SOAK_MINUTES = 30.0
# What a soak repeats at its end: the lines in which each part counts.
COUNTS = re.compile(
    r"^\.?(?:sim: |power cuts: |orders: |round \d+: |caught |[a-z]+_fuzz: |FAILED|=+ .*(?:passed|failed)).*$",
    re.MULTILINE,
)


def simulator(arguments: list[str]) -> Stage:
    """Seeded worlds with faults; a failure prints the one line that reproduces it."""
    command: Command = [program("release", "sim_test"), *arguments]
    return Stage(f"simulator {' '.join(arguments)}", [*built("release", "sim_test"), command])


def power_cuts(cuts: int = CUTS, faults: int = FAULTS) -> Stage:
    """The SQLite store on a disk whose power is cut and whose operations fail."""
    command: Command = [program("release", "power_cut_test"), f"--cuts={cuts}", f"--faults={faults}"]
    return Stage("power cuts, disk faults", [*built("release", "power_cut_test"), command])


def fuzzers(seconds: int) -> Stage:
    """Each fuzzer for so long, on the corpus that it has gathered in the build directory."""
    skip = "" if shutil.which("clang++-14") else "clang++-14 is not installed"
    commands: list[Command] = built("asan", *FUZZERS)
    commands += [[sys.executable, "tests/proofs.py", "fuzz", name, str(seconds)] for name in FUZZERS]
    return Stage(f"fuzzers, {seconds} s each", commands, skip=skip)


def fuzz(name: str, seconds: int) -> int:
    """Run one fuzzer, quietly, and print what it did; a finding stays beside its corpus."""
    folder = ROOT / "build" / "asan"
    (folder / "corpus" / name).mkdir(parents=True, exist_ok=True)
    options = [f"-max_total_time={seconds}", "-max_len=4096", "-timeout=10", "-rss_limit_mb=2048", "-verbosity=0"]
    options += ["-print_final_stats=1", f"-artifact_prefix={folder}/{name}-"]
    code, output = run([program("asan", name), *options, folder / "corpus" / name], quiet=True)
    count = re.search(r"number_of_executed_units:\s*(\d+)", output)
    if code or count is None:
        print(output)
        print(f"FAILED {name}; repeat with: {program('asan', name).relative_to(ROOT)} FILE (the file is named above)")
        return code or 1
    print(f"{name}: {count[1]} inputs in {seconds} s, 0 failed")
    return 0


def seeded_bugs(arguments: list[str]) -> Stage:
    """Plant bugs, one at a time: the tests above must find each of them."""
    command = [sys.executable, "tests/seeded_bugs.py", *arguments]
    return Stage(f"seeded bugs {' '.join(arguments)}".rstrip(), [*built("release"), command])


def kill_environment(arguments: list[str]) -> tuple[dict[str, str], list[str]]:
    """Take --rows and --rounds out of the arguments; the kill tests read them from the environment."""
    environment = dict(os.environ)
    for name, variable in (("--rows", "STEPWELL_KILL_ROWS"), ("--rounds", "STEPWELL_KILL_ROUNDS")):
        if name in arguments[:-1]:
            at = arguments.index(name)
            environment[variable] = arguments[at + 1]
            arguments = arguments[:at] + arguments[at + 2 :]
    return environment, arguments


def soak(python: Path, arguments: list[str]) -> int:
    """Run the long forms in turn until the minutes are over; what is under way then is finished."""
    minutes = SOAK_MINUTES
    if arguments:
        try:
            minutes = float(arguments[arguments.index("--minutes") + 1])
        except (ValueError, IndexError):
            raise StageError(f"expected --minutes N, saw {' '.join(arguments)}") from None
    end = time.monotonic() + minutes * 60
    done: list[Stage] = []
    while not done or time.monotonic() < end:
        kills = {"STEPWELL_KILL_ROUNDS": "6", "STEPWELL_KILL_SEED": str(int.from_bytes(os.urandom(3)))}
        for stage in (
            simulator(["--seeds=20000"]),
            power_cuts(),
            Stage("kills", [[python, "-m", "pytest", "-m", "kill", "-s", "-q"]], kills),
            fuzzers(seconds=30),
            seeded_bugs([]),
        ):
            is_planted_already = stage.name.startswith("seeded") and any(each.name == stage.name for each in done)
            if (done and time.monotonic() >= end) or is_planted_already:
                continue
            stage.carry_out()
            done.append(stage)
    print(f"\n--- soak, {minutes:g} minutes")
    for stage in done:
        print(f"{stage.name:<28}{stage.seconds:>7.1f} s  {stage.outcome}")
        for line in COUNTS.findall(stage.output):
            print(f"    {line}")
    failed = sum(stage.outcome.startswith("FAILED") for stage in done)
    print(f"{len(done)} stages, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    if len(sys.argv) != 4 or sys.argv[1] != "fuzz":
        sys.exit("usage: tests/proofs.py fuzz NAME SECONDS")
    sys.exit(fuzz(sys.argv[2], int(sys.argv[3])))
