"""One batch of rows with a provider, told as a course of steps and pauses, whoever takes them.

A batch is uploaded, made, looked at with growing pauses, and fetched; each of these is a recorded step, and before one is
made again after a crash the provider is asked whether it is there. So a kill at any point costs no second batch.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from stepwell._errors import InputError, LlmError
from stepwell._workflow import current_step
from stepwell.llm._batch_api import AnthropicBatches, BatchApi, OpenAiBatches
from stepwell.llm._models import provider_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Sequence

    from stepwell.llm._classify import Classifier

    # What a course asks for: a step of this name with this work, or a pause in ms.
    Wish = tuple[str, Callable[[], Awaitable[Any]]] | int

#: What a batch costs of the price of the same calls alone, with OpenAI and with Anthropic.
PRICE_SHARE = 0.5
# Pauses between two looks at a batch. With the last one, so many looks are more than two days.
_PAUSE_MAX_MS, _PAUSE_GROWTH, _LOOKS_MAX = 600_000, 1.5, 320
# So many reasons are kept whole, later ones are cut: what is recorded of 100,000 rows stays below the 32 MiB that
# one record may have, whatever the provider says of each of them.
_REASONS_WHOLE_MAX, _REASON_CHARS = 10_000, 40
# Rows of results that are read without letting others have the event loop.
_ROWS_AT_ONCE = 200
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


def batch_api(classifier: Classifier, model: object) -> BatchApi:
    """Return how the provider's batches are asked for. Raises InputError SW-E2190 for a model that has none."""
    api = None if classifier.is_local else _SPOKEN.get(classifier.model.provider)
    if api is None:
        raise no_batches(model)
    return api(classifier.model)


def check_has_batches(model: object, base_url: str | None = None) -> None:
    """Refuse a model that has no batches, by its name alone: before keys are looked for and anything is read."""
    if not isinstance(model, str) or model == "local" or provider_of(model, base_url) not in _SPOKEN:
        raise no_batches(model)


def no_batches(model: object) -> InputError:
    """Return the error for what cannot be carried out by batch."""
    return InputError(
        "SW-E2190",
        f"{repr(model)[:200]} has no batches",
        expected=f"one model of {', '.join(sorted(_SPOKEN))}",
        hint="live calls (classify, or triage with mode live) need no batch API, and answer at once",
    )


@dataclass(slots=True)
class Waiting:
    """The batches that were made and have not been fetched, and when one was looked at last (in s of the wall clock)."""

    batches: set[str] = field(default_factory=set)
    looked_at: float | None = None


class Part(NamedTuple):
    """The rows of one batch."""

    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class BatchJob:
    """One call of `classify_batch`. `step`: its identity in the run; `waiting`: told what is waited for."""

    run: int
    step: str
    classifier: Classifier
    api: BatchApi
    pause_ms: int
    waiting: Waiting = field(default_factory=Waiting)
    #: Batches that this call has made, so that none is taken for another part's.
    made: list[str] = field(default_factory=list)

    def split(self, texts: Sequence[str], rows_max: int) -> list[list[int]]:
        """Cut the rows into what one batch may hold: begin and end of each part."""
        parts: list[list[int]] = []
        held = begin = 0
        for row, text in enumerate(texts):
            size = len(self.api.line(self._key(0), row, self.classifier.body(text))) + 1
            if row > begin and (row - begin == rows_max or held + size > self.api.bytes_max):
                parts.append([begin, row])
                held, begin = 0, row
            held += size
        return [*parts, [begin, len(texts)]] if texts else []

    def _key(self, begin: int) -> str:
        """Name a batch so that no other run, call or part has the same."""
        digest = hashlib.blake2b(f"{self.run}/{self.step}/{begin}".encode(), digest_size=12).hexdigest()
        return f"sw-{digest}"

    def course(self, part: Part, texts: Sequence[str]) -> Generator[Wish, Any, list[Row]]:
        """Carry out one batch; each line of this is recorded before the next."""
        key, since, file, is_first = "", 0.0, "", False

        def lines() -> list[bytes]:
            rows = range(part.begin, part.end)
            return [self.api.line(key, row, self.classifier.body(texts[row])) for row in rows]

        async def begin() -> list[Any]:
            nonlocal is_first
            is_first = True  # in this life: nobody can have made the batch before
            return [time.time(), self._key(part.begin)]

        async def upload() -> str:
            return await self.api.upload(key, lines, looks_first=not is_first or _is_retry())

        async def create() -> str:
            found = ""
            if not is_first or _is_retry():
                found = await self.api.find(key, part.end - part.begin, since, self.made)
            return found or _named(await self.api.create(key, lines, file), key)

        async def fetch() -> list[Any]:
            return await self._fetch(part, key, batch, files)

        begun = yield "begin", begin
        # The key is recorded, so that a replay of the run finds the rows of a batch that the first one made. Runs from before
        # that have the time alone.
        since, key = begun if isinstance(begun, list) else (begun, self._key(part.begin))
        file = yield "upload", upload
        batch = yield "create", create
        self.made.append(batch)
        self.waiting.batches.add(batch)
        files, reason = yield from self._wait(batch)
        rows = yield "fetch", fetch
        self.waiting.batches.discard(batch)
        if reason:
            rows = [row if row[0] or row[3] != _MISSING[3] else [*_MISSING[:3], reason, 0, 0, 0.0] for row in rows]
        return [[row[0], self._label(row[1]), *row[2:]] for row in rows]

    def _wait(self, batch: str) -> Generator[Wish, Any, tuple[list[str], str]]:
        """Look at a batch until it has ended; return its files, and why it was refused as a whole."""

        async def look() -> list[Any]:
            state = await self.api.state(batch)
            self.waiting.looked_at = time.time()
            return [state.is_over, list(state.files), state.reason]

        pause_ms = self.pause_ms
        for _ in range(_LOOKS_MAX):
            is_over, files, reason = yield "look", look
            if is_over:
                return files, f"the provider refused the batch: {reason}" if reason else ""
            yield pause_ms
            pause_ms = min(_PAUSE_MAX_MS, int(pause_ms * _PAUSE_GROWTH) + 1)
        raise LlmError(
            "SW-E2192", f"batch {batch} has not ended after {_LOOKS_MAX} looks at it", hint="replay the run to wait on"
        )

    async def _fetch(self, part: Part, key: str, batch: str, files: Sequence[str]) -> list[Row]:
        """Read what became of the rows; of two outcomes of a row the first one counts."""
        rows: dict[int, Row] = {}
        reasons = 0
        async for row, answer, reason in self.api.outcomes(key, batch, files):
            if row in rows or not part.begin <= row < part.end:
                continue
            rows[row] = [*_MISSING[:3], f"the provider's batch: {reason}", 0, 0, 0.0]
            if answer is not None:
                rows[row] = self._judged(answer)
            reasons += bool(rows[row][3])
            if reasons > _REASONS_WHOLE_MAX:
                rows[row][3] = rows[row][3][:_REASON_CHARS]
            if len(rows) % _ROWS_AT_ONCE == 0:
                await asyncio.sleep(0)  # the loop is everybody's
        return [rows.get(row, _MISSING) for row in range(part.begin, part.end)]

    def _judged(self, answer: dict[str, Any]) -> Row:
        try:
            read = self.classifier.read(json.dumps(answer).encode())
        except LlmError as error:
            return [*_MISSING[:3], error.message[:200], 0, 0, 0.0]
        cost = read.cost_usd * PRICE_SHARE
        # A label stands there as its place in the taxonomy: a hundred thousand long names would be too much for one record.
        label = None if read.label is None else self.classifier.labels.index(read.label)
        return [True, label, read.confidence, read.reason, read.tokens_in, read.tokens_out, cost]

    def _label(self, recorded: int | str | None) -> str | None:
        """Return a recorded label; older records have its name."""
        return self.classifier.labels[recorded] if isinstance(recorded, int) else recorded


def _is_retry() -> bool:
    context = current_step.get()
    return context is not None and context.attempt > 1


def _named(name: str, key: str) -> str:
    """Return the name that a provider gave to a batch. Raises LlmError when it gave none: it may still be there."""
    if not name:
        raise LlmError("SW-E2191", f"the provider made no batch for {key}, or did not name it")
    return name
