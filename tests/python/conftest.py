"""Fixtures that many tests share. A test file that needs another engine has its own fixture of that name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import stepwell as sw

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(params=["memory", "file"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[sw.Engine]:
    """An open engine on each store."""
    with sw.Engine(None if request.param == "memory" else tmp_path / "s.db") as opened:
        yield opened
