"""Keys: one run a key, whose scope is the workflow; the same key on every attempt of a step."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import stepwell as sw

keys_seen: list[str] = []


@sw.step(retry=sw.Retry(max_attempts=4, base="1ms", cap="2ms"))
async def calls_a_service(n: int) -> str:
    keys_seen.append(sw.step_key())
    if len(keys_seen) % 3:
        raise ConnectionError("no answer")
    return f"done {n}"


@sw.workflow
async def orders(order: dict[str, Any]) -> str:
    return await calls_a_service(order["n"])


@sw.workflow
async def other(order: dict[str, Any]) -> int:
    return int(order["n"])


@sw.workflow
async def waits_for_a_word(n: int) -> str:
    return str(await sw.wait_for_signal("word"))


@pytest.fixture(autouse=True)
def _nothing_seen() -> None:
    keys_seen.clear()


def test_idempotency_key_is_the_same_on_every_attempt_and_no_other_steps(engine: sw.Engine) -> None:
    engine.start(orders, {"n": 1}).result(20)
    assert len(keys_seen) == 3
    assert len(set(keys_seen)) == 1
    engine.start(orders, {"n": 1}).result(20)
    assert len(set(keys_seen)) == 2


def test_idempotency_scope_is_the_workflow(engine: sw.Engine) -> None:
    one = engine.start(orders, {"n": 1}, key="k")
    two = engine.start(other, {"n": 2}, key="k")
    assert one.id != two.id
    assert two.result(20) == 2


def test_idempotency_fingerprint_is_that_of_the_value_not_of_its_text(engine: sw.Engine) -> None:
    one = engine.start(other, {"n": 1, "m": [1, 2]}, key="k")
    assert engine.start(other, {"m": [1, 2], "n": 1}, key="k").id == one.id
    for different in ({"n": 1, "m": [2, 1]}, {"n": 1}, {"n": "1", "m": [1, 2]}):
        with pytest.raises(sw.ConflictError, match="SW-E1201"):
            engine.start(other, different, key="k")


def test_idempotency_in_flight_gives_the_run_and_ended_gives_its_result_again(engine: sw.Engine) -> None:
    first = engine.start(waits_for_a_word, 1, key="k")
    second = engine.start(waits_for_a_word, 1, key="k")
    assert (second.id, second.is_new) == (first.id, False)
    first.signal("word", "heard")
    assert second.result(20) == "heard"
    third = engine.start(waits_for_a_word, 1, key="k")
    assert (third.is_new, third.result(20)) == (False, "heard")


def test_idempotency_of_fifty_starts_at_once_is_one_run(engine: sw.Engine) -> None:
    gate = threading.Barrier(50)

    def start(_: int) -> tuple[str, bool]:
        gate.wait(20)
        run = engine.start(other, {"n": 1}, key="k")
        return run.id, run.is_new

    engine.serve(other)
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(start, range(50)))
    assert len({run for run, _ in answers}) == 1
    assert [is_new for _, is_new in answers].count(True) == 1
