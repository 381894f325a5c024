"""Results out: every input row once, in order, with the caller's columns and ours; the whole file or none of it."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import uuid
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from stepwell._errors import InputError

from ._files import kind_of
from ._types import NULL_TYPES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from ._read import Table
    from ._types import Outcome

COLUMNS = ("label", "confidence", "status", "reason", "attempts", "tokens_in", "tokens_out", "cost_usd", "error")


def check_output(out: str | os.PathLike[str], source: Any = None) -> Path:
    """Refuses an output that could not be written, before anything is started and paid. Returns its path.

    `source` is what `open_table` was given; an output that is the same file, by a link too, is refused.
    """
    path = Path(os.fspath(out)).expanduser()
    if path.is_dir():
        raise InputError(
            "SW-E2244",
            f'"{path}" is a folder',
            got="a folder",
            expected="a file name",
            hint=f'"{path / "results.csv"}"',
        )
    kind = kind_of(path, "SW-E2241")
    if kind == "parquet":
        from ._frames import parquet_package

        parquet_package()
    if isinstance(source, (str, os.PathLike)) and _same_file(path, Path(os.fspath(source)).expanduser()):
        raise InputError(
            "SW-E2243",
            "the output would overwrite the input",
            got=str(path),
            expected="another file",
            hint=f'"{path.with_name(path.stem + "-labelled" + path.suffix)}"',
        )
    target = _target(path)
    if not target.parent.is_dir():
        raise InputError(
            "SW-E2242",
            f'the folder "{target.parent}" does not exist',
            got=str(path),
            expected="an existing folder",
            hint=f'mkdir -p "{target.parent}"',
        )
    # Asking the permission bits is not enough (read-only mounts, quotas, the superuser), so a file is really made.
    probe = _beside(target)
    try:
        os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except OSError as error:
        raise InputError(
            "SW-E2242",
            f'the folder "{target.parent}" cannot be written',
            got=(error.strerror or str(error)).lower(),
            expected="a folder that takes new files",
            hint="choose another folder",
        ) from error
    finally:
        probe.unlink(missing_ok=True)
    return path


def column_names(columns: Sequence[str]) -> list[str]:
    """Names of our columns beside the caller's: all as they are, those that collide with the prefix `triage_`."""
    taken = set(columns)
    names = []
    for plain in COLUMNS:
        name = plain
        while name in taken:
            name = f"triage_{name}"
        taken.add(name)
        names.append(name)
    return names


class Lines:
    """The text of a CSV, TSV or JSONL output, made while outcomes arrive, so that little is left when the last is in."""

    def __init__(self, out: str | os.PathLike[str], table: Table) -> None:
        path = Path(os.fspath(out))
        self._table = table
        self._names = column_names(table.columns)
        self._text = io.StringIO(newline="")
        self._count = 0
        self._writer: Any = None
        self._kind = kind_of(path, "SW-E2241")
        if self._kind == "csv":
            plain = "," if table.dialect.delimiter == "\t" else table.dialect.delimiter
            delimiter = "\t" if path.suffix.lower() == ".tsv" else plain
            self._writer = csv.writer(self._text, delimiter=delimiter, lineterminator=table.dialect.newline)
            self._writer.writerow([*table.columns, *self._names])

    def add(self, outcomes: Sequence[Outcome | None]) -> None:
        """Add the rows that have an outcome, up to the first that has none. Each call sees the outcomes of all rows."""
        begin, rows = self._count, self._table.rows
        fresh: list[Outcome] = []
        while self._count < len(outcomes) and (outcome := outcomes[self._count]) is not None:
            fresh.append(outcome)
            self._count += 1
        rows = rows[begin : self._count]
        if self._writer is not None:
            _write_csv(self._writer, self._table.kind, rows, fresh)
        elif self._kind == "jsonl":
            _write_jsonl(self._text, [*self._table.columns, *self._names], rows, fresh)

    def text(self) -> str:
        """Return what was made so far."""
        return self._text.getvalue()


def write_results(
    out: str | os.PathLike[str], table: Table, results: Sequence[Outcome], lines: Lines | None = None
) -> Path:
    """Writes one line for every input row to CSV, TSV, JSONL or Parquet, by the end of the name.

    `lines` is the text as far as it was made before. The file appears whole or not at all: it is written beside its
    place, synced and renamed. Raises `InputError` (SW-E2245) when the disk refuses; `ValueError` when there is not one
    result for each row.
    """
    _check_count(table, results)
    path = check_output(out, table.path)
    lines = lines or Lines(path, table)
    lines.add(results)
    target = _target(path)
    part = _beside(target)
    try:
        _write_part(part, path, table, lines, results)
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        if target.exists():
            part.chmod(target.stat().st_mode & 0o777)
        part.replace(target)
        _sync_folder(target.parent)
    except OSError as error:
        raise InputError(
            "SW-E2245",
            "the results could not be written",
            got=(error.strerror or str(error)).lower(),
            loc=str(path),
            expected="room and permission for the file",
            hint="make room and run the same command again",
        ) from error
    finally:
        part.unlink(missing_ok=True)
    return path


def to_native(table: Table, results: Sequence[Outcome]) -> Any:
    """The table as the caller gave it, with our columns: a frame of the same kind, or a list of dicts.

    For a file, a list of strings and a list of dicts this is a list of dicts.
    """
    _check_count(table, results)
    names = column_names(table.columns)
    if table.kind == "frame":
        from ._frames import extend_frame

        return extend_frame(table.native, dict(zip(names, _columns(results), strict=True)))
    cells = zip(*_columns(results), strict=True)
    return [
        dict(zip([*table.columns, *names], [*row, *more], strict=True))
        for row, more in zip(table.rows, cells, strict=True)
    ]


def _check_count(table: Table, results: Sequence[Outcome]) -> None:
    if len(results) != len(table):
        raise ValueError(f"{len(results)} results for {len(table)} rows: there is exactly one result for each row")


def _write_part(part: Path, path: Path, table: Table, lines: Lines, results: Sequence[Outcome]) -> None:
    kind = kind_of(path, "SW-E2241")
    if kind == "parquet":
        from ._frames import write_parquet

        columns: dict[str, Sequence[Any]] = {
            name: [None if type(value).__name__ in NULL_TYPES else value for value in table.column(name)]
            for name in table.columns
        }
        columns.update(zip(column_names(table.columns), _columns(results), strict=True))
        write_parquet(part, columns)
        return
    encoding = "utf-8-sig" if kind == "csv" and table.dialect.bom else "utf-8"
    # The open call below obeys the user's umask, which the private mode of a temporary file would not.
    with part.open("x", encoding=encoding, errors="backslashreplace", newline="") as file:
        file.write(lines.text())


def _write_csv(writer: Any, kind: str, rows: Iterable[Sequence[Any]], results: Sequence[Outcome]) -> None:
    if kind not in ("csv", "texts"):
        rows = ([_cell(value) for value in row] for row in rows)
    writer.writerows([*row, *more] for row, more in zip(rows, _csv_cells(results), strict=True))


def _csv_cells(results: Sequence[Outcome]) -> Iterator[tuple[Any, ...]]:
    for r in results:
        cost = r.cost_usd
        # Eight decimals, because a short ticket on a small model costs less than a thousandth of a cent.
        yield (
            r.label,
            r.confidence if r.confidence is None else round(r.confidence, 6),
            r.status,
            r.reason,
            r.attempts,
            r.tokens_in,
            r.tokens_out,
            f"{cost:.8f}".rstrip("0").rstrip(".") if cost else "0",
            r.error,
        )


def _cell(value: Any) -> Any:
    """A value of a frame or of JSON as a CSV cell."""
    kind = type(value)
    if kind is str or kind is int or value is None:
        return value
    if kind is bool:
        return "true" if value else "false"
    if kind is float:
        return None if math.isnan(value) else value
    if isinstance(value, (dict, list, tuple)):
        return json.dumps(value, ensure_ascii=False, default=str)
    return None if kind.__name__ in NULL_TYPES else str(value)


def _write_jsonl(file: IO[str], keys: list[str], rows: Iterable[Sequence[Any]], results: Sequence[Outcome]) -> None:
    strict = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode
    lines: list[str] = []
    for row, more in zip(rows, zip(*_columns(results), strict=True), strict=True):
        record = dict(zip(keys, (*row, *more), strict=True))
        try:
            line = strict(record)
        except (TypeError, ValueError):
            line = strict({key: _json_value(value) for key, value in record.items()})
        lines.append(line)
    if lines:
        text = "\n".join(lines) + "\n"
        try:
            text.encode()
        except UnicodeEncodeError:  # half surrogates: JSON can say them in ASCII only
            text = "".join(json.dumps(json.loads(line)) + "\n" for line in lines)
        file.write(text)


def _json_value(value: Any) -> Any:
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, dict):
        return {str(key): _json_value(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json_value(item) for item in value]
    if value is None or isinstance(value, (str, int)):
        return value
    return None if type(value).__name__ in NULL_TYPES else str(value)


def _columns(results: Sequence[Outcome]) -> list[list[Any]]:
    return [
        [r.label for r in results],
        [r.confidence for r in results],
        [r.status for r in results],
        [r.reason for r in results],
        [r.attempts for r in results],
        [r.tokens_in for r in results],
        [r.tokens_out for r in results],
        [r.cost_usd for r in results],
        [r.error for r in results],
    ]


def check_page(page: str | os.PathLike[str], others: Mapping[str, Any]) -> None:
    """Refuses a report that would overwrite something else, or whose folder is missing. `others`: paths by what they are."""
    path = Path(os.fspath(page)).expanduser()
    for what, other in others.items():
        if isinstance(other, (str, os.PathLike)) and _same_file(path, Path(os.fspath(other)).expanduser()):
            raise InputError(
                "SW-E2243",
                f"the report would overwrite the {what}",
                got=str(path)[:200],
                expected="another file",
                hint=f'"{path.with_name(path.stem + "-report.html")}"'[:200],
            )
    if path.is_dir():
        raise InputError("SW-E2244", f'"{path}" is a folder', got="a folder", expected="a file name")
    if not _target(path).parent.is_dir():
        folder = str(_target(path).parent)[:200]
        raise InputError("SW-E2242", f'the folder "{folder}" does not exist', expected="an existing folder")


def _same_file(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return os.path.realpath(one) == os.path.realpath(other)


def _target(path: Path) -> Path:
    """Where the bytes go: through a link, so that a rename replaces the file and not the link."""
    return Path(os.path.realpath(path))


def _beside(target: Path) -> Path:
    return target.with_name(f".{target.name[:100]}.{uuid.uuid4().hex[:12]}.part")


def _sync_folder(folder: Path) -> None:
    """Makes the rename survive a power cut, where the system lets folders be synced."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError:
        return  # some network file systems refuse; the file itself is synced
    finally:
        os.close(descriptor)
