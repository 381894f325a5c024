"""The upkeep of a store's file that no engine has open: look, check, copy, compact, export and import.

    from stepwell import store
    print(store.info("support.db").runs)

A file that an engine has open is refused (ConflictError SW-E1101 names the process); `Engine.backup` copies it then. All
of this can be stopped with Ctrl-C and leaves the file whole. `progress` is called now and then with how much is done.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stepwell.store._exchange import Added, export, import_runs
from stepwell.store._file import CHANGE, LOOK, opened, patiently
from stepwell.store._look import Finding, Info, info, verify

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Added", "Finding", "Info", "backup", "compact", "export", "import_runs", "info", "rescue", "verify"]

_BACKUP_PAGES = 256


def compact(path: str | Path) -> tuple[int, int]:
    """Rewrite the file without its unused pages and return its bytes before and after.

    The new file takes the old one's name at once or not at all; it needs room beside it (StoreError SW-E1105). A store of
    an older schema is brought to this version's.
    """
    with opened(path, CHANGE) as file:
        before: int = file.facts()["file_bytes"]
        patiently(file, file.compact)
    return before, Path(path).stat().st_size


def backup(path: str | Path, target: str | Path) -> int:
    """Write a whole copy to `target`, which must not exist (ConflictError SW-E1107), and return its bytes."""
    with opened(path, LOOK) as file:
        patiently(file, lambda: file.back_up(os.fspath(Path(target).absolute())))
    return Path(target).stat().st_size


def rescue(path: str | Path) -> bool:
    """Do now what an engine does first after a disk error: copy what can be read into a new file. False: not needed."""
    marked = Path(f"{os.fspath(path)}.failed").exists()
    with opened(path, CHANGE):
        return marked


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
