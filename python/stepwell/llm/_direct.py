"""LLM calls outside of a run: the same call, judged and retried by the core, recorded nowhere."""

from __future__ import annotations

from typing import Any

from stepwell._engine import Engine
from stepwell._workflow import Workflow, current_activation


def call_directly_blocking(request: tuple[Any, ...]) -> tuple[bytes, int]:
    """Make one call with an engine in memory that lives as long as the call; return body and attempts."""
    with Engine() as engine:
        text, attempts = engine.start(_one_call(request)).result()
    return text.encode("latin-1"), attempts


async def call_directly(request: tuple[Any, ...]) -> tuple[bytes, int]:
    """Do the same without blocking the caller's event loop."""
    with Engine() as engine:
        text, attempts = await (await engine.astart(_one_call(request)))
    return text.encode("latin-1"), attempts


def _one_call(request: tuple[Any, ...]) -> Workflow[[], Any]:
    async def direct_call() -> list[Any]:
        activation = current_activation.get()
        assert activation is not None  # noqa: S101 - it only runs as a workflow
        body, attempts = await activation.call("call", request)
        return [body.decode("latin-1"), attempts]  # Latin-1 carries any bytes through JSON text and back

    return Workflow(direct_call, name="stepwell.direct_call")
