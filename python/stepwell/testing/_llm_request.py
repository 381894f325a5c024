"""Reading a chat completion request: all of it once, and after that only the part that differs from the last one."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from stepwell.testing._llm_labels import Answerer

_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_SENTINEL = "\x00stepwell: the user's text\x00"
_SHAPES_MAX = 8
_LEARNED_IN_VAIN_MAX = 64
_LONG_ENOUGH_TO_LEARN = 200
_decode = json.JSONDecoder().decode


class BadRequest(Exception):
    """A request that OpenAI would answer with 400; the text says why."""


@dataclass(frozen=True, slots=True)
class Asked:
    """All of a request but the user's text."""

    model: str
    model_json: bytes
    stream: bool
    include_usage: bool
    answerer: Answerer
    other_chars: int  # of all messages but the last of the user, for the token count


@dataclass(frozen=True, slots=True)
class _Shape:
    before: bytes
    after: bytes
    asked: Asked


class Reader:
    """Reads request bodies.

    Clients send bodies that differ in one place only: the last user message. A shape is a body around that place. Where a
    body starts and ends like a shape, and what stands between is one JSON string, it is the same document but for that
    string, so nothing else has to be read. Everything unusual is parsed in full.
    """

    __slots__ = ("_learned_in_vain", "_shapes")

    def __init__(self) -> None:
        self._shapes: list[_Shape] = []
        self._learned_in_vain = 0

    def read(self, body: bytes) -> tuple[Asked, str]:
        """Return what is asked, and the last user message. Raises BadRequest."""
        for place, shape in enumerate(self._shapes):
            before, after = shape.before, shape.after
            if body.startswith(before) and body.endswith(after) and len(body) >= len(before) + len(after):
                try:
                    text = _decode(body[len(before) : len(body) - len(after)].decode())
                except (ValueError, RecursionError):
                    continue
                if type(text) is str:
                    self._learned_in_vain = 0
                    if place:
                        self._shapes.insert(0, self._shapes.pop(place))
                    return shape.asked, text
        return self._read_in_full(body)

    def _read_in_full(self, body: bytes) -> tuple[Asked, str]:
        try:
            parsed = json.loads(body.decode())
        except (ValueError, RecursionError):
            raise BadRequest(
                "We could not parse the JSON body of your request. The request body must be a JSON object."
            ) from None
        asked, place, text = _understand(parsed)
        if place >= 0 and len(body) >= _LONG_ENOUGH_TO_LEARN and self._learned_in_vain < _LEARNED_IN_VAIN_MAX:
            shape = _shape_around(body, parsed, place, asked)
            if shape is not None:
                self._learned_in_vain += 1
                self._shapes.insert(0, shape)
                del self._shapes[_SHAPES_MAX:]
        return asked, text


def _understand(parsed: object) -> tuple[Asked, int, str]:
    """Return what is asked, where the last user message stands (-1: not one plain string), and its text."""
    if not isinstance(parsed, dict):
        raise BadRequest("The request body must be a JSON object.")
    model = parsed.get("model")
    if not isinstance(model, str) or not model:
        raise BadRequest("you must provide a model parameter")
    messages = parsed.get("messages")
    if not isinstance(messages, list) or not messages:
        raise BadRequest("'messages' must be an array with at least one message.")
    place, text, chars = -1, "", 0
    for index, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise BadRequest(f"messages[{index}] must be an object with a 'role'.")
        content = _text_of(message.get("content"), index)
        chars += len(content)
        if message["role"] == "user":
            place, text = (index if isinstance(message.get("content"), str) else -1), content
    options = parsed.get("stream_options")
    asked = Asked(
        model=model,
        model_json=json.dumps(model).encode(),
        stream=parsed.get("stream") is True,
        include_usage=isinstance(options, dict) and options.get("include_usage") is True,
        answerer=Answerer(parsed.get("response_format")),
        other_chars=chars - len(text),
    )
    return asked, place, text


def _text_of(content: object, index: int) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise BadRequest(f"messages[{index}].content must be a string or an array of parts.")
    texts = [part.get("text") for part in content if isinstance(part, dict)]
    return "\n".join(text for text in texts if isinstance(text, str))


def _shape_around(body: bytes, parsed: dict[str, Any], place: int, asked: Asked) -> _Shape | None:
    """Find the string that is the last user message, and prove it by putting another one there."""
    text = parsed["messages"][place]["content"]
    for match in _STRING.finditer(body):
        before, after = body[: match.start()], body[match.end() :]
        if _decode(match[0].decode()) != text:
            continue
        other = json.loads(before + json.dumps(_SENTINEL).encode() + after)
        messages = other.get("messages")
        if isinstance(messages, list) and place < len(messages) and isinstance(messages[place], dict):
            if messages[place].get("content") != _SENTINEL:
                continue
            messages[place]["content"] = text
            if other == parsed:
                return _Shape(before, after, asked)
    return None
