"""A scripted HTTP API on this machine, over real HTTP, with seeded faults and a journal: a twin for any JSON service.

    with HttpServer({"POST /charges": {"id": "ch_1"}, "GET /stock/*": [Answer(503), {"left": 3}]}) as server:
        ...                                    # code that talks to server.url
        assert server.carried_out("POST /charges") == 1

Standard library only; loopback only. A request with an `Idempotency-Key` that it has carried out before gets the same answer
again and is not carried out twice, as a well-made service does. Which request meets which fault follows from the seed, the
request and its attempt.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from stepwell.testing._http_serve import CONTROL, KINDS, HttpFaults
from stepwell.testing._server_process import ServerProcess

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["KINDS", "Answer", "HttpFaults", "HttpServer"]


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer: a status, a JSON value, further headers."""

    status: int = 200
    json: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


class HttpServer(ServerProcess[HttpFaults]):
    """The server in a process of its own; it stops with the `with` block, and when this process ends in any way.

    `answers`: by "METHOD /path" (a `*` at the end matches any rest), an Answer, a JSON value (status 200), or a list of
    these: one after the other, the last one from then on. What is not named answers 404. `latency`: "200ms", or
    "200ms-1000ms" for a uniform spread. `journal`: a file that gets every request as a line of JSON. Raises ValueError for
    settings that make no sense, RuntimeError when the server does not start.
    """

    _control_prefix = CONTROL

    def __init__(
        self,
        answers: Mapping[str, Any] | None = None,
        *,
        latency: str = "0ms",
        faults: HttpFaults | None = None,
        seed: int = 1,
        journal: str | Path | None = None,
    ) -> None:
        scripts = {route: _script(route, answer) for route, answer in (answers or {}).items()}
        super().__init__(
            "stepwell.testing.http_server", latency=latency, faults=faults or HttpFaults(), seed=seed, journal=journal
        )
        if scripts:
            self._ask("POST", f"{CONTROL}/script", scripts)

    def answer(self, route: str, answer: Any) -> None:
        """Say what "METHOD /path" answers from now on: an Answer, a JSON value, or a list of these."""
        self._ask("POST", f"{CONTROL}/script", {route: _script(route, answer)})

    def journal(self, route: str = "") -> list[dict[str, Any]]:
        """Return what was received: number, time, method, path, key (Idempotency-Key), body, attempt, answer, carried_out.

        answer: "ok", "repeated" (the key was known), or the fault. `route`: only requests of that "METHOD /path".
        """
        entries: list[dict[str, Any]] = self._ask("GET", f"{CONTROL}/journal")
        return [each for each in entries if not route or _is_of(each, route)]

    def carried_out(self, route: str = "") -> int:
        """Return how many requests took effect: neither spoiled before it nor repeated with a known key."""
        return sum(1 for each in self.journal(route) if each["carried_out"])


def _is_of(entry: dict[str, Any], route: str) -> bool:
    asked = f"{entry['method']} {entry['path'].partition('?')[0]}"
    return asked.startswith(route[:-1]) if route.endswith("*") else asked == route


def _script(route: str, answer: Any) -> list[tuple[int, str, dict[str, str]]]:
    method, _, path = route.partition(" ")
    if not method.isupper() or not path.startswith("/"):
        raise ValueError(f'not a route: {route!r}; expected e.g. "POST /charges"')
    answers = answer if isinstance(answer, list) and answer else [answer]
    return [_line(each if isinstance(each, Answer) else Answer(json=each)) for each in answers]


def _line(answer: Answer) -> tuple[int, str, dict[str, str]]:
    if not 200 <= answer.status <= 599:
        raise ValueError(f"an answer's status is {answer.status}; expected 200 to 599")
    text = "" if answer.json is None and answer.status == 204 else json.dumps(answer.json)
    return answer.status, text, dict(answer.headers)


if __name__ == "__main__":
    from stepwell.testing._http_serve import main

    sys.exit(main())
