"""The lines of an export: a header, the settings, a run a line, and a trailer with their number and checksum. Bytes to bytes.

What a line holds: _members.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from stepwell._errors import InputError
from stepwell.store._members import FINAL, RUN, SETTINGS, Bad, Record, read, write

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

#: Format 2 has "streams": a run that was streaming comes without its text from an older one, and readers see it again.
#: Format 3 has the line of settings: documents (schedules, budgets), the queues that have limits, and changed accounts.
FORMAT = 3
#: What runs of older formats lack, and what it is then.
_ADDED: dict[int, dict[str, Any]] = {1: {"budgets": "", "streams": []}, 2: {}, FORMAT: {}}
_SETTINGS_SINCE = 3
LINE_BYTES_MAX = 1 << 30


def line_of(record: Record) -> bytes:
    """Return a run's line."""
    return write(RUN, record)


def settings_line(settings: Record) -> bytes:
    """Return the line of what stands beside the runs."""
    return write(SETTINGS, settings)


def _object(line: bytes) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise Bad(f"not JSON: {error}") from None
    if not isinstance(value, dict):
        raise Bad("expected an object")
    return value


def record_of(line: bytes, form: int = FORMAT) -> Record:
    """Return a line's record, or raise ValueError with the member and what is wrong with it."""
    record = read(RUN, _ADDED[form] | _object(line))
    by_name = dict(zip([member[0] for member in RUN], record, strict=True))
    if not by_name["is_trimmed"] and by_name["event_count"] != len(by_name["events"]):
        raise Bad(f"event_count: {by_name['event_count']}, but there are {len(by_name['events'])} events")
    if by_name["status"] in FINAL and by_name["messages"]:
        raise Bad("messages: a run that has ended holds none")
    if by_name["is_trimmed"] and (by_name["input"] or by_name["events"] or by_name["streams"]):
        raise Bad("is_trimmed: but it has an input, events or streams")
    steps = [stream[0] for stream in by_name["streams"]]
    if steps != sorted(set(steps), key=str.encode):
        raise Bad("streams: expected one a step, in the order of their names")
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
    number, before = -1, 1
    last = b""
    for number, line in _lines(path, file):
        if number == 1:
            before = lines_before(_check_header(path, line))
        else:
            digest.update(last)
        last = line
    try:
        end = _object(last) if number > 1 else {}
    except Bad:
        end = {}
    if end.keys() != {"runs", "sha256"}:
        raise _bad(path, max(number, 1), "its last line is no trailer", "it was cut: export, or copy it, again")
    if end["runs"] != number - 1 - before or end["sha256"] != digest.hexdigest():
        raise _bad(
            path,
            number,
            "its lines are not those that were written (checksum)",
            "it was changed: export, or copy, again",
        )
    return number - 1 - before


def lines_before(form: int) -> int:
    """Return how many lines an export of a format has before its runs."""
    return 2 if form >= _SETTINGS_SINCE else 1


def settings(path: str, file: BinaryIO) -> Record:
    """Give the settings of an export that `check` found whole: documents, queues."""
    form = FORMAT
    for number, line in _lines(path, file):
        if number == 1:
            form = _check_header(path, line)
        if number == lines_before(form) == 1:
            break
        if number > 1:
            try:
                return read(SETTINGS, _object(line))
            except ValueError as error:
                raise _bad(path, number, str(error)) from None
    return ([], [], [])


def _check_header(path: str, line: bytes) -> int:
    try:
        first = _object(line)
    except Bad:
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
        if number <= lines_before(form):
            continue
        if held is not None:
            try:
                yield held[0], record_of(held[1], form), len(held[1])
            except ValueError as error:
                raise _bad(path, held[0], str(error)) from None
        held = (number, line)
