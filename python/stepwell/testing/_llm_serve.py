"""The LLM side of the test servers: the APIs of several providers, one answer behind them."""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from typing import IO, TYPE_CHECKING, NamedTuple

from stepwell.testing._limits import DEFAULT_MAX_TOKENS, Limits, Verdict
from stepwell.testing._llm_anthropic import AnthropicForm
from stepwell.testing._llm_batches import Batches
from stepwell.testing._llm_embed import gemini_embeddings, openai_embeddings
from stepwell.testing._llm_faults import MODELS, STREAM_KINDS, Faults
from stepwell.testing._llm_forms import Ask, Form, RefusedError, Said, Usage, parsed
from stepwell.testing._llm_gemini import PATH as GEMINI_PATH
from stepwell.testing._llm_gemini import GeminiForm
from stepwell.testing._llm_openai import ChatForm, deployment
from stepwell.testing._llm_responses import ResponsesForm
from stepwell.testing._llm_say import Records, say
from stepwell.testing._llm_stream import stream_plan
from stepwell.testing._serve import Plan, Service, checked, head, parser_of, plain, run, spoiled

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Mapping

_TEXT_KEPT = 200
_KEPT_MAX = 1_000_000
_CHAT, _RESPONSES, _ANTHROPIC, _GEMINI = ChatForm(), ResponsesForm(), AnthropicForm(), GeminiForm()
_FORMS: tuple[tuple[str, Form], ...] = (
    ("/chat/completions", _CHAT),
    ("/responses", _RESPONSES),
    ("/messages", _ANTHROPIC),
)
# After these the request was not processed: it costs nothing, and a key is not remembered.
_UNPROCESSED = {"429", "500", "503", "529", "quota", "redirect", "reset", "hang", "html", "malformed"}
_STATUSES = {"429": 429, "500": 500, "503": 503, "529": 529, "quota": 429, "500_done": 500}
_WORDS = {
    "429": ("Rate limit reached", "rate_limit_error"),
    "quota": ("You exceeded your current quota, please check your plan and billing details.", "insufficient_quota"),
    "529": ("Overloaded", "overloaded_error"),
}
# What may happen to an answer that says nothing, such as embeddings.
_WORDLESS = {*_UNPROCESSED, "500_done", "reset_done", "slow", "trickle", "truncated", "reset_body"}


class _Kept(NamedTuple):
    """What a request with an Idempotency-Key was answered."""

    fingerprint: str
    said: Said | None
    body: bytes
    usage: Usage


class _Request(NamedTuple):
    """One request on its way."""

    form: Form
    path: str
    model: str
    text: str
    fingerprint: str
    attempt: int
    api_key: str
    key: str
    ask: Ask | None


class LlmService(Service):
    """Chat completions, responses, messages, generateContent, embeddings, models; and the control paths."""

    def __init__(self, arguments: argparse.Namespace, journal: IO[str] | None) -> None:
        super().__init__(arguments, journal)
        self.key: str = arguments.require_key
        self.token_rate: float = arguments.token_rate
        self.records = arguments.answers
        self.limits = Limits(
            arguments.requests_per_minute, arguments.tokens_per_minute, arguments.burst / 1000, arguments.clock_rate
        )
        self.kept: dict[tuple[str, str], _Kept] = {}
        self.counts = {"requests": 0, "admitted": 0, "refused": 0, "tokens_admitted": 0, "charged": 0, "replayed": 0}
        self.counts |= {"tokens_in": 0, "tokens_out": 0}
        self.first_time: float | None = None
        self.last_time: float | None = None
        self.batches = Batches(lambda path, body: self.take("POST", path, self._batch_headers, body), self.seed)
        self._batch_headers = {
            "authorization": f"Bearer {self.key}",
            "x-api-key": self.key,
            "anthropic-version": "batch",
        }

    # --- which request is this ---

    def take(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Plan:
        """Decide how a request is answered."""
        path, _, query = path.partition("?")
        if method == "POST":
            for end, form in _FORMS:
                if path.endswith(end):
                    return self._generate(form, path, query, headers, body)
            found = GEMINI_PATH.search(path)
            if found is not None and found[2] in ("generateContent", "streamGenerateContent"):
                return self._generate(_GEMINI, path, query, headers, body)
            if found is not None or path.endswith("/embeddings"):
                return self._embed(_GEMINI if found else _CHAT, path, query, headers, body)
        return self._other(method, path, query, headers, body)

    def _other(self, method: str, path: str, query: str, headers: Mapping[str, str], body: bytes) -> Plan:
        if path.endswith("/models"):
            if self._is_unknown(_CHAT.key(headers, query)):
                return self._fail(_CHAT, 401, "Incorrect API key provided.")
            return Plan(plain(200, {"object": "list", "data": [{"id": name, "object": "model"} for name in MODELS]}))
        if path == "/counts":
            more = {
                "batch_requests": self.batches.request_count,
                "first_time": self.first_time,
                "last_time": self.last_time,
            }
            return Plan(plain(200, self.counts | more))
        if path.partition("?")[0].rpartition("/v1")[2].startswith(("/files", "/batches", "/messages/batches")):
            if self._is_unknown(headers.get("x-api-key") or _CHAT.key(headers, query)):
                return self._fail(_CHAT, 401, "Incorrect API key provided.")
            batch = self.batches.take(method, path, query, headers, body)
            if batch is not None:
                return batch
        answer = self.control(method, path, body)
        return Plan(answer) if answer else self._fail(_CHAT, 404, f"no such path: {path}")

    def _is_unknown(self, key: str) -> bool:
        return bool(self.key) and key != self.key

    def _fail(
        self, form: Form, status: int, message: str, kind: str = "invalid_request_error", extra: str = ""
    ) -> Plan:
        return Plan(plain(status, form.error(status, message, kind), extra))

    def _refuse(self, form: Form, path: str, error: RefusedError, text: str = "") -> Plan:
        self.counts["requests"] += 1
        entry = {"path": path, "form": form.name, "fingerprint": "", "attempt": 1, "answer": str(error.status)}
        cost = {"charged": False, "replayed": False, "tokens_in": 0, "tokens_out": 0}
        self.enter({**entry, "text": text[:_TEXT_KEPT], **cost})
        return self._fail(form, error.status, error.message)

    def _note(self, request: _Request, answer: str, usage: Usage | None, *, charged: bool, replayed: bool) -> None:
        tokens_in, tokens_out, cached, reasoning = usage or (0, 0, 0, 0)
        self.counts["requests"] += 1
        self.counts["replayed"] += replayed
        if charged:
            self.counts["charged"] += 1
            self.counts["tokens_in"] += tokens_in
            self.counts["tokens_out"] += tokens_out
        self.enter(
            {
                "path": request.path,
                "form": request.form.name,
                "model": request.model,
                "fingerprint": request.fingerprint,
                "attempt": request.attempt,
                "answer": answer,
                "text": request.text[:_TEXT_KEPT],
                "key": request.key,
                "stream": request.ask is not None and request.ask.stream,
                "tokens_in": tokens_in,
                "tokens_out": tokens_out,
                "tokens_cached": cached,
                "tokens_reasoning": reasoning,
                "charged": charged,
                "replayed": replayed,
            }
        )

    # --- admission ---

    def _admit(self, form: Form, api_key: str, model: str, tokens: int) -> tuple[Verdict | None, str]:
        """Let a request pass the limits; return the verdict and the lines of the head that tell of it."""
        if not self.limits.is_on:
            return None, ""
        verdict = self.limits.admit(api_key, model, tokens, time.monotonic())
        if form is _GEMINI:
            return verdict, ""
        if form is _ANTHROPIC:
            return verdict, self.limits.anthropic_headers(verdict, time.time())
        return verdict, self.limits.openai_headers(verdict)

    def _too_many(self, request: _Request, verdict: Verdict, extra: str) -> Plan:
        self.counts["refused"] += 1
        self._note(request, "rate_limited", None, charged=False, replayed=False)
        bucket = verdict.tokens if verdict.of == "tokens" else verdict.requests
        limit = bucket.per_minute * self.limits.clock_rate if bucket else 0
        if math.isinf(verdict.wait_s):
            text = f"Request too large for {request.model} on tokens per min (TPM): Limit {limit:.0f}."
            return self._fail(request.form, 429, text, "tokens", extra)
        wait = math.ceil(verdict.wait_s * 1000)
        text = (
            f"Rate limit reached for {request.model} on {verdict.of} per min: Limit {limit:.0f}. Try again in {wait}ms."
        )
        if request.form is _GEMINI:
            value = request.form.error(429, text, "")
            delay = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{wait / 1000:g}s"}
            value["error"]["details"].append(delay)
            return Plan(plain(429, value))
        extra += f"retry-after: {self.limits.retry_after(verdict.wait_s)}\r\n"
        extra += "" if request.form is _ANTHROPIC else f"retry-after-ms: {wait}\r\n"
        return self._fail(request.form, 429, text, verdict.of, extra)

    # --- answers ---

    def _generate(self, form: Form, path: str, query: str, headers: Mapping[str, str], body: bytes) -> Plan:
        api_key = form.key(headers, query)
        try:
            if self._is_unknown(api_key):
                raise RefusedError(401, "Incorrect API key provided.")
            ask = _read(form, path, query, headers, body)
        except RefusedError as error:
            return self._refuse(form, path, error)
        if ask.model.startswith("missing"):
            return self._refuse(form, path, RefusedError(404, f"The model `{ask.model}` does not exist"), ask.text)
        tokens = ask.chars // 4 + 1 + (ask.max_tokens or DEFAULT_MAX_TOKENS)

        def make(fault: str, said_id: str) -> tuple[Said, bytes, Usage]:
            said = say(ask, fault, said_id, self.records)
            return said, b"", said.usage

        return self._answer(form, path, headers, body, (ask.model, ask.text, api_key, ask, tokens), make)

    def _embed(self, form: Form, path: str, query: str, headers: Mapping[str, str], body: bytes) -> Plan:
        api_key = form.key(headers, query)
        try:
            if self._is_unknown(api_key):
                raise RefusedError(401, "Incorrect API key provided.")
            request = parsed(body)
            if form is _GEMINI:
                found = GEMINI_PATH.search(path)
                model = found[1] if found else ""
                value, tokens, text = gemini_embeddings(request, is_batch=path.endswith(":batchEmbedContents"))
            else:
                model = deployment(path, query) or str(request.get("model", ""))
                value, tokens, text = openai_embeddings(request, model)
            if not model or model.startswith("missing"):
                raise RefusedError(404 if model else 400, f"The model `{model}` does not exist")
        except RefusedError as error:
            return self._refuse(form, path, error)
        answer = json.dumps(value).encode()
        facts = (model, text, api_key, None, tokens)
        return self._answer(form, path, headers, body, facts, lambda *_: (None, answer, Usage(tokens, 0)))

    def _answer(
        self,
        form: Form,
        path: str,
        headers: Mapping[str, str],
        body: bytes,
        facts: tuple[str, str, str, Ask | None, int],
        make: Callable[[str, str], tuple[Said | None, bytes, Usage]],
    ) -> Plan:
        """Answer a request that is well formed: limits, faults, keys, in this order."""
        model, text, api_key, ask, tokens = facts
        verdict, extra = self._admit(form, api_key, model, tokens)
        digest = hashlib.blake2b(body, digest_size=8)
        if form is not _CHAT:
            digest.update(path.encode())
        fingerprint, key = digest.hexdigest(), headers.get("idempotency-key", "")
        if verdict is not None and verdict.wait_s:
            request = _Request(form, path, model, text, fingerprint, 0, api_key, key, ask)
            return self._too_many(request, verdict, extra)
        self.counts["admitted"] += 1
        self.counts["tokens_admitted"] += tokens
        self.last_time = time.time()
        self.first_time = self.first_time or self.last_time
        attempt = self.attempt_of(fingerprint)
        request = _Request(form, path, model, text, fingerprint, attempt, api_key, key, ask)
        fault = self.fault_of(fingerprint, attempt)
        if ask is not None and self.records is not None and self.records.never_answers(model, text):
            fault = "hang"
        is_stream = ask is not None and ask.stream
        if (fault in STREAM_KINDS and not is_stream) or (ask is None and fault not in _WORDLESS):
            fault = ""
        if fault in _UNPROCESSED and not (is_stream and fault == "malformed"):
            self._note(request, fault, None, charged=False, replayed=False)
            return self._failed(request, fault, extra)
        known = self.kept.get((api_key, key)) if key else None
        if known is not None and known.fingerprint != fingerprint:
            return self._refuse(form, path, RefusedError(400, "The Idempotency-Key was used with another body."), text)
        if known is None:
            try:
                said, data, usage = make(fault, f"{fingerprint}{attempt}")
            except RefusedError as error:
                return self._refuse(form, path, error, text)
            if key:
                if len(self.kept) >= _KEPT_MAX:
                    del self.kept[next(iter(self.kept))]
                self.kept[api_key, key] = _Kept(fingerprint, said, data, usage)
        else:
            _, said, data, usage = known
        self._note(request, fault or "ok", usage, charged=known is None, replayed=known is not None)
        if fault in ("500_done", "reset_done"):
            return self._failed(request, fault, extra)
        if said is not None and fault == "wrong_usage":
            said = said._replace(usage=Usage(-7, 10**18, -1, 10**18))
        return self._deliver(request, said, data, fault, extra)

    def _failed(self, request: _Request, fault: str, extra: str) -> Plan:
        if fault in ("reset", "reset_done", "hang"):
            return Plan(b"", "hang" if fault == "hang" else "reset", self.delay())
        if fault == "redirect":
            return Plan(head(302, 0, f"location: {request.path}\r\n"), "answer", self.delay())
        if fault not in _STATUSES:
            return Plan(spoiled(fault, self.faults) or b"", "answer", self.delay())
        if fault in ("429", "quota"):
            extra += f"retry-after: {self.faults.retry_after_s:.15g}\r\n" if fault == "429" else ""
        message, kind = _WORDS.get(fault, ("The server had an error", "server_error"))
        return self._fail(request.form, _STATUSES[fault], message, kind, extra)._replace(delay_s=self.delay())

    def _deliver(self, request: _Request, said: Said | None, data: bytes, fault: str, extra: str) -> Plan:
        form, ask = request.form, request.ask
        if said is not None and ask is not None:
            if ask.stream:
                plan = stream_plan(form, form.events(said, ask), extra, self.token_rate, fault, self.faults)
                return plan._replace(delay_s=self.delay())
            if form is _CHAT and not said.calls and said.refusal is None and fault != "two_choices":
                body = _CHAT.fast(said)
                data = head(200, len(body), extra) + body
            else:
                answer = form.answer(said)
                if fault == "two_choices":
                    last = answer[form.many_key][-1]
                    answer[form.many_key].append({**last, "index": 1} if "index" in last else dict(last))
                data = plain(200, answer, extra)
        else:
            data = head(200, len(data), extra) + data
        if fault == "truncated":
            body = data.partition(b"\r\n\r\n")[2][:-40]
            data = head(200, len(body), extra) + body
        how = {"slow": "slow", "trickle": "trickle", "reset_body": "part"}.get(fault, "answer")
        return Plan(data, how, self.delay(), pause_s=self.faults.trickle_s)


def _read(form: Form, path: str, query: str, headers: Mapping[str, str], body: bytes) -> Ask:
    """Read a request; whatever shape it has, the worst is that it is refused."""
    try:
        return form.read(path, query, headers, body)
    except (TypeError, LookupError, AttributeError, ValueError) as error:
        raise RefusedError(400, f"We could not make sense of your request: {type(error).__name__}: {error}") from None


def _burst(text: str) -> int:
    from stepwell._types import duration_ms

    return duration_ms(text, "burst")


def main() -> int:
    """Serve until SIGTERM or SIGINT; return the exit code."""
    prog = "python -m stepwell.testing.llm_server"
    parser = parser_of(prog, "A test server with the APIs of LLM providers, on the loopback address.", Faults)
    parser.add_argument(
        "--require-key",
        default=os.environ.get("STEPWELL_LLM_SERVER_KEY", ""),
        metavar="KEY",
        help="answer 401 to requests without it (default: $STEPWELL_LLM_SERVER_KEY)",
    )
    parser.add_argument("--token-rate", type=float, default=0.0, help="tokens a second of a stream; 0: all at once")
    parser.add_argument("--requests-per-minute", type=float, default=0.0, help="0: no limit")
    parser.add_argument("--tokens-per-minute", type=float, default=0.0, help="0: no limit")
    parser.add_argument(
        "--burst", type=checked(_burst), default="1s", help="the limits let pass at once what is due in it"
    )
    parser.add_argument("--clock-rate", type=float, default=1.0, help="seconds that pass for the limits in one second")
    parser.add_argument("--answers", type=checked(Records), metavar="FILE", help="recorded answers, as lines of JSON")
    return run(LlmService, "/v1", parser.parse_args())
