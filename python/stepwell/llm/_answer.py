"""What a model's text says: the JSON in it, as the type that was asked for, and what to say when it does not fit."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from stepwell import _codec, _schema
from stepwell._errors import InputError
from stepwell.llm._prompt import clean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stepwell.llm._adapter import Message

_SHOWN_CHARS_MAX = 8_000
_PROBLEM_CHARS_MAX = 1_000
_FENCED = re.compile(r"\s*```[A-Za-z0-9_-]*[ \t]*\n(.*?)\n?\s*```\s*", re.DOTALL)
_MORE = re.compile(r"\s*For further information visit \S+|\[type=.*?\]")


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


_decoder = json.JSONDecoder(parse_constant=_refuse_constant)


def json_in(text: str) -> Any:
    """Return the value of a text that is JSON, stands in a code fence, or has one object with prose around it.

    Raises ValueError for anything else: what is nearly JSON is not guessed at, and of two objects none is chosen.
    """
    fenced = _FENCED.fullmatch(text) if text.lstrip().startswith("```") else None
    text = (fenced[1] if fenced else text).strip()
    try:
        return _decoder.decode(text)
    except RecursionError:
        raise ValueError("the JSON is nested too deeply") from None
    except ValueError as error:
        at = text.find("{")
        if at < 0:
            raise ValueError(f"it is no JSON: {error}") from None
        try:
            value, end = _decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            raise ValueError(f"it is no JSON: {error}") from None
        if "{" in text[end:]:
            raise ValueError("it holds more than one JSON object") from None
        return value


def value_in(text: str, returns: Any, schema: dict[str, Any], *, is_wrapped: bool) -> Any:
    """Return the value of an answer as `returns`. Raises ValueError, which says what does not fit."""
    value = json_in(text)
    if is_wrapped:
        if not isinstance(value, dict) or "value" not in value:
            raise ValueError('answer: expected an object with the field "value"')
        value = value["value"]
    try:
        if _codec.is_plain(returns):
            wrong = _schema.misfit(value, schema["properties"]["value"] if is_wrapped else schema, root=schema)
            if wrong:
                raise ValueError(wrong)
            _codec.encode(value, "answer")
            return value
        return _codec.decode(_codec.encode(value, "answer"), returns, "answer")
    except InputError as error:
        raise ValueError(_MORE.sub("", error.message)[:_PROBLEM_CHARS_MAX]) from None


def repair_messages(messages: Sequence[Message], answer: str, problem: str) -> list[Message]:
    """Return the messages of a second round: the first ones, the answer, and what is wrong with it."""
    shown = clean(answer)[:_SHOWN_CHARS_MAX]
    return [
        *messages,
        {"role": "assistant", "content": shown if shown.strip() else "(an empty answer)"},
        {
            "role": "user",
            "content": f"That answer cannot be used. {clean(problem)[:_PROBLEM_CHARS_MAX]}\n"
            "Answer the question again, completely, in the form that was asked for, and with nothing else.",
        },
    ]
