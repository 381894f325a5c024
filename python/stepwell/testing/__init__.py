"""Doors for tests: crash a workflow at each of its commits, move its time, replay recorded runs, and play its peers.

    from stepwell.testing import crash_everywhere

    def test_order_survives_every_crash():
        crash_everywhere(order, 7)

As pytest fixtures: `stepwell_engine`, `stepwell_crash`, `stepwell_llm`, `stepwell_http`. The guide is docs/guide/testing.md.
Importing this loads nothing: names are found when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stepwell.testing._clock import Clock
    from stepwell.testing._crash import crash_everywhere
    from stepwell.testing._crash_report import Crash, CrashFound, CrashReport, Outcome
    from stepwell.testing._engine import Engine
    from stepwell.testing._faults import Faults, InjectedError
    from stepwell.testing._journal import Attempt, Effect, Journal
    from stepwell.testing._replay import Mismatch, ReplayReport, replay
    from stepwell.testing.http_server import Answer, HttpFaults, HttpServer
    from stepwell.testing.llm_server import LlmServer

_WHERE = {
    "Answer": "http_server",
    "Attempt": "_journal",
    "Clock": "_clock",
    "Crash": "_crash_report",
    "CrashFound": "_crash_report",
    "CrashReport": "_crash_report",
    "Effect": "_journal",
    "Engine": "_engine",
    "Faults": "_faults",
    "HttpFaults": "http_server",
    "HttpServer": "http_server",
    "InjectedError": "_faults",
    "Journal": "_journal",
    "LlmServer": "llm_server",
    "Mismatch": "_replay",
    "Outcome": "_crash_report",
    "ReplayReport": "_replay",
    "crash_everywhere": "_crash",
    "replay": "_replay",
}

__all__ = [
    "Answer",
    "Attempt",
    "Clock",
    "Crash",
    "CrashFound",
    "CrashReport",
    "Effect",
    "Engine",
    "Faults",
    "HttpFaults",
    "HttpServer",
    "InjectedError",
    "Journal",
    "LlmServer",
    "Mismatch",
    "Outcome",
    "ReplayReport",
    "crash_everywhere",
    "replay",
]


def __getattr__(name: str) -> Any:
    """Find a public name where it lives, once."""
    if name not in _WHERE:
        raise AttributeError(f"module 'stepwell.testing' has no attribute {name!r}")
    value = getattr(import_module(f"stepwell.testing.{_WHERE[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names."""
    return list(__all__)
