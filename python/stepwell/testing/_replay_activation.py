"""One recorded history, run against the present code: steps answer from it, and where it ends the function is left."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NoReturn

from stepwell import _codec
from stepwell._activation import WAIT, Activation, Answer, LaidAside
from stepwell._ends import failed, failed_blocking
from stepwell._workflow import current_activation, current_scope

if TYPE_CHECKING:
    from stepwell._workflow import Step, Workflow

Event = tuple[int, int, str, bytes, int, int, int]


class ReplayActivation(Activation):
    """Answers from a history and executes nothing. Where the history ends, a branch rests for ever."""

    __slots__ = ("ended", "new")

    def __init__(self, flow: Workflow[..., Any], run: int, history: list[Event]) -> None:
        nobody: Any = _Nobody(self)  # as much of a worker as is asked for
        super().__init__(nobody, run, 0, flow, history)
        #: Steps that the code asked for and the history does not hold.
        self.new: list[str] = []
        self.ended = asyncio.Event()

    async def run_async_step(self, step: Step[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:  # noqa: ARG002
        """Answer from the history, or rest."""
        name = self.identify(step.name)
        answer, _ = self.recorded(name)
        return self._value(step, name, answer or await self._end_here(name), None)

    def run_sync_step(self, step: Step[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:  # noqa: ARG002
        """Answer from the history, or leave the workflow."""
        name = self.identify(step.name)
        answer, _ = self.recorded(name)
        return self._value(step, name, answer or self._leave(name), None)

    async def wait(self, name: str, *request: Any, kind: int = WAIT) -> Answer:  # noqa: ARG002
        """Answer from the history, or rest."""
        step = self.identify(name)
        return self.recorded(step)[0] or await self._end_here(step)

    def wait_blocking(self, name: str, *request: Any, kind: int = WAIT) -> Answer:  # noqa: ARG002
        """Answer from the history, or leave the workflow."""
        step = self.identify(name)
        return self.recorded(step)[0] or self._leave(step)

    def expect(self, step: str, report: tuple[Any, ...]) -> asyncio.Future[Answer]:  # noqa: ARG002
        """Rest: a call that was not recorded."""
        return asyncio.ensure_future(self._end_here(step))

    def expect_blocking(self, report: tuple[Any, ...]) -> Answer:
        """Leave the workflow: a call that was not recorded."""
        self._leave(str(report[3]))

    def decide(self, step: str, value: Any, *sent: tuple[Any, ...]) -> None:
        """Record nothing: a value that is merely new does no harm."""

    async def _end_here(self, step: str) -> NoReturn:
        self.new.append(step)
        self.blocked += 1
        self.worker.look_whether_idle(self)
        await asyncio.get_running_loop().create_future()
        raise AssertionError("nobody answers")

    def _leave(self, step: str) -> NoReturn:
        self.new.append(step)
        raise LaidAside

    # -- driving --------------------------------------------------------------------------------------------------------

    def drive(self, payload: bytes) -> tuple[str, Any]:
        """Run the function: ("returned", value), ("raised", error), or ("open", None) where the history ended."""
        if not self.flow.is_async:
            return self._drive_plain(payload)
        with ThreadPoolExecutor(1) as elsewhere:  # the caller may stand in an event loop of its own
            return elsewhere.submit(lambda: asyncio.run(self._drive_async(payload))).result()

    def _arguments(self, payload: bytes) -> tuple[Any, ...]:
        if self.flow.input_name is None:
            return ()
        return (_codec.decode(payload, self.flow.takes, f"input of workflow {self.flow.name!r}"),)

    def _drive_plain(self, payload: bytes) -> tuple[str, Any]:
        token, scope = current_activation.set(self), current_scope.set("")
        try:
            try:
                return "returned", self.flow.fn(*self._arguments(payload))
            except Exception as error:  # noqa: BLE001 - the user's
                failed_blocking(self, error)
                return "raised", error
        except LaidAside:
            return "open", None
        finally:
            current_scope.reset(scope)
            current_activation.reset(token)

    async def _drive_async(self, payload: bytes) -> tuple[str, Any]:
        current_activation.set(self)
        body = asyncio.ensure_future(self._body(payload))
        rests = asyncio.ensure_future(self.ended.wait())
        await asyncio.wait((body, rests), return_when=asyncio.FIRST_COMPLETED)
        rests.cancel()
        if body.done():
            return body.result()
        self.is_stopped = True
        body.cancel()
        await asyncio.gather(body, return_exceptions=True)
        return "open", None

    async def _body(self, payload: bytes) -> tuple[str, Any]:
        try:
            try:
                return "returned", await self.flow.fn(*self._arguments(payload))
            except Exception as error:  # noqa: BLE001 - the user's
                await failed(self, error)
                return "raised", error
        except LaidAside:
            return "open", None


class _Nobody:
    """A worker that does nothing but notice that all branches rest."""

    def __init__(self, activation: ReplayActivation) -> None:
        self._activation = activation
        self.watch_attempt = None
        self.calls_per_run = None

    def look_whether_idle(self, activation: Activation) -> None:  # noqa: ARG002 - the same one
        asyncio.get_running_loop().call_soon(self._look)

    def _look(self) -> None:
        if self._activation.blocked >= self._activation.live:
            self._activation.ended.set()

    def need(self, flow: Workflow[..., Any], queue: str | None = None) -> None:
        """Serve nothing."""

    def time(self) -> float:
        """Return no time in particular: only new waits ask for it."""
        return 0.0
