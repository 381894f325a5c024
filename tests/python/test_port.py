"""Event loops that call one engine: many, one after the other, and what they hear when it closes."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import stepwell as sw
from stepwell.testing.llm_server import LlmServer

SLOW = b'{"model": "test", "messages": [{"role": "user", "content": "hi"}]}'


@sw.workflow
async def double(x: int) -> int:
    return 2 * x


@sw.step
def plain_step(x: int) -> int:
    return x + 1


@sw.step
async def async_step(x: int) -> int:
    return 10 * x


@sw.workflow
async def mixed(x: int) -> int:
    """Plain steps hold up the event loop while they are recorded; async ones of other runs come to their turn."""
    return await async_step(plain_step(await async_step(plain_step(x))))


def count_fds() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_one_loop_after_the_other() -> None:
    async def use(engine: sw.Engine, x: int) -> int:
        return await (await engine.astart(double, x))

    with sw.Engine() as engine:
        assert asyncio.run(use(engine, 1)) == 2
        before = count_fds()
        # More than there are channels: those of ended loops are used again.
        assert [asyncio.run(use(engine, x)) for x in range(300)] == [2 * x for x in range(300)]
        assert count_fds() <= before + 1


def test_many_loops_at_once() -> None:
    results: list[int] = []

    async def use(engine: sw.Engine, base: int) -> None:
        runs = [await engine.astart(double, base + n) for n in range(20)]
        results.extend(await asyncio.gather(*runs))

    with sw.Engine() as engine:
        threads = [threading.Thread(target=lambda n=n: asyncio.run(use(engine, 100 * n))) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(results) == [2 * (100 * n + k) for n in range(8) for k in range(20)]


def test_plain_steps_in_async_workflows() -> None:
    with sw.Engine() as engine:
        assert engine.map(mixed, range(200), concurrency=50).results() == [10 * (10 * (x + 1) + 1) for x in range(200)]


def test_close_on_the_loop_that_waits(tmp_path: Path) -> None:
    async def main() -> None:
        engine = sw.Engine(tmp_path / "s.db")
        with LlmServer(latency="60000ms") as server:
            call = asyncio.ensure_future(engine.arequest("GET", server.url + "/models"))
            slow = asyncio.ensure_future(engine.arequest("POST", server.url + "/chat/completions", body=SLOW))
            assert (await call).status == 200
            engine.close(0)
            with pytest.raises(sw.ClosedError, match="SW-E1001"):
                await slow
            with pytest.raises(sw.ClosedError, match="SW-E1001"):
                await engine.arequest("GET", server.url + "/models")

    asyncio.run(main())


def test_close_from_another_thread(tmp_path: Path) -> None:
    engine = sw.Engine(tmp_path / "s.db")

    async def main(url: str) -> None:
        slow = asyncio.ensure_future(engine.arequest("POST", url + "/chat/completions", body=SLOW))
        await engine.arequest("GET", url + "/models")
        await asyncio.to_thread(engine.close, 0)
        with pytest.raises(sw.ClosedError, match="SW-E1001"):
            await slow

    with LlmServer(latency="60000ms") as server:
        asyncio.run(main(server.url))


def test_headers_of_a_plain_answer() -> None:
    with LlmServer() as server, sw.Engine() as engine:
        answer = engine.request("GET", server.url + "/models")
        assert answer.headers["content-type"] == "application/json"
        assert answer.header("Content-Type") == "application/json"
        assert answer.header("content-length") == str(len(answer.body))
        assert answer.header("type") is None
        assert ("content-length", str(len(answer.body))) in answer.header_pairs


def test_calls_per_host_bounds_what_is_in_flight() -> None:
    async def main(url: str) -> float:
        with sw.Engine(calls_per_host=2) as engine:
            began = time.monotonic()
            calls = [engine.arequest("POST", url + "/chat/completions", body=SLOW) for _ in range(6)]
            assert {answer.status for answer in await asyncio.gather(*calls)} == {200}
            return time.monotonic() - began

    with LlmServer(latency="60ms") as server:
        assert asyncio.run(main(server.url)) >= 0.18  # three waves
    with pytest.raises(sw.InputError, match="SW-E1014"):
        sw.Engine(calls_per_host=0)


class PumpFirst(dict[int, Any]):
    """The activations, with the pump taking one away whenever a thread of the pool has looked at it."""

    def get(self, key: int, default: Any = None) -> Any:
        found = super().get(key, default)
        if threading.current_thread().name.startswith("stepwell-pool"):
            super().pop(key, None)
        return found


def test_a_run_that_is_stopped_while_it_ends_takes_no_thread_with_it() -> None:
    """The thread died of a KeyError, and the results of other runs that it had not handed in yet were lost with it."""

    @sw.workflow
    def doubles(x: int) -> int:
        return 2 * x

    with sw.Engine() as engine:
        engine._worker.active = PumpFirst()
        assert [run.result(20) for run in engine.start_many(doubles, range(200))] == [2 * x for x in range(200)]
