"""Label tickets against a server that refuses what is too much, with the usual ways of trying again.

    limited_peer.py tenacity|openai URL COUNT CONCURRENCY CLOCK_RATE

tenacity: OpenAI's published recipe, exponential back-off with full jitter, 1 s to 60 s. openai: the SDK's own retries, which
obey Retry-After and otherwise wait 0.5 s to 8 s. A minute of the server's limits passes in 60 / CLOCK_RATE s, so the seconds
that stand in a client's code are divided by it too; what the server tells it to wait is already in real time. Both may
try as often as it takes. Prints one JSON line.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import openai
from classify_peer import KEY, bounded
from tickets import FORMAT, LABELS, messages, uneven_tickets

ATTEMPTS_MAX = 1_000


async def label(client: openai.AsyncOpenAI, text: str) -> str:
    answer: Any = await client.chat.completions.create(
        model="bench", messages=messages(text), temperature=0, response_format=FORMAT
    )
    return json.loads(answer.choices[0].message.content)["label"]


async def measure(peer: str, url: str, count: int, concurrency: int, clock_rate: float) -> dict[str, float]:
    retries = ATTEMPTS_MAX if peer == "openai" else 0
    client = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=retries)

    async def one(text: str) -> str:
        return await label(client, text)

    if peer == "openai":
        from openai import _base_client

        _base_client.INITIAL_RETRY_DELAY /= clock_rate
        _base_client.MAX_RETRY_DELAY /= clock_rate
    else:
        from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_random_exponential

        one = retry(
            retry=retry_if_exception_type(openai.RateLimitError),
            wait=wait_random_exponential(min=1 / clock_rate, max=60 / clock_rate, multiplier=1 / clock_rate),
            stop=stop_after_attempt(ATTEMPTS_MAX),
        )(one)

    async def counted(text: str) -> str:
        try:
            return await one(text)
        except Exception as error:  # noqa: BLE001 - whatever a client gives up with is a failed call
            return f"{type(error).__name__}: {error}"

    labels = await bounded(counted, uneven_tickets(count), concurrency)
    wrong = [each for each in labels if each not in LABELS]
    if wrong:
        print(wrong[0], file=sys.stderr)
    return {"failed": len(wrong)}


if __name__ == "__main__":
    who, where, how_many, places, rate = sys.argv[1:]
    print(json.dumps(asyncio.run(measure(who, where, int(how_many), int(places), float(rate)))))
