"""Plants known bugs in the core, one at a time, and looks whether the tests find each: a test that cannot fail is none.

    tests/seeded_bugs.py [--count=N] [NAME...]    all of them, the first N, or the named ones

A bug is an exact replacement in one file. The changed copy lies in build/seeded_bugs/NAME; it is compiled as build/release
compiles the original and linked before the library, so nothing else is built anew. Ends with 1 if a bug is not caught.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from stages import run

ROOT = Path(__file__).resolve().parent.parent
RELEASE = ROOT / "build" / "release"
PLACE = ROOT / "build" / "seeded_bugs"

SIM = ("sim_test", ["--seeds=400", "--first=1"])
CUTS = ("power_cut_test", ["--cuts=2000", "--faults=0", "--first=1"])
FAULTS = ("power_cut_test", ["--cuts=0", "--faults=1000", "--first=1"])
UNITS = ("stepwell_tests", ["--gtest_brief=1", "--gtest_filter=*Run*:*Store*:Dispatcher*:Retry*:-*Killed*"])


@dataclass(frozen=True)
class Bug:
    """One mistake that somebody could make: the file, and in it what stands there and what would stand there instead."""

    name: str
    path: str
    edits: tuple[tuple[str, str], ...]
    catchers: tuple[tuple[str, list[str]], ...]
    units: tuple[str, ...] = field(default=())  # which sources to compile, when `path` is a header


BUGS = (
    Bug(
        "acknowledge before the commit",
        "cpp/src/store/sqlite_store.cpp",
        (
            (
                "    if (status.is_ok()) status = rows_->commit();\n",
                "",
            ),
            (
                "      if (writer_->is_wal_large()) writer_->checkpoint();\n",
                ("      writer_->commit_late();\n      if (writer_->is_wal_large()) writer_->checkpoint();\n"),
            ),
            (
                "  void checkpoint() {\n",
                ("  void commit_late() { (void)rows_->commit(); }\n  void checkpoint() {\n"),
            ),
        ),
        (CUTS,),
    ),
    Bug(
        "synchronous=NORMAL under durability full",
        "cpp/src/store/sql_schema.h",
        (
            (
                '"PRAGMA synchronous=FULL; PRAGMA fullfsync=ON;',
                '"PRAGMA synchronous=NORMAL; PRAGMA fullfsync=ON;',
            ),
        ),
        (CUTS,),
        ("cpp/src/store/sqlite_file.cpp",),
    ),
    Bug(
        "the fence is not checked",
        "cpp/src/store/refusals.cpp",
        (
            (
                "if (row.token != transition.token) {",
                "if (row.token < transition.token) {",
            ),
        ),
        (
            SIM,
            UNITS,
        ),
    ),
    Bug(
        "a failed commit is swallowed",
        "cpp/src/store/sqlite_store.cpp",
        (
            (
                "if (status.is_ok()) status = rows_->commit();",
                "if (status.is_ok()) (void)rows_->commit();",
            ),
        ),
        (FAULTS,),
    ),
    Bug(
        "a message on the way is lost when its run is laid aside",
        "cpp/src/engine/run_waits.cpp",
        (
            (
                "decision.park = Park{wake_at, static_cast<int64_t>(inbox_.size()), is_paused};",
                "decision.park = Park{wake_at, static_cast<int64_t>(inbox_.size()) + 1, is_paused};",
            ),
        ),
        (SIM,),
    ),
    Bug(
        "the deadline of a wait is not recorded",
        "cpp/src/engine/run_waits.cpp",
        (
            (
                (
                    "decision.events.push_back(event_of(EventKind::kTimerSet, input.step, std::to_string(step.due_at)));\n"
                    "    ++next_seq_;"
                ),
                "",
            ),
        ),
        (
            SIM,
            UNITS,
        ),
    ),
    Bug(
        "a retry does not count the attempt",
        "cpp/src/engine/run_machine.cpp",
        (
            (
                "step.attempt = input.attempt + 1;",
                "step.attempt = input.attempt;",
            ),
        ),
        (
            SIM,
            UNITS,
        ),
    ),
    Bug(
        "a key starts a second run",
        "cpp/src/store/sql.h",
        (
            (
                '"INSERT INTO keys(workflow_id, key, run, fingerprint) VALUES(?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING"',
                '"INSERT OR REPLACE INTO keys(workflow_id, key, run, fingerprint) VALUES(?1, ?2, ?3, ?4)"',
            ),
        ),
        (UNITS,),
        ("cpp/src/store/sqlite_rows.cpp",),
    ),
    Bug(
        "runs of a dead engine are not queued again at open",
        "cpp/src/store/sqlite_file.cpp",
        (
            (
                "STEPWELL_TRY(execute(sql::kRequeueLeased));",
                "STEPWELL_TRY(execute(sql::kTableCount));",
            ),
        ),
        (
            CUTS,
            UNITS,
        ),
    ),
    Bug(
        "commands act before the commit",
        "cpp/src/runtime/dispatcher.cpp",
        (
            (
                "  for (Event& event : decision.events) event.at = now;\n",
                (
                    "  for (Event& event : decision.events) event.at = now;\n"
                    "  for (Command& command : decision.commands) {\n"
                    "    if (command.kind == CommandKind::kAnswerStep) act_on(run, active, command);\n"
                    "  }\n"
                    "  std::erase_if(decision.commands,\n"
                    "                [](const Command& each) { return each.kind == CommandKind::kAnswerStep; });\n"
                ),
            ),
        ),
        (SIM,),
    ),
    Bug(
        "the mark of a disk error is ignored",
        "cpp/src/store/sqlite_rescue.cpp",
        (
            (
                "  if (!std::filesystem::exists(mark, ignored)) return Status::ok();\n",
                "  if (std::filesystem::remove(mark, ignored) || partial.empty() || true) return Status::ok();\n",
            ),
        ),
        (
            FAULTS,
            UNITS,
        ),
    ),
    Bug(
        "a group's runs stand in line past its limit",
        "cpp/src/store/queue_line.cpp",
        (
            (
                "counts.ready + counts.leased < limits_.group_in_flight_max",
                "counts.ready < limits_.group_in_flight_max",
            ),
            (
                "  return limits_.group_in_flight_max > (found == groups_.end() ? 0 : found->second.leased);",
                "  return found == groups_.end() || limits_.group_in_flight_max > 0;",
            ),
        ),
        (SIM, UNITS),
    ),
    Bug(
        "the next wake-up is not armed",
        "cpp/src/runtime/dispatcher_waits.cpp",
        (
            (
                "      wake_by(answer->next_at);\n",
                "",
            ),
        ),
        (SIM, UNITS),
    ),
)


def compile_commands() -> dict[str, str]:
    """How build/release compiles each source."""
    entries = json.loads((RELEASE / "compile_commands.json").read_text(encoding="utf-8"))
    return {str(Path(entry["file"]).relative_to(ROOT)): entry["command"] for entry in entries}


def compile_bug(bug: Bug, commands: dict[str, str], folder: Path) -> list[Path]:
    """Write the changed copy and compile what it changes; return the object files."""
    text = (ROOT / bug.path).read_text(encoding="utf-8")
    for old, new in bug.edits:
        if text.count(old) != 1:
            sys.exit(
                f"bug {bug.name!r}: {bug.path} holds this {text.count(old)} times instead of once; mend BUGS\n{old}"
            )
        text = text.replace(old, new)
    changed = folder / Path(bug.path).relative_to("cpp/src")
    changed.parent.mkdir(parents=True, exist_ok=True)
    changed.write_text(text, encoding="utf-8")
    objects = []
    for unit in bug.units or (bug.path,):
        source = ROOT / unit if bug.units else changed
        target = folder / (source.stem + ".o")
        words = shlex.split(commands[unit])
        words[words.index("-o") + 1] = str(target)
        words[words.index("-c") + 1] = str(source)
        words[words.index("-O2")] = "-O1"
        done = subprocess.run(
            [words[0], f"-I{folder}", *words[1:]], cwd=RELEASE, capture_output=True, text=True, check=False
        )
        if done.returncode:
            sys.exit(f"bug {bug.name!r} does not compile; mend BUGS\n{done.stderr}")
        objects.append(target)
    return objects


def link(program: str, objects: list[Path], folder: Path) -> Path:
    """Link a test program; what is named before the library wins over the library's own."""
    listed = subprocess.run(
        ["ninja", "-t", "commands", program], cwd=RELEASE, capture_output=True, text=True, check=True
    )
    words = [word for word in shlex.split(listed.stdout.splitlines()[-1]) if word not in (":", "&&")]
    at = words.index("-o")
    target = folder / program
    subprocess.run([*words[:at], *map(str, objects), "-o", str(target), *words[at + 2 :]], cwd=RELEASE, check=True)
    return target


def catch(bug: Bug, commands: dict[str, str]) -> str:
    """Return the program that finds the bug, and its first words about it; empty when none does."""
    folder = PLACE / bug.name.replace(" ", "_").replace("=", "_")
    folder.mkdir(parents=True, exist_ok=True)
    objects = compile_bug(bug, commands, folder)
    for program, arguments in bug.catchers:
        code, output = run([link(program, objects, folder), *arguments], quiet=True)
        if code:
            marks = ("FAILED", ": Failure", "check failed")
            first = next((line for line in output.splitlines() if any(mark in line for mark in marks)), f"exit {code}")
            return f"{program}: {first.replace('[  FAILED  ] ', '')[:110]}"
    return ""


def main(arguments: list[str]) -> int:
    """Plant, look, print the table."""
    names = [word for word in arguments if not word.startswith("--")]
    count = next((int(word.split("=")[1]) for word in arguments if word.startswith("--count=")), len(BUGS))
    wanted = [bug for bug in BUGS if not names or bug.name in names][:count]
    if not wanted:
        sys.exit("no such bug; there are:\n" + "\n".join(f"  {bug.name}" for bug in BUGS))
    commands = compile_commands()
    missed = 0
    for bug in wanted:
        began = time.monotonic()
        caught = catch(bug, commands)
        missed += not caught
        print(f"{bug.name:<58} {time.monotonic() - began:>5.1f} s  {caught or 'NOT CAUGHT'}", flush=True)
    print(f"caught {len(wanted) - missed} of {len(wanted)} seeded bugs")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
