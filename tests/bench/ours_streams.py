"""Streams of ours, in a process of its own: ours_streams.py direct|durable COUNT RAMP_SECONDS URL

They begin evenly over the ramp, as they do where people ask; all at once would measure connecting.

Prints JSON: CPU microseconds a token, and milliseconds from the server's first token to the reader's (p50, p99).
"""

from __future__ import annotations

import asyncio
import json
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path

import stepwell as sw

how, count, ramp_s, url = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.argv[4]
late_ms: list[float] = []
tokens = 0


async def read(number: int) -> None:
    """Read one stream; each word of its text is the time at which the server sent it."""
    global tokens  # noqa: PLW0603
    turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(ramp_s * number / count, turn.set_result, None)
    await turn
    is_first = True
    async for piece in sw.llm.stream("Tell me", model="test", base_url=f"{url}/v1", timeout="60s"):
        if is_first:
            late_ms.append((time.monotonic_ns() / 1000 - int(piece.split()[0])) / 1000)
            is_first = False
        tokens += piece.count(" ")


@sw.workflow
async def reads(number: int) -> None:
    """Do the same as a durable run."""
    await read(number)


async def main() -> None:
    """Read all streams at once, and print what it took."""
    with tempfile.TemporaryDirectory(dir=".") as folder, sw.Engine(Path(folder) / "s.db") as engine:
        before = resource.getrusage(resource.RUSAGE_SELF)
        if how == "direct":
            await asyncio.gather(*(read(number) for number in range(count)))
        else:
            engine.serve(reads, concurrency=count)
            await asyncio.gather(*engine.start_many(reads, range(count)))
        after = resource.getrusage(resource.RUSAGE_SELF)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    cuts = statistics.quantiles(late_ms, n=100)
    print(json.dumps({"cpu_us": cpu_s / tokens * 1e6, "ttft_ms": cuts[49], "ttft_p99_ms": cuts[98], "tokens": tokens}))


asyncio.run(main())
