"""docs/guide/store.md: its Python and its commands run as they stand."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from stepwell.__main__ import main

if TYPE_CHECKING:
    import pytest

GUIDE = Path(__file__).parents[2] / "docs" / "guide" / "store.md"


def test_guide_runs_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"```(\w+)\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    for kind, text in sorted(blocks, reverse=True):  # the Python makes the store that the commands look at
        if kind == "python":
            exec(compile(text, str(GUIDE), "exec"), {"__name__": "guide"})  # noqa: S102
        else:
            for line in text.splitlines():
                assert main(shlex.split(line)[1:]) == 0, line
    assert (tmp_path / "copy.db").exists()
