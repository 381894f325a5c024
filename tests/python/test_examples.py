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
EXAMPLES = sorted([*(ROOT / "examples").glob("*.py"), *(ROOT / "examples" / "rivals").glob("*.py")])


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_example(path: Path, tmp_path: Path) -> None:
    for _ in range(2):
        done = subprocess.run([sys.executable, path], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stdout


def kill_both(*options: str) -> str:
    command = [sys.executable, "-m", "tests.bench.kill_both", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.kill
def test_our_tutorials_end_after_a_kill() -> None:
    """Nothing is lost; what was under way may be done twice."""
    rows = [line.split(" | ") for line in kill_both("--ours").splitlines() if "stepwell" in line]
    assert [(int(row[1]), int(row[2]), row[4]) for row in rows] == [(40, 0, "yes"), (43, 0, "yes"), (43, 0, "yes")]


def test_the_guide_counts_the_tutorials_lines() -> None:
    assert kill_both("--lines") in (ROOT / "docs" / "guide" / "coming-from.md").read_text(encoding="utf-8")


def test_the_page_of_bad_inputs_is_that_of_the_tests() -> None:
    page = ROOT / "docs" / "bad-input.md"
    script = "import sys; sys.path.insert(0, 'tests'); import bad_input_table; sys.stdout.write(bad_input_table.page())"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == page.read_text(encoding="utf-8"), "run: python tests/bad_input_table.py"


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
