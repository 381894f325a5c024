"""Every example runs, twice in the same folder: the second time it finds its work done. So do README and guide."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_example(path: Path, tmp_path: Path) -> None:
    for _ in range(2):
        done = subprocess.run([sys.executable, path], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stdout


def blocks() -> list[tuple[str, str]]:
    """Return the Python of README and guide, each block as it stands, with its place."""
    found: list[tuple[str, str]] = []
    for page in (README, *sorted((ROOT / "docs" / "guide").glob("*.md"))):
        parts = re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
        found += [(f"{page.name} {number}", part) for number, part in enumerate(parts, start=1)]
    return found


@pytest.mark.parametrize("code", [code for _, code in blocks()], ids=[place for place, _ in blocks()])
def test_the_documented_code_runs_as_it_stands(code: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
