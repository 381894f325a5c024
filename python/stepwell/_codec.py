"""Payloads: JSON of pydantic models, dataclasses and plain values. Never pickle.

A value comes back as the type that the function's annotation names; without one, as plain JSON.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import functools
import json
import traceback
import typing
import uuid
from typing import Any

from stepwell._errors import InputError, RunError, WorkflowError

_PLAIN = (str, int, float, bool, type(None))
_PLAIN_TYPES = frozenset({str, int, float, bool, type(None), dict, list, object, Any})
_TRACEBACK_CHARS_MAX = 8_000
_MESSAGE_CHARS_MAX = 8_000
_PAYLOAD_BYTES_MAX = 32 << 20  # as in the core: one input, result, step value or signal


def _default(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, (datetime.datetime, datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, (uuid.UUID, decimal.Decimal)):
        return str(value)
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    if hasattr(value, "item") and hasattr(value, "dtype"):  # a NumPy scalar out of a frame
        return value.item()
    raise TypeError(f"{type(value).__module__}.{type(value).__qualname__}")


_encoder = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=_default)
_decode_json = json.JSONDecoder().decode  # json.loads would look for the encoding first


def encode(value: Any, what: str = "value") -> bytes:
    """Return `value` as JSON bytes. Raises InputError SW-E1210 when it has no JSON form, SW-E1203 when that is too large."""
    if value is None:
        return b"null"
    try:
        payload = _encoder.encode(value).encode("utf-8")
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(
            "SW-E1210",
            f"the {what} cannot be kept as JSON: {error}",
            got=type(value).__name__,
            hint="return pydantic models, dataclasses, dicts, lists, strings, finite numbers, booleans or None",
        ) from None
    if len(payload) > _PAYLOAD_BYTES_MAX:
        raise InputError(
            "SW-E1203",
            f"the {what} is too large",
            got=f"{len(payload)} bytes",
            expected=f"at most {_PAYLOAD_BYTES_MAX}",
            hint="keep the bytes elsewhere and pass a reference",
        )
    return payload


@functools.lru_cache(maxsize=1024)
def _adapter(annotation: Any) -> Any:
    import pydantic

    return pydantic.TypeAdapter(annotation)


@functools.lru_cache(maxsize=1024)
def _is_plain(annotation: Any) -> bool:
    if annotation in _PLAIN_TYPES:
        return True
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    # list[Any] and dict[str, Any] say no more about JSON than list and dict do.
    return (origin is list and arguments[0] in (Any, object)) or (
        origin is dict and arguments[0] is str and arguments[1] in (Any, object)
    )


def is_plain(annotation: Any) -> bool:
    """Whether JSON's own value is already of this type."""
    try:
        return _is_plain(annotation)
    except TypeError:  # not hashable
        return False


def decode(payload: bytes, annotation: Any = Any, what: str = "value") -> Any:
    """Return the value of JSON bytes as `annotation`. Raises InputError SW-E1211 when it does not fit."""
    try:
        return _decode_json(payload.decode()) if is_plain(annotation) else _adapter(annotation).validate_json(payload)
    except (ValueError, TypeError, RecursionError) as error:  # pydantic's ValidationError is a ValueError
        raise InputError(
            "SW-E1211", f"the {what} does not fit its type: {error}", got=payload[:200], expected=repr(annotation)
        ) from None


def schema_of(annotation: Any) -> dict[str, Any]:
    """Return the JSON schema of a type. Raises whatever pydantic does for a type that has none."""
    schema: dict[str, Any] = _adapter(annotation).json_schema()
    return schema


def same_as_replayed(value: Any, payload: bytes, annotation: Any) -> Any:
    """Return what a replay would see, so that live and replayed code get the same kind of value."""
    return value if isinstance(value, _PLAIN) else decode(payload, annotation)


def encode_error(error: BaseException) -> bytes:
    """Record an exception as type, message and traceback text; code and hint where it is ours."""
    try:
        message = str(error)
    except BaseException:  # noqa: BLE001 - a broken __str__ must not lose the failure
        message = "<the exception's __str__ raised>"
    text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    out: dict[str, Any] = {
        "type": type(error).__qualname__,
        "message": (error.message if isinstance(error, WorkflowError) else message)[:_MESSAGE_CHARS_MAX],
        "traceback": text[-_TRACEBACK_CHARS_MAX:],
    }
    if isinstance(error, WorkflowError):
        out["code"] = error.code
        out["hint"] = error.hint
        if isinstance(error, RunError) and type(error.error.get("attempts")) is int:
            out["attempts"] = error.error["attempts"]
    return json.dumps(out).encode()


def decode_error(payload: bytes) -> dict[str, Any]:
    """Read a recorded error; bytes that are not ours become the message."""
    try:
        out = json.loads(payload)
    except ValueError:
        out = None
    return out if isinstance(out, dict) else {"message": payload[:500].decode("utf-8", "replace")}
