"""Python's HTTP clients against one server: calls a second, CPU a call, latency, memory a call.

    http_peers.py aiohttp|aiohttp_uvloop|httpx|openai CONCURRENCY SECONDS URL DELAY_MS SPREAD_MS [URL DELAY_MS SPREAD_MS ...]

Prints one JSON line; the measures of a delay end in `_<delay>ms`.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from drive import BODY, HEADERS, PATH, REQUEST, drive

CONNECTIONS_MAX = 1000  # openai's own limit; beyond it httpx's pool hardly moves

Call = Callable[[], Awaitable[int | None]]


def server_us(headers: object) -> int | None:
    """What the server says it took."""
    said = headers.get("X-Server-Us")  # type: ignore[attr-defined]
    return int(said) if said else None


@asynccontextmanager
async def aiohttp_call(url: str, _concurrency: int) -> AsyncIterator[Call]:
    import aiohttp

    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None)) as session:

        async def call() -> int | None:
            async with session.post(url + PATH, data=BODY, headers=HEADERS) as response:
                response.raise_for_status()
                json.loads(await response.read())
                return server_us(response.headers)

        yield call


@asynccontextmanager
async def httpx_call(url: str, concurrency: int) -> AsyncIterator[Call]:
    import httpx

    connections = min(concurrency, CONNECTIONS_MAX)
    limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
    async with httpx.AsyncClient(limits=limits, timeout=None) as client:

        async def call() -> int | None:
            response = await client.post(url + PATH, content=BODY, headers=HEADERS)
            response.raise_for_status()
            response.json()
            return server_us(response.headers)

        yield call


@asynccontextmanager
async def openai_call(url: str, _concurrency: int) -> AsyncIterator[Call]:
    import openai

    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="not-a-key", max_retries=0, timeout=None) as client:

        async def call() -> int | None:
            await client.chat.completions.create(**REQUEST)
            return None

        yield call


async def measure(peer: str, concurrency: int, seconds: float, cells: list[tuple[str, int, int]]) -> dict[str, float]:
    """Every cell with a client of its own."""
    make = {"httpx": httpx_call, "openai": openai_call}.get(peer, aiohttp_call)
    measures: dict[str, float] = {}
    for url, delay_ms, spread_ms in cells:
        async with make(url, concurrency) as call:
            found = await drive(call, concurrency, delay_ms=delay_ms, spread_ms=spread_ms, seconds=seconds)
        measures |= {f"{name}_{delay_ms}ms": value for name, value in found.items()}
    return measures


def main(peer: str, concurrency: str, seconds: str, *words: str) -> None:
    cells = [(url, int(delay), int(spread)) for url, delay, spread in zip(words[::3], words[1::3], words[2::3], strict=True)]
    runner = asyncio.run
    if peer == "aiohttp_uvloop":
        import uvloop

        runner = uvloop.run
    print(json.dumps(runner(measure(peer, int(concurrency), float(seconds), cells))), flush=True)
    os._exit(0)  # thousands of cancelled calls take long to tear down, and nobody learns from it


if __name__ == "__main__":
    main(*sys.argv[1:])
