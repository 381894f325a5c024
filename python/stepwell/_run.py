"""A started run, as its caller holds it, and the errors it may end with."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from stepwell import _codec
from stepwell._errors import RunCancelled, RunFailed, WaitTimeout, WorkflowError
from stepwell._types import RunStatus, check_text, run_name, wait_s

if TYPE_CHECKING:
    from collections.abc import Generator

    from stepwell._engine import Engine
    from stepwell._history import HistoryEntry
    from stepwell._workflow import Workflow

R = TypeVar("R")
# How long the main thread may wait inside the core, where it hears no signals.
_DEAF_MS = 50


class Run(Generic[R]):
    """A started run. `await run`, or `run.result(timeout=30)`; both raise RunFailed when it failed."""

    def __init__(self, engine: Engine, flow: Workflow[..., Any], run: int, *, is_new: bool) -> None:
        self._engine = engine
        self._flow = flow
        self._run = run
        #: False when the key was known and this is the run that had it.
        self.is_new = is_new

    @property
    def id(self) -> str:
        """The run's name, e.g. `r_1a2b3c`."""
        return run_name(self._run)

    def status(self) -> RunStatus:
        """Where the run stands now."""
        return RunStatus(self._engine._row(self._run, with_payloads=False)[1])  # noqa: SLF001

    def result(self, timeout: float | None = None) -> R:
        """Wait for the result, up to `timeout` seconds (None: without end), without holding the GIL.

        Raises WaitTimeout, RunFailed or RunCancelled.
        """
        seconds = wait_s(timeout)
        wait_ms = -1 if seconds is None else int(seconds * 1000)
        if threading.current_thread() is threading.main_thread() and not 0 <= wait_ms <= _DEAF_MS:
            return self._value(*self._wait_for_signals_too(wait_ms))
        try:
            _, _, _, status, payload = self._engine._core.wait(self._run, wait_ms)  # noqa: SLF001
        except WaitTimeout:
            row = self._engine._row(self._run)  # noqa: SLF001 - no time to wait is enough time to look
            if not RunStatus(row[1]).is_final:
                raise
            status, payload = row[1], row[7]
        return self._value(status, payload)

    def _wait_for_signals_too(self, wait_ms: int) -> tuple[int, bytes]:
        """Wait so that Ctrl-C is heard: Python's handlers run on the main thread, between its own instructions."""
        try:
            _, _, _, status, payload = self._engine._core.wait(self._run, _DEAF_MS)  # noqa: SLF001
        except WaitTimeout as error:
            found = self._engine._wait_on_pump(self._run, wait_ms - _DEAF_MS if wait_ms >= 0 else -1)  # noqa: SLF001
            if found is None:
                raise WaitTimeout(error.code, error.message) from None
            status, payload = found
        return status, payload

    def signal(self, name: str, value: Any = None, *, key: str = "") -> None:
        """Send a signal; durable when it returns. One that comes early is kept until the workflow waits for it.

        A second one with the same `key` is dropped: use it when you may have to send again. Raises ConflictError SW-E1015
        when the run has ended, BusyError SW-E1016 when it holds too many.
        """
        check_text(name, "name of a signal")
        check_text(key, "key", least=0)
        self._tell(f"signal:{name}", _codec.encode(value, f"signal {name!r}"), key)

    def history(self) -> list[HistoryEntry]:
        """Return what was recorded so far, in order."""
        return self._engine.history(self)

    def pause(self) -> None:
        """Hold the run: it begins no further step, and what is under way is recorded first."""
        self._tell("pause", b"", "")

    def resume(self) -> None:
        """Let a paused run go on."""
        self._tell("resume", b"", "")

    async def asignal(self, name: str, value: Any = None, *, key: str = "") -> None:
        """Send a signal without blocking the caller's event loop."""
        await asyncio.to_thread(self.signal, name, value, key=key)

    async def apause(self) -> None:
        """Hold the run without blocking the caller's event loop."""
        await asyncio.to_thread(self.pause)

    async def aresume(self) -> None:
        """Let a paused run go on without blocking the caller's event loop."""
        await asyncio.to_thread(self.resume)

    async def acancel(self) -> None:
        """End the run as cancelled without blocking the caller's event loop."""
        await asyncio.to_thread(self.cancel)

    def _tell(self, topic: str, payload: bytes, key: str) -> None:
        self._engine._core.tell(self._run, topic, payload, key)  # noqa: SLF001

    def cancel(self) -> None:
        """End the run as cancelled, its calls in flight included. Nothing happens if it has ended."""
        self._engine._core.cancel(self._run)  # noqa: SLF001

    def _value(self, status: int, payload: bytes) -> R:
        if status == RunStatus.SUCCEEDED:
            return _codec.decode(payload, self._flow.returns, f"result of run {self.id}")  # type: ignore[no-any-return]
        raise run_error(self._run, status, payload)

    def __await__(self) -> Generator[Any, None, R]:
        """Wait for the result on the caller's event loop."""
        future = self._engine._watch(self._run)  # noqa: SLF001
        status, payload = yield from future.__await__()
        return self._value(status, payload)

    def _repr_html_(self) -> str:
        from stepwell._cards import run_card

        try:
            return run_card(self._engine._core.find(run=self._run, with_events=True)[0])  # noqa: SLF001
        except WorkflowError:
            return f"<code>{self!r}</code>".replace("<run", "&lt;run")

    def __repr__(self) -> str:
        """Name workflow, run and status."""
        try:
            status = self.status().name.lower()
        except WorkflowError:
            status = "unknown"
        return f"<run {self.id} of {self._flow.name}: {status}>"


def run_error(run: int, status: int, payload: bytes) -> WorkflowError:
    """Build the exception for a run that ended without a result."""
    error = _codec.decode_error(payload)
    message = error.get("message", "no message was recorded")
    if status == RunStatus.CANCELLED:
        return RunCancelled("SW-E1006", message, error=error, run_id=run_name(run))
    kind = error.get("type")
    return RunFailed(
        error.get("code", "SW-E2000"),
        f"run {run_name(run)} failed: {kind}: {message}" if kind else f"run {run_name(run)} failed: {message}",
        error=error,
        hint=error.get("hint", ""),
        run_id=run_name(run),
    )
