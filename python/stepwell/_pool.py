"""The threads on which plain workflows run."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from stepwell import _codec
from stepwell._activation import LaidAside
from stepwell._ends import failed_blocking, succeeded
from stepwell._errors import ClosedError, RunCancelled
from stepwell._workflow import current_activation, current_scope

if TYPE_CHECKING:
    from stepwell._activation import Activation
    from stepwell._worker import Worker

_REPORTS_HELD_MAX = 64
# A plain workflow slower than this hands in its result at once; quick ones share a batch.
_QUICK_NS = 200_000
_POOL_THREADS_MAX = 32


class Pool:
    """Threads for plain workflows. They take from one line; quick ones share a batch of reports."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._line: deque[Activation | None] = deque()
        self._ready = threading.Semaphore(0)
        self.threads: list[threading.Thread] = []
        self._idle_count = 0
        self.is_forgotten = False

    def submit(self, activations: list[Activation]) -> None:
        """Put activations in line and see that somebody works on them."""
        self._line.extend(activations)
        if self._idle_count == 0 and len(self.threads) < _POOL_THREADS_MAX:
            thread = threading.Thread(target=self._serve, name=f"stepwell-pool-{len(self.threads)}", daemon=True)
            self.threads.append(thread)
            thread.start()
        self._ready.release()

    def stop(self) -> None:
        """Let the threads end once the line is empty."""
        self._line.extend([None] * len(self.threads))
        self._ready.release(max(1, len(self.threads)))

    def _serve(self) -> None:
        held: list[tuple[Any, ...]] = []
        line, worker = self._line, self._worker
        while True:
            try:
                activation = line.popleft()
            except IndexError:
                self._hand_in(held)
                self._idle_count += 1
                self._ready.acquire()
                self._idle_count -= 1
                continue
            if activation is None:
                self._hand_in(held)
                return
            began = time.perf_counter_ns()
            report = self._drive(activation)
            if self.is_forgotten:
                return
            worker.retire(activation)
            if report is not None:
                held.append(report)
            if len(held) >= _REPORTS_HELD_MAX or time.perf_counter_ns() - began > _QUICK_NS:
                self._hand_in(held)

    def _hand_in(self, held: list[tuple[Any, ...]]) -> None:
        if held:
            with contextlib.suppress(ClosedError):
                self._worker.core.complete(held)
            held.clear()

    def _drive(self, activation: Activation) -> tuple[Any, ...] | None:
        flow = activation.flow
        payload, activation.stop_payload = activation.stop_payload, b""
        token = current_activation.set(activation)
        try:
            value = (
                flow.fn() if flow.input_name is None else flow.fn(_codec.decode(payload, flow.takes, flow.input_words))
            )
            return succeeded(activation, value)
        except (RunCancelled, LaidAside):
            return None
        except BaseException as error:  # noqa: BLE001 - recorded, whatever it is
            try:
                return failed_blocking(activation, error)
            except (RunCancelled, LaidAside):
                return None
        finally:
            current_activation.reset(token)
            current_scope.set("")
