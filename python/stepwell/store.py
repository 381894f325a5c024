"""The upkeep of a store's file that no engine has open: look, check, copy, compact, export and import.

    from stepwell import store
    print(store.info("support.db").runs)

A file that an engine has open is refused (ConflictError SW-E1101 names the process); `Engine.backup` copies it then. All
of this can be stopped with Ctrl-C and leaves the file whole. `progress` is called now and then with how much is done.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from stepwell import _store_records
from stepwell._errors import ConflictError, InputError, StoreError
from stepwell._types import RunStatus, run_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Progress = Callable[[int], None]

T = TypeVar("T")

__all__ = ["Added", "Finding", "Info", "backup", "compact", "export", "import_runs", "info", "rescue", "verify"]

_LOOK, _CHANGE, _CREATE = 0, 1, 2
_SLICE_RUNS = 2_000
_SLICE_BYTES = 8 << 20


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


@dataclass(frozen=True, slots=True)
class Added:
    """What an import did: runs that were new, and runs that were there, the very same."""

    added: int
    known: int


@contextlib.contextmanager
def _opened(path: str | Path, access: int) -> Iterator[Any]:
    from stepwell import _core

    file = _core.StoreFile.open(os.fspath(path), access)
    try:
        yield file
    finally:
        file.close()


def _patiently(file: Any, work: Callable[[], T]) -> T:
    """Do in another thread what may take long, so that Ctrl-C is heard meanwhile, and stop it then."""
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(work)
        try:
            wait([future])
        except BaseException:
            file.interrupt()
            raise
        return future.result()


def info(path: str | Path, *, progress: Progress | None = None) -> Info:
    """Say what a store holds. One of an older schema tells only of its pages."""
    with _opened(path, _LOOK) as file:
        facts = file.facts()
        runs: dict[str, Counter[str]] = {}
        sums: Counter[str] = Counter()
        times: list[int] = []
        largest = (0, 0)
        after = 0
        is_old = False
        while True:
            try:
                tallies, after, count = file.tally(after, _SLICE_RUNS)
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
    path: str | Path, *, quick: bool = False, payloads: bool = False, progress: Progress | None = None
) -> list[Finding]:
    """Return what is wrong with a store: its pages (SQLite's own check), and what Stepwell promises of runs.

    `quick` leaves out whether the indexes fit their tables. `payloads` also looks whether every payload is JSON. Damaged
    pages can hide runs, so once there are any, only pages are reported.
    """
    with _opened(path, _LOOK) as file:
        found = [Finding("", f"damaged: {what}") for what in _patiently(file, lambda: file.check_pages(quick))]
        if found:
            return found
        after = seen = 0
        while True:
            findings, after, count = file.check_runs(after, _SLICE_RUNS)
            found += [_finding(*each) for each in findings]
            seen += count
            if progress:
                progress(seen)
            if not after:
                break
        strays, _, _ = _patiently(file, file.check_strays)
        found += [_finding(*each) for each in strays]
        if payloads and not found:
            found += _odd_payloads(file)
    return found


def _finding(run: int, what: str) -> Finding:
    return Finding(run_name(run) if run else "", what)


def _odd_payloads(file: Any) -> Iterator[Finding]:
    for record in _all_records(file):
        named = [("input", record[8]), ("result", record[9])]
        named += [(f"event {number} ({event[2]})", event[3]) for number, event in enumerate(record[25])]
        for name, payload in named:
            try:
                if payload:
                    json.loads(payload)
            except (ValueError, RecursionError) as error:
                yield _finding(record[0], f"{name} is not JSON: {error}")


def _all_records(file: Any) -> Iterator[tuple[Any, ...]]:
    after = 0
    while True:
        records, after = file.read(after, _SLICE_RUNS, _SLICE_BYTES)
        yield from records
        if not after:
            return


def compact(path: str | Path) -> tuple[int, int]:
    """Rewrite the file without its unused pages and return its bytes before and after.

    The new file takes the old one's name at once or not at all; it needs room beside it (StoreError SW-E1105). A store of
    an older schema is brought to this version's.
    """
    with _opened(path, _CHANGE) as file:
        before: int = file.facts()["file_bytes"]
        _patiently(file, file.compact)
    return before, Path(path).stat().st_size


def backup(path: str | Path, target: str | Path) -> int:
    """Write a whole copy to `target`, which must not exist (ConflictError SW-E1107), and return its bytes."""
    with _opened(path, _LOOK) as file:
        _patiently(file, lambda: file.back_up(os.fspath(Path(target).absolute())))
    return Path(target).stat().st_size


def rescue(path: str | Path) -> bool:
    """Do now what an engine does first after a disk error: copy what can be read into a new file. False: not needed."""
    marked = Path(f"{os.fspath(path)}.failed").exists()
    with _opened(path, _CHANGE):
        return marked


def export(path: str | Path, target: str | Path, *, progress: Progress | None = None) -> int:
    """Write every run as a line of JSON, with its history, messages and key, and return how many there are.

    Before them goes a line of settings: schedules, budgets with what people changed of them, limits and pauses of queues.

    `target` must not exist (ConflictError SW-E1107) and has its name only when it is whole.
    """
    from stepwell import __version__

    target = Path(target)
    if target.exists():
        raise ConflictError("SW-E1107", f"{target} is there already", hint="name a file that is not")
    partial = target.with_name(target.name + ".partial")
    count = 0
    digest = hashlib.sha256()
    with _opened(path, _LOOK) as file, _private(partial) as out:

        def put(line: bytes, what: str) -> None:
            if len(line) > _store_records.LINE_BYTES_MAX:
                raise StoreError("SW-E1108", f"{what} is too long for a line", got=len(line))
            digest.update(line)
            out.write(line)

        put(_store_records.header(file.facts()["schema"], __version__), "the header")
        put(_store_records.settings_line(file.settings()), "what stands beside the runs")
        for record in _all_records(file):
            put(_store_records.line_of(record), f"run {run_name(record[0])}")
            count += 1
            if progress and count % _SLICE_RUNS == 0:
                progress(count)
        out.write(_store_records.trailer(count, digest.hexdigest()))
        out.flush()
        os.fsync(out.fileno())
    partial.rename(target)
    return count


@contextlib.contextmanager
def _private(path: Path) -> Iterator[Any]:
    """A new file that only its owner reads, gone again if it is not finished."""
    try:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:  # noqa: PTH123
            yield out
    except OSError as error:
        path.unlink(missing_ok=True)
        raise StoreError("SW-E1107", f"{path} cannot be written: {error.strerror}") from None
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def import_runs(path: str | Path, source: str | Path, *, progress: Progress | None = None) -> Added:
    """Add the runs of an export to a store, which is made if it is missing.

    The file is looked through first: of one that was cut or changed nothing is taken (InputError SW-E1108 names the
    line). A run that is there, the very same, is skipped, so the same import may be run again and goes on where it
    stopped; one with the same id or key that is not the same is refused (ConflictError SW-E1108), and so is a schedule or
    queue of the same name, before any run is taken. Accounts of budgets that the store has stay as they are.
    """
    name = os.fspath(source)
    try:
        file = open(source, "rb")  # noqa: PTH123, SIM115 - closed below
    except OSError as error:
        raise InputError("SW-E1108", f"{name} cannot be read: {error.strerror}") from None
    added = known = waiting_bytes = 0
    waiting: list[tuple[Any, ...]] = []
    with file:
        if os.path.exists(path) and os.path.samefile(path, source):  # noqa: PTH110, PTH121 - any kind of path
            raise InputError("SW-E1108", f"{name} is the store itself", expected="an export")
        left = _store_records.check(name, file)
        file.seek(0)
        settings = _store_records.settings(name, file)
        file.seek(0)
        with _opened(path, _CREATE) as into:
            into.add_settings(*settings)
            for _, record, line_bytes in _store_records.records(name, file):
                waiting.append(record)
                waiting_bytes += line_bytes
                left -= 1
                if len(waiting) == _SLICE_RUNS or waiting_bytes > _SLICE_BYTES or not left:
                    fresh, same = into.add(waiting)
                    added, known, waiting, waiting_bytes = added + fresh, known + same, [], 0
                    if progress:
                        progress(added + known)
    return Added(added, known)


def backup_engine(core: Any, target: str | Path, progress: Callable[[int, int], None] | None) -> int:
    """Copy the store of an open engine, slice after slice."""
    path = os.fspath(Path(target).absolute())
    is_finished = False
    try:
        while not is_finished:
            done, pages, is_finished = core.backup(path, _BACKUP_PAGES, False)  # noqa: FBT003
            if progress:
                progress(done, pages)
    finally:
        if not is_finished:
            with contextlib.suppress(Exception):  # the engine may be closed; the error that brought us here says so
                core.backup(path, 0, True)  # noqa: FBT003
    return Path(path).stat().st_size


_BACKUP_PAGES = 256
