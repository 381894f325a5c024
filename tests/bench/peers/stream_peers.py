"""Streams of a peer: stream_peers.py aiohttp|openai COUNT RAMP_SECONDS URL

Prints JSON: CPU microseconds a token, and milliseconds from the server's first token to the reader's (p50, p99).
"""

from __future__ import annotations

import asyncio
import json
import resource
import statistics
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

peer, count, ramp_s, url = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.argv[4]
late_ms: list[float] = []
tokens = 0
MESSAGES = [{"role": "user", "content": "Tell me"}]


async def read(number: int, pieces: AsyncIterator[str]) -> None:
    """Read one stream; each piece is the time at which the server sent it."""
    global tokens  # noqa: PLW0603
    turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(ramp_s * number / count, turn.set_result, None)
    await turn
    is_first = True
    async for piece in pieces:
        if is_first:
            late_ms.append((time.monotonic_ns() / 1000 - int(piece.split()[0])) / 1000)
            is_first = False
        tokens += 1


async def with_openai() -> None:
    import httpx
    import openai

    limits = httpx.Limits(max_connections=count, max_keepalive_connections=count)
    async with openai.AsyncOpenAI(
        base_url=f"{url}/v1",
        api_key="not-a-key",
        max_retries=0,
        timeout=60,
        http_client=httpx.AsyncClient(limits=limits),
    ) as client:

        async def pieces() -> AsyncIterator[str]:
            stream = await client.chat.completions.create(model="test", messages=MESSAGES, stream=True)
            async for chunk in stream:
                if chunk.choices and chunk.choices[0].delta.content:
                    yield chunk.choices[0].delta.content

        await asyncio.gather(*(read(number, pieces()) for number in range(count)))


async def with_aiohttp() -> None:
    import aiohttp

    connector = aiohttp.TCPConnector(limit=count)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def pieces() -> AsyncIterator[str]:
            body = {"model": "test", "messages": MESSAGES, "stream": True}
            async with session.post(f"{url}/v1/chat/completions", json=body) as answer:
                async for line in answer.content:
                    if not line.startswith(b"data: ") or line.startswith(b"data: [DONE]"):
                        continue
                    choices = json.loads(line[6:])["choices"]
                    if choices and choices[0]["delta"].get("content"):
                        yield choices[0]["delta"]["content"]

        await asyncio.gather(*(read(number, pieces()) for number in range(count)))


async def main() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF)
    await (with_openai if peer == "openai" else with_aiohttp)()
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    cuts = statistics.quantiles(late_ms, n=100)
    print(json.dumps({"cpu_us": cpu_s / tokens * 1e6, "ttft_ms": cuts[49], "ttft_p99_ms": cuts[98], "tokens": tokens}))


asyncio.run(main())
