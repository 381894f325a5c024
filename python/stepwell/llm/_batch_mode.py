"""`classify_batch`: thousands of texts by the provider's batch API, at half the price and within a day, durably.

A batch is uploaded, made, looked at with growing pauses, and fetched; each of these is a recorded step, and before one is
made again after a crash the provider is asked whether it is there. So a kill at any point costs no second batch.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from stepwell import _waits
from stepwell._errors import InputError, LlmError
from stepwell._types import Duration, Retry, duration_ms
from stepwell._workflow import Step, current_step
from stepwell.llm._batch_api import AnthropicBatches, BatchApi, OpenAiBatches, RefusedError
from stepwell.llm._classify import Classification, Classifier

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from stepwell._activation import Activation

#: What a batch costs of the price of the same calls alone, with OpenAI and with Anthropic.
PRICE_SHARE = 0.5
_TEXTS_MAX = 200_000
# Batches of one call that are under way at the same time.
_AT_ONCE = 4
_LIVE_AT_ONCE = 50
# Pauses between two looks at a batch. With the last one, so many looks are more than two days.
_PAUSE_MAX_MS, _PAUSE_GROWTH, _LOOKS_MAX = 600_000, 1.5, 320
_RETRY = Retry(max_attempts=400, base="2s", cap="10m", max_elapsed="26h", give_up_on=(RefusedError,))
_SPOKEN: dict[str, type[OpenAiBatches | AnthropicBatches]] = {
    "openai": OpenAiBatches,
    "openai-responses": OpenAiBatches,
    "openai-compatible": OpenAiBatches,
    "groq": OpenAiBatches,
    "anthropic": AnthropicBatches,
}

# A row as it is recorded: whether it was answered, label, confidence, reason, tokens in and out, dollars.
Row = list[Any]
_MISSING: Row = [False, None, 0.0, "the provider's batch ended without an answer to this row", 0, 0, 0.0]


async def classify_batch(
    texts: Sequence[str],
    *,
    labels: Sequence[str],
    model: str,
    base_url: str | None = None,
    api_key: str | None = None,
    unanswered: Literal["review", "live"] = "review",
    pause: Duration = "15s",
) -> list[Classification]:
    """Give each text one of `labels` by the provider's batch API: half the price, within 24 hours. Only inside a run.

    Answers stand in the order of the texts (up to 200,000). A row that expired or failed has status "review" and says why;
    `unanswered="live"` asks those again one by one, at the full price. More than a batch may hold makes several. `pause`: how
    long until the second look at a batch; each further pause is half as long again, up to ten minutes.

    Raises InputError SW-E2190 for a model without batches and for too many texts, SW-E2009 outside of a run; StepFailed
    when the provider refuses for good, LlmError SW-E2192 for a batch that does not end within two days.
    """
    activation = _waits._activation("classify_batch")  # noqa: SLF001
    if unanswered not in ("review", "live"):
        raise InputError("SW-E2190", "unanswered rows", got=repr(unanswered)[:80], expected='"review" or "live"')
    if len(texts) > _TEXTS_MAX:
        raise InputError(
            "SW-E2190",
            "too many texts for one call of classify_batch",
            got=str(len(texts)),
            expected=f"at most {_TEXTS_MAX}",
            hint="start a run for each part of them",
        )
    classifier = Classifier(labels, model=model, base_url=base_url, api_key=api_key)
    step, pause_ms = activation.identify("llm.classify_batch"), duration_ms(pause, "pause")
    job = _Job(activation, step, classifier, _api_of(classifier, model), pause_ms)
    parts = job.split(texts)
    found = await _waits.map(job.run, parts, concurrency=_AT_ONCE)
    rows = [_MISSING] * len(texts)
    for part, some in zip(parts, found, strict=True):
        rows[part.begin : part.end] = some
    if unanswered == "live":
        open_rows = [index for index, row in enumerate(rows) if not row[0]]
        live = await _waits.map(classifier.classify, [texts[index] for index in open_rows], concurrency=_LIVE_AT_ONCE)
        answers = dict(zip(open_rows, live, strict=True))
    else:
        answers = {}
    return [answers.get(index) or _classification(row, model) for index, row in enumerate(rows)]


@dataclass(frozen=True, slots=True)
class _Part:
    """The rows of one batch, and the key by which it is found again."""

    key: str
    begin: int
    end: int
    lines: list[bytes]


def _api_of(classifier: Classifier, model: str) -> BatchApi:
    api = None if classifier.is_local else _SPOKEN.get(classifier.model.provider)
    if api is None:
        raise InputError(
            "SW-E2190",
            f"{model!r} has no batches",
            expected=f"a model of {', '.join(sorted(_SPOKEN))}",
            hint="engine.map over classify needs no batch API, and answers at once",
        )
    return api(classifier.model)


@dataclass(frozen=True, slots=True)
class _Job:
    """One call of `classify_batch`. `step`: its identity in the run."""

    activation: Activation
    step: str
    classifier: Classifier
    api: BatchApi
    pause_ms: int
    #: Batches that this call has made, so that none is taken for another part's.
    made: list[str] = field(default_factory=list)

    def split(self, texts: Sequence[str]) -> list[_Part]:
        """Cut the rows into what one batch may hold; the same rows are always cut the same way."""
        parts: list[_Part] = []
        lines: list[bytes] = []
        held = begin = 0
        key = self._key(0)
        for row, text in enumerate(texts):
            line = self.api.line(key, row, self.classifier.request(text)[0][3])
            if lines and (len(lines) == self.api.requests_max or held + len(line) + 1 > self.api.bytes_max):
                parts.append(_Part(key, begin, row, lines))
                key, lines, held, begin = self._key(row), [], 0, row
                line = self.api.line(key, row, self.classifier.request(text)[0][3])
            lines.append(line)
            held += len(line) + 1
        if lines:
            parts.append(_Part(key, begin, len(texts), lines))
        return parts

    def _key(self, begin: int) -> str:
        """Name a batch so that no other run, call or part has the same."""
        run = self.activation.run
        digest = hashlib.blake2b(f"{run}/{self.step}/{begin}".encode(), digest_size=12).hexdigest()
        return f"sw-{digest}"

    async def run(self, part: _Part) -> list[Row]:
        """Carry out one batch; each line of this is recorded before the next."""
        since, file, is_first = 0.0, "", False

        async def begin() -> float:
            nonlocal is_first
            is_first = True  # in this life: nobody can have made the batch before
            return time.time()

        async def upload() -> str:
            return _named(await self.api.upload(part.key, part.lines, looks_first=not is_first or _is_retry()), "", "")

        async def create() -> str:
            found = ""
            if not is_first or _is_retry():
                found = await self.api.find(part.key, len(part.lines), since, self.made)
            return found or _named(await self.api.create(part.key, part.lines, file), part.key, "batch")

        async def fetch() -> list[Any]:
            return await self._fetch(part, batch, files)

        since = await _recorded("begin", begin)
        file = await _recorded("upload", upload)
        batch = await _recorded("create", create)
        self.made.append(batch)
        files, reason = await self._wait(batch)
        rows = await _recorded("fetch", fetch)
        if reason:
            rows = [row if row[0] or row[3] != _MISSING[3] else [*_MISSING[:3], reason, 0, 0, 0.0] for row in rows]
        return rows  # type: ignore[no-any-return]

    async def _wait(self, batch: str) -> tuple[list[str], str]:
        """Look at a batch until it has ended; return its files, and why it was refused as a whole."""

        async def look() -> list[Any]:
            state = await self.api.state(batch)
            return [state.is_over, list(state.files), state.reason]

        pause_ms = self.pause_ms
        for _ in range(_LOOKS_MAX):
            is_over, files, reason = await _recorded("look", look)
            if is_over:
                return files, f"the provider refused the batch: {reason}" if reason else ""
            await _waits.sleep(f"{pause_ms}ms")
            pause_ms = min(_PAUSE_MAX_MS, int(pause_ms * _PAUSE_GROWTH) + 1)
        raise LlmError(
            "SW-E2192", f"batch {batch} has not ended after {_LOOKS_MAX} looks at it", hint="replay the run to wait on"
        )

    async def _fetch(self, part: _Part, batch: str, files: Sequence[str]) -> list[Row]:
        """Read what became of the rows; of two outcomes of a row the first one counts."""
        rows: dict[int, Row] = {}
        async for row, answer, reason in self.api.outcomes(part.key, batch, files):
            if row in rows or not part.begin <= row < part.end:
                continue
            rows[row] = [*_MISSING[:3], f"the provider's batch: {reason}", 0, 0, 0.0]
            if answer is not None:
                rows[row] = self._judged(answer)
        return [rows.get(row, _MISSING) for row in range(part.begin, part.end)]

    def _judged(self, answer: dict[str, Any]) -> Row:
        try:
            read = self.classifier.read(json.dumps(answer).encode())
        except LlmError as error:
            return [*_MISSING[:3], error.message[:200], 0, 0, 0.0]
        cost = read.cost_usd * PRICE_SHARE
        return [True, read.label, read.confidence, read.reason, read.tokens_in, read.tokens_out, cost]


async def _recorded(name: str, work: Callable[[], Awaitable[Any]]) -> Any:
    return await Step(work, name=f"llm.batch.{name}", retry=_RETRY, timeout=None)()


def _is_retry() -> bool:
    context = current_step.get()
    return context is not None and context.attempt > 1


def _named(name: str, key: str, what: str) -> str:
    """Return the name that a provider gave to what was made. Raises LlmError when it gave none: it may still be there."""
    if what and not name:
        raise LlmError("SW-E2191", f"the provider made no {what} for {key}, or did not name it")
    return name


def _classification(row: Row, model: str) -> Classification:
    _, label, confidence, reason, tokens_in, tokens_out, cost = row
    status: Literal["ok", "review"] = "review" if label is None else "ok"
    return Classification(label, confidence, status, reason, tokens_in, tokens_out, cost, model)
