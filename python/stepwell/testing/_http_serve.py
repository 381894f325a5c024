"""The JSON side of the test servers: scripted answers, and a memory for idempotency keys."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, ClassVar

from stepwell.testing._llm_faults import Faults
from stepwell.testing._serve import Plan, Service, head, parser_of, plain, refusal, run, spoiled

if TYPE_CHECKING:
    import argparse

CONTROL = "/_stepwell"
KINDS = ("429", "500", "503", "reset", "lost", "hang", "slow", "malformed", "truncated", "html", "empty")
_ROUTES_MAX = 10_000
_KEPT_MAX = 100_000
# Faults after which the request has been carried out nevertheless.
_CARRIED_OUT = ("", "slow", "lost", "truncated", "empty")


@dataclass(slots=True)
class HttpFaults(Faults):
    """What goes wrong: as `Faults` of the LLM server, with kinds of its own.

    "reset" and the error statuses: the request was not carried out. "lost": it was, and the connection broke before the
    answer; "truncated" and "empty": it was, and the answer is useless.
    """

    kinds: dict[str, float] = field(default_factory=lambda: {kind: 1.0 for kind in KINDS if kind != "hang"})

    known: ClassVar[tuple[str, ...]] = KINDS


class HttpService(Service):
    """Answers what it was told to; a request with a known Idempotency-Key gets the first one's answer."""

    control_prefix = CONTROL
    faults_type = HttpFaults

    def __init__(self, arguments: argparse.Namespace, journal: IO[str] | None) -> None:
        super().__init__(arguments, journal)
        #: By "METHOD /path": answers as [status, body text, headers], the last of which repeats.
        self.script: dict[str, list[tuple[int, str, dict[str, str]]]] = {}
        self.kept: dict[tuple[str, str], bytes] = {}

    def take(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Plan:
        """Decide how a request is answered."""
        if path.startswith(CONTROL):
            return Plan(self.control(method, path, body) or self._learn(path, body))
        key = headers.get("idempotency-key", "")
        fingerprint = hashlib.blake2b(f"{method} {path} {key} ".encode() + body, digest_size=8).hexdigest()
        attempt = self.attempt_of(fingerprint)
        fault = self.fault_of(fingerprint, attempt)
        known = self.kept.get((f"{method} {path}", key)) if key else None
        is_carried_out = fault in _CARRIED_OUT and known is None
        answer = known or (self._next(method, path) if is_carried_out else b"")
        is_carried_out = is_carried_out and int(answer[9:12]) < 400  # what the script refuses has no effect either
        if key and is_carried_out and len(self.kept) < _KEPT_MAX:
            self.kept[f"{method} {path}", key] = answer
        self.enter(
            {
                "method": method,
                "path": path,
                "key": key,
                "body": _json_or_text(body),
                "attempt": attempt,
                "answer": fault or ("repeated" if known else "ok"),
                "carried_out": is_carried_out,
            }
        )
        if fault in ("reset", "lost", "hang"):
            return Plan(b"", "hang" if fault == "hang" else "reset", self.delay())
        data = self._spoiled(fault, answer) if fault not in ("", "slow") else answer
        return Plan(data, "slow" if fault == "slow" else "answer", self.delay())

    def _spoiled(self, fault: str, answer: bytes) -> bytes:
        if fault == "empty":
            return head(200, 0)
        if fault == "truncated":
            body = answer.partition(b"\r\n\r\n")[2]
            return head(200, len(body) // 2) + body[: len(body) // 2]
        return spoiled(fault, self.faults) or b""

    def _next(self, method: str, path: str) -> bytes:
        route = f"{method} {path.partition('?')[0]}"
        script = self.script.get(route)
        if script is None:
            starts = [each for each in self.script if each.endswith("*") and route.startswith(each[:-1])]
            script = self.script[max(starts, key=len)] if starts else None
        if script is None:
            known = ", ".join(self.script) or "none"
            return refusal(404, f"the test did not say what {route} answers; it knows {known}", "not_found")
        status, text, headers = script.pop(0) if len(script) > 1 else script[0]
        body = text.encode()
        return head(status, len(body), "".join(f"{name}: {value}\r\n" for name, value in headers.items())) + body

    def _learn(self, path: str, body: bytes) -> bytes:
        if path != f"{CONTROL}/script" or len(self.script) >= _ROUTES_MAX:
            return refusal(404, f"no such path: {path}")
        for route, answers in json.loads(body).items():
            self.script[route] = [(status, text, headers) for status, text, headers in answers]
        return plain(200, {})


def _json_or_text(body: bytes) -> Any:
    try:
        return json.loads(body) if body else None
    except ValueError:
        return body.decode("utf-8", "replace")


def main() -> int:
    """Serve until SIGTERM or SIGINT; return the exit code."""
    parser = parser_of(
        "python -m stepwell.testing.http_server", "A scripted HTTP test server on the loopback address.", HttpFaults
    )
    return run(HttpService, "", parser.parse_args())
