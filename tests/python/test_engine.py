"""The engine as users see it: runs, keys, steps, retries, batches, in plain and async code."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from typing import TYPE_CHECKING, Any

import pytest

import stepwell as sw

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

QUICK = sw.Retry(max_attempts=5, base="1ms", cap="2ms")


@sw.step
async def add(x: int) -> int:
    return x + 1


@sw.step
def twice(x: int) -> int:
    return 2 * x


@sw.workflow
async def async_flow(x: int) -> int:
    first = await add(x)
    return first + sum(await sw.gather(add(10), add(20)))


@sw.workflow
def plain_flow(x: int) -> int:
    return twice(x) + twice(x + 1)


@dataclasses.dataclass
class Ticket:
    id: str
    text: str


@sw.workflow
async def typed_flow(ticket: Ticket) -> Ticket:
    return Ticket(ticket.id, ticket.text.upper())


def test_functions_need_no_engine() -> None:
    assert asyncio.run(async_flow(1)) == 34
    assert plain_flow(1) == 6
    assert twice(4) == 8


def test_results_of_plain_and_async_workflows(engine: sw.Engine) -> None:
    assert engine.start(async_flow, 1).result(timeout=20) == 34
    assert engine.start(plain_flow, 1).result(timeout=20) == 6


def test_typed_input_and_result(engine: sw.Engine) -> None:
    assert engine.start(typed_flow, Ticket("7", "help")).result(20) == Ticket("7", "HELP")


def test_the_same_key_is_the_same_run(engine: sw.Engine) -> None:
    first = engine.start(plain_flow, 1, key="k")
    again = engine.start(plain_flow, 1, key="k")
    assert first.is_new
    assert not again.is_new
    assert first.id == again.id
    assert again.result(20) == 6
    with pytest.raises(sw.ConflictError, match="SW-E1201"):
        engine.start(plain_flow, 2, key="k")
    found = engine.find(plain_flow, "k")
    assert found is not None
    assert found.id == first.id
    assert engine.find(plain_flow, "other") is None


def test_order_of_members_makes_no_other_request(engine: sw.Engine) -> None:
    @sw.workflow
    def flow(x: dict[str, int]) -> int:
        return sum(x.values())

    assert engine.start(flow, {"a": 1, "b": 2}, key="k").id == engine.start(flow, {"b": 2, "a": 1}, key="k").id


@pytest.mark.parametrize("key", ["", "a\nb", "x" * 256, "a\x00"])
def test_bad_keys(engine: sw.Engine, key: str) -> None:
    with pytest.raises(sw.InputError, match="SW-E1202"):
        engine.start(plain_flow, 1, key=key)


def test_a_failing_step_is_tried_again_then_raises(engine: sw.Engine) -> None:
    tries: list[int] = []

    @sw.step(retry=QUICK)
    async def flaky(x: int) -> int:
        tries.append(x)
        if len(tries) < 3:
            raise ValueError("not yet")
        return x

    @sw.step(retry=sw.Retry(max_attempts=3, base="1ms", cap="2ms"))
    def hopeless() -> None:
        raise KeyError("never")

    @sw.workflow
    async def flow(x: int) -> str:
        await flaky(x)
        try:
            hopeless()
        except sw.StepFailed as error:
            return f"{error.error['type']} {error.error['attempts']}"
        return "no error"

    assert engine.start(flow, 1).result(20) == "KeyError 3"
    assert len(tries) == 3


def test_give_up_on_stops_at_once(engine: sw.Engine) -> None:
    tries: list[int] = []

    @sw.step(retry=sw.Retry(max_attempts=5, base="1ms", give_up_on=(KeyError,)))
    async def step() -> None:
        tries.append(1)
        raise KeyError("x")

    @sw.workflow
    async def flow() -> None:
        await step()

    with pytest.raises(sw.RunFailed):
        engine.start(flow).result(20)
    assert len(tries) == 1


def test_a_failed_run_says_why(engine: sw.Engine) -> None:
    @sw.workflow
    async def flow() -> None:
        raise ZeroDivisionError("by zero")

    with pytest.raises(sw.RunFailed, match="ZeroDivisionError: by zero") as caught:
        engine.start(flow).result(20)
    assert "flow" in caught.value.error["traceback"]
    assert caught.value.run_id.startswith("r_")


def test_an_exception_whose_text_raises_is_recorded(engine: sw.Engine) -> None:
    class Rude(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    @sw.workflow
    def flow() -> None:
        raise Rude

    with pytest.raises(sw.RunFailed, match="Rude"):
        engine.start(flow).result(20)


@pytest.mark.parametrize("value", [float("nan"), lambda: 1, object(), (i for i in range(2)), {1: b"x"}])
def test_a_result_without_a_json_form_fails_the_run(engine: sw.Engine, value: Any) -> None:
    @sw.workflow
    def flow() -> Any:
        return value

    with pytest.raises(sw.RunFailed, match="cannot be kept as JSON"):
        engine.start(flow).result(20)


def test_step_timeout(engine: sw.Engine) -> None:
    never = threading.Event()

    @sw.step(timeout="20ms")
    async def slow_async() -> None:
        await asyncio.Event().wait()

    @sw.step(timeout="20ms")
    def slow_plain() -> None:
        never.wait(10)

    @sw.workflow
    async def flow() -> None:
        await slow_async()

    @sw.workflow
    def plain() -> None:
        slow_plain()

    for one in (flow, plain):
        with pytest.raises(sw.RunFailed, match="SW-E2002"):
            engine.start(one).result(20)
    never.set()


def test_wait_timeout_and_cancel(engine: sw.Engine) -> None:
    began = threading.Event()

    @sw.workflow
    async def flow() -> None:
        began.set()
        await asyncio.Event().wait()

    run = engine.start(flow)
    with pytest.raises(sw.WaitTimeout):
        run.result(timeout=0.01)
    assert began.wait(10)
    run.cancel()
    with pytest.raises(sw.RunCancelled):
        run.result(20)
    assert run.status() is sw.RunStatus.CANCELLED
    run.cancel()


def test_await_in_the_callers_loop(engine: sw.Engine) -> None:
    async def main() -> list[int]:
        runs = [await engine.astart(async_flow, n) for n in range(20)]
        return [await run for run in runs]

    assert asyncio.run(main()) == [33 + n for n in range(20)]


def test_blocking_calls_inside_a_running_loop(engine: sw.Engine) -> None:
    """As in a notebook cell: no nested-loop tricks needed."""

    async def main() -> int:
        return engine.start(async_flow, 1).result(20)

    assert asyncio.run(main()) == 34


def test_map_in_order_and_as_it_finishes(engine: sw.Engine) -> None:
    assert engine.map(plain_flow, range(300), concurrency=20).results() == [4 * n + 2 for n in range(300)]
    batch = engine.map(async_flow, range(50), concurrency=7)
    seen = {item.index: item.value for item in batch}
    assert seen == {n: 33 + n for n in range(50)}
    progress = batch.progress()
    assert (progress.finished, progress.failed, progress.total) == (50, 0, 50)


def test_map_on_the_callers_loop(engine: sw.Engine) -> None:
    async def main() -> tuple[list[int], int]:
        values = await engine.map(plain_flow, range(10))
        count = 0
        async for _ in await engine.amap(plain_flow, range(10)):
            count += 1
        return values, count

    assert asyncio.run(main()) == ([4 * n + 2 for n in range(10)], 10)


def test_map_limits_what_runs_at_once(engine: sw.Engine) -> None:
    active: list[int] = []
    most = 0

    @sw.workflow
    async def flow(x: int) -> None:
        nonlocal most
        active.append(x)
        most = max(most, len(active))
        for _ in range(3):
            await asyncio.sleep(0)
        active.remove(x)

    engine.map(flow, range(60), concurrency=5).results()
    assert 1 < most <= 5


def test_map_with_errors_and_an_input_that_raises(engine: sw.Engine) -> None:
    @sw.workflow
    def picky(x: int) -> int:
        if x == 3:
            raise ValueError("three")
        return x

    items = list(engine.map(picky, range(5)))
    assert [item.index for item in items if item.error] == [3]

    def broken() -> Iterator[int]:
        yield 1
        raise OSError("the source broke")

    with pytest.raises(OSError, match="the source broke"):
        list(engine.map(picky, broken()))


def test_map_resumes_by_key(tmp_path: Path) -> None:
    ran: list[str] = []

    @sw.workflow
    def flow(item: dict[str, str]) -> str:
        ran.append(item["id"])
        return item["id"] * 2

    items = [{"id": f"t{n}"} for n in range(40)]
    with sw.Engine(tmp_path / "s.db") as engine:
        engine.map(flow, items[:25], key="id").results()
    with sw.Engine(tmp_path / "s.db") as engine:
        batch = engine.map(flow, items, key="id")
        assert batch.results() == [item["id"] * 2 for item in items]
        assert batch.progress().recorded == 25
    assert sorted(ran) == sorted(item["id"] for item in items)


def test_recorded_steps_answer_after_a_reopen(tmp_path: Path) -> None:
    ran: list[str] = []
    gate = asyncio.Event

    @sw.step
    async def once(name: str) -> str:
        ran.append(name)
        return name

    first_time = threading.Event()

    @sw.workflow
    async def flow() -> list[str]:
        done = await sw.gather(once("a"), once("b"))
        if not first_time.is_set():
            first_time.set()
            await gate().wait()
        return [*done, await once("c")]

    engine = sw.Engine(tmp_path / "s.db")
    run = engine.start(flow, key="k")
    assert first_time.wait(10)
    engine.close(0)
    with sw.Engine(tmp_path / "s.db", workflows=[flow]) as engine:
        again = engine.find(flow, "k")
        assert again is not None
        assert again.id == run.id
        assert again.result(20) == ["a", "b", "c"]
    assert sorted(ran) == ["a", "b", "c"]


def test_a_second_engine_on_the_same_file_is_refused(tmp_path: Path) -> None:
    with sw.Engine(tmp_path / "s.db"), pytest.raises(sw.ConflictError, match="SW-E1101"):
        sw.Engine(tmp_path / "s.db")
