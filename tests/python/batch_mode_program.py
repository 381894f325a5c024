"""A process that classifies texts by batch and may be killed at any time: batch_mode_program.py STORE URL MODEL COUNT KEY."""

from __future__ import annotations

import sys

import stepwell as sw

LABELS = ["Billing", "Technical", "General"]


@sw.workflow
async def label_all(job: dict[str, str]) -> list[str | None]:
    texts = [f"ticket {number}: billing or technical trouble" for number in range(int(job["count"]))]
    answers = await sw.llm.classify_batch(
        texts, labels=LABELS, model=job["model"], base_url=job["url"], api_key="k", pause="20ms"
    )
    return [answer.label for answer in answers]


if __name__ == "__main__":
    store, url, model, count, key = sys.argv[1:]
    with sw.Engine(store) as engine:
        labels = engine.start(label_all, {"url": url, "model": model, "count": count}, key=key).result(timeout=120)
        print(len(labels), len([label for label in labels if label is None]))
