"""The command line: `stepwell triage`, `store`, `demo`, `replay`, `explain`, and what looks into a store: `runs`, `show`, ...

Exit codes: 0 done, 1 failed, 2 wrong usage or input, 130 stopped by Ctrl-C (run the same command to go on).
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import io
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from stepwell._cli import commands as verbs
from stepwell._errors import InputError, LlmError, WorkflowError

if TYPE_CHECKING:
    from collections.abc import Sequence

_EXIT_FAILED, _EXIT_INPUT, _EXIT_STOPPED = 1, 2, 130


def _parser() -> argparse.ArgumentParser:
    from stepwell._cli import store as store_tools

    parser = argparse.ArgumentParser(prog="stepwell", description="Durable AI workflows and ticket triage.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    triage = commands.add_parser("triage", help="label every row of a CSV, JSONL or Parquet file; resumable")
    triage.add_argument("file", metavar="FILE", help="the tickets")
    triage.add_argument("--labels", required=True, help="comma-separated names, or @FILE with one a line")
    triage.add_argument("--model", default="local", help='"local" (no key), or provider:model (default: local)')
    triage.add_argument("--base-url", help="an OpenAI-compatible server, e.g. http://127.0.0.1:8000/v1")
    triage.add_argument("--text-columns", help="comma-separated columns that hold the text (default: guessed)")
    triage.add_argument("--gold", metavar="COLUMN", help="the column with right labels: adds accuracy to the report")
    triage.add_argument("--id", dest="id_column", metavar="COLUMN", help="a column whose values must be unique")
    triage.add_argument("--out", required=True, help="where the labelled rows go (.csv, .jsonl, .parquet)")
    triage.add_argument("--report", help="where the HTML report goes (default: beside --out)")
    triage.add_argument("--store", default=str(Path(".stepwell") / "triage.db"), help="the store's file")
    triage.add_argument("--concurrency", type=int, default=200, help="calls in flight at most (default: 200)")
    triage.add_argument(
        "--mode", default="live", help="live, or batch: the provider's batch API, half the price within a day"
    )
    triage.add_argument("--pause", default="15s", help="until the second look at a batch (default: 15s)")
    triage.add_argument(
        "--durability", choices=("full", "relaxed"), default="full", help="full also survives power cuts"
    )
    triage.add_argument("--quiet", action="store_true", help="no progress, no report on the terminal")
    demo = commands.add_parser("demo", help="label 240 sample tickets: no key, no network")
    demo.add_argument("--folder", default="stepwell-demo", help="where results and report go (default: stepwell-demo)")
    replay = commands.add_parser("replay", help="run recorded histories against the present code; nothing is executed")
    replay.add_argument("store", metavar="STORE", help="the store's file; not in use by an engine (a copy is fine)")
    replay.add_argument(
        "-m", dest="modules", metavar="MODULE", action="append", required=True, help="where workflows are"
    )
    replay.add_argument("--last", type=int, default=1_000, metavar="N", help="the newest N runs (default: 1000)")
    replay.add_argument("--workflow", metavar="NAME", help="only runs of this workflow")
    replay.add_argument("--strict", action="store_true", help="fail, too, when an ended run would have another result")
    store_tools.add_parser(commands)
    explain = commands.add_parser("explain", help="tell more about an error code, offline")
    explain.add_argument("code", metavar="CODE", help="e.g. SW-E2101")
    commands.add_parser("version", help="print the version")
    verbs.add_to(commands)
    return parser


def _triage(args: argparse.Namespace) -> int:
    from stepwell._queues import check_concurrency
    from stepwell.triage import _job
    from stepwell.triage._write import check_page

    check_concurrency(args.concurrency)
    if not Path(args.out).name:
        raise InputError("SW-E2244", "--out names no file", got=repr(args.out)[:80], expected="a file name")
    report = args.report or str(Path(args.out).with_suffix(".report.html"))
    check_page(report, {"input": args.file, "results": args.out, "store": args.store})
    job = _job.prepare(
        args.file,
        labels=args.labels,
        model=args.model,
        base_url=args.base_url,
        text_columns=args.text_columns.split(",") if args.text_columns else None,
        gold=args.gold,
        id_column=args.id_column,
        out=args.out,
        store=args.store,
        concurrency=args.concurrency,
        durability=args.durability,
        mode=args.mode,
        pause=args.pause,
    )
    gc.freeze()  # the rows live until the end: the garbage collector need not look through them again and again
    result = _job.run(job, quiet=args.quiet, out=args.out, page=report)
    gc.freeze()  # nor at the process's end
    if not args.quiet:
        print(result.report)
        print(f"results  {result.out}\nreport   {result.page}")
    return 0


def _demo(args: argparse.Namespace) -> int:
    from importlib.resources import as_file, files

    folder = Path(args.folder)
    folder.mkdir(parents=True, exist_ok=True)
    with as_file(files("stepwell") / "demo" / "tickets.csv") as tickets:
        print(f"labelling {tickets.name} with the local model: no key, no network, nothing leaves this machine")
        command = ["triage", str(tickets), "--labels", "Billing,Technical,Account,Shipping,General", "--model", "local"]
        command += ["--text-columns", "subject,body", "--gold", "queue", "--id", "id"]
        command += ["--out", str(folder / "labelled.csv"), "--report", str(folder / "report.html")]
        command += ["--store", str(folder / "demo.db")]
        code = main(command)
    if code == 0:
        print("\nopen the report in a browser; run the demo again and it finds every ticket already done")
        print("with a model of yours:  stepwell triage FILE --labels A,B,C --model openai:gpt-4o-mini --out out.csv")
    return code


def _replay(args: argparse.Namespace) -> int:
    from stepwell.testing._replay import replay, workflows_of

    report = replay(args.store, workflows_of(args.modules), last=args.last, workflow=args.workflow)
    print(report)
    return _EXIT_FAILED if report.mismatched or (args.strict and report.other_results) else 0


def _explain(args: argparse.Namespace) -> int:
    from stepwell._codes import explain

    print(explain(args.code))
    return 0


def _store_command(args: argparse.Namespace) -> int:
    print(getattr(verbs, args.command)(args))
    return 0


def _store(args: argparse.Namespace) -> int:
    from stepwell._cli import store as store_tools

    return store_tools.run(args)


def _version(_: argparse.Namespace) -> int:
    from stepwell import __version__

    print(f"stepwell {__version__}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that knows no such letter shows a ? in its place
    parser = _parser()
    args = parser.parse_args(argv)
    own = {
        "triage": _triage,
        "store": _store,
        "demo": _demo,
        "replay": _replay,
        "explain": _explain,
        "version": _version,
    }
    command = own.get(args.command, _store_command) if args.command else None
    if command is None:
        parser.print_help()
        return _EXIT_INPUT
    try:
        code = command(args)
        if sys.stdout is not None:
            sys.stdout.flush()
        return code  # noqa: TRY300 - what is written late fails here, not at the interpreter's end
    except KeyboardInterrupt:
        print("\nstopped; what was done is kept. Run the same command to go on.", file=sys.stderr)
        return _EXIT_STOPPED
    except (InputError, LlmError) as error:
        print(f"{error}\n  more      stepwell explain {error.code}", file=sys.stderr)
        return _EXIT_INPUT
    except WorkflowError as error:
        print(f"{error}\n  more      stepwell explain {error.code}", file=sys.stderr)
        return _EXIT_FAILED
    except BrokenPipeError:  # the reader of our output has gone; nothing of the job is lost
        sys.stdout = None
        return 0
    except OSError as error:  # our own output: everything else has a code by now
        sys.stdout = None
        with contextlib.suppress(OSError):  # a terminal that has gone takes both with it
            print(f"SW-E1040 the output cannot be written: {error.strerror or error}", file=sys.stderr)
        return _EXIT_FAILED


def run() -> None:
    """Be the process: run the command of `sys.argv` and end.

    After Ctrl-C threads may still be inside native code (a matrix product, say), and some libraries wait for ever at exit
    for such a thread. Everything is kept by then, so the process ends without their destructors.
    """
    code = main()
    for name in ("stdout", "stderr"):
        try:
            if (stream := getattr(sys, name)) is not None:
                stream.flush()
        except (OSError, ValueError):  # the interpreter would try again, and end with 120 in the place of our code
            setattr(sys, name, None)
    if code == _EXIT_STOPPED:
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    run()
