"""DBOS's queue and schedule tutorials in Stepwell: a workflow fans tasks out to a queue that runs four at once; also nightly.

DBOS's own program: theirs/dbos_queue.py. Kill either, run it again, and it goes on.
"""

import asyncio
from pathlib import Path

import stepwell as sw

TASKS = 40


@sw.step
async def work(task: int) -> int:
    """Stand for what a task does; `done.txt` is what the world sees of it."""
    await asyncio.sleep(0.05)
    with Path("done.txt").open("a") as done:
        done.write(f"task {task}\n")
    return task * task


@sw.workflow
async def process_task(task: int) -> int:
    """One task: a run of its own, in the queue of its name."""
    return await work(task)


@sw.workflow
async def process_tasks(count: int) -> int:
    """All tasks."""
    return sum(await sw.map(process_task, range(count)))


def main() -> None:
    """Start, or find the run that was started before; wait."""
    with sw.Engine("queue.db") as engine:
        engine.queue(process_task, concurrency=4)
        engine.apply_schedules([sw.Schedule("nightly", process_tasks, "0 3 * * *", value=TASKS)])
        print("result", engine.start(process_tasks, TASKS, key="monday").result(timeout=60))


if __name__ == "__main__":
    main()
