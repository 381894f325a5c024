"""The door for tickets: `open_table` reads a table, chooses the text and marks the rows that cannot be sent."""

from __future__ import annotations

import difflib
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stepwell._errors import InputError

from ._files import kind_of, load
from ._formats import Dialect, RawTable, csv_lines, read_csv, read_jsonl
from ._types import NULL_TYPES, RowProblem

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

TEXT_CHARS_MAX = 1_000_000
COLUMNS_SHOWN = 20

# Whole numbers up to here are exact in a float; pandas makes floats of ids in a column with gaps.
EXACT_FLOAT_MAX = 1e15

# The first of each row that the table has is taken; a table of mails gives its subject and its body.
_TITLE_NAMES = ("subject", "title", "summary", "headline", "ticket_subject", "short_description")
_BODY_NAMES = (
    "body",
    "text",
    "description",
    "message",
    "narrative",
    "content",
    "ticket_text",
    "ticket_body",
    "ticket_description",
    "customer_message",
    "ticket",
    "comment",
    "comments",
    "complaint",
    "utterance",
    "query",
    "question",
    "instruction",
    "request",
    "document",
    "sentence",
    "review",
    "transcript",
    "mail",
    "email_body",
    "consumer_complaint_narrative",
)
_BODY_ENDS = ("_text", "_body", "_description", "_message", "_narrative", "_content")


class Table:
    """A table of tickets, in input order.

    `rows` are sequences in the order of `columns`; `texts` is the text of each row (several text columns are joined by
    a blank line); `row_errors` says which rows are not to be sent, and why. `kind` is `"csv"`, `"jsonl"`, `"parquet"`,
    `"frame"`, `"records"` or `"texts"`. `fingerprint` names the content: another content has another fingerprint.
    """

    __slots__ = (
        "columns",
        "dialect",
        "fingerprint",
        "gold",
        "id_column",
        "kind",
        "lines",
        "name",
        "native",
        "path",
        "row_errors",
        "rows",
        "text_columns",
        "texts",
    )

    def __init__(
        self,
        raw: RawTable,
        *,
        kind: str,
        name: str,
        path: Path | None,
        native: Any,
        text_columns: tuple[str, ...],
        gold: str | None,
        id_column: str | None,
    ) -> None:
        self.columns: list[str] = raw.columns
        self.rows: list[Sequence[Any]] = raw.rows
        self.fingerprint: str = raw.fingerprint
        self.row_errors: dict[int, RowProblem] = raw.problems
        self.lines: list[int] | None = raw.lines
        self.dialect: Dialect = raw.dialect
        self.kind = kind
        self.name = name
        self.path = path
        self.native = native
        self.text_columns = text_columns
        self.gold = gold
        self.id_column = id_column
        self.texts: list[str] = []
        self._mark_texts()
        self._mark_ids()

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Sequence[Any]]:
        return iter(self.rows)

    def __repr__(self) -> str:
        marked = len(self.row_errors)
        return f"Table({self.name!r}, {len(self.rows):,} rows, text={list(self.text_columns)}, marked={marked:,})"

    def row(self, index: int) -> dict[str, Any]:
        """One row by column name."""
        return dict(zip(self.columns, self.rows[index], strict=True))

    def column(self, name: str) -> list[Any]:
        """One column, in row order."""
        position = self.columns.index(name)
        return [row[position] for row in self.rows]

    def ids(self) -> list[str] | None:
        """The id of each row as text, when an id column was named."""
        return None if self.id_column is None else [_text(value) or "" for value in self.column(self.id_column)]

    def golds(self) -> list[str | None] | None:
        """The right label of each row, when a gold column was named; None where the cell is empty."""
        if self.gold is None:
            return None
        return [
            value.strip() or None if type(value) is str else _text(value) or None for value in self.column(self.gold)
        ]

    def line(self, index: int) -> int:
        """Where the row begins in its file; for a frame and for Parquet its number, counted from 1."""
        if self.lines is None and self.kind == "csv":
            self.lines = csv_lines(self.columns, self.rows)
        return index + 1 if self.lines is None else self.lines[index]

    def _mark(self, index: int, code: str, reason: str, message: str, *, review: bool = False) -> None:
        # The first reason stands: a ragged row that is also empty is ragged.
        if index not in self.row_errors:
            line = self.line(index)
            place = "row" if self.lines is None else "line"
            self.row_errors[index] = RowProblem(
                code, reason, f"{place} {line:,}: {message}", line, "review" if review else "error"
            )

    def _mark_texts(self) -> None:
        parts: list[list[str]] = []
        for name in self.text_columns:
            values = self.column(name)
            if any(type(value) is not str for value in values):
                values = [
                    value if type(value) is str else self._convert(index, name, value)
                    for index, value in enumerate(values)
                ]
            parts.append(values)
        self.texts = (
            parts[0]
            if len(parts) == 1
            else ["\n\n".join([p for p in row if p and not p.isspace()]) for row in zip(*parts, strict=True)]
        )
        names = " and ".join(f'"{name}"' for name in self.text_columns)
        for index, text in enumerate(self.texts):
            if not text or text.isspace():
                self._mark(index, "SW-E2224", "empty", f"no text in {names}", review=True)
            elif len(text) > TEXT_CHARS_MAX:
                self._mark(index, "SW-E2225", "too_long", f"{len(text):,} characters, the limit is {TEXT_CHARS_MAX:,}")
            elif not text.isascii() and _has_surrogate(text):
                self._mark(index, "SW-E2226", "not_text", "half a surrogate pair in the text")
            if "\0" in text:
                self._mark(index, "SW-E2226", "not_text", "a NUL character in the text")

    def _convert(self, index: int, name: str, value: Any) -> str:
        text = _text(value)
        if text is None:
            self._mark(index, "SW-E2229", "not_text", f'column "{name}" holds {type(value).__name__}, not text')
        return text or ""

    def _mark_ids(self) -> None:
        ids = self.ids()
        if ids is None:
            return
        first: dict[str, int] = {}
        for index, value in enumerate(ids):
            if not value.strip():
                self._mark(index, "SW-E2228", "missing_id", f'no id in "{self.id_column}"')
            elif first.setdefault(value, index) != index:
                self._mark(
                    index, "SW-E2227", "duplicate_id", f'id "{value[:60]}" was already used in row {first[value] + 1:,}'
                )


def open_table(
    source: Any, *, text_columns: Sequence[str] | None = None, gold: str | None = None, id_column: str | None = None
) -> Table:
    """Reads a ticket table from a path (CSV, TSV, JSONL, Parquet) or takes one from memory (frame, dicts, strings).

    Without `text_columns` they are guessed from the usual names. Raises `InputError` (SW-E2201 to SW-E2218) when the
    table cannot be used; problems of single rows are in `Table.row_errors`.
    """
    native: Any = None
    path: Path | None = None
    if isinstance(source, (str, os.PathLike)):
        path = Path(os.fspath(source)).expanduser()
        kind = kind_of(path, "SW-E2204")
        content = load(path)
        if kind == "parquet":
            from ._frames import read_parquet

            raw = read_parquet(path, content)
        else:
            raw = read_csv(path, content) if kind == "csv" else read_jsonl(path, content)
        name = path.name
    else:
        from ._frames import read_frame

        kind, raw = read_frame(source)
        native, name = source, {"records": "list of dicts", "texts": "list of texts"}.get(kind, "frame")
    if not raw.rows:
        raise InputError(
            "SW-E2206",
            f"{name} has no rows",
            got=f"{len(raw.columns)} column names and nothing below them",
            expected="at least one ticket",
            loc=str(path or name),
            hint="check the export that wrote it",
        )
    where = str(path or name)
    for role, column in (("gold", gold), ("id", id_column)):
        if column is not None:
            _known(column, raw.columns, where, role)
    chosen = _choose(raw.columns, text_columns, gold, id_column, where)
    return Table(
        raw, kind=kind, name=name, path=path, native=native, text_columns=chosen, gold=gold, id_column=id_column
    )


def _known(name: str, columns: Sequence[str], where: str, role: str) -> None:
    if name in columns:
        return
    by_fold = {column.strip().casefold(): column for column in columns}
    near = by_fold.get(str(name).strip().casefold())
    close = [near] if near is not None else difflib.get_close_matches(str(name), columns, 1, 0.5)
    shown = ", ".join(columns[:COLUMNS_SHOWN]) + (
        f", ... ({len(columns)} in all)" if len(columns) > COLUMNS_SHOWN else ""
    )
    raise InputError(
        "SW-E2211",
        f'no column "{name}" for {role}',
        got=f'"{name}"',
        expected=f"one of: {shown}",
        loc=where,
        hint=f'did you mean "{close[0]}"?' if close else "use one of the listed names",
    )


def _choose(
    columns: Sequence[str], given: Sequence[str] | None, gold: str | None, id_column: str | None, where: str
) -> tuple[str, ...]:
    if given is None:
        return _guess(columns, {gold, id_column}, where)
    if isinstance(given, str):
        given = [given] if given in columns else [part.strip() for part in given.split(",")]
    if not given:
        return _guess(columns, {gold, id_column}, where)
    for name in given:
        _known(name, columns, where, "text")
        if list(given).count(name) > 1:
            raise InputError(
                "SW-E2213",
                f'text column "{name}" is named twice',
                got=", ".join(given),
                expected="each name once",
                loc=where,
                hint=f"--text {','.join(dict.fromkeys(given))}",
            )
        if name == gold:
            raise InputError(
                "SW-E2214",
                f'"{name}" is both text and gold',
                got="the answer inside the question",
                loc=where,
                expected="a gold column that the model does not see",
                hint="name another text column",
            )
    return tuple(given)


def _guess(columns: Sequence[str], taken: set[str | None], where: str) -> tuple[str, ...]:
    free = {_plain(column): column for column in reversed(columns) if column not in taken}
    title = next((free[name] for name in _TITLE_NAMES if name in free), None)
    body = next((free[name] for name in _BODY_NAMES if name in free), None)
    if body is None:
        body = next((free[name] for name in reversed(free) if name.endswith(_BODY_ENDS)), None)
    chosen = tuple(name for name in (title, body) if name is not None)
    if not chosen and len(free) == 1:
        chosen = tuple(free.values())
    if not chosen:
        raise InputError(
            "SW-E2212",
            "no column looks like the text of a ticket",
            got=", ".join(columns[:20]) or "no columns",
            expected="a column such as subject, title, body, text, description or message",
            loc=where,
            hint=f'say which: --text "{columns[0] if columns else "NAME"}"   or   text=[...]',
        )
    return chosen


def _plain(name: str) -> str:
    return "_".join("".join(c if c.isalnum() else " " for c in name.casefold()).split())


def _text(value: Any) -> str | None:
    """A cell as text: missing values are empty, numbers and dates are written out, containers and bytes are no text."""
    if isinstance(value, str):
        return value
    if value is None or type(value).__name__ in NULL_TYPES:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        if math.isnan(value):
            return ""
        return repr(int(value)) if value.is_integer() and abs(value) < EXACT_FLOAT_MAX else repr(value)
    if isinstance(value, (list, tuple, dict, set, bytes, bytearray)) or (
        hasattr(value, "__array__") and bool(getattr(value, "ndim", 0))
    ):
        return None
    return str(value)


def _has_surrogate(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False
