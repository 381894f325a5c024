"""`chat`: messages in, text, a typed object or tool calls out, recorded."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from stepwell import _codec
from stepwell._budgets.policy import counted
from stepwell._errors import InputError, LlmError
from stepwell._types import Duration, Retry, duration_ms
from stepwell.llm._adapter import Ask, FinishReason, Message, Reply, a_text
from stepwell.llm._answer import repair_messages, value_in
from stepwell.llm._asking import governed, governed_blocking
from stepwell.llm._call import call_request, converse, converse_blocking, estimate_tokens, parsed
from stepwell.llm._json_schema import schema_of
from stepwell.llm._models import DEFAULT_RETRY, Model, resolve_model
from stepwell.llm._policies import Asked  # noqa: TC001 - a field of what is recorded
from stepwell.llm._tools import Tool, ToolCall, checked_calls, tools_of
from stepwell.llm._usage import Usage, price_of, usage_of

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence

    from stepwell._budgets.policy import Budget
    from stepwell.llm._cache import Cache
    from stepwell.llm._policies import AnyModel
    from stepwell.llm._redact import Redact

_ROLES = ("system", "developer", "user", "assistant", "tool")
_MODEL_CHARS_MAX = 200


@dataclass(frozen=True, slots=True)
class Chat:
    """A model's answer: its text, the typed value when one was asked for, the tools that it wants, and what it used.

    `value` is the text when no type was asked for, and None beside tool calls. `finish_reason`: "stop", "length" (cut off),
    "tool_calls", "content_filter" or "other". `model`: who says to have answered. `usage` and `attempts` count a repair
    round too. `path`: the models that a policy asked; `cached`: it came out of a cache; `redacted`: how much was, by kind.
    """

    text: str
    value: Any
    usage: Usage
    finish_reason: FinishReason
    tool_calls: tuple[ToolCall, ...] = ()
    model: str = ""
    attempts: int = 1
    path: tuple[Asked, ...] = ()
    cached: bool = False
    redacted: dict[str, int] = field(default_factory=dict)

    @property
    def message(self) -> Message:
        """The answer as a message; append it, then the tools' results, to ask on."""
        calls = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.raw}}
            for call in self.tool_calls
        ]
        return {"role": "assistant", "content": self.text, **({"tool_calls": calls} if calls else {})}


@dataclass(frozen=True, slots=True)
class Question:
    """Everything about one chat but its answer. `name`: under which its calls are recorded."""

    model: Model
    ask: Ask
    returns: Any
    is_wrapped: bool
    retry: Retry
    timeout_ms: int
    tenant: str = ""
    repair: int = 1
    name: str = "llm.chat"

    def request(self, ask: Ask) -> tuple[Any, ...]:
        """Return the call of one round in the core's form."""
        adapter = self.model.adapter
        body = _codec.encode(adapter.body(ask), "request")
        return call_request(
            self.model,
            body,
            self.retry,
            self.timeout_ms,
            adapter.required_pointer,
            tokens_estimate=estimate_tokens(len(body), ask.max_tokens),
            usage_pointers=adapter.usage_pointers,
            price=price_of(self.model),
            tenant=self.tenant,
        )

    def read(self, reply: Reply, attempts: int) -> tuple[Chat, LlmError | None]:
        """Return an answer, and why it cannot be used. Raises LlmError SW-E2107, 2115, 2116, where no repair helps."""
        usage = usage_of(reply.counts, self.model)
        calls, wrong = checked_calls(reply.tool_calls, self.ask.tools)
        model = reply.model[:_MODEL_CHARS_MAX] or self.model.name
        chat = Chat(reply.text, reply.text, usage, reply.finish_reason, calls, model, attempts)
        if reply.refusal:
            raise LlmError("SW-E2107", f"{self.model!r} refused: {reply.refusal[:200]}")
        if wrong:
            return chat, LlmError(
                "SW-E2118", f"{self.model!r} asked for a tool call that cannot be carried out: {wrong}"
            )
        if calls:
            return dataclasses.replace(chat, value=None), None
        if self.returns is str:
            return chat, None
        assert self.ask.schema is not None  # noqa: S101 - every type but str has one
        try:
            value = value_in(reply.text, self.returns, dict(self.ask.schema), is_wrapped=self.is_wrapped)
        except ValueError as error:
            return chat, self._misfit(reply, str(error))
        return dataclasses.replace(chat, value=value), None

    def _misfit(self, reply: Reply, problem: str) -> LlmError:
        if reply.finish_reason == "content_filter":
            raise LlmError("SW-E2115", f"the provider's content filter stopped {self.model!r}")
        if reply.finish_reason == "length":
            raise LlmError(
                "SW-E2116",
                f"the answer of {self.model!r} was cut off",
                got=f"{len(reply.text)} characters, {problem}"[:300],
                hint="raise max_tokens, or ask for less at once",
            )
        return LlmError(
            "SW-E2117",
            f"the answer of {self.model!r} does not fit the type that was asked for: {problem}",
            got=repr(reply.text[:200]),
            expected=repr(self.returns)[:200],
        )

    def _judged(self, reply: Reply, attempts: int, before: Usage) -> tuple[Chat, LlmError | None]:
        """Read an answer; an error, raised or returned, says what was used all the same."""
        try:
            chat, problem = self.read(reply, attempts)
        except LlmError as error:
            error.usage = before + usage_of(reply.counts, self.model)
            raise
        if problem is not None:
            problem.usage = before + chat.usage
        return chat, problem

    def conversation(self) -> Generator[tuple[str, tuple[Any, ...]], tuple[bytes, int], tuple[Chat, bool]]:
        """Ask, and ask once more with the error when the answer cannot be used; return the answer and whether that was so."""
        adapter = self.model.adapter
        body, attempts = yield self.name, self.request(self.ask)
        reply = adapter.read(parsed(body, self.model))
        chat, problem = self._judged(reply, attempts, Usage(cost_usd=0.0))
        if problem is None:
            return chat, False
        if not self.repair:
            raise problem
        messages = repair_messages(self.ask.messages, _shown(reply), problem.message)
        body, more = yield self.name + ".repair", self.request(dataclasses.replace(self.ask, messages=messages))
        again, problem = self._judged(adapter.read(parsed(body, self.model)), attempts + more, chat.usage)
        if problem is not None:
            raise problem
        return dataclasses.replace(again, usage=chat.usage + again.usage), True


def _shown(reply: Reply) -> str:
    """Return an answer as text, its tool calls included."""
    calls = [f"{call.name}({call.arguments if isinstance(call.arguments, str) else json.dumps(call.arguments)})"
             for call in reply.tool_calls[:10]]  # fmt: skip
    return "\n".join([*([reply.text] if reply.text else []), *calls])


def checked_messages(messages: Sequence[Message] | str) -> list[Message]:
    """Return messages as a list. Raises InputError SW-E2120 for what are none."""
    if isinstance(messages, str):
        return [{"role": "user", "content": messages}]
    try:
        found = [dict(each) for each in messages]
        is_good = bool(found) and all(
            each.get("role") in _ROLES and isinstance(each.get("content"), (str, list, type(None))) for each in found
        )
    except (TypeError, ValueError):
        is_good = False
    if not is_good:
        raise InputError(
            "SW-E2120",
            "these are no messages",
            got=repr(messages)[:200],
            expected='text, or a list of {"role": "user", "content": "..."}',
            hint=f"roles are {', '.join(_ROLES)}",
        )
    return found


def question(
    model: Model,
    messages: Sequence[Message] | str,
    returns: Any,
    *,
    retry: Retry,
    timeout: Duration,
    system: str | None = None,
    tools: Sequence[Tool | Callable[..., Any]] = (),
    tool_choice: str = "",
    max_tokens: int | None = None,
    temperature: float | None = None,
    options: Mapping[str, Any] | None = None,
    tenant: str = "",
    repair: int = 1,
    name: str = "llm.chat",
) -> Question:
    """Check what is asked before anything is spent. Raises InputError SW-E2120."""
    schema, is_wrapped = (None, False) if returns is str else schema_of(returns)
    found = tools_of(tools)
    if repair not in (0, 1):
        raise InputError("SW-E2120", "there is one repair round or none", got=repr(repair)[:80], expected="0 or 1")
    if tool_choice not in ("", "auto", "none", "required", *(tool.name for tool in found)):
        raise InputError(
            "SW-E2120",
            "tool_choice names no tool",
            got=a_text(tool_choice)[:80],
            expected="auto, none, required or a tool",
        )
    if max_tokens is not None and (type(max_tokens) is not int or max_tokens < 1):
        raise InputError(
            "SW-E2120", "max_tokens is no number of tokens", got=repr(max_tokens)[:80], expected="1 or more"
        )
    if options and "stream" in options:
        raise InputError("SW-E2120", "chat gives whole answers", got="stream=...", hint="leave stream out")
    ask = Ask(
        model.name,
        checked_messages(messages),
        system,
        found,
        tool_choice,
        schema,
        max_tokens,
        temperature,
        options or {},
    )
    return Question(model, ask, returns, is_wrapped, retry, duration_ms(timeout, "timeout"), tenant, repair, name)


@governed("llm.chat")
async def chat(  # noqa: PLR0913 - what providers let one say
    messages: Sequence[Message] | str,
    *,
    model: AnyModel,
    returns: Any = str,
    system: str | None = None,
    tools: Sequence[Tool | Callable[..., Any]] = (),
    tool_choice: str = "",
    max_tokens: int | None = None,
    temperature: float | None = None,
    base_url: str | None = None,
    api_key: str | None = None,
    retry: Retry = DEFAULT_RETRY,
    timeout: Duration = "60s",
    repair: int = 1,
    tenant: str = "",
    cache: Cache | None = None,
    redact: Redact | None = None,
    budget: Budget | None = None,
    **options: Any,
) -> Chat:
    """Ask a model. `returns` (a pydantic model, dataclass, TypedDict, JSON type) asks for structured output and validates it.

    `tools`: functions or `Tool`s that the model may ask for; what it wants is in `tool_calls`, nothing is carried out. An
    answer that fits neither the type nor the tools is shown to the model once with the error (`repair=0`: not at all).
    `options` go into the request as they are (seed, top_p, ...). `model` may be a policy; `cache` and `redact`: see there.

    Raises LlmError SW-E2107 for a refusal, SW-E2115 when a content filter left no value, SW-E2116 when the value was cut off,
    SW-E2117 and SW-E2118 when value or tool call still do not fit, SW-E2122 when the provider says that it failed;
    InputError SW-E2120 before anything is sent; StepFailed (in a run) or RunFailed when the call failed for good.
    """
    del cache, redact  # see `governed`
    asked = question(
        resolve_model(model, base_url, api_key), messages, returns, retry=retry, timeout=timeout, system=system,
        tools=tools, tool_choice=tool_choice, max_tokens=max_tokens, temperature=temperature, options=options,
        tenant=tenant, repair=repair,
    )  # fmt: skip
    with counted(budget):
        return (await converse(asked.conversation()))[0]


@governed_blocking("llm.chat")
def chat_blocking(  # noqa: PLR0913
    messages: Sequence[Message] | str,
    *,
    model: AnyModel,
    returns: Any = str,
    system: str | None = None,
    tools: Sequence[Tool | Callable[..., Any]] = (),
    tool_choice: str = "",
    max_tokens: int | None = None,
    temperature: float | None = None,
    base_url: str | None = None,
    api_key: str | None = None,
    retry: Retry = DEFAULT_RETRY,
    timeout: Duration = "60s",
    repair: int = 1,
    tenant: str = "",
    cache: Cache | None = None,
    redact: Redact | None = None,
    budget: Budget | None = None,
    **options: Any,
) -> Chat:
    """Ask a model from plain code, waiting without the GIL."""
    del cache, redact  # see `governed`
    asked = question(
        resolve_model(model, base_url, api_key), messages, returns, retry=retry, timeout=timeout, system=system,
        tools=tools, tool_choice=tool_choice, max_tokens=max_tokens, temperature=temperature, options=options,
        tenant=tenant, repair=repair,
    )  # fmt: skip
    with counted(budget):
        return converse_blocking(asked.conversation())[0]
