"""What the LLM test server says, whatever the wire form: by rules, or by a file of recorded answers."""

from __future__ import annotations

import json
import re
import sys
from typing import TYPE_CHECKING, Any

from stepwell.testing._llm_forms import TOKEN_CHARS, Ask, RefusedError, Said, ToolCall, Usage, to_json
from stepwell.testing._llm_sample import sample

if TYPE_CHECKING:
    from pathlib import Path

REASONING_TOKENS = 64
_TEXT_KEPT = 200
_TOKENS_ASKED = re.compile(r"-(\d{1,6})-tokens\b")
_SEARCHED_MAX = 100_000


class Records:
    """Recorded answers by model and text."""

    def __init__(self, file: str | Path) -> None:
        self._by_model: dict[str, dict[str, dict[str, Any]]] = {}
        self._found: dict[tuple[str, str], dict[str, Any] | None] = {}
        with open(file, encoding="utf-8") as lines:  # noqa: PTH123 - a name is what the command line gives
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                try:
                    record = json.loads(line)
                    model, text, _ = str(record["model"]), str(record["text"]), record["content"]
                except (ValueError, TypeError, LookupError):
                    raise ValueError(f"{file}:{number}: expected an object with model, text and content") from None
                self._by_model.setdefault(model, {})[text] = record

    def find(self, model: str, text: str) -> dict[str, Any]:
        """Return the record of a text, or of the longest recorded one that stands in it. Raises RefusedError without one."""
        known = self._by_model.get(model, {})
        record = known.get(text)
        if record is None:
            key = (model, text)
            if key not in self._found and len(self._found) < _SEARCHED_MAX:
                inside = [each for each in known if each and each in text]
                self._found[key] = known[max(inside, key=len)] if inside else None
            record = self._found.get(key)
        if record is None:
            raise RefusedError(404, f"no recorded answer of {model!r} for {text[:80]!r}")
        return record

    def never_answers(self, model: str, text: str) -> bool:
        """Whether a text's record says so."""
        try:
            return bool(self.find(model, text).get("hang"))
        except RefusedError:
            return False


def say(ask: Ask, fault: str, said_id: str, records: Records | None) -> Said:
    """Return what is said to a request; `fault` may spoil what it says. Raises RefusedError."""
    used = ask.chars // TOKEN_CHARS + 1
    cached = used // 2 if "cached" in ask.model else 0
    reasoning = REASONING_TOKENS if "reasoning" in ask.model else 0
    if fault in ("refusal", "content_filter"):
        text = "I can't help with that."
        usage = Usage(used, _tokens_of(text) + reasoning, cached, reasoning)
        return Said(said_id, ask.model, "", usage, fault, text if fault == "refusal" else None)
    if ask.tools and not ask.answers_tool and ask.tool_choice != "none":
        calls = _calls(ask, ask.tools, fault, said_id)
        tokens = sum(_tokens_of(call.name + call.arguments) for call in calls)
        return Said(
            said_id, ask.model, "", Usage(used, tokens + reasoning, cached, reasoning), "tool_calls", None, calls
        )
    most, finish, asked = ask.max_tokens or sys.maxsize, "stop", None
    if "-tokens" in ask.model and ask.schema is None:
        asked = _TOKENS_ASKED.search(ask.model)
    if asked is not None:
        tokens = int(asked[1])
        content = "".join(f"t{number} " for number in range(min(tokens, most)))
    else:
        content = "" if fault == "empty" else _content(ask, fault, records)
        tokens = _tokens_of(content)
    if fault == "cut_json":
        most = min(most, max(1, tokens // 2))
    if tokens > most:
        tokens, finish = most, "length"
        content = content if asked else content[: most * TOKEN_CHARS]
    usage = Usage(used, tokens + reasoning, cached, reasoning)
    return Said(said_id, ask.model, content, usage, finish, is_numbered=asked is not None)


def _tokens_of(text: str) -> int:
    return max(1, -(-len(text) // TOKEN_CHARS))


def _calls(ask: Ask, tools: dict[str, Any], fault: str, said_id: str) -> list[ToolCall]:
    if fault == "unknown_tool":
        return [ToolCall(f"call_{said_id}", "no_such_tool", "{}")]
    names = list(tools) if "parallel" in ask.model else list(tools)[:1]
    if ask.tool_choice not in ("auto", "any"):
        if ask.tool_choice not in tools:
            raise RefusedError(400, f"Tool choice {ask.tool_choice!r} was not found among the tools.")
        names = [ask.tool_choice]
    return [
        ToolCall(f"call_{said_id}_{at}", name, to_json(sample(tools[name] or {"type": "object"}, ask.text)))
        for at, name in enumerate(names)
    ]


def _content(ask: Ask, fault: str, records: Records | None) -> str:
    record = None if records is None else records.find(ask.model, ask.text)
    if ask.schema is None:
        if record is not None:
            content = record["content"]
            return content if isinstance(content, str) else to_json(content)
        if fault == "nan":
            return "NaN"
        return f"{'The tool' if ask.answers_tool else 'You'} said: {ask.text[:_TEXT_KEPT]}"
    value: Any = None
    if record is not None and not isinstance(record["content"], str):
        value = record["content"]
    else:
        label = None if record is None else str(record["content"])
        label = "Something Else Entirely" if fault == "wrong_label" else label
        value = sample(ask.schema, ask.text, label, None if record is None else record.get("confidence"))
    if fault == "nan" and isinstance(value, dict):
        value = {name: float("nan") if isinstance(each, (int, float)) else each for name, each in value.items()}
    text = to_json(value)
    return f"```json\n{text}\n```" if fault == "fenced" else text
