"""A model's answer while it grows, in the workflow and outside of it, and after a restart.

    python examples/streaming.py

Needs no key: a test server on this machine answers. Point `base_url` and `model` at a provider to see a real one.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import stepwell as sw
from stepwell.testing.llm_server import LlmServer


@sw.workflow
async def reply(url: str) -> str:
    """Ask, and show the answer while it grows."""
    answer = sw.llm.stream("How do I reset my password?", model="test-40-tokens", base_url=url)
    async for piece in answer:  # at once, as the model says it
        if piece.restarted:
            print("\n(another answer)")
        print(piece, end="", flush=True)
    chat = await answer.result()  # recorded: a replay does not call again
    print(f"\n{chat.usage.tokens_out} tokens, {chat.finish_reason}")
    return chat.text


def main() -> None:
    """Read along from outside, go away in the middle, and read on in another life of the engine."""
    with tempfile.TemporaryDirectory() as folder, LlmServer(token_rate=200) as server:
        with sw.Engine(Path(folder) / "s.db") as engine:
            run = engine.start(reply, server.url)
            # Somebody else reads along, from the store: a notebook, an HTTP handler. This one goes away in the middle.
            for piece in engine.stream_blocking(run):
                place = piece.id
                if piece.end > 20:
                    break
            text = run.result(timeout=30)
        with sw.Engine(Path(folder) / "s.db") as engine:  # another life of the process
            rest = "".join(engine.stream_blocking(run.id, after=place))
            print(f"the reader had seen up to {place}, and reads on: ...{rest[:30]!r}")
            print("nothing was missed:", text.endswith(rest))


if __name__ == "__main__":
    main()
