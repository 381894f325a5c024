"""Every example runs, twice in the same folder: the second time it finds its work done. So does the README's Python."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
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


def blocks_of_the_readme() -> list[str]:
    """Its Python, which stands in the order of the first five minutes."""
    return re.findall(r"^```python\n(.*?)^```", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("number", range(len(blocks_of_the_readme())))
def test_the_readme_runs_as_it_stands(number: int, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", blocks_of_the_readme()[number]],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
