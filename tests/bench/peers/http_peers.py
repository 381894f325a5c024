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

# openai's own limits: with more, httpx's pool hardly moves.
CONNECTIONS_MAX = 1000
IDLE_CONNECTIONS_MAX = 100
WAIT_SECONDS_MAX = 60

Call = Callable[[], Awaitable[int | None]]


def server_us(headers: object) -> int | None:
    """What the server says it took."""
    said = headers.get("X-Server-Us")  # type: ignore[attr-defined]
    return int(said) if said else None


@asynccontextmanager
async def aiohttp_call(url: str) -> AsyncIterator[Call]:
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
async def httpx_call(url: str) -> AsyncIterator[Call]:
    import httpx

    limits = httpx.Limits(max_connections=CONNECTIONS_MAX, max_keepalive_connections=IDLE_CONNECTIONS_MAX)
    async with httpx.AsyncClient(limits=limits, timeout=WAIT_SECONDS_MAX) as client:

        async def call() -> int | None:
            response = await client.post(url + PATH, content=BODY, headers=HEADERS)
            response.raise_for_status()
            response.json()
            return server_us(response.headers)

        yield call


@asynccontextmanager
async def openai_call(url: str) -> AsyncIterator[Call]:
    import openai

    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="not-a-key", max_retries=0, timeout=None) as client:

        async def call() -> int | None:
            await client.chat.completions.create(**REQUEST)
            return None

        yield call


async def measure(peer: str, concurrency: int, seconds: float, cells: list[tuple[str, int, int]]) -> None:
    """Every cell with a client of its own; print, and end at once."""
    make = {"httpx": httpx_call, "openai": openai_call}.get(peer, aiohttp_call)
    measures: dict[str, float] = {}
    for number, (url, delay_ms, spread_ms) in enumerate(cells, 1):
        async with make(url) as call:
            is_last = number == len(cells)
            window = {"delay_ms": delay_ms, "spread_ms": spread_ms, "seconds": seconds}
            found = await drive(call, concurrency, **window, leaves_calls=is_last)
            measures |= {f"{name}_{delay_ms}ms": value for name, value in found.items()}
            if is_last:
                print(json.dumps(measures), flush=True)
                os._exit(0)  # to cancel 5,000 calls takes httpx minutes, and nobody learns from it


def main(peer: str, concurrency: str, seconds: str, *words: str) -> None:
    cells = [
        (url, int(delay), int(spread)) for url, delay, spread in zip(words[::3], words[1::3], words[2::3], strict=True)
    ]
    runner = asyncio.run
    if peer == "aiohttp_uvloop":
        import uvloop

        runner = uvloop.run
    runner(measure(peer, int(concurrency), float(seconds), cells))


if __name__ == "__main__":
    main(*sys.argv[1:])
