"""Text for a terminal: nothing hides in it, lines have a length, columns a width."""

from __future__ import annotations

import json
from typing import Any

_LINE_CHARS_MAX = 160


def printable(text: str) -> str:
    """Return text in which nothing hides or moves the cursor: control, zero-width and bidi characters are spelled out."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)


def text_of(value: Any, most: int = _LINE_CHARS_MAX) -> str:
    """Return a value on one line of at most so many characters."""
    text = printable(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
    return text if len(text) <= most else f"{text[: most - 3]}..."


def table(rows: list[tuple[str, ...]]) -> str:
    """Return rows as columns; the last one is as wide as it likes."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    return "\n".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]).rstrip()
        for row in rows
    )
