"""`stepwell store VERB STORE`: the command line of stepwell.store."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from stepwell import store

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")
_KIB = 1024


def add_parser(commands: Any) -> None:
    """Add `store` and its verbs."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "store", help="look at, check, copy, compact, export and import a store's file"
    )
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for name, about in (
        ("info", "say what a store holds"),
        ("verify", "check a store; exit code 1 if anything is wrong"),
        ("compact", "rewrite the file without unused pages"),
        ("backup", "copy the store to a new file"),
        ("export", "write every run as a line of JSON"),
        ("import", "add the runs of an export to a store"),
        ("rescue", "after a disk error: copy what can be read into a new file"),
    ):
        verb = verbs.add_parser(name, help=about)
        verb.add_argument("store", metavar="STORE", help="the file; no engine may have it open")
        if name in ("backup", "export", "import"):
            verb.add_argument(
                "file", metavar="FILE", help="the export" if name == "import" else "a file that is not there"
            )
        if name in ("info", "verify"):
            verb.add_argument("--json", action="store_true", help="print JSON")
        if name == "verify":
            verb.add_argument("--quick", action="store_true", help="do not compare indexes with their tables")
            verb.add_argument("--payloads", action="store_true", help="also look whether every payload is JSON")


def run(args: argparse.Namespace) -> int:
    """Run one verb and return the exit code."""
    verbs: dict[str, Callable[[argparse.Namespace], int]] = {
        "info": _info,
        "verify": _verify,
        "compact": _compact,
        "backup": _backup,
        "export": _export,
        "import": _import,
        "rescue": _rescue,
    }
    return verbs[args.verb](args)


def _progress(what: str) -> Callable[[int], None] | None:
    """A line on a terminal's stderr; nothing elsewhere."""
    if not sys.stderr.isatty():
        return None
    return lambda done: print(f"\r{what} {done:,} runs", end="", file=sys.stderr, flush=True)


def _bytes(count: int) -> str:
    value = float(count)
    for unit in _UNITS:
        if value < _KIB or unit == _UNITS[-1]:
            break
        value /= _KIB
    return f"{value:.0f} {unit}" if unit == "bytes" else f"{value:.1f} {unit}"


def _moment(ms: int | None) -> str:
    return "-" if ms is None else datetime.fromtimestamp(ms / 1000, UTC).isoformat(sep=" ", timespec="seconds")


def _info(args: argparse.Namespace) -> int:
    found = store.info(args.store, progress=_progress("measured"))
    if args.json:
        print(json.dumps(asdict(found), indent=2))
        return 0
    print(f"store     {found.path}  (schema {found.schema}, SQLite {found.sqlite})")
    unused = found.free_pages * 100 // max(found.pages, 1)
    print(f"size      {_bytes(found.file_bytes)}, log {_bytes(found.log_bytes)}, {unused} % of the pages unused")
    if found.needs_migration:
        print("runs      not counted: its schema is older; an engine, or `stepwell store compact`, brings it up")
        return 0
    print(f"runs      {found.run_count:,} from {_moment(found.oldest_ms)} to {_moment(found.newest_ms)}")
    for workflow, counts in found.runs.items():
        print(f"  {workflow:<24} " + ", ".join(f"{count:,} {status}" for status, count in counts.items()))
    print(f"payloads  {_bytes(found.payload_bytes)} in inputs and results, {_bytes(found.history_bytes)} in histories")
    if found.long_payloads:
        packed = f"{_bytes(found.long_payload_bytes)} as {_bytes(found.packed_bytes)}"
        print(f"long ones {found.long_payloads:,} different, {packed}")
    print(f"messages  {found.messages:,} not yet taken")
    if found.largest_run:
        print(f"largest   run {found.largest_run}, {_bytes(found.largest_bytes)}")
    if found.needs_rescue:
        print("a disk error stopped its last engine: the next one, or `stepwell store rescue`, copies it first")
    return 0


def _verify(args: argparse.Namespace) -> int:
    found = store.verify(args.store, quick=args.quick, payloads=args.payloads, progress=_progress("checked"))
    if args.json:
        print(json.dumps([asdict(each) for each in found], indent=2))
    else:
        for each in found:
            print(each)
        print(f"{args.store}: {f'{len(found)} findings' if found else 'nothing is wrong'}")
    return 1 if found else 0


def _compact(args: argparse.Namespace) -> int:
    before, after = store.compact(args.store)
    print(f"{args.store}: {_bytes(before)} before, {_bytes(after)} after")
    return 0


def _backup(args: argparse.Namespace) -> int:
    print(f"{args.file}: {_bytes(store.backup(args.store, args.file))}")
    return 0


def _export(args: argparse.Namespace) -> int:
    print(f"{args.file}: {store.export(args.store, args.file, progress=_progress('exported')):,} runs")
    return 0


def _import(args: argparse.Namespace) -> int:
    done = store.import_runs(args.store, args.file, progress=_progress("imported"))
    print(f"{args.store}: {done.added:,} runs added, {done.known:,} were there")
    return 0


def _rescue(args: argparse.Namespace) -> int:
    print(
        f"{args.store}: rescued; the old file is {args.store}.broken"
        if store.rescue(args.store)
        else f"{args.store}: no disk error was marked; nothing to rescue"
    )
    return 0
