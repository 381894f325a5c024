"""Tools as a model sees them, and the calls that it asks for. Nothing here ever carries one out."""

from __future__ import annotations

import inspect
import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NotRequired

from stepwell import _codec, _schema
from stepwell._errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from stepwell.llm._adapter import Message, RawToolCall

_TOOLS_MAX = 128
_CALLS_MAX = 128
_ARGUMENT_CHARS_MAX = 1 << 20
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool that a model may ask for: a name, what it does, the JSON schema (an object's) of its arguments."""

    name: str
    description: str = ""
    schema: Mapping[str, Any] = field(default_factory=lambda: {"type": "object", "properties": {}})

    def __post_init__(self) -> None:
        """Refuse what every provider would refuse. Raises InputError SW-E2120."""
        is_name = isinstance(self.name, str) and _NAME.fullmatch(self.name)
        if not is_name or not isinstance(self.description, str) or len(self.description) > 10_000:
            raise InputError(
                "SW-E2120",
                "not a usable tool",
                got=repr(self.name)[:120],
                expected="a name of 1 to 64 letters, digits, - and _, and a description of at most 10,000 characters",
            )
        if not isinstance(self.schema, dict) or self.schema.get("type") != "object":
            raise InputError(
                "SW-E2120",
                f"the schema of the tool {self.name!r} is not an object's",
                got=repr(self.schema)[:200],
                expected='{"type": "object", "properties": {...}}',
            )

    @classmethod
    def of(cls, function: Callable[..., Any]) -> Tool:
        """Make a tool of a function: its name, its docstring, its annotated parameters. It is never called."""
        name = getattr(function, "__name__", "")
        try:
            parameters = inspect.signature(function, eval_str=True).parameters.values()
            import pydantic
            from typing_extensions import TypedDict  # pydantic's own; the one of Python 3.11 does not serve it

            schema = pydantic.TypeAdapter(TypedDict(name, {p.name: _field_of(p) for p in parameters})).json_schema()  # type: ignore[operator]
        except Exception as error:  # noqa: BLE001 - annotations run any code
            raise InputError(
                "SW-E2120",
                f"no tool can be made of {name or function!r}: {str(error)[:200]}",
                expected="a function whose parameters are named and annotated with types that have a JSON schema",
                hint="or give a Tool(name, description, schema)",
            ) from None
        schema.pop("title", None)
        schema.setdefault("properties", {})
        return cls(name, inspect.getdoc(function) or "", schema)


@dataclass(frozen=True, slots=True)
class ToolCall:
    """What a model wants to be done: a tool that it was given, with arguments that fit the tool's schema.

    The arguments are a model's words: what they may do is for you to decide. Nothing was carried out. `raw`: as written.
    """

    id: str
    name: str
    arguments: dict[str, Any]
    raw: str

    def result(self, value: Any) -> Message:
        """Return the message that tells the model what came out; send it after the answer's own message."""
        content = value if isinstance(value, str) else _codec.encode(value, "tool's result").decode()
        return {"role": "tool", "tool_call_id": self.id, "name": self.name, "content": content}


def _field_of(parameter: inspect.Parameter) -> Any:
    if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
        raise TypeError(f"the parameter {parameter.name!r} has no name to be given by")
    annotation = Any if parameter.annotation is parameter.empty else parameter.annotation
    return annotation if parameter.default is parameter.empty else NotRequired[annotation]


def tools_of(tools: Sequence[Tool | Callable[..., Any]]) -> tuple[Tool, ...]:
    """Return tools as `Tool`s. Raises InputError SW-E2120 for what can be none, for two of one name, and for too many."""
    found = tuple(each if isinstance(each, Tool) else Tool.of(each) for each in tools)
    names = [each.name for each in found]
    if len(found) > _TOOLS_MAX or len(set(names)) != len(names):
        raise InputError(
            "SW-E2120",
            "these tools cannot be given together",
            got=f"{len(found)} tools",
            expected="at most 128, each named once",
        )
    return found


def checked_calls(calls: Sequence[RawToolCall], tools: Sequence[Tool]) -> tuple[tuple[ToolCall, ...], str]:
    """Return the calls that a model asked for, or what is wrong with the first one that is wrong."""
    if len(calls) > _CALLS_MAX:
        return (), f"{len(calls)} tool calls in one answer are too many: at most {_CALLS_MAX} are taken"
    by_name = {tool.name: tool for tool in tools}
    out = []
    for call in calls:
        tool = by_name.get(call.name)
        if tool is None:
            return (), f"there is no tool {call.name[:80]!r}; there are {', '.join(by_name) or 'none'}"
        raw = call.arguments if isinstance(call.arguments, str) else json.dumps(call.arguments)
        arguments, wrong = _arguments(raw, tool)
        if wrong:
            return (), f"the arguments of the tool {tool.name!r} are not usable: {wrong}"
        out.append(ToolCall(call.id[:200], tool.name, arguments, raw))
    return tuple(out), ""


def _arguments(raw: str, tool: Tool) -> tuple[dict[str, Any], str]:
    if len(raw) > _ARGUMENT_CHARS_MAX:
        return {}, f"{len(raw)} characters are too many"
    try:
        arguments = json.loads(raw or "{}", parse_constant=_refuse_constant)
        _codec.encode(arguments)  # lone surrogates could not be recorded later
    except (ValueError, RecursionError):
        return {}, "they are no JSON"
    except InputError as error:
        return {}, error.message
    if not isinstance(arguments, dict):
        return {}, "they are no JSON object"
    return arguments, _schema.misfit(arguments, tool.schema, at="arguments")[:300]


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")
