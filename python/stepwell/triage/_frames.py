"""Frames and Parquet: in through narwhals and the installed reader, out as the same kind. All imported late."""

from __future__ import annotations

import importlib
import importlib.util
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from stepwell._errors import InputError

from ._formats import RawTable, check_unique, digest, rows_of

if TYPE_CHECKING:
    from pathlib import Path

PARQUET_PACKAGES = ("pyarrow", "polars", "duckdb")


def parquet_package() -> str:
    """The first installed package that reads and writes Parquet; without one, the error with the line to type."""
    for name in PARQUET_PACKAGES:
        if importlib.util.find_spec(name) is not None:
            return name
    raise InputError(
        "SW-E2215",
        "no package that reads and writes Parquet is installed",
        expected="pyarrow, polars or duckdb",
        hint="pip install pyarrow   (or use .csv or .jsonl)",
    )


def read_parquet(path: Path, content: bytes) -> RawTable:
    """A Parquet file, with its columns as Python values."""
    package = parquet_package()
    try:
        if package == "pyarrow":
            table = importlib.import_module("pyarrow.parquet").read_table(path)
            columns, values = list(table.column_names), [column.to_pylist() for column in table.columns]
        elif package == "polars":
            frame = importlib.import_module("polars").read_parquet(path)
            columns, values = list(frame.columns), [column.to_list() for column in frame.get_columns()]
        else:
            # A literal, because DuckDB plans the scan before it binds a parameter in every version we know.
            quoted = str(path).replace("'", "''")
            relation = importlib.import_module("duckdb").sql(f"SELECT * FROM read_parquet('{quoted}')")  # noqa: S608 - quoted above
            columns = list(relation.columns)
            values = [list(column) for column in zip(*relation.fetchall(), strict=True)] or [[] for _ in columns]
    except Exception as error:  # three libraries, three trees of exceptions, one meaning
        raise InputError(
            "SW-E2216",
            f"{path.name} cannot be read as Parquet",
            got=str(error).split("\n")[0][:200],
            expected="a whole Parquet file",
            loc=str(path),
            hint="write the file again",
        ) from error
    check_unique(columns, str(path))
    return RawTable(columns, list(zip(*values, strict=True)), digest((content,)))


def write_parquet(path: Path, columns: Mapping[str, Sequence[Any]]) -> None:
    """Columns of Python values to a Parquet file; a column of mixed kinds is written as text."""
    package = parquet_package()
    if package == "pyarrow":
        arrow = importlib.import_module("pyarrow")
        arrays = {name: _arrow_array(arrow, values) for name, values in columns.items()}
        importlib.import_module("pyarrow.parquet").write_table(arrow.table(arrays), path)
    elif package == "polars":
        polars = importlib.import_module("polars")
        polars.DataFrame([_polars_series(polars, name, values) for name, values in columns.items()]).write_parquet(path)
    else:
        _duckdb_write(path, columns)


def _arrow_array(arrow: Any, values: Sequence[Any]) -> Any:
    try:
        return arrow.array(values)
    except (arrow.ArrowInvalid, arrow.ArrowTypeError, UnicodeEncodeError, OverflowError):
        return arrow.array([as_text(value) for value in values], arrow.string())


def _polars_series(polars: Any, name: str, values: Sequence[Any]) -> Any:
    try:
        return polars.Series(name, values, strict=True)
    except Exception:  # noqa: BLE001 - polars names no single exception for "these values have no common type"
        return polars.Series(name, [as_text(value) for value in values], dtype=polars.String)


def _duckdb_write(path: Path, columns: Mapping[str, Sequence[Any]]) -> None:
    duckdb = importlib.import_module("duckdb")
    names = list(columns)
    kinds = {bool: "BOOLEAN", int: "BIGINT", float: "DOUBLE"}
    types, texts = [], []
    for values in columns.values():
        found = {type(value) for value in values if value is not None}
        kind = kinds.get(found.pop()) if len(found) == 1 else None
        types.append(kind or "VARCHAR")
        texts.append(values if kind else [as_text(value) for value in values])
    quoted = ['"' + name.replace('"', '""') + '"' for name in names]
    target = str(path).replace("'", "''")
    with duckdb.connect(":memory:") as connection:
        connection.execute("CREATE TABLE t (" + ", ".join(f"{n} {t}" for n, t in zip(quoted, types, strict=True)) + ")")
        marks = ", ".join("?" * len(names))
        # Many rows a statement: one by one DuckDB inserts a few thousand a second.
        rows = list(zip(*texts, strict=True))
        for start in range(0, len(rows), 500):
            part = rows[start : start + 500]
            many = ", ".join([f"({marks})"] * len(part))
            connection.execute(f"INSERT INTO t VALUES {many}", [v for row in part for v in row])  # noqa: S608 - only marks
        connection.execute(f"COPY t TO '{target}' (FORMAT parquet)")


def as_text(value: Any) -> str | None:
    """A value as text for a column of mixed kinds; containers as JSON, missing stays missing."""
    if value is None or isinstance(value, str):
        return value.encode("utf-8", "replace").decode() if value else value
    if isinstance(value, (dict, list, tuple)):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)


# -- in-memory tables --------------------------------------------------------------------------------------------------


def read_frame(frame: Any) -> tuple[str, RawTable]:
    """A frame, a list of dicts or a list of strings: its kind ("frame", "records", "texts") and its rows."""
    if isinstance(frame, (list, tuple)):
        return _read_sequence(frame)
    narwhals = _narwhals()
    try:
        eager = narwhals.from_native(frame, allow_series=False)
    except (TypeError, ValueError) as error:
        if "unique" in str(error) or "duplicate" in str(error).lower():
            raise InputError(
                "SW-E2209",
                "two columns of the frame have the same name",
                expected="each name once",
                got=str(error).split("\n")[0][:200],
                hint="rename one of them",
            ) from error
        raise _not_a_table(frame) from error
    except Exception as error:  # narwhals has its own tree; the one case that matters is a doubled column name
        if "uplicate" in type(error).__name__ + str(error):
            raise InputError(
                "SW-E2209",
                "two columns of the frame have the same name",
                expected="each name once",
                got=str(error).split("\n")[0][:200],
                hint="rename one of them",
            ) from error
        raise
    if isinstance(eager, narwhals.LazyFrame):
        eager = eager.collect()
    names = eager.columns
    columns = [str(name) for name in names]
    check_unique(columns, "the frame")
    values = [eager.get_column(name).to_list() for name in names]
    rows: list[Sequence[Any]] = list(zip(*values, strict=True))
    return "frame", RawTable(columns, rows, digest(_row_bytes(columns, rows)))


def _read_sequence(items: Sequence[Any]) -> tuple[str, RawTable]:
    kinds = {type(item) for item in items}
    if not items:
        raise InputError("SW-E2206", "the list is empty", expected="at least one ticket", got="[]")
    if kinds <= {str, type(None)}:
        rows: list[Sequence[Any]] = [(item,) for item in items]
        return "texts", RawTable(["text"], rows, digest(_row_bytes(["text"], rows)))
    wrong = next((i for i, item in enumerate(items) if not isinstance(item, Mapping)), None)
    if wrong is not None:
        raise InputError(
            "SW-E2217",
            "not a list of tickets",
            got=f"{type(items[wrong]).__name__} at position {wrong}",
            expected="all dicts or all strings",
        )
    columns, rows = rows_of([{str(k): v for k, v in item.items()} for item in items])
    return "records", RawTable(columns, rows, digest(_row_bytes(columns, rows)))


def _row_bytes(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Iterable[bytes]:
    yield repr(list(columns)).encode("utf-8", "surrogatepass")
    for row in rows:
        yield repr(row).encode("utf-8", "surrogatepass")


def _narwhals() -> Any:
    try:
        return importlib.import_module("narwhals")
    except ImportError as error:
        raise InputError(
            "SW-E2218",
            "frames are read through narwhals, which is not installed",
            expected="narwhals",
            hint="pip install narwhals",
        ) from error


def _not_a_table(value: object) -> InputError:
    kind = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
    return InputError(
        "SW-E2217",
        "this is not a table of tickets",
        got=kind,
        hint="a Series: series.to_list()",
        expected="a path, a pandas, polars or pyarrow table, a list of dicts or a list of strings",
    )


def extend_frame(frame: Any, columns: Mapping[str, Sequence[Any]]) -> Any:
    """The caller's frame with columns added on the right; index and column types of the caller stay."""
    narwhals = _narwhals()
    opened = narwhals.from_native(frame, allow_series=False)
    lazy = isinstance(opened, narwhals.LazyFrame)
    eager = opened.collect() if lazy else opened
    backend = eager.implementation
    kinds = {
        "label": narwhals.String,
        "status": narwhals.String,
        "reason": narwhals.String,
        "error": narwhals.String,
        "confidence": narwhals.Float64,
        "cost_usd": narwhals.Float64,
    }
    series = []
    for name, values in columns.items():
        dtype = kinds.get(name.rpartition("triage_")[2], narwhals.Int64)
        series.append(narwhals.new_series(name, values, dtype, backend=backend))
    result = eager.with_columns(*_aligned(eager, series))
    if lazy and str(opened.implementation).lower().endswith("polars"):
        result = result.lazy()
    return result.to_native()


def _aligned(eager: Any, series: list[Any]) -> list[Any]:
    """New columns with the index of a pandas frame, which may be of any kind and hold repeated values."""
    index = getattr(eager.to_native(), "index", None)
    if index is None or not hasattr(index, "is_unique"):
        return series
    narwhals = _narwhals()
    return [narwhals.from_native(s.to_native().set_axis(index), series_only=True) for s in series]
