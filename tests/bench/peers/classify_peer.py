"""Label tickets with the usual clients: tickets a second, CPU a ticket.

    classify_peer.py openai|langchain|instructor URL COUNT CONCURRENCY [CONCURRENCY ...]

Each labels COUNT tickets with every concurrency; the fastest counts. Prints one JSON line.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any, Literal

from drive import cpu_seconds
from tickets import FORMAT, LABELS, messages, tickets

# What labels a list of texts, so many at a time; and the SDK's client behind it. One that is left to the garbage collector
# closes its sockets late, and asyncio then stops listening to the next client's, which have their numbers: it hangs.
Labels = Callable[[list[str], int], Awaitable[list[str]]]
KEY = "not-a-key"


async def bounded(one: Callable[[str], Awaitable[str]], texts: list[str], concurrency: int) -> list[str]:
    """Asyncio and a semaphore, as the guides have it."""
    places = asyncio.Semaphore(concurrency)

    async def placed(text: str) -> str:
        async with places:
            return await one(text)

    return await asyncio.gather(*(placed(text) for text in texts))


def openai_labels(url: str) -> tuple[Labels, Any]:
    """The SDK, the answer's JSON read by hand: the least that a careful user does."""
    import openai

    client = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=KEY)

    async def one(text: str) -> str:
        answer: Any = await client.chat.completions.create(
            model="bench",
            messages=messages(text),
            temperature=0,
            response_format=FORMAT,
        )
        given = json.loads(answer.choices[0].message.content)
        if given["label"] not in LABELS or answer.usage.total_tokens < 1:
            raise ValueError(given)
        return given["label"]

    return lambda texts, concurrency: bounded(one, texts, concurrency), client


def langchain_labels(url: str) -> tuple[Labels, Any]:
    """ChatOpenAI with structured output, in `abatch`."""
    from langchain_openai import ChatOpenAI

    model = ChatOpenAI(model="bench", base_url=f"{url}/v1", api_key=KEY, temperature=0, max_retries=2)
    structured = model.with_structured_output(
        {"title": "triage", **FORMAT["json_schema"]["schema"]}, method="json_schema", strict=True
    )

    async def many(texts: list[str], concurrency: int) -> list[str]:
        asked = [messages(text) for text in texts]
        answers: Any = await structured.abatch(asked, config={"max_concurrency": concurrency})
        return [answer["label"] for answer in answers]

    return many, None  # all models share one client


def instructor_labels(url: str) -> tuple[Labels, Any]:
    """instructor over the SDK, structured output by the provider's schema."""
    import instructor
    import openai
    from pydantic import BaseModel

    class Triage(BaseModel):
        label: Literal["Billing", "Technical", "General"]
        confidence: float

    sdk = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=KEY)
    client: Any = instructor.from_openai(sdk, mode=instructor.Mode.JSON_SCHEMA)

    async def one(text: str) -> str:
        answer = await client.chat.completions.create(
            model="bench", messages=messages(text), temperature=0, response_model=Triage
        )
        return answer.label

    return lambda texts, concurrency: bounded(one, texts, concurrency), sdk


CLIENTS = {"openai": openai_labels, "langchain": langchain_labels, "instructor": instructor_labels}


async def measure(peer: str, url: str, count: int, concurrencies: list[int]) -> dict[str, float]:
    best: dict[str, float] = {}
    for concurrency in concurrencies:
        label, client = CLIENTS[peer](url)
        await label(tickets(min(count, 100)), concurrency)
        texts, began, cpu = tickets(count), time.perf_counter(), cpu_seconds()
        labels = await label(texts, concurrency)
        took, used = time.perf_counter() - began, cpu_seconds() - cpu
        if labels != ["Billing"] * count:
            raise SystemExit(f"{len(labels)} labels, {set(labels)}")
        if client is not None:
            await client.close()
        found = {"per_s": count / took, "cpu_us": used / count * 1e6, "concurrency": concurrency}
        best = max(best, found, key=lambda each: each.get("per_s", 0))
    return best


if __name__ == "__main__":
    who, where, how_many, *places = sys.argv[1:]
    print(json.dumps(asyncio.run(measure(who, where, int(how_many), [int(each) for each in places]))))
