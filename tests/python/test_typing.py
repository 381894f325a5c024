"""What a type checker sees of the face. The tests' own run proves the values, mypy (in `./dev test`) the types."""

from __future__ import annotations

import asyncio
from typing import assert_type

import stepwell as sw
import stepwell.testing


@sw.step
async def shout(text: str) -> str:
    return text.upper()


@sw.step
def length(text: str) -> int:
    return len(text)


@sw.workflow
async def of_loop(text: str) -> int:
    return assert_type(length(assert_type(await shout(text), str)), int)


@sw.workflow
def of_pool(text: str) -> float:
    return length(text) / 2


def test_the_engine_under_test_has_the_same_types() -> None:
    with stepwell.testing.Engine() as engine:
        assert assert_type(engine.start(of_loop, "abc").result(), int) == 3
    report = assert_type(stepwell.testing.crash_everywhere(of_pool, "ab"), stepwell.testing.CrashReport)
    assert assert_type(report.ok, bool)


def test_results_have_the_functions_types() -> None:
    with sw.Engine() as engine:
        assert assert_type(engine.start(of_loop, "abc").result(), int) == 3
        assert assert_type(engine.start(of_pool, "abc").result(), float) == 1.5
        assert assert_type(engine.map(of_loop, ["a", "bc"]).results(), list[int]) == [1, 2]
        assert assert_type([run.result() for run in engine.start_many(of_pool, ["ab"])], list[float]) == [1.0]

        async def main() -> None:
            assert assert_type(await engine.start(of_loop, "abcd"), int) == 4
            assert assert_type(await (await engine.astart(of_pool, "abcd")), float) == 2.0

        asyncio.run(main())


@sw.workflow
async def asks_people(text: str) -> list[bool]:
    decision = assert_type(await sw.approval(text, deadline="1ms", default=True), sw.Decision)
    return [decision.approved, assert_type(await sw.approval(text, type=bool, deadline="1ms", default=False), bool)]


@sw.workflow
def asks_people_plainly(text: str) -> list[bool]:
    decision = assert_type(sw.approval_blocking(text, deadline="1ms", default=True), sw.Decision)
    return [decision.approved, assert_type(sw.approval_blocking(text, type=bool, deadline="1ms", default=False), bool)]


def test_answers_of_people_have_the_type_that_was_asked_for() -> None:
    with sw.Engine() as engine:
        assert engine.start(asks_people, "?").result() == [True, False]
        assert engine.start(asks_people_plainly, "?").result() == [True, False]
