"""What every wire form of an LLM API is translated from and to: a question (`Ask`), an answer (`Reply`), an `Adapter`.

Messages are dicts in the form of OpenAI's chat completions, whatever the provider: `role` is system, user, assistant or tool,
`content` is text or a list of parts; an assistant's `tool_calls` and a tool's `tool_call_id` as there.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from stepwell.llm._tools import Tool

FinishReason = Literal["stop", "length", "tool_calls", "content_filter", "refusal", "other"]
Message = dict[str, Any]
#: Input counts (summed), output counts (summed), the cached part of the input: JSON pointers into an answer.
UsagePointers = tuple[tuple[str, ...], tuple[str, ...], str]


@dataclass(frozen=True, slots=True)
class Ask:
    """One question to a model.

    `schema`: the JSON schema that the answer has to fit. `tool_choice`: "", "auto", "none", "required" or a tool's name.
    `options` go into the request as they are and win over everything else.
    """

    model: str
    messages: Sequence[Message]
    system: str | None = None
    tools: Sequence[Tool] = ()
    tool_choice: str = ""
    schema: Mapping[str, Any] | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Counts:
    """Tokens as the provider gave them, unchecked; `tokens_in` includes what was cached. None: it gave none."""

    tokens_in: Any = None
    tokens_out: Any = None
    cached: Any = 0
    cache_write: Any = 0
    reasoning: Any = 0


@dataclass(slots=True)
class RawToolCall:
    """A tool call as the model wrote it; `arguments` is JSON text, or an object where the provider sends one."""

    id: str
    name: str
    arguments: Any


@dataclass(slots=True)
class Reply:
    """One answer of a model. `refusal`: what it said when it refused. `model`: who says to have answered."""

    text: str
    finish_reason: FinishReason
    counts: Counts
    tool_calls: list[RawToolCall] = field(default_factory=list)
    refusal: str = ""
    model: str = ""


@dataclass(frozen=True, slots=True)
class StreamRule:
    """How a stream of server-sent events is read.

    `text_pointers`: where an event's `data` holds text. `text_events`: if not empty, only events whose `/type` is one of
    these hold text. `end_events`, `end_data`: the `event:` names, or the data, after which nothing comes; a form without
    either ends with its connection, and is whole if an event holds one of `last_pointers`. `error_pointers`: what only an
    error's `data` holds.
    """

    text_pointers: tuple[str, ...]
    end_events: tuple[str, ...] = ()
    end_data: str = ""
    error_pointers: tuple[str, ...] = ("/error",)
    text_events: tuple[str, ...] = ()
    last_pointers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EmbedForm:
    """How a provider is asked for embeddings: path, the most texts at once, body, what a good answer holds, its vectors."""

    path: Callable[[str], str]
    texts_max: int
    body: Callable[[str, Sequence[str], Mapping[str, Any]], dict[str, Any]]
    required_pointer: str
    read: Callable[[dict[str, Any]], tuple[list[Any], Counts]]


class Adapter(Protocol):
    """One wire form. Nothing in it does I/O or keeps state."""

    required_pointer: str
    usage_pointers: UsagePointers
    stream_rule: StreamRule
    models_path: str
    """Where the models are listed; empty where they are not."""
    takes_model: bool
    """Whether the body names the model."""
    embeds: EmbedForm | None

    def path(self, model_name: str, *, stream: bool = False) -> str:
        """Return what follows the base URL."""

    def headers(self, key: str) -> tuple[tuple[str, str], ...]:
        """Return the headers of a request; an empty key adds none."""

    def body(self, ask: Ask, *, stream: bool = False) -> dict[str, Any]:
        """Return the request's body."""

    def read(self, answer: dict[str, Any]) -> Reply:
        """Read a whole answer. Fields of a wrong type count as absent."""

    def read_stream(self, text: str, events: Sequence[dict[str, Any]]) -> Reply:
        """Read a stream: its joined text, and the events that held none of it, the last event in any case."""


# --- what the adapters share ---


def a_dict(value: object) -> dict[str, Any]:
    """Return a dict as it is, and an empty one for anything else."""
    return value if isinstance(value, dict) else {}


def dicts(value: object) -> list[dict[str, Any]]:
    """Return the dicts of a list, and no more than that."""
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def a_text(value: object) -> str:
    """Return text as it is, and an empty one for anything else."""
    return value if isinstance(value, str) else ""


def text_of(content: object) -> str:
    """Return the text of a message's content, which is text or a list of parts."""
    if isinstance(content, list):
        return "".join(a_text(part.get("text")) for part in dicts(content))
    return a_text(content)


def split_system(ask: Ask) -> tuple[str, list[Message]]:
    """Return the system text (that of `system`, then of system messages), and the other messages."""
    parts = [ask.system] if ask.system else []
    others = []
    for message in ask.messages:
        if message["role"] in ("system", "developer"):
            parts.append(text_of(message.get("content")))
        else:
            others.append(message)
    return "\n\n".join(parts), others


def arguments_of(call: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a tool call in a message that the caller gave back, as an object."""
    written = a_dict(call.get("function")).get("arguments")
    try:
        return a_dict(json.loads(written) if isinstance(written, str) else written)
    except ValueError:
        return {}


def plus(*counts: Any) -> Any:
    """Return the sum of counts, where absent ones are 0; the first one that is no count spoils it."""
    total = 0
    for count in counts:
        if count is None:
            continue
        if isinstance(count, bool) or not isinstance(count, int) or count < 0:
            return count
        total += count
    return total
