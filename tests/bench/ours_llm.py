"""What is measured of Stepwell's LLM calls: one kind of work a process; the last line is JSON.

ours_llm.py classify FOLDER URL COUNT CONCURRENCY      every ticket a durable run
ours_llm.py limited FOLDER URL COUNT CONCURRENCY REQUESTS_PER_MINUTE TOKENS_PER_MINUTE BURST
                                                       the same, against a server that refuses what is too much
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "peers"))

from drive import cpu_seconds
from tickets import LABELS, tickets, uneven_tickets

import stepwell as sw

MODEL = "bench"
Measures = dict[str, float]


def labelled(url: str) -> sw.Workflow[[str], str | None]:
    """The workflow: one recorded call."""

    @sw.workflow(name="classify")
    async def classify(text: str) -> str | None:
        answer = await sw.llm.classify(text, labels=LABELS, model=MODEL, base_url=f"{url}/v1", api_key="not-a-key")
        return answer.label

    return classify


def classify(folder: str, url: str, count: str, concurrency: str) -> Measures:
    flow, total, places = labelled(url), int(count), int(concurrency)
    with sw.Engine(Path(folder) / "classify.db") as engine:  # durability="full", the default
        engine.map(flow, tickets(500), concurrency=places).results()
        texts, began, cpu = tickets(total), time.perf_counter(), cpu_seconds()
        labels = engine.map(flow, texts, concurrency=places).results()
        took, used = time.perf_counter() - began, cpu_seconds() - cpu
    if labels != ["Billing"] * total:
        raise SystemExit(f"{len(labels)} labels, {set(labels)}")
    return {"per_s": total / took, "cpu_us": used / total * 1e6}


def limited(folder: str, url: str, count: str, concurrency: str, requests: str, tokens: str, burst: str) -> Measures:
    flow, failed = labelled(url), 0
    with sw.Engine(Path(folder) / "limited.db") as engine:
        engine.limit(
            f"openai-compatible:{MODEL}", requests_per_minute=int(requests), tokens_per_minute=int(tokens), burst=burst
        )
        for item in engine.map(flow, uneven_tickets(int(count)), concurrency=int(concurrency)):
            failed += item.error is not None
    return {"failed": failed}


KINDS = {"classify": classify, "limited": limited}

if __name__ == "__main__":
    print(json.dumps(KINDS[sys.argv[1]](*sys.argv[2:])))
