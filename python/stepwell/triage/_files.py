"""Ticket files by name: which kind a file is, and its bytes or the reason why there are none."""

from __future__ import annotations

import difflib
from pathlib import Path

from stepwell._errors import InputError

EXTENSIONS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
}


def kind_of(path: Path, code: str) -> str:
    """Return "csv", "jsonl" or "parquet" by the end of the name."""
    kind = EXTENSIONS.get(path.suffix.lower())
    if kind is None:
        if code == "SW-E2204" and path.is_dir():
            raise _folder(path)
        hints = {
            ".xlsx": 'save it as "CSV UTF-8"',
            ".xls": 'save it as "CSV UTF-8"',
            ".json": "an array of objects becomes JSONL with: jq -c '.[]' in.json > out.jsonl",
            ".gz": "unpack it first: gunzip",
            ".zip": "unpack it first",
        }
        raise InputError(
            code,
            f'"{path.name}" is no kind of table we know',
            got=f'"{path.suffix}"' if path.suffix else "no ending",
            expected=", ".join(EXTENSIONS),
            loc=str(path),
            hint=hints.get(path.suffix.lower(), ""),
        )
    return kind


def load(path: Path) -> bytes:
    try:
        if path.is_dir():
            raise _folder(path)
        return path.read_bytes()
    except FileNotFoundError as error:
        folder = path.parent
        names = [p.name for p in folder.iterdir()] if folder.is_dir() else []
        near = difflib.get_close_matches(path.name, names, 3, 0.6)
        missing = f'the folder "{folder}" does not exist' if not folder.is_dir() else "no such file"
        raise InputError(
            "SW-E2201",
            f'there is no file "{path}"',
            got=missing,
            expected="a file of tickets",
            hint=f"did you mean {', '.join(near)}?" if near else "check the path",
            loc=f"current folder {Path.cwd()}",
        ) from error
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise InputError(
            "SW-E2203",
            f"{path.name} cannot be read",
            got=why.lower(),
            expected="a readable file",
            loc=str(path),
            hint="check its permissions",
        ) from error


def _folder(path: Path) -> InputError:
    try:
        tables = sorted(p.name for p in path.iterdir() if p.suffix.lower() in EXTENSIONS)[:5]
    except OSError:
        tables = []
    return InputError(
        "SW-E2202",
        f'"{path}" is a folder',
        got="a folder",
        expected="one file",
        loc=str(path),
        hint=f"it holds {', '.join(tables)}" if tables else "name a .csv, .jsonl or .parquet file",
    )
