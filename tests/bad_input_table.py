"""Writes docs/bad-input.md from the tests that bear the catalogue's numbers: `python tests/bad_input_table.py`.

A test is called test_<number>_<what it holds>, or test_<number>_<number>_... for two entries. Its docstring says more.
"""

from __future__ import annotations

import ast
import re
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "bad-input.md"
NAME = re.compile(r"test_(\d+)_(?:(\d+)_)?(.+)")
CODE = re.compile(r"SW-E(?:\d{4}|\((?:\d{4}\|?)+\))")

#: Entries without a test of their own, and why.
WAITING = {
    41: "payloads carry no checksum; a damaged file is found by SQLite and by the store's own checks (entry 160)",
    44: "waits for the service: one store has one tenant",
    52: "waits for JSON state machines; in a Python function Python's own tools find it",
    64: "waits for JSON state machines and manifests",
    146: "waits for the service and its production mode",
    148: "waits for archives: nothing is imported from one yet",
}
HEAD = """# Bad input

What happens when Stepwell is given something that it should not be given, by the numbers of our catalogue. Everything has
a defined outcome: a coded error that says what was expected, what was seen and how to mend it (`stepwell explain CODE`),
nothing executed that should not be, nothing lost. Each line is a test; `python tests/bad_input_table.py` writes this page
from them, and a test keeps it true. Damaged, foreign and full files (159 to 164, 166, 167) are the store's tests.

| entry | what happens | codes | test |
|---|---|---|---|
"""


@dataclass(frozen=True, order=True)
class Row:
    """One line of the page."""

    first: int
    last: int
    text: str
    codes: str
    test: str

    def __str__(self) -> str:
        entry = str(self.first) if self.first == self.last else f"{self.first}, {self.last}"
        return f"| {entry} | {self.text} | {self.codes} | {self.test} |"


def rows_of(path: Path) -> list[Row]:
    """The tests of one file."""
    text = path.read_text(encoding="utf-8")
    rows = []
    for node in ast.parse(text).body:
        found = NAME.fullmatch(node.name) if isinstance(node, ast.FunctionDef) else None
        if found is None or not isinstance(node, ast.FunctionDef):
            continue
        says = found[3].replace("_", " ").replace("ctrl c", "Ctrl-C")
        more = ast.get_docstring(node)
        said = says[0].upper() + says[1:] + (f". {' '.join(more.split())}" if more else "")
        codes = sorted({code for word in CODE.findall(ast.unparse(node)) for code in re.findall(r"\d{4}", word)})
        first = int(found[1])
        codes_text = ", ".join(f"SW-E{code}" for code in codes)
        rows.append(Row(first, int(found[2] or first), said, codes_text, f"{path.stem}::{node.name}"))
    return rows


def page() -> str:
    """The whole page."""
    rows = [row for path in sorted((ROOT / "tests" / "python").glob("test_bad_input_*.py")) for row in rows_of(path)]
    rows += [Row(number, number, f"*{why}*", "", "") for number, why in WAITING.items()]
    return HEAD + "".join(f"{row}\n" for row in sorted(rows))


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    sys.stdout.write(f"{PAGE.relative_to(ROOT)}: {page().count(chr(10)) - HEAD.count(chr(10))} lines\n")
