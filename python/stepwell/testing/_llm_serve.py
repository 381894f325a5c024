"""The LLM side of the test servers: an OpenAI-shaped API."""

from __future__ import annotations

import hashlib
import json
import os
from typing import IO, TYPE_CHECKING, Any

from stepwell.testing._llm_faults import MODELS, Faults, predict, unfenced
from stepwell.testing._serve import Plan, Service, head, parser_of, plain, refusal, run, spoiled

if TYPE_CHECKING:
    import argparse

_TEXT_KEPT = 200


def _completion(content: str | None, prompt_bytes: int, *, refusal: str | None = None) -> bytes:
    tokens_in, tokens_out = prompt_bytes // 4 + 1, len(content or "") // 4 + 1
    return (
        b'{"id":"chatcmpl-test","object":"chat.completion","created":1,"model":"test","choices":[{"index":0,"message":'
        b'{"role":"assistant","content":%b,"refusal":%b},"finish_reason":"stop"}],"usage":{"prompt_tokens":%d,'
        b'"completion_tokens":%d,"total_tokens":%d}}'
        % (json.dumps(content).encode(), json.dumps(refusal).encode(), tokens_in, tokens_out, tokens_in + tokens_out)
    )


def _labels_of(request: dict[str, Any]) -> list[str] | None:
    """Return the taxonomy of a request for structured output: the first `enum` among its schema's properties."""
    try:
        properties = request["response_format"]["json_schema"]["schema"]["properties"]
        return next(list(field["enum"]) for field in properties.values() if "enum" in field)
    except (LookupError, TypeError, AttributeError, StopIteration):
        return None


def _good(request: dict[str, Any], text: str, body_bytes: int, label: str | None = None) -> bytes:
    labels = _labels_of(request)
    if labels is not None:
        predicted, confidence = predict(text, labels)
        content = json.dumps({"label": label or predicted, "confidence": confidence})
    elif (request.get("response_format") or {}).get("type") == "json_schema":
        content = json.dumps({"label": "free", "confidence": 0.5})
    else:
        content = f"You said: {text[:_TEXT_KEPT]}"
    answer = _completion(content, body_bytes)
    return head(200, len(answer)) + answer


def _spoiled(fault: str, request: dict[str, Any], text: str, body_bytes: int, faults: Faults) -> bytes:
    """Return the answer of a fault that is an answer."""
    answer = spoiled(fault, faults)
    if answer is not None:
        return answer
    if fault == "wrong_label":
        return _good(request, text, body_bytes, label="Something Else Entirely")
    answers = {
        "truncated": _completion('{"label": "x"}', body_bytes)[:-40],
        "refusal": _completion(None, body_bytes, refusal="I can't help with that."),
        "empty": _completion("", body_bytes),
    }
    return head(200, len(answers[fault])) + answers[fault]


class LlmService(Service):
    """POST .../chat/completions, GET .../models, and the control paths."""

    def __init__(self, arguments: argparse.Namespace, journal: IO[str] | None) -> None:
        super().__init__(arguments, journal)
        self.key: str = arguments.require_key

    def take(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Plan:
        """Decide how a request is answered."""
        is_allowed = not self.key or headers.get("authorization", "") == f"Bearer {self.key}"
        if method == "POST" and path.endswith("/chat/completions"):
            return self._chat(path, body, is_allowed=is_allowed)
        if path.endswith("/models"):
            if not is_allowed:
                return Plan(refusal(401, "Incorrect API key provided."))
            return Plan(plain(200, {"object": "list", "data": [{"id": name, "object": "model"} for name in MODELS]}))
        return Plan(self.control(method, path, body) or refusal(404, f"no such path: {path}"))

    def _note(self, path: str, answer: str, *, fingerprint: str = "", attempt: int = 1, text: str = "") -> None:
        short = text[:_TEXT_KEPT]
        self.enter({"path": path, "fingerprint": fingerprint, "attempt": attempt, "answer": answer, "text": short})

    def _chat(self, path: str, body: bytes, *, is_allowed: bool) -> Plan:
        if not is_allowed:
            self._note(path, "401")
            return Plan(refusal(401, "Incorrect API key provided."))
        try:
            request = json.loads(body)
            users = [unfenced(str(each["content"])) for each in request["messages"] if each["role"] == "user"]
            # A structured answer that is repaired is still about the first text.
            text, model = users[0 if "response_format" in request else -1], str(request["model"])
        except (ValueError, TypeError, LookupError):
            self._note(path, "400")
            return Plan(refusal(400, "We could not parse the JSON body of your request."))
        if model.startswith("missing"):
            self._note(path, "404", text=text)
            return Plan(refusal(404, f"The model `{model}` does not exist"))
        fingerprint = hashlib.blake2b(body, digest_size=8).hexdigest()
        attempt = self.attempt_of(fingerprint)
        fault = self.faults.draw(self.seed, fingerprint, attempt)
        self._note(path, fault or "ok", fingerprint=fingerprint, attempt=attempt, text=text)
        if fault in ("hang", "reset"):
            return Plan(b"", fault, self.delay())
        if fault in ("", "slow"):
            return Plan(_good(request, text, len(body)), fault or "answer", self.delay())
        return Plan(_spoiled(fault, request, text, len(body), self.faults), "answer", self.delay())


def main() -> int:
    """Serve until SIGTERM or SIGINT; return the exit code."""
    prog = "python -m stepwell.testing.llm_server"
    parser = parser_of(prog, "An OpenAI-shaped test server on the loopback address.", Faults)
    parser.add_argument(
        "--require-key",
        default=os.environ.get("STEPWELL_LLM_SERVER_KEY", ""),
        metavar="KEY",
        help="answer 401 to requests without it (default: $STEPWELL_LLM_SERVER_KEY)",
    )
    return run(LlmService, "/v1", parser.parse_args())
