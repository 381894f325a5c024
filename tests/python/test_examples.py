"""Every example runs, twice in the same folder: the second time it finds its work done. So do the README and the guide."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
GUIDES = sorted((ROOT / "docs" / "guide").glob("*.md"))
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_example(path: Path, tmp_path: Path) -> None:
    for _ in range(2):
        done = subprocess.run([sys.executable, path], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stdout


def blocks_of(page: Path) -> list[str]:
    """Its Python, in order."""
    return re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


BLOCKS = [(page, number) for page in (README, *GUIDES) for number in range(len(blocks_of(page)))]


@pytest.mark.parametrize(("page", "number"), BLOCKS, ids=[f"{page.name}-{number}" for page, number in BLOCKS])
def test_a_page_runs_as_it_stands(page: Path, number: int, tmp_path: Path) -> None:
    code = blocks_of(page)[number]
    script = tmp_path / "test_page.py"
    script.write_text(code, encoding="utf-8")
    is_test = "\ndef test_" in code
    done = subprocess.run(
        [sys.executable, *(["-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider"] if is_test else []), script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
