"""What a store holds, and what is wrong with it."""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stepwell._errors import InputError
from stepwell._types import RunStatus, run_name
from stepwell.store._file import LOOK, SLICE_RUNS, all_records, opened, patiently

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Info:
    """What a store holds. Bytes of inputs, results and histories are those that workflows see."""

    path: str
    schema: int
    sqlite: str
    file_bytes: int
    log_bytes: int
    pages: int
    free_pages: int
    #: Workflow and status to how many.
    runs: dict[str, dict[str, int]]
    run_count: int
    event_count: int
    messages: int
    payload_bytes: int
    history_bytes: int
    #: Long payloads are kept once: how many, how long they are together, and packed.
    long_payloads: int
    long_payload_bytes: int
    packed_bytes: int
    oldest_ms: int | None
    newest_ms: int | None
    largest_run: str
    largest_bytes: int
    #: Written by an older version: only its pages were looked at.
    needs_migration: bool
    #: A disk error stopped the last engine; the next one rescues the file before anything else.
    needs_rescue: bool


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that must not be: the run it is about ("" for none), and what."""

    run: str
    what: str

    def __str__(self) -> str:
        """Name the run, if there is one."""
        return f"run {self.run}: {self.what}" if self.run else self.what


def info(path: str | Path, *, progress: Callable[[int], None] | None = None) -> Info:
    """Say what a store holds. One of an older schema tells only of its pages."""
    with opened(path, LOOK) as file:
        facts = file.facts()
        runs: dict[str, Counter[str]] = {}
        sums: Counter[str] = Counter()
        times: list[int] = []
        largest = (0, 0)
        after = 0
        is_old = False
        while True:
            try:
                tallies, after, count = file.tally(after, SLICE_RUNS)
            except InputError as error:
                if error.code != "SW-E1103":
                    raise
                is_old = True
                break
            for workflow, status, run_count, events, payloads, history, oldest, newest, run, run_bytes in tallies:
                runs.setdefault(workflow, Counter())[RunStatus(status).name.lower()] += run_count
                sums.update(runs=run_count, events=events, payloads=payloads, history=history)
                times += [oldest, newest]
                largest = max(largest, (run_bytes, run))
            if progress and count:
                progress(sums["runs"])
            if not after:
                break
    return Info(
        path=os.fspath(path),
        runs={workflow: dict(sorted(counts.items())) for workflow, counts in sorted(runs.items())},
        run_count=sums["runs"],
        event_count=sums["events"],
        payload_bytes=sums["payloads"],
        history_bytes=sums["history"],
        oldest_ms=min(times, default=None),
        newest_ms=max(times, default=None),
        largest_run=run_name(largest[1]) if largest[1] else "",
        largest_bytes=largest[0],
        needs_migration=is_old,
        **facts,
    )


def verify(
    path: str | Path, *, quick: bool = False, payloads: bool = False, progress: Callable[[int], None] | None = None
) -> list[Finding]:
    """Return what is wrong with a store: its pages (SQLite's own check), and what Stepwell promises of runs.

    `quick` leaves out whether the indexes fit their tables. `payloads` also looks whether every payload is JSON. Damaged
    pages can hide runs, so once there are any, only pages are reported.
    """
    with opened(path, LOOK) as file:
        found = [Finding("", f"damaged: {what}") for what in patiently(file, lambda: file.check_pages(quick))]
        if found:
            return found
        after = seen = 0
        while True:
            findings, after, count = file.check_runs(after, SLICE_RUNS)
            found += [_finding(*each) for each in findings]
            seen += count
            if progress:
                progress(seen)
            if not after:
                break
        strays, _, _ = patiently(file, file.check_strays)
        found += [_finding(*each) for each in strays]
        if payloads and not found:
            found += _odd_payloads(file)
    return found


def _finding(run: int, what: str) -> Finding:
    return Finding(run_name(run) if run else "", what)


def _odd_payloads(file: Any) -> Iterator[Finding]:
    for record in all_records(file):
        named = [("input", record[8]), ("result", record[9])]
        named += [(f"event {number} ({event[2]})", event[3]) for number, event in enumerate(record[25])]
        for name, payload in named:
            try:
                if payload:
                    json.loads(payload)
            except (ValueError, RecursionError) as error:
                yield _finding(record[0], f"{name} is not JSON: {error}")
