"""Reading C++ without a compiler, well enough for house rules: comments out, functions found by their braces."""

from __future__ import annotations

import re

NOISE = re.compile(
    r'//[^\n]*|/\*.*?\*/|R"(?P<tag>\w*)\(.*?\)(?P=tag)"|"(?:\\.|[^"\\\n])*"|(?<![0-9a-fA-F])\'(?:\\.|[^\'\\\n])*\'',
    re.DOTALL,
)
DIRECTIVE = re.compile(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", re.MULTILINE)


def blank(text: str) -> str:
    """C++ text without comments and literals; every line stays where it was."""
    return NOISE.sub(lambda found: re.sub(r"[^\n]", " ", found.group()), text)


def line_at(text: str, offset: int) -> int:
    """The number, from 1, of the line at `offset`."""
    return text.count("\n", 0, offset) + 1


SCOPE = re.compile(
    r"(?:template\s*<.*>\s*)?(?:(?:inline|typedef|static|constexpr)\s+)*(?:namespace|class|struct|union|enum|extern)\b",
    re.DOTALL,
)
LABEL = re.compile(r"^(?:\s*(?:public|private|protected)\s*:)+")


def function_spans(text: str) -> list[tuple[int, int]]:
    """First and last line of every C++ function, found by following braces.

    At namespace or class level a brace opens a scope, an initialiser, or (when parentheses come before it) a function.
    """
    code = DIRECTIVE.sub(lambda found: re.sub(r"[^\n]", " ", found.group()), blank(text))
    spans: list[tuple[int, int]] = []
    start = function_start = 0
    parens = 0
    position = 0
    while position < len(code):
        mark = code[position]
        if mark in "()":
            parens += 1 if mark == "(" else -1
        elif parens == 0 and mark in ";}":
            start = position + 1
        elif parens == 0 and mark == "{":
            raw = code[start:position]
            header = LABEL.sub("", raw).strip()
            if SCOPE.match(header) and not header.endswith(")"):
                start = position + 1
            else:
                end = matching_brace(code, position)
                is_tail = header == "" or header.startswith(",")  # the rest of a constructor's initialiser list
                if "(" in header or is_tail:
                    function_start = function_start if is_tail else position - len(raw) + raw.find(header)
                    spans.append((line_at(code, function_start), line_at(code, end)))
                position = end
                start = end + 1
        position += 1
    return spans


def matching_brace(code: str, opening: int) -> int:
    """Offset of the brace that closes the one at `opening`."""
    depth = 0
    for found in re.compile(r"[{}]").finditer(code, opening):
        depth += 1 if found.group() == "{" else -1
        if depth == 0:
            return found.start()
    return len(code) - 1
