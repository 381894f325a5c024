"""What the lines of an export are made of: members with names, in the order of the core's tuples, out and in.

A payload is text where its bytes are UTF-8 (JSON, by convention), and {"base64": ...} otherwise; so an import gives back
the very bytes.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import TYPE_CHECKING, Any

from stepwell._types import run_name

if TYPE_CHECKING:
    from collections.abc import Callable

_KEY_BYTES_MAX = 255
FINAL = {2, 3, 4, 5, 8}
_STATUSES = FINAL | {0, 6, 7}
_INT_MAX = 2**63

Record = tuple[Any, ...]


class Bad(ValueError):
    """What is wrong with a line."""


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
            raise Bad(f"base64: {error}") from None
    raise Bad("expected text or {'base64': ...}")


def _whole(value: Any) -> int:
    if type(value) is not int or not -_INT_MAX <= value < _INT_MAX:
        raise Bad("expected a whole number of 64 bits")
    return value


def _unsigned(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2 * _INT_MAX:
        raise Bad("expected a whole number from 0, of 64 bits")
    return value


def _count(value: Any) -> int:
    if not 0 <= _whole(value) < 2**31:
        raise Bad("expected a count")
    return int(value)


def _small(value: Any) -> int:
    if not -(2**31) <= _whole(value) < 2**31:
        raise Bad("expected a whole number of 32 bits")
    return int(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise Bad("expected text")
    value.encode()
    return value


def _name(value: Any) -> str:
    if not _text(value):
        raise Bad("expected a name")
    return str(value)


def _from_one(value: Any) -> int:
    if _whole(value) < 1:
        raise Bad("expected a whole number from 1")
    return int(value)


def _key(value: Any) -> str:
    if len(_text(value).encode()) > _KEY_BYTES_MAX:
        raise Bad(f"expected at most {_KEY_BYTES_MAX} bytes")
    return str(value)


def _run_out(run: int) -> str | None:
    return run_name(run) if run else None


def _run_in(value: Any) -> int:
    try:
        run = int(_text(value).removeprefix("r_"), 16)
    except ValueError:
        raise Bad("expected a run's name, r_ and hexadecimal digits") from None
    if not value.startswith("r_") or not 0 < run < _INT_MAX or run_name(run) != value:
        raise Bad("expected a run's name, r_ and hexadecimal digits")
    return run


def _run_or_none(value: Any) -> int:
    return 0 if value is None else _run_in(value)


def _status(value: Any) -> int:
    if value not in _STATUSES or type(value) is not int:
        raise Bad(f"expected one of {sorted(_STATUSES)}")
    return int(value)


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise Bad("expected true or false")
    return value


def _from_zero(value: Any) -> int:
    if _whole(value) < 0:
        raise Bad("expected a whole number from 0")
    return int(value)


def _limit(value: Any) -> int:
    if _whole(value) < -1:
        raise Bad("expected a whole number from 0, or -1 for none")
    return int(value)


def _kind(value: Any) -> int:
    if not 1 <= _whole(value) <= 10:
        raise Bad("expected 1 to 10")
    return int(value)


Member = tuple[str, "Callable[[Any], Any]", "Callable[[Any], Any]"]


def _same(value: Any) -> Any:
    return value


def _rows(members: tuple[Member, ...]) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    def out(rows: list[Record]) -> list[list[Any]]:
        return [[member[1](value) for member, value in zip(members, row, strict=True)] for row in rows]

    def into(rows: Any) -> list[Record]:
        if not isinstance(rows, list):
            raise Bad("expected a list")
        made: list[Record] = []
        for number, row in enumerate(rows):
            if not isinstance(row, list) or len(row) != len(members):
                raise Bad(f"[{number}]: expected {', '.join(member[0] for member in members)}")
            made.append(
                tuple(_member(f"[{number}].{m[0]}", m[2], value) for m, value in zip(members, row, strict=True))
            )
        return made

    return out, into


_EVENT: tuple[Member, ...] = (
    ("kind", _same, _kind),
    ("attempt", _same, _count),
    ("step", _same, _text),
    ("payload", _payload_out, _payload_in),
    ("at", _same, _whole),
    ("took_ms", _same, _whole),
    ("waited_ms", _same, _whole),
)
_MESSAGE: tuple[Member, ...] = (
    ("id", _same, _whole),
    ("topic", _same, _name),
    ("key", _same, _text),
    ("at", _same, _whole),
    ("payload", _payload_out, _payload_in),
)
_MESSAGE_KEY: tuple[Member, ...] = (("topic", _same, _name), ("key", _same, _name))
_STREAM: tuple[Member, ...] = (
    ("step", _same, _name),
    ("generation", _same, _from_one),
    ("text", _payload_out, _payload_in),
)

_DOCUMENT: tuple[Member, ...] = (
    ("kind", _same, _name),
    ("name", _same, _name),
    ("version", _same, _from_one),
    ("at", _same, _whole),
    ("body", _payload_out, _payload_in),
)
_QUEUE: tuple[Member, ...] = (
    ("name", _same, _name),
    ("in_flight_max", _same, _limit),
    ("group_in_flight_max", _same, _limit),
    ("rate_count", _same, _count),
    ("rate_period_ms", _same, _from_zero),
    ("is_fair", _same, _flag),
    ("is_paused", _same, _flag),
)
_ACCOUNT: tuple[Member, ...] = (
    ("name", _same, _name),
    ("cap_usd", _same, _limit),
    ("cap_tokens", _same, _limit),
    ("is_closed", _same, _flag),
    ("run", _run_out, _run_or_none),
    ("at", _same, _whole),
    ("notes", _same, _text),
)
SETTINGS: tuple[Member, ...] = (
    ("documents", *_rows(_DOCUMENT)),
    ("queues", *_rows(_QUEUE)),
    ("accounts", *_rows(_ACCOUNT)),
)

# In the order of the core's record (_core.pyi, _Record).
RUN: tuple[Member, ...] = (
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


def _member(name: str, into: Callable[[Any], Any], value: Any) -> Any:
    try:
        return into(value)
    except ValueError as error:
        raise Bad(f"{name}: {error}") from None


def write(members: tuple[Member, ...], values: Record) -> bytes:
    """Return the line of a tuple of the core."""
    written = {member[0]: member[1](value) for member, value in zip(members, values, strict=True)}
    return json.dumps(written, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def read(members: tuple[Member, ...], given: dict[str, Any]) -> Record:
    """Return the tuple of a line's object. Raises ValueError with the member and what is wrong with it."""
    if odd := sorted(given.keys() ^ {member[0] for member in members}):
        raise Bad(f"members missing or unknown: {', '.join(odd)[:200]}")
    return tuple(_member(name, into, given[name]) for name, _, into in members)
