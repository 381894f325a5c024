"""Structured answers, the repair round, tools: what each promises, over real HTTP."""

from __future__ import annotations

import enum
import json
from dataclasses import dataclass
from typing import Any, Literal

import pydantic
import pytest
from llm_answers import FORMS, Provider
from typing_extensions import TypedDict  # pydantic wants this one on Python 3.11

import stepwell as sw
from stepwell.llm import Tool
from stepwell.llm._answer import json_in
from stepwell.llm._json_schema import anthropic_form, gemini_form, openai_form, schema_of
from stepwell.llm._tools import tools_of

LABELS = ["Billing", "Technical", "General"]


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Person(pydantic.BaseModel):
    name: str
    age: int | None = None


@dataclass
class Order:
    id: int
    lines: list[str]


class Place(TypedDict):
    city: str


class Tree(pydantic.BaseModel):
    name: str
    children: list[Tree] = []


class Cat(pydantic.BaseModel):
    kind: Literal["cat"]
    lives: int


class Dog(pydantic.BaseModel):
    kind: Literal["dog"]
    name: str


TYPES = [
    (Person, '{"name": "Ada", "age": null}', Person(name="Ada")),
    (Order, '{"id": 7, "lines": ["a"]}', Order(7, ["a"])),
    (Place, '{"city": "Ulm"}', {"city": "Ulm"}),
    (Tree, '{"name": "a", "children": [{"name": "b", "children": []}]}', Tree(name="a", children=[Tree(name="b")])),
    (Colour, '{"value": "red"}', Colour.RED),
    (list[int], '{"value": [1, 2]}', [1, 2]),
    (bool, '{"value": true}', True),
    (int | None, '{"value": null}', None),
    (Cat | Dog, '{"value": {"kind": "dog", "name": "Rex"}}', Dog(kind="dog", name="Rex")),
    (dict[str, int], '{"a": 1}', {"a": 1}),
    (dict, '{"a": [1]}', {"a": [1]}),
]


@pytest.mark.parametrize(("returns", "text", "value"), TYPES, ids=[str(each[0])[:30] for each in TYPES])
def test_types_that_can_be_asked_for(returns: Any, text: str, value: Any) -> None:
    for form in ("openai", "anthropic", "gemini"):
        with Provider(form, text) as server:
            assert sw.llm.chat_blocking("x", returns=returns, **server.settings).value == value
            assert len(server.bodies()) == 1


def objects(node: Any) -> list[dict[str, Any]]:
    """Every object in a schema that has fields."""
    if isinstance(node, list):
        return [found for each in node for found in objects(each)]
    if not isinstance(node, dict):
        return []
    own = [node] if "properties" in node else []
    return own + [found for each in node.values() for found in objects(each)]


def words(node: Any) -> set[str]:
    if isinstance(node, list):
        return {word for each in node for word in words(each)}
    if not isinstance(node, dict):
        return set()
    inner = [words(each) for name, each in node.items() if name not in ("properties", "$defs")]
    named = [words(each) for name in ("properties", "$defs") for each in node.get(name, {}).values()]
    return set(node).union(*inner, *named)


class Strict(pydantic.BaseModel):
    short: str = pydantic.Field("x", min_length=1, max_length=3, pattern="^a", description="words")
    number: int = pydantic.Field(ge=1, le=9)
    default: str = "a field of this name"
    nested: Person | None = None
    pet: Cat | Dog = pydantic.Field(discriminator="kind")


def test_schemas_are_said_in_each_providers_dialect() -> None:
    schema = schema_of(Strict)[0]
    form, is_strict = openai_form(schema)
    assert is_strict
    for each in objects(form):
        assert each["additionalProperties"] is False
        assert sorted(each["required"]) == sorted(each["properties"])
    assert not words(form) & {"default", "minLength", "maxLength", "oneOf", "discriminator", "const"}
    assert "default" in form["properties"], "a field may have any name"
    assert words(form) >= {"minimum", "pattern", "anyOf", "description"}
    lean = anthropic_form(schema)
    assert lean is not None
    assert not words(lean) & {"minimum", "maximum", "pattern", "minLength", "default"}
    assert all(each["additionalProperties"] is False for each in objects(lean))
    assert words(gemini_form(schema)) >= {"minimum", "maximum"}
    assert openai_form(schema_of(Tree)[0])[0]["type"] == "object", "a recursive type has an object at its root"
    assert anthropic_form(schema_of(Tree)[0]) is None, "this API knows no recursion"
    assert lean["required"] == list(lean["properties"])


@pytest.mark.parametrize("returns", [dict[str, int], dict, list, Any, tuple[int, str]])
def test_free_shapes_are_asked_for_without_strictness(returns: Any) -> None:
    schema = schema_of(returns)[0]
    assert openai_form(schema)[1] is False
    assert anthropic_form(schema) is None
    with Provider("anthropic", '{"a": 1}') as server:
        sw.llm.chat_blocking("x", returns=dict[str, int], **server.settings)
        sent = server.bodies()[0]
    assert "output_config" not in sent
    assert '"additionalProperties"' in sent["system"]


@pytest.mark.parametrize("returns", [object(), type("Odd", (), {}), lambda: 1])
def test_types_without_a_schema_are_refused_before_anything_is_sent(returns: Any) -> None:
    with Provider("openai") as server:
        with pytest.raises(sw.InputError, match="SW-E2120"):
            sw.llm.chat_blocking("x", returns=returns, **server.settings)
        assert server.bodies() == []


GOOD = '{"name": "Ada", "age": 36}'


@pytest.mark.parametrize(
    "text",
    [GOOD, f"```json\n{GOOD}\n```", f"```\n{GOOD}```", f"Here it is:\n{GOOD}\nAnything else?", f"\n\n {GOOD} \n"],
)
def test_json_that_is_there_is_found(text: str) -> None:
    assert json_in(text) == {"name": "Ada", "age": 36}


@pytest.mark.parametrize(
    "text", ["", "{", GOOD[:-1], "{'name': 'Ada'}", '{"name": "Ada",}', GOOD + GOOD, '{"a": NaN}', "[" * 10**5]
)
def test_what_is_nearly_json_is_not_guessed_at(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        json_in(text)


@pytest.mark.parametrize("form", FORMS)
def test_one_repair_round_shows_the_answer_and_the_error(form: str) -> None:
    with Provider(form, '{"name": 7}', GOOD) as server:
        answer = sw.llm.chat_blocking("who?", returns=Person, **server.settings)
        first, second = server.bodies()
    assert answer.value == Person(name="Ada", age=36)
    assert (answer.usage.tokens_in, answer.usage.tokens_out, answer.attempts) == (200, 60, 2)
    assert '{\\"name\\": 7}' in json.dumps(second)
    assert "name" in json.dumps(second).partition("cannot be used")[2]
    kept = {name: value for name, value in first.items() if name not in ("messages", "input", "contents")}
    assert {name: second[name] for name in kept} == kept, "the second question asks for the same"


def test_a_second_bad_answer_is_the_last_one() -> None:
    with Provider("openai", "no", "no", GOOD) as server:
        with pytest.raises(sw.LlmError, match="SW-E2117") as caught:
            sw.llm.chat_blocking("who?", returns=Person, **server.settings)
        assert "no" in str(caught.value.got)
        assert len(server.bodies()) == 2
    for repair in (2, -1, None, "1"):
        with pytest.raises(sw.InputError, match="SW-E2120"):
            sw.llm.chat_blocking("x", model="m", base_url="http://127.0.0.1:9", repair=repair)  # type: ignore[arg-type]


def test_without_repair_there_is_one_call() -> None:
    with Provider("openai", "no") as server:
        with pytest.raises(sw.LlmError, match="SW-E2117"):
            sw.llm.chat_blocking("who?", returns=Person, repair=0, **server.settings)
        found = sw.llm.classify_blocking("x", labels=LABELS, model="m", base_url=server.url, repair=0)
        assert (found.status, found.attempts) == ("review", 1)
        assert len(server.bodies()) == 2


def test_a_label_outside_of_the_taxonomy_gets_one_round() -> None:
    with Provider("openai", '{"label": "Sales", "confidence": 1}', '{"label": "billing", "confidence": 0.8}') as server:
        found = sw.llm.Classifier(LABELS, **server.settings).classify_blocking("x")
        assert (found.label, found.confidence, found.repaired) == ("Billing", 0.8, True)
        assert (found.tokens_in, found.attempts) == (200, 2)
        asked = server.bodies()[1]["messages"]
        assert [message["role"] for message in asked] == ["system", "user", "assistant", "user"]
        assert "'Sales' is not in the taxonomy" in asked[3]["content"]
    with Provider("openai", '{"label": "Sales", "confidence": 1}') as server:
        found = sw.llm.Classifier(LABELS, **server.settings).classify_blocking("x")
        assert (found.label, found.status, found.repaired, found.attempts) == (None, "review", False, 2)
        assert len(server.bodies()) == 2


def test_policies_of_labels_are_checked() -> None:
    for repair in (2, True + 1, "1"):
        with pytest.raises(sw.InputError, match="SW-E2120"):
            sw.llm.Classifier(LABELS, model="m", base_url="http://127.0.0.1:9/v1", repair=repair)  # type: ignore[arg-type]


# --- tools ---


def pay(amount: int, currency: Literal["EUR", "USD"] = "EUR") -> str:
    """Pay somebody."""
    raise AssertionError("no tool is ever called")


def test_a_function_becomes_a_tool() -> None:
    (tool,) = tools_of([pay])
    assert (tool.name, tool.description) == ("pay", "Pay somebody.")
    assert tool.schema["required"] == ["amount"]
    assert tool.schema["properties"]["currency"]["enum"] == ["EUR", "USD"]
    (empty,) = tools_of([lambda_like])
    assert empty.schema["properties"] == {}


def lambda_like() -> None:
    pass


def positional(a: int, /) -> None:
    pass


@pytest.mark.parametrize(
    "tools",
    [
        [pay, pay],
        [positional],
        [lambda x: x],
        [print],
        [3],
        [Tool(f"t{n}") for n in range(129)],
    ],
    ids=["twice", "positional", "lambda", "builtin", "number", "too many"],
)
def test_tools_that_cannot_be_given(tools: list[Any]) -> None:
    with pytest.raises(sw.InputError, match="SW-E2120"):
        sw.llm.chat_blocking("x", model="m", base_url="http://127.0.0.1:9/v1", tools=tools)


@pytest.mark.parametrize(
    ("name", "schema"), [("", {}), ("a b", {"type": "object"}), ("a\u200bb", {}), ("a", {"type": "array"})]
)
def test_tools_of_a_bad_name_or_schema(name: str, schema: dict[str, Any]) -> None:
    with pytest.raises(sw.InputError, match="SW-E2120"):
        Tool(name, "x", schema)


def test_settings_that_make_no_sense() -> None:
    place: dict[str, Any] = {"model": "m", "base_url": "http://127.0.0.1:9/v1"}
    bad: list[dict[str, Any]] = [
        {"messages": []},
        {"messages": [{"role": "boss", "content": "x"}]},
        {"messages": [{"role": "user", "content": 3}]},
        {"messages": 3},
        {"messages": "x", "tool_choice": "other"},
        {"messages": "x", "max_tokens": 0},
        {"messages": "x", "max_tokens": 1.5},
        {"messages": "x", "stream": True},
    ]
    for settings in bad:
        with pytest.raises(sw.InputError, match="SW-E2120"):
            sw.llm.chat_blocking(**settings, **place)
