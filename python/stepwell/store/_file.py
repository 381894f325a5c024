"""The file of a store that no engine has open, for as long as something is done with it."""

from __future__ import annotations

import contextlib
import os
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

T = TypeVar("T")

LOOK, CHANGE, CREATE = 0, 1, 2
SLICE_RUNS = 2_000
SLICE_BYTES = 8 << 20


@contextlib.contextmanager
def opened(path: str | Path, access: int) -> Iterator[Any]:
    from stepwell import _core

    file = _core.StoreFile.open(os.fspath(path), access)
    try:
        yield file
    finally:
        file.close()


def patiently(file: Any, work: Callable[[], T]) -> T:
    """Do in another thread what may take long, so that Ctrl-C is heard meanwhile, and stop it then."""
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(work)
        try:
            wait([future])
        except BaseException:
            file.interrupt()
            raise
        return future.result()


def all_records(file: Any) -> Iterator[tuple[Any, ...]]:
    after = 0
    while True:
        records, after = file.read(after, SLICE_RUNS, SLICE_BYTES)
        yield from records
        if not after:
            return
