"""What every wire form of the LLM test server is translated from and to: what is asked, what is said, what it used."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

#: One token of an answer, as this server counts.
TOKEN_CHARS = 4
# How our own client marks text that nobody vouches for: what a request is about stands inside.
_FENCED = re.compile(r"<untrusted_text>\n(.*)\n</untrusted_text>", re.DOTALL)


class RefusedError(Exception):
    """A request that is refused: with a status, and a text that says why."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Ask(NamedTuple):
    """A request, whatever its form. `tools`: name -> schema of its arguments. `tool_choice`: auto, none, any or a name."""

    model: str
    text: str
    chars: int
    max_tokens: int | None = None
    stream: bool = False
    schema: dict[str, Any] | None = None
    tools: dict[str, Any] | None = None
    tool_choice: str = "auto"
    answers_tool: bool = False
    include_usage: bool = False


class Usage(NamedTuple):
    """Tokens: `tokens_in` with the cached ones among them, `tokens_out` with those of reasoning."""

    tokens_in: int
    tokens_out: int
    cached: int = 0
    reasoning: int = 0


class ToolCall(NamedTuple):
    """A call of a tool; `arguments` is JSON text."""

    id: str
    name: str
    arguments: str


class Said(NamedTuple):
    """An answer, whatever its form. finish: stop, length, tool_calls, content_filter or refusal."""

    id: str
    model: str
    content: str
    usage: Usage
    finish: str = "stop"
    refusal: str | None = None
    calls: Sequence[ToolCall] = ()
    is_numbered: bool = False

    @property
    def pieces(self) -> list[str]:
        """The text, one piece a token: a word where the words are numbered, else four characters."""
        if self.is_numbered:
            return [f"{word} " for word in self.content.split()]
        return [self.content[at : at + TOKEN_CHARS] for at in range(0, len(self.content), TOKEN_CHARS)]


class Event(NamedTuple):
    """One event of a stream; `is_token`: it carries one, and waits for its turn."""

    data: bytes
    is_token: bool = False


class Form(Protocol):
    """One wire form. Its functions are pure."""

    name: str
    #: Where an answer keeps its usage, and the list of its alternatives.
    usage_key: str
    many_key: str

    def key(self, headers: Mapping[str, str], query: str) -> str:
        """Return the API key of a request, "" for none."""

    def read(self, path: str, query: str, headers: Mapping[str, str], body: bytes) -> Ask:
        """Read a request. Raises RefusedError."""

    def answer(self, said: Said) -> dict[str, Any]:
        """Return the answer's JSON."""

    def events(self, said: Said, ask: Ask) -> list[Event]:
        """Return the same answer as the events of a stream."""

    def error(self, status: int, message: str, kind: str) -> dict[str, Any]:
        """Return the JSON of an error."""

    def error_event(self, message: str) -> bytes:
        """Return the event that tells of an error after 200."""


_from_json: Callable[[str], object] = json.JSONDecoder().decode
to_json: Callable[[object], str] = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def sse(value: object, event: str = "", end: str = "\n\n") -> bytes:
    """Return one server-sent event."""
    named = f"event: {event}{end[: len(end) // 2]}" if event else ""
    return f"{named}data: {to_json(value)}{end}".encode()


def parsed(body: bytes) -> dict[str, Any]:
    """Return a request's JSON object. Raises RefusedError."""
    try:
        value = _from_json(body.decode())
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise RefusedError(400, "We could not parse the JSON body of your request.")
    return value


def text_of(content: object) -> str:
    """Return the text of a content: a string, or parts of which some have a text."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(_part_text(part) for part in content)
    return ""


def _part_text(part: object) -> str:
    if not isinstance(part, dict):
        raise RefusedError(400, "A part of a message's content is not an object.")
    for name in ("text", "content", "output"):
        if name in part:
            return text_of(part[name])
    return json.dumps(part["functionResponse"].get("response")) if "functionResponse" in part else ""


def texts(turns: Sequence[tuple[str, str]], *, is_structured: bool) -> tuple[str, int]:
    """Return what a conversation is about, and its characters. `turns`: role and text.

    It is about its last message; where a structure is asked for, about the first of the user's: what follows is repair.
    The fence that our client puts around it is not a part of it.
    """
    users = [text for role, text in turns if role == "user"]
    text = users[0] if is_structured and users else turns[-1][1]
    fenced = _FENCED.fullmatch(text)
    return fenced[1] if fenced else text, sum(len(each) for _, each in turns)


def tools_chars(tools: Mapping[str, object]) -> int:
    """Return what tools add to a prompt."""
    return len(to_json(tools)) if tools else 0


def limit_of(value: object, name: str) -> int | None:
    """Return a bound on the tokens of an answer. Raises RefusedError for one that is none."""
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise RefusedError(400, f"{name}: a positive integer is expected")
    return value


def bearer(headers: Mapping[str, str]) -> str:
    """Return the key of an Authorization header."""
    kind, _, key = headers.get("authorization", "").partition(" ")
    return key.strip() if kind.lower() == "bearer" else ""
