"""Files of tickets, decoded: CSV and JSONL with the standard library, Parquet with whichever reader is installed.

A file is refused as a whole only when its rows could not be told apart or its letters would be guessed; anything that
concerns one row marks that row, so that one bad line never stops twenty thousand good ones.
"""

from __future__ import annotations

import csv
import hashlib
import json
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from stepwell._errors import InputError

from ._types import RowProblem

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

# The csv module keeps its field limit in a process-wide variable; the lock keeps two readers from restoring it under
# each other.
_FIELD_LIMIT = 1 << 30
_csv_lock = threading.Lock()

_MAGIC = (
    (b"PAR1", "a Parquet file"),
    (b"PK\x03\x04", "a spreadsheet or zip archive"),
    (b"\x1f\x8b", "a gzip file"),
    (b"\xff\xfe", "UTF-16 text"),
    (b"\xfe\xff", "UTF-16 text"),
    (b"\xd0\xcf\x11\xe0", "an old Excel file"),
    (b"%PDF", "a PDF file"),
)


@dataclass(slots=True)
class Dialect:
    """How the CSV file was written, so that the output can be written the same way."""

    delimiter: str = ","
    newline: str = "\n"
    bom: bool = False


@dataclass(slots=True)
class RawTable:
    """Rows as they stand in the source, before anybody chose text columns."""

    columns: list[str]
    rows: list[Sequence[Any]]
    fingerprint: str
    problems: dict[int, RowProblem] = field(default_factory=dict)
    lines: list[int] | None = None
    dialect: Dialect = field(default_factory=Dialect)


def decode(content: bytes, path: Path) -> str:
    """The text of a CSV or JSONL file, or the refusal that names line, byte and column."""
    head = content[:8]
    for magic, what in _MAGIC:
        if head.startswith(magic):
            raise InputError(
                "SW-E2208",
                f"{path.name} does not hold what its name says",
                got=what,
                loc=str(path),
                expected="UTF-8 text",
                hint=_magic_hint(what),
            )
    sample = content[:4096]
    if sample.count(0) * 4 > len(sample):
        raise InputError(
            "SW-E2208",
            f"{path.name} is not UTF-8 text",
            got="NUL bytes all over (UTF-16 or binary)",
            expected="UTF-8 text",
            loc=str(path),
            hint="convert it: iconv -f UTF-16 -t UTF-8 old > new",
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # With a byte order mark the positions count from behind it.
        start = error.start + (3 if content.startswith(b"\xef\xbb\xbf") else 0)
        line = content.count(b"\n", 0, start) + 1
        byte = start - (content.rfind(b"\n", 0, start) + 1) + 1
        column = _column_at(content, start, path)
        raise InputError(
            "SW-E2207",
            f"{path.name} is not UTF-8",
            got=f"byte 0x{content[start]:02x} ({content[start : start + 1].decode('cp1252', 'replace')!r} in cp1252)",
            expected="UTF-8",
            loc=f"{path}, line {line:,}, byte {byte:,}" + (f', column "{column}"' if column else ""),
            hint=f'iconv -f WINDOWS-1252 -t UTF-8 "{path.name}" > "{path.stem}-utf8{path.suffix}"',
        ) from error


def _magic_hint(what: str) -> str:
    if "Parquet" in what:
        return "rename it to .parquet"
    if "gzip" in what:
        return "unpack it first: gunzip"
    return 'save it as "CSV UTF-8"'


def _column_at(content: bytes, position: int, path: Path) -> str | None:
    """The name of the CSV column that a byte stands in, as well as it can be told from a file with wrong letters."""
    if path.suffix.lower() in (".jsonl", ".ndjson"):
        return None
    text = content[:position].decode("latin-1")
    delimiter = _delimiter(text, path)
    try:
        rows = _parse(text, delimiter, strict=False)
    except csv.Error:
        return None
    if len(rows) <= 1 or len(rows[-1]) > len(rows[0]):
        return None
    return rows[0][max(len(rows[-1]), 1) - 1].removeprefix("\xef\xbb\xbf") or None


# -- CSV ---------------------------------------------------------------------------------------------------------------


def read_csv(path: Path, content: bytes) -> RawTable:
    """A CSV or TSV file; the first line names the columns, blank lines are skipped."""
    text = decode(content, path)
    if not text.strip():
        raise InputError(
            "SW-E2205",
            f"{path.name} is empty",
            got=f"{len(content)} bytes",
            loc=str(path),
            expected="a line of column names and rows",
            hint="check the export that wrote it",
        )
    dialect = Dialect(
        _delimiter(text, path), "\r\n" if "\r\n" in text[: 1 << 20] else "\n", content[:3] == b"\xef\xbb\xbf"
    )
    spans: list[tuple[int, int]] | None = None
    malformed: set[int] = set()
    try:
        rows = _parse(text, dialect.delimiter, strict=True)
        while rows and not rows[-1]:
            del rows[-1]
        if [] in rows:
            rows, spans = _parse_with_lines(text, dialect.delimiter, path)
    except csv.Error:
        rows, spans = _parse_with_lines(text, dialect.delimiter, path)
        malformed = _malformed(text, dialect.delimiter, spans, path)
    columns = _header(rows[0], path)
    del rows[0]
    table = RawTable(columns, rows, digest((content,)), dialect=dialect)  # type: ignore[arg-type]
    count = len(columns)
    ragged = [index for index, row in enumerate(rows) if len(row) != count]
    if spans is not None:
        table.lines = [first for first, _ in spans[1:]]
    if ragged or malformed:
        _mark_csv_rows(table, rows, ragged, malformed, dialect.delimiter)
    return table


def csv_lines(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[int]:
    """The first line of each row of a CSV file without blank lines: only line breaks in cells take more than one."""
    line = 2 + sum(name.count("\n") for name in columns)
    lines: list[int] = []
    for row in rows:
        lines.append(line)
        line += 1
        for cell in row:
            if "\n" in cell:
                line += cell.count("\n")
    return lines


def _mark_csv_rows(
    table: RawTable, rows: list[list[str]], ragged: list[int], malformed: set[int], delimiter: str
) -> None:
    count = len(table.columns)
    lines = table.lines = table.lines or csv_lines(table.columns, rows)
    for index in ragged:
        row = rows[index]
        cells = "cell" if len(row) == 1 else "cells"
        message = f"line {lines[index]:,}: {len(row)} {cells} where the header has {count}"
        table.problems[index] = RowProblem("SW-E2221", "ragged", message, lines[index])
        # Nothing of the user's row is lost in the output: surplus cells are joined into the last one again.
        if len(row) > count:
            rows[index] = [*row[: count - 1], delimiter.join(row[count - 1 :])]
        else:
            rows[index] = row + [""] * (count - len(row))
    for span_index in sorted(malformed):
        index = span_index - 1
        if index >= 0 and index not in table.problems:
            message = f"line {lines[index]:,}: characters follow a closing quote"
            table.problems[index] = RowProblem("SW-E2230", "malformed", message, lines[index])


def _delimiter(text: str, path: Path) -> str:
    """Comma, unless the header has none and clearly uses another separator, as spreadsheets of half of Europe do."""
    if path.suffix.lower() == ".tsv":
        return "\t"
    header = text[: text.find("\n")] if "\n" in text else text
    if "," in header:
        return ","
    return max(";\t|", key=header.count) if any(c in header for c in ";\t|") else ","


def _parse(text: str, delimiter: str, *, strict: bool) -> list[list[str]]:
    with _csv_lock:
        limit = csv.field_size_limit(_FIELD_LIMIT)
        try:
            return list(csv.reader(_physical_lines(text), delimiter=delimiter, strict=strict))
        finally:
            csv.field_size_limit(limit)


def _physical_lines(text: str) -> Iterable[str]:
    """Lines with their ends, cut at line feeds only: a cell may hold any other separator Unicode knows."""
    if "\r" in text and "\n" not in text:
        text = text.replace("\r", "\n")
    lines = text.split("\n")
    last = lines.pop()
    result = [line + "\n" for line in lines]
    if last:
        result.append(last)
    return result


def _parse_with_lines(text: str, delimiter: str, path: Path) -> tuple[list[list[str]], list[tuple[int, int]]]:
    """The slow way, for files that have something wrong: also the first and last line of each row."""
    rows: list[list[str]] = []
    spans: list[tuple[int, int]] = []
    with _csv_lock:
        limit = csv.field_size_limit(_FIELD_LIMIT)
        try:
            reader = csv.reader(_physical_lines(text), delimiter=delimiter)
            before = 0
            for row in reader:
                if row:
                    rows.append(row)
                    spans.append((before + 1, reader.line_num))
                before = reader.line_num
        except csv.Error as error:
            raise InputError(
                "SW-E2208",
                f"{path.name} cannot be read as CSV",
                got=str(error),
                expected="UTF-8 CSV text",
                loc=f"{path}, line {before + 1:,}",
                hint="look at this line of the file",
            ) from error
        finally:
            csv.field_size_limit(limit)
    return rows, spans


def _malformed(text: str, delimiter: str, spans: list[tuple[int, int]], path: Path) -> set[int]:
    """Which rows break the quoting rules; a quote that is never closed refuses the file, as it swallowed the rest."""
    lines = list(_physical_lines(text))
    result: set[int] = set()
    for index, (first, last) in enumerate(spans):
        chunk = lines[first - 1 : last]
        if not any('"' in line for line in chunk):
            continue
        try:
            _parse("".join(chunk), delimiter, strict=True)
        except csv.Error as error:
            if "end of data" in str(error):
                swallowed = last - first
                raise InputError(
                    "SW-E2210",
                    "a quote is never closed",
                    expected='a closing " before the end of the row',
                    got=f"a field that runs over {swallowed:,} more lines to the end of the file",
                    loc=f"{path}, line {first:,}",
                    hint='close it; inside a quoted field write "" for a quote',
                ) from error
            result.add(index)
    return result


def _header(names: list[str], path: Path) -> list[str]:
    columns = [name if name.strip() else f"column_{position}" for position, name in enumerate(names, 1)]
    check_unique(columns, f"{path}, line 1")
    return columns


def check_unique(columns: Sequence[str], loc: str) -> None:
    """Refuses two columns of one name."""
    if len(set(columns)) == len(columns):
        return
    twice = sorted({name for name in columns if list(columns).count(name) > 1})
    places = ", ".join(str(i) for i, name in enumerate(columns, 1) if name == twice[0])
    raise InputError(
        "SW-E2209",
        f'two columns are named "{twice[0]}"',
        got=f"columns {places}",
        loc=loc,
        expected="each name once",
        hint="rename one of them",
    )


# -- JSONL -------------------------------------------------------------------------------------------------------------


def read_jsonl(path: Path, content: bytes) -> RawTable:
    """One JSON object on each line; columns are all keys in the order they are first seen, blank lines are skipped."""
    text = decode(content, path)
    records: list[dict[str, Any]] = []
    lines: list[int] = []
    problems: dict[int, RowProblem] = {}
    loads = json.loads
    for number, line in enumerate(text.split("\n"), 1):
        if not line or line.isspace():
            continue
        try:
            record = loads(line)
        except (ValueError, RecursionError) as error:
            problems[len(records)] = _json_problem(error, line, number)
            record = {}
        if type(record) is not dict:
            problems[len(records)] = RowProblem(
                "SW-E2223", "not_object", f"line {number:,}: {_json_kind(record)} where an object is needed", number
            )
            record = {}
        records.append(record)
        lines.append(number)
    if not records:
        raise InputError(
            "SW-E2205",
            f"{path.name} is empty",
            got=f"{len(content)} bytes",
            loc=str(path),
            expected="one JSON object on each line",
            hint="check the export that wrote it",
        )
    columns, rows = rows_of(records)
    if not columns:
        first = next(iter(problems.values()), None)
        raise InputError(
            "SW-E2206",
            f"{path.name} holds no usable row",
            loc=str(path),
            expected="one JSON object on each line",
            got=first.message if first else "objects without keys",
            hint="an array of objects becomes JSONL with: jq -c '.[]'",
        )
    return RawTable(columns, rows, digest((content,)), problems, lines)


def rows_of(records: Sequence[dict[str, Any]]) -> tuple[list[str], list[Sequence[Any]]]:
    """Columns and rows of dicts; a key that a record lacks is None."""
    names: dict[str, None] = {}
    seen: set[tuple[str, ...]] = set()
    for record in records:
        keys = tuple(record)
        if keys not in seen:
            seen.add(keys)
            names.update(dict.fromkeys(keys))
    columns = list(names)
    same = tuple(columns)
    rows: list[Sequence[Any]] = [
        list(record.values()) if tuple(record) == same else [record.get(name) for name in columns] for record in records
    ]
    return columns, rows


def _json_problem(error: Exception, line: str, number: int) -> RowProblem:
    what = "nested too deeply"
    if isinstance(error, json.JSONDecodeError):
        what = f"{error.msg.lower()} at character {error.pos + 1}"
    elif isinstance(error, ValueError):
        what = "a number with too many digits"
    sample = line.strip()[:60]
    return RowProblem("SW-E2222", "not_json", f"line {number:,}: not JSON, {what}: {sample}", number)


def _json_kind(value: object) -> str:
    names = {
        list: "a list",
        str: "a string",
        bool: "true or false",
        int: "a number",
        float: "a number",
        type(None): "null",
    }
    return names.get(type(value), "something else")


def digest(parts: Iterable[bytes]) -> str:
    """A short name of a content: equal contents have equal names."""
    state = hashlib.blake2b(digest_size=16)
    for part in parts:
        state.update(part)
    return state.hexdigest()
