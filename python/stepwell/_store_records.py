"""The lines of an export: a header, a run a line, and a trailer with their number and checksum. Bytes to bytes.

A payload is text where its bytes are UTF-8 (JSON, by convention), and {"base64": ...} otherwise; so an import gives back
the very bytes. The members are those of the core's record, in its order.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from typing import TYPE_CHECKING, Any

from stepwell._errors import InputError
from stepwell._types import run_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import BinaryIO

#: Format 2 has "streams". A run that was streaming comes without its text from an older one: readers see it again.
FORMAT = 2
#: What older formats lack, and what it is then.
_ADDED: dict[int, dict[str, Any]] = {1: {"budgets": "", "streams": []}, FORMAT: {}}
LINE_BYTES_MAX = 1 << 30
_KEY_BYTES_MAX = 255
_FINAL = {2, 3, 4, 5, 8}
_STATUSES = _FINAL | {0, 6, 7}
_INT_MAX = 2**63

Record = tuple[Any, ...]


class _Bad(ValueError):
    """What is wrong with a line."""


# -- members ---------------------------------------------------------------------------------------------------------


def _payload_out(payload: bytes) -> Any:
    try:
        return payload.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(payload).decode()}


def _payload_in(value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode()  # lone surrogates raise UnicodeEncodeError, a ValueError
    if isinstance(value, dict) and value.keys() == {"base64"} and isinstance(value["base64"], str):
        try:
            return base64.b64decode(value["base64"], validate=True)
        except binascii.Error as error:
            raise _Bad(f"base64: {error}") from None
    raise _Bad("expected text or {'base64': ...}")


def _whole(value: Any) -> int:
    if type(value) is not int or not -_INT_MAX <= value < _INT_MAX:
        raise _Bad("expected a whole number of 64 bits")
    return value


def _unsigned(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2 * _INT_MAX:
        raise _Bad("expected a whole number from 0, of 64 bits")
    return value


def _count(value: Any) -> int:
    if not 0 <= _whole(value) < 2**31:
        raise _Bad("expected a count")
    return int(value)


def _small(value: Any) -> int:
    if not -(2**31) <= _whole(value) < 2**31:
        raise _Bad("expected a whole number of 32 bits")
    return int(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise _Bad("expected text")
    value.encode()
    return value


def _name(value: Any) -> str:
    if not _text(value):
        raise _Bad("expected a name")
    return str(value)


def _from_one(value: Any) -> int:
    if _whole(value) < 1:
        raise _Bad("expected a whole number from 1")
    return int(value)


def _key(value: Any) -> str:
    if len(_text(value).encode()) > _KEY_BYTES_MAX:
        raise _Bad(f"expected at most {_KEY_BYTES_MAX} bytes")
    return str(value)


def _run_out(run: int) -> str | None:
    return run_name(run) if run else None


def _run_in(value: Any) -> int:
    try:
        run = int(_text(value).removeprefix("r_"), 16)
    except ValueError:
        raise _Bad("expected a run's name, r_ and hexadecimal digits") from None
    if not value.startswith("r_") or not 0 < run < _INT_MAX or run_name(run) != value:
        raise _Bad("expected a run's name, r_ and hexadecimal digits")
    return run


def _run_or_none(value: Any) -> int:
    return 0 if value is None else _run_in(value)


def _status(value: Any) -> int:
    if value not in _STATUSES or type(value) is not int:
        raise _Bad(f"expected one of {sorted(_STATUSES)}")
    return int(value)


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _Bad("expected true or false")
    return value


def _kind(value: Any) -> int:
    if not 1 <= _whole(value) <= 10:
        raise _Bad("expected 1 to 10")
    return int(value)


_Member = tuple[str, "Callable[[Any], Any]", "Callable[[Any], Any]"]


def _same(value: Any) -> Any:
    return value


def _rows(members: tuple[_Member, ...]) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    def out(rows: list[Record]) -> list[list[Any]]:
        return [[member[1](value) for member, value in zip(members, row, strict=True)] for row in rows]

    def into(rows: Any) -> list[Record]:
        if not isinstance(rows, list):
            raise _Bad("expected a list")
        made: list[Record] = []
        for number, row in enumerate(rows):
            if not isinstance(row, list) or len(row) != len(members):
                raise _Bad(f"[{number}]: expected {', '.join(member[0] for member in members)}")
            made.append(
                tuple(_member(f"[{number}].{m[0]}", m[2], value) for m, value in zip(members, row, strict=True))
            )
        return made

    return out, into


_EVENT: tuple[_Member, ...] = (
    ("kind", _same, _kind),
    ("attempt", _same, _count),
    ("step", _same, _text),
    ("payload", _payload_out, _payload_in),
    ("at", _same, _whole),
    ("took_ms", _same, _whole),
    ("waited_ms", _same, _whole),
)
_MESSAGE: tuple[_Member, ...] = (
    ("id", _same, _whole),
    ("topic", _same, _name),
    ("key", _same, _text),
    ("at", _same, _whole),
    ("payload", _payload_out, _payload_in),
)
_MESSAGE_KEY: tuple[_Member, ...] = (("topic", _same, _name), ("key", _same, _name))
_STREAM: tuple[_Member, ...] = (
    ("step", _same, _name),
    ("generation", _same, _from_one),
    ("text", _payload_out, _payload_in),
)

# In the order of the core's record (_core.pyi, _Record).
_RUN: tuple[_Member, ...] = (
    ("run", _run_out, _run_in),
    ("status", _same, _status),
    ("token", _same, _whole),
    ("claims", _same, _count),
    ("workflow", _same, _name),
    ("queue", _same, _name),
    ("key", _same, _key),
    ("fingerprint", _same, _unsigned),
    ("input", _payload_out, _payload_in),
    ("result", _payload_out, _payload_in),
    ("created_at", _same, _whole),
    ("finished_at", _same, _whole),
    ("priority", _same, _small),
    ("wake_at", _same, _whole),
    ("deadline_at", _same, _whole),
    ("parent", _run_out, _run_or_none),
    ("parent_step", _same, _text),
    ("version", _same, _text),
    ("group", _same, _key),
    ("sla_at", _same, _whole),
    ("sla_ms", _same, _whole),
    ("breach_flow", _same, _text),
    ("budgets", _same, _text),
    ("is_trimmed", _same, _flag),
    ("event_count", _same, _count),
    ("events", *_rows(_EVENT)),
    ("messages", *_rows(_MESSAGE)),
    ("message_keys", *_rows(_MESSAGE_KEY)),
    ("streams", *_rows(_STREAM)),
)


def _member(name: str, read: Callable[[Any], Any], value: Any) -> Any:
    try:
        return read(value)
    except ValueError as error:
        raise _Bad(f"{name}: {error}") from None


def line_of(record: Record) -> bytes:
    """Return a run's line."""
    members = {member[0]: member[1](value) for member, value in zip(_RUN, record, strict=True)}
    return json.dumps(members, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _object(line: bytes) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise _Bad(f"not JSON: {error}") from None
    if not isinstance(value, dict):
        raise _Bad("expected an object")
    return value


def record_of(line: bytes, form: int = FORMAT) -> Record:
    """Return a line's record, or raise ValueError with the member and what is wrong with it."""
    members = _ADDED[form] | _object(line)
    names = [member[0] for member in _RUN]
    if members.keys() != set(names):
        odd = sorted(members.keys() ^ set(names))
        raise _Bad(f"members missing or unknown: {', '.join(odd)[:200]}")
    record = tuple(_member(name, read, members[name]) for name, _, read in _RUN)
    by_name = dict(zip(names, record, strict=True))
    if not by_name["is_trimmed"] and by_name["event_count"] != len(by_name["events"]):
        raise _Bad(f"event_count: {by_name['event_count']}, but there are {len(by_name['events'])} events")
    if by_name["status"] in _FINAL and by_name["messages"]:
        raise _Bad("messages: a run that has ended holds none")
    if by_name["is_trimmed"] and (by_name["input"] or by_name["events"] or by_name["streams"]):
        raise _Bad("is_trimmed: but it has an input, events or streams")
    steps = [stream[0] for stream in by_name["streams"]]
    if steps != sorted(set(steps), key=str.encode):
        raise _Bad("streams: expected one a step, in the order of their names")
    return record


# -- files -----------------------------------------------------------------------------------------------------------


def header(schema: int, version: str) -> bytes:
    """Return an export's first line."""
    return json.dumps({"stepwell_export": FORMAT, "schema": schema, "stepwell": version}).encode() + b"\n"


def trailer(run_count: int, digest: str) -> bytes:
    """Return an export's last line."""
    return json.dumps({"runs": run_count, "sha256": digest}).encode() + b"\n"


def _bad(path: str, number: int, what: str, hint: str = "") -> InputError:
    return InputError("SW-E1108", f"{path} cannot be imported: {what}", loc=f"line {number}", hint=hint)


def _lines(path: str, file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    number = 0
    while line := file.readline(LINE_BYTES_MAX + 1):
        number += 1
        if len(line) > LINE_BYTES_MAX:
            raise _bad(path, number, f"a line of more than {LINE_BYTES_MAX} bytes")
        if not line.endswith(b"\n"):
            raise _bad(path, number, "the file ends in the middle of a line", "it was cut: export, or copy it, again")
        yield number, line


def check(path: str, file: BinaryIO) -> int:
    """Look through a whole export before anything of it is taken: header, trailer, checksum. Return how many runs."""
    digest = hashlib.sha256()
    number = -1
    last = b""
    for number, line in _lines(path, file):
        if number == 1:
            _check_header(path, line)
        else:
            digest.update(last)
        last = line
    try:
        end = _object(last) if number > 1 else {}
    except _Bad:
        end = {}
    if end.keys() != {"runs", "sha256"}:
        raise _bad(path, max(number, 1), "its last line is no trailer", "it was cut: export, or copy it, again")
    if end["runs"] != number - 2 or end["sha256"] != digest.hexdigest():
        raise _bad(
            path,
            number,
            "its lines are not those that were written (checksum)",
            "it was changed: export, or copy, again",
        )
    return number - 2


def _check_header(path: str, line: bytes) -> int:
    try:
        first = _object(line)
    except _Bad:
        first = {}
    if "stepwell_export" not in first:
        raise _bad(path, 1, "it is not an export of a store", "make one with: stepwell store export STORE FILE")
    form = first["stepwell_export"]
    if type(form) is not int or form not in _ADDED:
        raise _bad(
            path,
            1,
            f"it is of format {form!r}, and this version reads formats 1 to {FORMAT}",
            f"use stepwell {first.get('stepwell', '')!s:.40} or newer",
        )
    return form


def records(path: str, file: BinaryIO) -> Iterator[tuple[int, Record, int]]:
    """Give line number, record and length of each run of an export that `check` found whole."""
    held: tuple[int, bytes] | None = None  # the trailer is the last line
    form = FORMAT
    for number, line in _lines(path, file):
        if number == 1:
            form = _check_header(path, line)
        if held is not None:
            try:
                yield held[0], record_of(held[1], form), len(held[1])
            except ValueError as error:
                raise _bad(path, held[0], str(error)) from None
        held = (number, line) if number > 1 else None
