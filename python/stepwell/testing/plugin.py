"""The pytest plugin: fixtures for tests of workflows. pytest finds it by its entry point; nothing heavy is loaded before use.

`@pytest.mark.stepwell(auto=False, faults=Faults(seed=7), start_at=...)` sets what `stepwell_engine` is made with.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from stepwell.testing import CrashReport, Engine, HttpServer, LlmServer

_FAULTS: pytest.StashKey[str] = pytest.StashKey()
_ENGINE_OPTIONS = ("auto", "faults", "journal", "path", "start_at", "workflows")


def pytest_configure(config: pytest.Config) -> None:
    """Say what the marker means."""
    config.addinivalue_line(
        "markers", f"stepwell({', '.join(f'{name}=...' for name in _ENGINE_OPTIONS)}): how stepwell_engine is made"
    )


@pytest.fixture
def stepwell_engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """Give a `stepwell.testing.Engine` in memory with a virtual clock; see its docstring for the marker's options.

    At the end of the test it is closed, and the test fails if a run is left that has neither ended nor waits.
    """
    from stepwell.testing import Engine

    options: dict[str, Any] = {}
    for marker in reversed(list(request.node.iter_markers("stepwell"))):
        options |= marker.kwargs
    if unknown := options.keys() - set(_ENGINE_OPTIONS):
        raise pytest.UsageError(f"@pytest.mark.stepwell knows no {', '.join(sorted(unknown))}")
    engine = Engine(**options)
    if engine.faults is not None:
        request.node.stash[_FAULTS] = engine.faults.reminder
    try:
        yield engine
        left = _left(engine)
    finally:
        engine.close(0.0)
    if left:
        pytest.fail(f"runs are left that have neither ended nor wait:\n{left}", pytrace=False)


def _left(engine: Engine) -> str:
    from stepwell import ClosedError, WaitTimeout

    reason = ""
    try:
        engine.clock.auto = False
        engine.clock.settle(timeout=5.0)
    except WaitTimeout as error:
        reason = error.message
    except ClosedError:  # the test closed it
        return ""
    return "\n".join([*engine.unfinished(), *([reason] if reason else [])])


@pytest.fixture
def stepwell_crash() -> Callable[..., CrashReport]:
    """Give `stepwell.testing.crash_everywhere`: `stepwell_crash(flow, value)` fails unless every crash is survived."""
    from stepwell.testing import crash_everywhere

    return functools.partial(crash_everywhere)


@pytest.fixture
def stepwell_llm() -> Iterator[LlmServer]:
    """Give an LLM API on this machine: `base_url=stepwell_llm.url`, `stepwell_llm.journal()`, `.set_faults(...)`."""
    from stepwell.testing import LlmServer

    with LlmServer() as server:
        yield server


@pytest.fixture
def stepwell_http() -> Iterator[HttpServer]:
    """Give an HTTP API on this machine: `stepwell_http.answer("POST /charges", {"id": 1})`, `.url`, `.journal()`."""
    from stepwell.testing import HttpServer

    with HttpServer() as server:
        yield server


@pytest.hookimpl(hookwrapper=True)  # the form that pytest 7 knows, too: whoever has Stepwell installed loads this
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, None]:
    """Print the seed of the faults with a failure, so that it can be run again."""
    outcome = yield
    report = outcome.get_result()
    reminder = item.stash.get(_FAULTS, "")
    if report.failed and reminder:
        report.sections.append(("stepwell", reminder))
