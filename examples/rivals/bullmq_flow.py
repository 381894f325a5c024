"""BullMQ's flow tutorial in Stepwell: a parent with children, a job that goes first, and one that comes later.

BullMQ's own program: theirs/bullmq_flow.mjs, with a Redis, a producer and a worker. Here it is one process and a file.
"""

import asyncio
from pathlib import Path

import stepwell as sw

ROOMS = 40


@sw.step
async def work(what: str) -> str:
    """Stand for what a job does; `done.txt` is what the world sees of it."""
    await asyncio.sleep(0.05)
    with Path("done.txt").open("a") as done:
        done.write(what + "\n")
    return what


@sw.workflow
async def job(what: str) -> str:
    """One job: a run of its own."""
    return await work(what)


@sw.workflow
async def renovate(rooms: int) -> str:
    """The parent: it goes on once its children have ended."""
    painted = await sw.map(job, [f"paint {room}" for room in range(rooms)])
    return await work(f"renovate {len(painted)}")


def main() -> None:
    """Start, or find what was started before; wait."""
    with sw.Engine("flow.db") as engine:
        engine.queue(job, concurrency=4)
        inspection = engine.start(job, "inspect", key="inspection", delay="3s")
        flow = engine.start(renovate, ROOMS, key="house-1")
        leak = engine.start(job, "leak", key="leak", priority=-10)
        print("result", [run.result(timeout=60) for run in (leak, flow, inspection)])


if __name__ == "__main__":
    main()
