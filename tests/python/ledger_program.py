"""A process that is made to be killed: classifications that count against a cap which a few hundred of them reach.

ledger_program.py STORE URL COUNT CAP    Ends when every run has ended or waits for the budget to be raised.
"""

from __future__ import annotations

import sys
from pathlib import Path

import stepwell as sw
from stepwell.llm import Classifier

LABELS = ["Billing", "Technical", "General"]
# Dollars for a million tokens: whole picodollars for each token.
PRICE = (90.0, 360.0)
QUICK = sw.Retry(max_attempts=30, base="1ms", cap="20ms", max_elapsed="60s")


@sw.workflow
async def labels(number: int) -> str:
    classifier = Classifier(LABELS, model="test-model", base_url=sys.argv[2], retry=QUICK)
    answer = await classifier.classify(f"ticket {number}: I was charged twice, billing problem")
    return str(answer.label)


def main() -> None:
    count = int(sys.argv[3])
    budget = sw.Budget(usd=sys.argv[4], name="cap", price=PRICE)
    with sw.Engine(Path(sys.argv[1])) as engine:
        runs = [engine.start(labels, number, key=f"t{number}", budget=budget) for number in range(count)]
        for _ in range(12_000):
            waiting = [run for run in runs if not run.status().is_final]
            account = engine.budgets("cap")
            if not waiting or (account and account[0].waiting >= len(waiting) and not account[0].reserved_usd):
                return
            sw.sleep_blocking("10ms")
    raise SystemExit("the runs came to no rest")


if __name__ == "__main__":
    main()
