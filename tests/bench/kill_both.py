"""Three tutorials and ours, killed with SIGKILL in the middle and started again: what was done, lost, done twice.

python -m tests.bench.kill_both                 ours, and the rivals that are installed (`--install` fetches them)
python -m tests.bench.kill_both --ours          ours only
python -m tests.bench.kill_both --lines         how long the programs are, as a table

The programs are examples/rivals/*.py and examples/rivals/theirs. Where a rival has a worker and a client, only the worker is
killed. Every process is started here, in a session of its own, and ended by its id; everything has a deadline.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import io
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import tokenize
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .install import CACHE, MissingError, node_folder, peer_python
from .servers import RedisServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

OURS = Path(__file__).resolve().parents[2] / "examples" / "rivals"
THEIRS = OURS / "theirs"
PAIRS = (("dbos_queue.py",) * 2, ("celery_chord.py",) * 2, ("bullmq_flow.py", "bullmq_flow.mjs"))
LOOK_S = 0.01
PAUSE = threading.Event()  # never set: waiting on it is a pause
COUNT = 40
CANVAS = frozenset({"add 2 2", "mul 4 8", "tsum"} | {f"add {i} {i}" for i in range(100, 100 + COUNT)})
FLOW = frozenset({"leak", "inspect", f"renovate {COUNT}"} | {f"paint {i}" for i in range(COUNT)})
QUEUE = frozenset(f"task {i}" for i in range(COUNT))


@dataclass(frozen=True)
class Case:
    """A program: what is killed and started again, who waits for it (nobody if it does that itself), what it must do."""

    name: str
    units: frozenset[str]
    command: tuple[str, ...]
    client: tuple[str, ...] = ()
    #: How long after the last kill it may take: rivals wait for locks and acknowledgements to run out.
    seconds_max: int = 60


@dataclass(frozen=True)
class Outcome:
    """What a program did in spite of its kills."""

    name: str
    done: int
    lost: int  # not done when we stopped looking
    twice: int
    ended: bool
    seconds: float


def ours() -> list[Case]:
    """Our three programs."""
    names = (("dbos_queue", QUEUE), ("celery_chord", CANVAS), ("bullmq_flow", FLOW))
    return [Case(f"stepwell {name}", units, (sys.executable, str(OURS / f"{name}.py"))) for name, units in names]


def python_rivals(python: str) -> list[Case]:
    """DBOS on its SQLite; Celery as its tutorial has it, and as careful users set it."""
    celery = (python, "-m", "celery", "-A")
    work = ("worker", "-c", "4", "-l", "ERROR", "--without-gossip", "--without-mingle")
    client = (python, str(THEIRS / "celery_chord.py"))
    return [
        Case("dbos dbos_queue", QUEUE, (python, str(THEIRS / "dbos_queue.py"))),
        Case("celery celery_chord", CANVAS, (*celery, "celery_chord", *work), client),
        # Its worker looks for unacknowledged tasks at its start, and then every 100 s.
        Case("celery celery_chord, acks late", CANVAS, (*celery, "celery_late", *work), client, seconds_max=240),
    ]


def node_rivals() -> list[Case]:
    """BullMQ, whose stalled jobs are looked for every 30 s."""
    node = shutil.which("node") or ""
    flow = (node, str(THEIRS / "bullmq_flow.mjs"))
    return [Case("bullmq bullmq_flow", FLOW, (*flow, "work"), (*flow, "add"), seconds_max=120)]


# -- one program ---------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def started(command: tuple[str, ...], folder: Path, env: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a session of its own, whose children end with it."""
    log = (folder / "log").open("ab")
    child = subprocess.Popen(command, cwd=folder, env=env, stdout=log, stderr=log, start_new_session=True)
    try:
        yield child
    finally:
        kill(child)
        log.close()


def kill(child: subprocess.Popen[bytes]) -> None:
    """SIGKILL for the process and those that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def waited(is_so: Callable[[], bool], seconds: float) -> bool:
    """Whether a condition came about in time."""
    end = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > end:
            return False
        PAUSE.wait(LOOK_S)
    return True


def lines_of(folder: Path) -> list[str]:
    """What the world has seen."""
    file = folder / "done.txt"
    return file.read_text(encoding="utf-8").splitlines() if file.exists() else []


def run_case(case: Case, folder: Path, kills: int, redis_url: str) -> Outcome:
    """Kill it `kills` times, each time after another share of its work, and let it end."""
    paths = os.pathsep.join((str(THEIRS), os.environ.get("PYTHONPATH", "")))
    env = os.environ | {
        "REDIS_URL": redis_url,
        "PYTHONPATH": paths,
        "C_FORCE_ROOT": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(started(case.client, folder, env)) if case.client else None
        for number in range(kills):
            share = (number + 1) * len(case.units) // (kills + 1)
            with started(case.command, folder, env) as worker:
                waited(lambda: len(lines_of(folder)) >= share or worker.poll() is not None, case.seconds_max)  # noqa: B023
        worker = stack.enter_context(started(case.command, folder, env))
        began = time.monotonic()
        waiter = client or worker
        ended = waited(lambda: waiter.poll() is not None, case.seconds_max) and waiter.returncode == 0
        seconds = time.monotonic() - began
    lines = lines_of(folder)
    done = set(lines) & case.units
    return Outcome(case.name, len(done), len(case.units) - len(done), len(lines) - len(set(lines)), ended, seconds)


def table(outcomes: list[Outcome]) -> str:
    """The outcomes, as Markdown."""
    rows = [
        "| program | units done | lost | done twice | ended | seconds after the last kill |",
        "|---|---|---|---|---|---|",
    ]
    rows += [
        f"| {each.name} | {each.done} | {each.lost} | {each.twice} | {'yes' if each.ended else 'no'} | {each.seconds:.1f} |"
        for each in outcomes
    ]
    return "\n".join(rows)


# -- how long the programs are --------------------------------------------------------------------------------------------


def code_lines(path: Path) -> int:
    """Lines that hold code: no comments, no docstrings, no blank lines."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        return sum(1 for line in text.splitlines() if line.strip() and not line.strip().startswith("//"))
    silent = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in silent:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            lines.difference_update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return len(lines)


def lines_table() -> str:
    """The programs side by side, as Markdown."""
    rows = ["| tutorial | theirs, lines of code | ours |", "|---|---|---|"]
    rows += [
        f"| {mine.split('_')[0]} | {code_lines(THEIRS / other)} | {code_lines(OURS / mine)} |" for mine, other in PAIRS
    ]
    return "\n".join(rows)


# -- the command line ------------------------------------------------------------------------------------------------------


def rivals(options: argparse.Namespace, say: Callable[[str], None]) -> list[Case]:
    """Those that can run here; of the others it is said why not."""
    cases: list[Case] = []
    python = options.python or (str(peer_python()) if options.install else str(CACHE / "venv" / "bin" / "python"))
    if Path(python).exists():
        cases += python_rivals(python)
    else:
        say("skipped: dbos and celery are not installed (--install, or --python of a venv that has them)")
    node = options.node or (node_folder() if options.install else CACHE / "node")
    os.environ["BENCH_NODE"] = str(node)
    if shutil.which("node") and (Path(node) / "node_modules").is_dir():
        cases += node_rivals()
    else:
        say("skipped: node or bullmq is not installed (--install, or --node with the folder of node_modules)")
    return cases


def main() -> int:
    """Run the programs and print the table; 1 when one of ours lost something."""
    parser = argparse.ArgumentParser(prog="kill_both", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--ours", action="store_true", help="no rivals")
    parser.add_argument("--lines", action="store_true", help="count lines of code and stop")
    parser.add_argument("--install", action="store_true", help="fetch the rivals into build/bench, as ./dev bench does")
    parser.add_argument("--python", help="an interpreter that has dbos and celery")
    parser.add_argument("--node", type=Path, help="a folder with node_modules that has bullmq")
    parser.add_argument("--kills", type=int, default=1, choices=range(1, 6), help="kills for each program (1)")
    options = parser.parse_args()
    if options.lines:
        print(lines_table())
        return 0
    cases = ours() + ([] if options.ours else rivals(options, print))
    outcomes: list[Outcome] = []
    for case in cases:
        with contextlib.ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            url = ""
            if case.client:
                try:
                    url = stack.enter_context(RedisServer()).url
                except MissingError as error:
                    print(f"skipped: {case.name}: {error}")
                    continue
            outcomes.append(run_case(case, folder, options.kills, url))
            if not outcomes[-1].ended:
                print(f"{case.name} did not end: {(folder / 'log').read_text(errors='replace')[-400:]}")
    print(table(outcomes))
    return int(any(each.lost or not each.ended for each in outcomes[: len(ours())]))


if __name__ == "__main__":
    sys.exit(main())
