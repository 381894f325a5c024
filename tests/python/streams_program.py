"""A process that is made to be killed in the middle of a stream.

streams_program.py STORE URL    Starts the run, or goes on with it, and prints each piece that a reader outside sees.
"""

from __future__ import annotations

import sys
from pathlib import Path

import stepwell as sw


@sw.workflow
async def story(url: str) -> str:
    stream = sw.llm.stream(
        "Tell me", model="test", base_url=url, retry=sw.Retry(max_attempts=50, base="5ms", cap="5ms")
    )
    return (await stream.result()).text


def main() -> None:
    with sw.Engine(Path(sys.argv[1]), workflows=[story]) as engine:
        run = engine.start(story, sys.argv[2], key="story")
        for piece in engine.stream_blocking(run):
            print(piece.id, flush=True)
        run.result(timeout=60)


if __name__ == "__main__":
    main()
