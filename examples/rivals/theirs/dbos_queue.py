"""DBOS's queue and schedule tutorials as a program that can be started again. It needs `dbos`; its database is SQLite."""

import time
from datetime import datetime
from pathlib import Path
from typing import Any

from dbos import DBOS, SetWorkflowID

TASKS = 40
DBOS(config={"name": "queue", "system_database_url": "sqlite:///queue.sqlite"})


@DBOS.step()
def work(task: int) -> int:
    time.sleep(0.05)
    with Path("done.txt").open("a") as done:
        done.write(f"task {task}\n")
    return task * task


@DBOS.workflow()
def process_task(task: int) -> int:
    return work(task)


@DBOS.workflow()
def process_tasks(count: int) -> int:
    handles = [DBOS.enqueue_workflow("tasks", process_task, task) for task in range(count)]
    return sum(handle.get_result() for handle in handles)


@DBOS.workflow()
def nightly(_scheduled_at: datetime, count: Any) -> None:
    process_tasks(count)


def main() -> None:
    DBOS.launch()
    DBOS.register_queue("tasks", worker_concurrency=4)
    DBOS.apply_schedules(
        [{"schedule_name": "nightly", "workflow_fn": nightly, "schedule": "0 3 * * *", "context": TASKS}]
    )
    with SetWorkflowID("monday"):
        handle = DBOS.start_workflow(process_tasks, TASKS)
    print("result", handle.get_result())
    DBOS.destroy()


if __name__ == "__main__":
    main()
