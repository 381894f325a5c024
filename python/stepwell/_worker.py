"""The worker: takes batches of tasks from the core, runs user code, hands batches of reports back.

Threads: the pump (blocks in `poll` without the GIL), one event loop for async workflows, which hears from the core through
a port of its own, and a small pool for plain ones. C++ never calls Python; Python pulls.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from typing import TYPE_CHECKING, Any

from stepwell import _codec
from stepwell._activation import MISMATCH, PARK, RUN_FAILED, Activation, LaidAside
from stepwell._calls import CALL_HELD, held
from stepwell._ends import failed, succeeded
from stepwell._errors import ClosedError, InputError, RunCancelled
from stepwell._pool import Pool
from stepwell._port import STREAM_PIECE, STREAM_TEXT, Port
from stepwell._workflow import current_activation

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from stepwell._budgets.policy import Budget
    from stepwell._step_context import StepContext
    from stepwell._workflow import Step, Workflow

_log = logging.getLogger("stepwell")

# ItemKind of the core.
_ACTIVATE, _STEP_ANSWER, _ATTEMPT, _STOP, _RUN_FINISHED, _STARTED, _HTTP, _PAUSE = range(8)
_POLL_COUNT_MAX = 1024


class Worker:
    """Runs the workflows of one engine. Started on first need, stopped by `close`."""

    def __init__(self, core: Any) -> None:
        self.core = core
        self.flows: dict[str, Workflow[..., Any]] = {}
        self.active: dict[int, Activation] = {}
        self._replacing = threading.Lock()
        self.groups: dict[int, Callable[[list[tuple[Any, ...]]], None]] = {}
        self.loop = asyncio.new_event_loop()
        self._outgoing: list[tuple[Any, ...]] = []
        self._is_flush_due = False
        self._maybe_idle: list[Activation] = []
        self._next_group = 1
        self._lock = threading.Lock()
        #: Sees that the engine serves a workflow; set by the engine.
        self.need: Callable[[Workflow[..., Any], str | None], None] = lambda *_: None
        #: The engine's time; what surrounds an attempt of a step; whether a crash is played. `stepwell.testing` sets them.
        self.time: Callable[[], float] = time.time
        #: So many LLM calls may a run make whose workflow has no cap of its own.
        self.calls_per_run: int | None = None
        self.watch_attempt: Callable[[Step[..., Any], StepContext], AbstractContextManager[None]] | None = None
        self.is_cut = False
        #: The engine's default budget, those whose definitions are known, and the caps that were asked about.
        self.budgets = ""
        self.known_budgets: dict[str, Budget] = {}
        self.asked_budgets: set[str] = set()
        self._pool = Pool(self)
        self._port = Port(core, self.loop, self._on_loop)
        self._loop_thread = threading.Thread(target=self._run_loop, name="stepwell-async", daemon=True)
        self._pump_thread = threading.Thread(target=self._pump, name="stepwell-pump", daemon=True)
        self._loop_thread.start()
        self._pump_thread.start()

    # -- groups: who wants to hear of which tickets -----------------------------------------------------------------

    def open_group(self, on_items: Callable[[list[tuple[Any, ...]]], None]) -> int:
        """Return a ticket range: items with ticket >> 32 equal to it go to `on_items`, batch by batch, on the pump.

        An empty batch says that the engine was closed and nothing more will come.
        """
        with self._lock:
            group = self._next_group
            self._next_group += 1
        self.groups[group] = on_items
        return group

    def close_group(self, group: int) -> None:
        """Forget a ticket range."""
        self.groups.pop(group, None)

    # -- reports ----------------------------------------------------------------------------------------------------

    def report_soon(self, report: tuple[Any, ...]) -> None:
        """Hand in a report with the others of this turn of the event loop. Event loop thread only."""
        self._outgoing.append(report)
        self._flush_soon()

    def look_whether_idle(self, activation: Activation) -> None:
        """Offer a run to the store at the end of this turn, if all its branches wait then. Event loop thread only."""
        self._maybe_idle.append(activation)
        self._flush_soon()

    def _flush_soon(self) -> None:
        if not self._is_flush_due:
            self._is_flush_due = True
            self.loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._is_flush_due = False
        reports, self._outgoing = self._outgoing, []
        if self._maybe_idle:
            idle, self._maybe_idle = self._maybe_idle, []
            reports.extend(
                (PARK, each.run, each.token, each.open_waits)
                for each in idle
                if each.blocked >= each.live and not each.is_stopped
            )
        with contextlib.suppress(ClosedError):
            self.core.complete(reports)

    def is_at_rest(self, active_count: int, asking_count: int) -> bool:
        """Whether all user code waits for the core, which counts so many activations and threads. Event loop thread only."""
        active = list(self.active.values())
        if self._is_flush_due or self._outgoing or len(active) != active_count:
            return False
        plain = sum(not each.flow.is_async for each in active)
        waits = all(len(each.waiting) + len(each.rests) >= each.live for each in active if each.flow.is_async)
        return waits and plain == asking_count

    # -- the pump ---------------------------------------------------------------------------------------------------

    def _pump(self) -> None:
        while True:
            try:
                items = self.core.poll(_POLL_COUNT_MAX, -1)
                self._route(items)
            except ClosedError:
                break
            except Exception:  # noqa: BLE001 - our own bug; the pump must go on
                _log.exception("stepwell: the pump met an unexpected error")
        self._pool.stop()
        for on_items in list(self.groups.values()):
            on_items([])

    def _route(self, items: list[tuple[Any, ...]]) -> None:
        for_loop: list[tuple[Any, ...]] = []
        grouped: dict[int, list[tuple[Any, ...]]] = {}
        plain: list[Activation] = []
        for item in items:
            if _RUN_FINISHED <= item[0] <= _HTTP or item[0] == STREAM_TEXT:
                grouped.setdefault(item[1] >> 32, []).append(item)
            elif self._is_async(item):
                for_loop.append(item)  # its queue was once served for a plain workflow too
            else:
                self._apply_plain(item, plain)
        if for_loop:
            self.loop.call_soon_threadsafe(self._on_loop, for_loop)
        if plain:
            self._pool.submit(plain)
        for group, group_items in grouped.items():
            on_items = self.groups.get(group)
            if on_items is not None:
                on_items(group_items)

    def _is_async(self, item: tuple[Any, ...]) -> bool:
        if item[0] == _ACTIVATE:
            return self.flows[item[2]].is_async if item[2] in self.flows else False
        activation = self.active.get(item[1])
        return activation is not None and activation.flow.is_async

    def _activation(self, item: tuple[Any, ...]) -> Activation:
        _, run, name, _, history, token, budgets = item
        activation = Activation(self, run, token, self.flows[name], history, budgets)
        with self._replacing:
            self.active[run] = activation
        return activation

    def retire(self, activation: Activation) -> None:
        """Forget one that has come to its end, and not a later one of its run. The pump may stop it at this very moment."""
        with self._replacing:
            if self.active.get(activation.run) is activation:
                self.active.pop(activation.run, None)

    def _apply_plain(self, item: tuple[Any, ...], plain: list[Activation]) -> None:
        """Apply an item of a plain workflow: it begins or stops; the answers to its steps go to the thread that waits."""
        if item[0] == _ACTIVATE and item[2] not in self.flows:
            self._lay_aside_unknown(item)
        elif item[0] == _ACTIVATE:
            activation = self._activation(item)
            activation.stop_payload = item[3]
            plain.append(activation)
        elif item[0] == _STOP:
            stopped = self.active.pop(item[1], None)
            if stopped is not None:
                stopped.stop(item[2])
        elif item[0] in (STREAM_PIECE, _STEP_ANSWER, CALL_HELD):  # a thread takes them that reads a stream
            reading = self.active.get(item[1])
            if reading is not None and (take := reading.streams.get(item[2])) is not None:
                take(item)
        elif item[0] == _PAUSE and (pausing := self.active.get(item[1])) is not None:
            pausing.set_pausing(item[2])

    def _lay_aside_unknown(self, item: tuple[Any, ...]) -> None:
        """Pause a run of a workflow that this engine does not know: served later and resumed, it goes on."""
        error = InputError(
            "SW-E1020",
            f"workflow {item[2]!r} stood in a queue of this engine, which does not serve it",
            hint="call engine.serve(flow), then resume the run",
        )
        with contextlib.suppress(ClosedError):
            self.core.complete([(MISMATCH, item[1], item[5], _codec.encode_error(error))])

    # -- async workflows --------------------------------------------------------------------------------------------

    def channel_of(self, flow: Workflow[..., Any]) -> int:
        """Return the channel for a workflow's items: async ones go straight to the event loop, plain ones to the pump."""
        return self._port.channel if flow.is_async else 0

    def _run_loop(self) -> None:
        asyncio.set_event_loop(self.loop)
        while True:
            try:
                self.loop.run_forever()
            except (SystemExit, KeyboardInterrupt):
                # A task of user code raised it, and keeps it as its result; asyncio lets it end the loop as well.
                _log.warning("stepwell: a task of a workflow raised SystemExit or KeyboardInterrupt")
            else:
                return

    def _on_loop(self, items: list[tuple[Any, ...]]) -> None:
        active = self.active
        plain: list[Activation] = []
        flows, create_task = self.flows, self.loop.create_task
        for item in items:
            kind = item[0]
            if kind == _ACTIVATE and (flow := flows.get(item[2])) is not None and flow.is_async:
                _, run, _, payload, history, token, budgets = item
                activation = active[run] = Activation(self, run, token, flow, history, budgets)
                activation.task = create_task(self._drive(activation, payload))
            elif not self._is_async(item):
                self._apply_plain(item, plain)
            elif kind == _STEP_ANSWER:
                active[item[1]].deliver(item[2], (True, item[3], item[4], item[5]))
            elif kind == _ATTEMPT:
                active[item[1]].deliver(item[2], (False, False, b"", item[3]))
            elif kind == CALL_HELD:
                active[item[1]].deliver(item[2], held(item))
            elif kind == STREAM_PIECE:
                if (take := active[item[1]].streams.get(item[2])) is not None:
                    take(item)
            elif kind == _PAUSE:
                active[item[1]].set_pausing(item[2])
            else:
                active.pop(item[1]).stop(item[2])
        if plain:
            self._pool.submit(plain)

    async def _drive(self, activation: Activation, payload: bytes) -> None:
        current_activation.set(activation)
        flow = activation.flow
        try:
            if flow.input_name is None:
                value = await flow.fn()
            else:
                value = await flow.fn(_codec.decode(payload, flow.takes, flow.input_words))
            report = succeeded(activation, value)
        except asyncio.CancelledError:
            if activation.is_stopped:
                return
            report = (
                RUN_FAILED,
                activation.run,
                activation.token,
                _codec.encode_error(RuntimeError("the workflow cancelled itself")),
            )
        except (RunCancelled, LaidAside):
            return
        except BaseException as error:  # noqa: BLE001 - recorded, whatever it is
            try:
                report = await failed(activation, error)
            except (asyncio.CancelledError, RunCancelled, LaidAside):
                return
        finally:
            # The task's context knows the activation: a ring that only the garbage collector would find, run by run.
            activation.task = None
        self.active.pop(activation.run, None)
        self.report_soon(report)

    # -- the end ----------------------------------------------------------------------------------------------------

    def pool_threads(self) -> list[threading.Thread]:
        """Return the threads of plain workflows."""
        return list(self._pool.threads)

    def cut(self) -> None:
        """Play a crash: user code gets no further, and no handler of its own but `finally` hears of it. Close afterwards."""
        self.is_cut = True
        for activation in list(self.active.values()):
            activation.is_stopped, activation.stop_payload = True, b""
            if activation.flow.is_async:
                self.loop.call_soon_threadsafe(activation.stop, b"")

    def forget(self) -> None:
        """In a forked child: let the one thread that is left end once the step that forked has returned."""
        self.loop.stop()
        self._pool.is_forgotten = True

    def close(self) -> None:
        """Stop the threads; the core is closed already, so the pump has ended or will at once."""
        self._pump_thread.join(timeout=10)
        for activation in list(self.active.values()):
            self.loop.call_soon_threadsafe(activation.stop, b"{}")
        self.loop.call_soon_threadsafe(self._stop_loop)
        self._loop_thread.join(timeout=10)
        if not self._loop_thread.is_alive():
            self.loop.close()

    def _stop_loop(self) -> None:
        self._port.close()
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task.cancel()
        waiter = asyncio.gather(*tasks, return_exceptions=True)
        waiter.add_done_callback(lambda _: self.loop.stop())
