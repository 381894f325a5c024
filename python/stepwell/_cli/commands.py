"""The commands that look into a store and answer for people: runs, show, approvals, approve, reject, budgets.

One process owns a file: while an engine has it open they say so (SW-E1101) and change nothing.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stepwell import _codec
from stepwell._cli import budgets as budget_verbs
from stepwell._cli.terminal import printable, table, text_of
from stepwell._errors import InputError, NotFoundError
from stepwell._history import HistoryEntry, history_of
from stepwell._pages import pages
from stepwell._types import RunStatus, run_name, run_number

if TYPE_CHECKING:
    import argparse

    from stepwell._approvals.inbox import Approval
    from stepwell._engine import Engine

_SHOWN = ("key", "parent", "version", "input", "result")
_STATUSES = [status.name.lower() for status in RunStatus]


def add_to(commands: Any) -> None:
    """Add the commands to a parser."""

    def command(name: str, text: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = commands.add_parser(name, help=text)
        parser.add_argument("store", metavar="STORE", help="the store's file; no engine may have it open")
        parser.add_argument("--json", action="store_true", help="for programs")
        return parser

    runs = command("runs", "list runs, the newest first")
    runs.add_argument("--workflow", default="", help="only runs of this workflow")
    runs.add_argument("--status", choices=_STATUSES, help="only runs that stand there")
    runs.add_argument("--last", type=int, default=20, metavar="N", help="so many (default: 20)")
    show = command("show", "print one run with its history")
    show.add_argument("run", metavar="RUN", help="its name, e.g. r_1a2b3c")
    what = command("whatif", "ask the LLM calls of recorded runs differently, and compare; the store is not changed")
    what.add_argument("workflow", metavar="WORKFLOW", help="its name")
    what.add_argument("-m", dest="modules", metavar="MODULE", action="append", required=True, help="where it is")
    what.add_argument(
        "--step", default="llm.classify", help="a kind of call, or one by its name (default: llm.classify)"
    )
    what.add_argument("--model", help='"local" or provider:model, in the place of the call\'s own')
    what.add_argument("--base-url", help="an OpenAI-compatible server")
    what.add_argument("--prompt", metavar="FILE", help="a text in the place of the call's own prompt")
    what.add_argument("--last", type=int, default=100, metavar="N", help="the newest N runs (default: 100)")
    what.add_argument("--concurrency", type=int, default=8, help="runs looked at side by side (default: 8)")
    what.add_argument("--out", metavar="FILE", help="rows as .jsonl or .csv; the same command goes on from it")
    mode = what.add_mutually_exclusive_group()
    mode.add_argument("--live", action="store_true", help="really call the model, which costs")
    mode.add_argument("--sandbox", action="store_true", help="no call leaves the process (the default)")
    approvals = command("approvals", "list the questions that wait for people")
    approvals.add_argument("--all", action="store_true", help="those that are decided too")
    for name, text in (("approve", "say yes, or give an answer"), ("reject", "say no")):
        decide = command(name, text)
        decide.add_argument("id", metavar="ID", help="the approval's id or key")
        decide.add_argument("--by", required=True, metavar="NAME", help="who decides")
        decide.add_argument("--comment", default="", help="why")
        decide.add_argument("--payload-hash", metavar="SHA256", help="of the payload that was seen")
        if name == "approve":
            decide.add_argument("--answer", metavar="JSON", help="the answer to a question that is not of yes or no")
    budget_verbs.add_to(command("budgets", "list what LLM calls may cost and have cost; show, raise or close one"))


def _open(path: str) -> Engine:
    """Open a store that is there. Raises InputError SW-E1102, ConflictError SW-E1101 while an engine has it open."""
    from stepwell._engine import Engine

    if not Path(path).is_file():
        raise InputError("SW-E1102", "there is no store", got=path, hint="name the file that an engine has made")
    return Engine(path)


def runs(args: argparse.Namespace) -> str:
    """Return the table of runs."""
    if args.last < 1:
        raise InputError("SW-E1014", "--last must be at least 1", got=args.last)
    wanted = RunStatus[args.status.upper()] if args.status else None
    is_failed = wanted in (RunStatus.FAILED, RunStatus.DEAD)
    with _open(args.store) as engine:
        found = pages(engine._core, args.workflow, is_failed=is_failed)  # noqa: SLF001
        rows = list(itertools.islice((row for row in found if wanted is None or row[1] == wanted), args.last))
    if args.json:
        return "\n".join(json.dumps(_run(row), ensure_ascii=False) for row in rows)
    lines = [
        (each["run"], each["status"], each["workflow"], each["key"], _time(each["started"]), _why(each["error"]))
        for each in map(_run, rows)
    ]
    return table([("run", "status", "workflow", "key", "started", ""), *lines]) if lines else "no such runs"


def show(args: argparse.Namespace) -> str:
    """Return one run with its history."""
    with _open(args.store) as engine:
        number = run_number(args.run)
        rows = engine._core.find(run=number, with_events=True) if number else []  # noqa: SLF001
    if not rows:
        raise NotFoundError("SW-E1005", f"there is no run {args.run}", hint="stepwell runs STORE lists them")
    row = rows[0]
    run, history = _run(row), history_of(row[10])
    waiting = [topic.removeprefix("signal:") for topic, *_ in row[14]]
    if args.json:
        entries = [dataclasses.asdict(entry) for entry in history]
        return json.dumps({**run, "history": entries, "not_yet_taken": waiting}, ensure_ascii=False, default=str)
    lines = [f"{run['run']}  {run['workflow']}  {run['status']}"]
    lines += [f"  {name:<9} {text_of(run[name])}" for name in _SHOWN if run[name] not in ("", None)]
    lines += [f"  {name:<9} {_time(run[name])}" for name in ("started", "ended", "wakes") if run[name]]
    if run["error"]:
        lines.append(f"  {'error':<9} {_why(run['error'])}")
        lines += [
            f"  {name:<9} {text_of(run['error'][name])}" for name in ("undone", "not_undone") if name in run["error"]
        ]
    if waiting:
        lines.append(f"  {'to take':<9} {', '.join(map(printable, waiting))}")
    return "\n".join([*lines, "", table([_entry(entry) for entry in history]) if history else "  no steps yet"])


def _run(row: tuple[Any, ...]) -> dict[str, Any]:
    (
        number,
        status,
        claims,
        workflow,
        _,
        key,
        value,
        result,
        created_at,
        finished_at,
        _,
        wake_at,
        parent,
        version,
        *_,
    ) = row
    status = RunStatus(status)
    has_result = status == RunStatus.SUCCEEDED
    return {
        "run": run_name(number),
        "workflow": workflow,
        "key": key,
        "status": status.name.lower(),
        "started": _iso(created_at),
        "ended": _iso(finished_at) if status.is_final else None,
        "wakes": _iso(wake_at) if status == RunStatus.WAITING and wake_at >= 0 else None,
        "input": json.loads(value) if value else None,
        "result": json.loads(result) if has_result and result else None,
        "error": _codec.decode_error(result) if status.is_final and not has_result else None,
        "parent": run_name(parent) if parent else "",
        "version": version,
        "taken_up": claims,
    }


def _entry(entry: HistoryEntry) -> tuple[str, ...]:
    kind = "undone" if entry.is_undo and entry.kind == "succeeded" else str(entry.kind)
    attempt = f"attempt {entry.attempt}" if entry.attempt > 1 or entry.kind == "attempt failed" else ""
    what = _why(entry.error) if entry.error else text_of(entry.value)
    took = "" if not entry.took else f"{entry.took.total_seconds():.3f} s"
    return (f"  {entry.at:%H:%M:%S.%f}"[:-3], kind, printable(entry.name), attempt, took, what)


def whatif(args: argparse.Namespace) -> str:
    """Return what would have come of it."""
    from stepwell._whatif import whatif as look
    from stepwell.testing._replay import workflows_of

    flows = [flow for flow in workflows_of(args.modules) if flow.name == args.workflow]
    if not flows:
        raise InputError(
            "SW-E1404", f"no module of these holds the workflow {args.workflow!r}", got=", ".join(args.modules)
        )
    try:
        prompt = None if args.prompt is None else Path(args.prompt).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError("SW-E2159", f"the prompt cannot be read: {error}") from None
    report = look(
        args.store, flows[0], step=args.step, model=args.model, prompt=prompt, last=args.last, live=args.live,
        base_url=args.base_url, concurrency=args.concurrency, out=args.out,
    )  # fmt: skip
    if args.json:
        return "\n".join(json.dumps(dataclasses.asdict(row), ensure_ascii=False) for row in report.rows)
    return str(report)


# -- people ----------------------------------------------------------------------------------------------------------------


def approvals(args: argparse.Namespace) -> str:
    """Return the questions."""
    with _open(args.store) as engine:
        found = engine.approvals(pending=not args.all)
        shown = [json.dumps(_plain(each), default=str) if args.json else _card(each) for each in found]
    return ("\n" if args.json else "\n\n").join(shown) or ("" if args.json else "nobody is asked anything")


def approve(args: argparse.Namespace) -> str:
    """Say yes, or give an answer."""
    try:
        answer = True if args.answer is None else json.loads(args.answer)
    except ValueError as error:
        raise InputError(
            "SW-E2025", f"--answer is not JSON: {error}", got=args.answer[:80], expected='"text"'
        ) from None
    with _open(args.store) as engine:
        done = engine.approval(args.id).decide(answer, by=args.by, comment=args.comment, payload_hash=args.payload_hash)
        return _done(done, args)


def reject(args: argparse.Namespace) -> str:
    """Say no."""
    with _open(args.store) as engine:
        done = engine.approval(args.id).reject(by=args.by, comment=args.comment, payload_hash=args.payload_hash)
        return _done(done, args)


def _done(approval: Approval, args: argparse.Namespace) -> str:
    return json.dumps(_plain(approval), default=str) if args.json else _card(approval)


def _plain(approval: Approval) -> dict[str, Any]:
    audit = [dataclasses.asdict(entry) for entry in approval.audit()]
    more = {"status": approval.status, "asked_by": approval.asked_by, "answer": approval.answer, "audit": audit}
    return {**dataclasses.asdict(approval.request), **more, "schema": approval.schema}


def _card(approval: Approval) -> str:
    asked = approval.request
    lines = [f"{approval.id}  {approval.status}  {printable(asked.question)}"]
    people = ", ".join(asked.approvers) if asked.approvers else "anybody"
    pairs = {
        "key": printable(asked.key),
        "evidence": "" if asked.evidence is None else text_of(asked.evidence, 2_000),
        "payload": "" if asked.payload is None else text_of(asked.payload, 2_000),
        "sha256": asked.payload_hash,
        "approvers": f"{printable(people)}" + (f" ({asked.quorum} of them)" if asked.quorum > 1 else ""),
        "deadline": "" if asked.deadline_at is None else f"{asked.deadline_at:%Y-%m-%d %H:%M:%S} UTC",
    }
    lines += [f"  {name:<9} {text}" for name, text in pairs.items() if text]
    for entry in approval.audit():
        said = (
            "" if entry.what == "asked" else printable(" ".join(filter(None, (entry.by, entry.detail, entry.comment))))
        )
        lines.append(f"  {entry.at:%Y-%m-%d %H:%M:%S} UTC  {entry.what}  {said}".rstrip())
    return "\n".join(lines)


def budgets(args: argparse.Namespace) -> str:
    """Return the accounts, or one as it stands after what was done to it."""
    with _open(args.store) as engine:
        return budget_verbs.run(engine, args)


# -- text ------------------------------------------------------------------------------------------------------------------


def _why(error: dict[str, Any] | None) -> str:
    if not error:
        return ""
    return text_of(" ".join(str(error[name]) for name in ("code", "type", "message") if error.get(name)))


def _iso(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")


def _time(iso: str) -> str:
    return iso[:19].replace("T", " ") + " UTC"
