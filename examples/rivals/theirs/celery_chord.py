"""Celery's canvas tutorial. It needs `celery[redis]`, a Redis (REDIS_URL) and a worker.

celery -A celery_chord worker -c 4    and then    python celery_chord.py
"""

import os
import time
from pathlib import Path

from celery import Celery, chain, chord

TASKS = 40
URL = os.environ.get("REDIS_URL", "redis://localhost:6379/0")
app = Celery("celery_chord", broker=URL, backend=URL)


def done(unit: str) -> None:
    time.sleep(0.05)
    with Path("done.txt").open("a") as file:
        file.write(unit + "\n")


@app.task
def add(x: int, y: int) -> int:
    done(f"add {x} {y}")
    return x + y


@app.task
def mul(x: int, y: int) -> int:
    done(f"mul {x} {y}")
    return x * y


@app.task
def tsum(numbers: list[int]) -> int:
    done("tsum")
    return sum(numbers)


def main() -> None:
    first = chain(add.s(2, 2), mul.s(8))()
    second = chord(add.s(i, i) for i in range(100, 100 + TASKS))(tsum.s())
    print("result", [first.get(), second.get()])


if __name__ == "__main__":
    main()
