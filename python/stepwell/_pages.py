"""All runs of a kind, however many: page by page, so that neither memory nor the store's other callers feel it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROWS = 500


def pages(core: Any, workflow: str = "", **which: bool) -> Iterator[tuple[Any, ...]]:
    """Yield the core's rows of a workflow's runs ("": of all), the newest first.

    `which`: is_failed, is_breached and with_events, as the core's `find` has them.
    """
    before = 0
    while True:
        rows = core.find(workflow=workflow, before=before, count_max=_ROWS, **which)
        yield from rows
        if len(rows) < _ROWS:
            return
        before = rows[-1][0]
