"""Running commands in stages: each shows its output and seconds, and a list at the end says what failed.

`./dev` and tests/proofs.py are the only callers. Standard library only.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
JOBS = os.environ.get("STEPWELL_JOBS", str(os.cpu_count() or 2))
COMMAND_SECONDS_MAX = 1_800  # a hung test must not hang CI

Command = Sequence[str | Path]


class StageError(Exception):
    """A step of the setup failed; the text says what to do."""


def run(command: Command, environment: dict[str, str] | None = None, *, quiet: bool = False) -> tuple[int, str]:
    """Run in the root, show the output as it comes (unless quiet) and return it with the exit code."""
    with subprocess.Popen(
        [str(word) for word in command],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        watch = threading.Timer(COMMAND_SECONDS_MAX, os.killpg, (process.pid, signal.SIGKILL))
        watch.daemon = True
        watch.start()
        lines = []
        try:
            for line in process.stdout or ():
                lines.append(line)
                if not quiet:
                    print(line, end="", flush=True)
        except KeyboardInterrupt:
            os.killpg(process.pid, signal.SIGTERM)
            raise
        finally:
            watch.cancel()
    return process.returncode, "".join(lines)


def built(preset: str, *targets: str) -> list[Command]:
    """The commands that bring a preset's build directory up to date."""
    configure = [] if (ROOT / "build" / preset / "build.ninja").exists() else [["cmake", "--preset", preset]]
    wanted = ["--target", *targets] if targets else []
    return [*configure, ["cmake", "--build", "--preset", preset, "-j", JOBS, *wanted]]


def program(preset: str, name: str) -> Path:
    """Where CMake leaves a test program."""
    return ROOT / "build" / preset / "tests" / "cpp" / name


@dataclass
class Stage:
    """One line of the final list: commands in order, until one fails."""

    name: str
    commands: list[Command]
    environment: dict[str, str] = field(default_factory=dict)
    skip: str = ""  # why it cannot run here
    outcome: str = ""
    seconds: float = 0.0
    output: str = ""

    def carry_out(self) -> bool:
        """Run it; true unless something failed."""
        began = time.monotonic()
        print(f"\n--- {self.name}", flush=True)
        self.outcome = f"skipped: {self.skip}" if self.skip else "ok"
        for command in [] if self.skip else self.commands:
            code, output = run(command, os.environ | self.environment)
            self.output += output
            if code:
                self.outcome = f"FAILED: {' '.join(Path(word).name for word in command[:4])} (exit {code})"
                break
        if self.outcome == "ok":
            self.outcome = "ok" + self.count_skips()
        self.seconds = time.monotonic() - began
        return not self.outcome.startswith("FAILED")

    def count_skips(self) -> str:
        """What the tests inside left out, as the final list shows it."""
        counts = re.findall(r"^\[  SKIPPED \] (\d+) test", self.output, re.MULTILINE)
        counts += re.findall(r"^=+ .*?(\d+) skipped.* =+$", self.output, re.MULTILINE)
        return f", {sum(map(int, counts))} skipped" if counts else ""


def run_stages(stages: list[Stage], last_line: Callable[[Stage], str] | None = None) -> int:
    """Run all of them, failures or not; then the list, then what CI reads."""
    good = [stage.carry_out() for stage in stages]
    print("\n--- all stages")
    for stage in stages:
        print(f"{stage.name:<28}{stage.seconds:>7.1f} s  {stage.outcome}")
    seconds = sum(stage.seconds for stage in stages)
    skipped = sum(bool(stage.skip) for stage in stages)
    print(f"{'together':<28}{seconds:>7.1f} s  {good.count(False)} stages failed, {skipped} skipped")
    if last_line:
        print(last_line(stages[-1]), flush=True)
    return 0 if all(good) else 1
