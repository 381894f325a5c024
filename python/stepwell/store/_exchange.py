"""Runs out of a store and into another: one line of JSON each."""

from __future__ import annotations

import contextlib
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stepwell._errors import ConflictError, InputError, StoreError
from stepwell._types import run_name
from stepwell.store import _records
from stepwell.store._file import CREATE, LOOK, SLICE_BYTES, SLICE_RUNS, all_records, opened

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@dataclass(frozen=True, slots=True)
class Added:
    """What an import did: runs that were new, and runs that were there, the very same."""

    added: int
    known: int


def export(path: str | Path, target: str | Path, *, progress: Callable[[int], None] | None = None) -> int:
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
    with opened(path, LOOK) as file, _private(partial) as out:

        def put(line: bytes, what: str) -> None:
            if len(line) > _records.LINE_BYTES_MAX:
                raise StoreError("SW-E1108", f"{what} is too long for a line", got=len(line))
            digest.update(line)
            out.write(line)

        put(_records.header(file.facts()["schema"], __version__), "the header")
        put(_records.settings_line(file.settings()), "what stands beside the runs")
        for record in all_records(file):
            put(_records.line_of(record), f"run {run_name(record[0])}")
            count += 1
            if progress and count % SLICE_RUNS == 0:
                progress(count)
        out.write(_records.trailer(count, digest.hexdigest()))
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


def import_runs(path: str | Path, source: str | Path, *, progress: Callable[[int], None] | None = None) -> Added:
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
        left = _records.check(name, file)
        file.seek(0)
        settings = _records.settings(name, file)
        file.seek(0)
        with opened(path, CREATE) as into:
            into.add_settings(*settings)
            for _, record, line_bytes in _records.records(name, file):
                waiting.append(record)
                waiting_bytes += line_bytes
                left -= 1
                if len(waiting) == SLICE_RUNS or waiting_bytes > SLICE_BYTES or not left:
                    fresh, same = into.add(waiting)
                    added, known, waiting, waiting_bytes = added + fresh, known + same, [], 0
                    if progress:
                        progress(added + known)
    return Added(added, known)
