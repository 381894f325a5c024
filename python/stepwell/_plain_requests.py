"""HTTP requests through the core that belong to no run: an engine's other trade."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from stepwell._errors import closed_error, failure_of
from stepwell._types import HttpAnswer

if TYPE_CHECKING:
    from stepwell._port import Caller
    from stepwell._worker import Worker


class PlainRequests:
    """What an engine adds to its core to send plain requests."""

    _core: Any
    _worker: Worker

    def _caller(self) -> Caller:
        raise NotImplementedError

    async def arequest(
        self,
        method: str,
        url: str,
        *,
        headers: tuple[tuple[str, str], ...] = (),
        body: bytes = b"",
        timeout_ms: int = 60_000,
    ) -> HttpAnswer:
        """Send one HTTP request through the core, unrecorded.

        Raises StoreError, WaitTimeout or InputError when there is no answer.
        """
        return await self._caller().send((method, url, headers, body, 10_000, timeout_ms))

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: tuple[tuple[str, str], ...] = (),
        body: bytes = b"",
        timeout_ms: int = 60_000,
    ) -> HttpAnswer:
        """Send one HTTP request through the core from plain code, waiting without the GIL."""
        ready = threading.Event()
        answer: list[tuple[Any, ...]] = []

        def on_items(items: list[tuple[Any, ...]]) -> None:
            answer.extend(items)
            ready.set()

        group = self._worker.open_group(on_items)
        self._core.send([(method, url, headers, body, 10_000, timeout_ms)], group << 32)
        ready.wait()
        self._worker.close_group(group)
        if not answer:
            raise closed_error()
        _, _, failure, status, header_lines, content, _ = answer[0]
        if failure is not None:
            raise failure_of(failure)
        return HttpAnswer(status, content, header_lines)
