"""The rules of approvals, drawn at random: what must hold whatever people send, and in whatever order it comes."""

from __future__ import annotations

import enum
import json
from collections import Counter
from typing import Any, Literal

import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepwell import _codec
from stepwell._approvals.case import Case, canonical, hash_of
from stepwell._schema import misfit

ASKED_AT, DEADLINE_AT = 1_000, 2_000
PEOPLE = ["ann", "bob", "eve", "max"]
PAYLOAD = {"euros": 20}


def asked(draw: st.DrawFn) -> dict[str, Any]:
    approvers = draw(st.none() | st.lists(st.sampled_from(PEOPLE[:3]), min_size=1, unique=True))
    most = len(approvers) if approvers is not None else 3
    is_typed = draw(st.booleans())
    question: dict[str, Any] = {
        "question": "?",
        "kind": "typed" if is_typed else "yes or no",
        "schema": {"enum": ["a", "b"]} if is_typed else {"type": "boolean"},
        "payload_hash": draw(st.sampled_from(["", hash_of(PAYLOAD)])),
        "asked_at": ASKED_AT,
        "deadline_at": draw(st.sampled_from([-1, DEADLINE_AT])),
        "escalate": [[at, "m:s", True] for at in sorted(draw(st.lists(st.integers(1_100, 1_900), max_size=3)))],
        "quorum": draw(st.integers(1, most)),
        "reject_quorum": draw(st.integers(1, most)),
        "approvers": approvers,
    }
    if question["deadline_at"] > 0 and draw(st.booleans()):
        question["default"] = "a" if is_typed else False
    return question


def decision(draw: st.DrawFn, number: int, *, is_typed: bool) -> dict[str, Any]:
    is_reject = draw(st.integers(0, 2)) == 0
    answers = ["a", "b", "c"] if is_typed else [True]
    return {
        "id": str(number),
        "is_reject": is_reject,
        "answer": None if is_reject else draw(st.sampled_from(answers)),
        "by": draw(st.sampled_from([*PEOPLE, ""])),
        "comment": "",
        "at": draw(st.integers(ASKED_AT, DEADLINE_AT + 200)),
        "hash": draw(st.sampled_from([hash_of(PAYLOAD)] * 4 + ["", hash_of({"euros": 2000})])),
    }


@st.composite
def stories(draw: st.DrawFn) -> tuple[dict[str, Any], list[dict[str, Any] | None]]:
    """Return a question, and what came: decisions, and None for a time that was due."""
    question = asked(draw)
    is_typed = question["kind"] == "typed"
    come = [draw(st.integers(0, 4)) > 0 for _ in range(draw(st.integers(0, 12)))]
    return question, [
        decision(draw, number, is_typed=is_typed) if is_one else None for number, is_one in enumerate(come)
    ]


def play(question: dict[str, Any], story: list[dict[str, Any] | None]) -> Case:
    case = Case(question)
    for what in story:
        end = case.end
        if what is not None:
            case.take(what)
        elif end is None and case.next_due() >= 0:  # as its run does: a closed case waits for nothing
            case.time_came()
        assert end is None or case.end == end, "the first verdict stands"
    return case


@given(stories())
@settings(max_examples=400)
def test_a_verdict_is_what_enough_different_allowed_people_said_in_time(
    drawn: tuple[dict[str, Any], list[dict[str, Any] | None]],
) -> None:
    question, story = drawn
    case = play(question, story)
    sent = [what for what in story if what is not None]
    voted = {vote["id"] for vote in case.votes}
    assert voted.isdisjoint(case.refusals)
    assert voted | case.refusals.keys() == {each["id"] for each in sent}, "every decision has its answer"
    assert max(Counter(vote["by"] for vote in case.votes).values(), default=1) == 1
    for vote in case.votes:
        assert vote["by"]
        assert question["approvers"] is None or vote["by"] in question["approvers"]
        assert question["deadline_at"] < 0 or vote["at"] < question["deadline_at"]
        assert question["payload_hash"] in ("", vote["hash"])
        assert vote["is_reject"] or vote["answer"] in ("a", "b", True)
    said = Counter(canonical(vote["answer"]) for vote in case.votes if not vote["is_reject"])
    rejects = sum(vote["is_reject"] for vote in case.votes)
    most = max(said.values(), default=0)
    assert most <= question["quorum"]
    assert rejects <= question["reject_quorum"]
    if case.end is None:
        assert most < question["quorum"]
        assert rejects < question["reject_quorum"]
        if question["approvers"] is not None:
            left = len(question["approvers"]) - len(case.votes)
            assert most + left >= question["quorum"], "nobody waits for a quorum that cannot come"
        return
    if case.end["status"] in ("approved", "answered"):
        assert said[canonical(case.end["answer"])] == question["quorum"] == len(case.end["by"])
    elif case.end["status"] == "rejected":
        left = len(question["approvers"] or PEOPLE) - len(case.votes)
        assert rejects == question["reject_quorum"] or most + left < question["quorum"]
        assert case.end.get("answer", False) is False
    else:
        assert case.end["status"] == "expired"
        assert case.end.get("answer", "none") == question.get("default", "none"), "silence is never a yes of its own"


@given(stories())
def test_who_looks_later_sees_what_the_run_saw(drawn: tuple[dict[str, Any], list[dict[str, Any] | None]]) -> None:
    question, story = drawn
    first, again = play(question, story), play(json.loads(json.dumps(question)), json.loads(json.dumps(story)))
    assert (first.end, first.entries, first.refusals) == (again.end, again.entries, again.refusals)


# -- schemas -------------------------------------------------------------------------------------------------------------


class Colour(enum.Enum):
    RED = "red"
    BLUE = 2


class Part(pydantic.BaseModel):
    name: str = pydantic.Field(min_length=1, max_length=5, pattern="^[a-z]+$")
    weight: float = pydantic.Field(gt=0, le=10)


class Thing(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")
    colour: Colour
    parts: list[Part] = pydantic.Field(max_length=2)
    pair: tuple[int, bool]
    label: Literal["x", 1] | None = None
    inner: Thing | None = None
    more: dict[str, int] = {}


names = st.text("abc", min_size=1, max_size=5)
parts = st.builds(Part, name=names, weight=st.floats(0.1, 10))
things = st.recursive(
    st.builds(
        Thing,
        colour=st.sampled_from(Colour),
        parts=st.lists(parts, max_size=2),
        pair=st.tuples(st.integers(), st.booleans()),
        label=st.sampled_from(["x", 1, None]),
        inner=st.none(),
        more=st.dictionaries(names, st.integers()),
    ),
    lambda inner: st.builds(Thing, colour=st.just(Colour.RED), parts=st.just([]), pair=st.just((1, True)), inner=inner),
    max_leaves=3,
)


@given(things)
def test_what_the_type_makes_fits_its_schema(thing: Thing) -> None:
    assert misfit(json.loads(_codec.encode(thing)), _codec.schema_of(Thing)) == ""


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"colour": "green"}, "colour"),
        ({"colour": True}, "colour"),
        ({"parts": [{"name": "a", "weight": 1}] * 3}, "parts"),
        ({"parts": [{"name": "a", "weight": 0}]}, "parts[0].weight"),
        ({"parts": [{"name": "a", "weight": 10.5}]}, "parts[0].weight"),
        ({"parts": [{"name": "A", "weight": 1}]}, "parts[0].name"),
        ({"parts": [{"name": "", "weight": 1}]}, "parts[0].name"),
        ({"parts": [{"name": "a"}]}, "parts[0].weight"),
        ({"parts": {}}, "parts"),
        ({"pair": [1]}, "pair"),
        ({"pair": [1, True, 2]}, "pair"),
        ({"pair": [1, 1]}, "pair[1]"),
        ({"pair": [1.5, True]}, "pair[0]"),
        ({"label": "y"}, "label"),
        ({"inner": {}}, "inner.colour"),
        ({"more": {"a": "b"}}, "more.a"),
        ({"unknown": 1}, "unknown"),
    ],
)
def test_what_does_not_fit_is_named_by_its_place(change: dict[str, Any], where: str) -> None:
    fits = {"colour": "red", "parts": [], "pair": [1, True]}
    assert misfit(fits, _codec.schema_of(Thing)) == ""
    assert misfit({**fits, **change}, _codec.schema_of(Thing)).startswith(f"answer.{where}:")
    with pytest.raises(pydantic.ValidationError):
        pydantic.TypeAdapter(Thing).validate_json(json.dumps({**fits, **change}), strict=True)


@pytest.mark.parametrize(
    ("value", "schema", "fits"),
    [
        (True, {"const": 1}, False),
        (1, {"enum": [True, "x"]}, False),
        (True, {"type": "integer"}, False),
        (True, {"type": ["number", "boolean"]}, True),
        (1.0, {"type": "integer"}, True),
        ("x", True, True),
        ("x", False, False),
    ],
)
def test_true_is_not_one(value: Any, schema: Any, *, fits: bool) -> None:
    assert (misfit(value, schema) == "") == fits
