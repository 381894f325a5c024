"""`classify_batch`: thousands of texts by the provider's batch API, at half the price and within a day, durably.

What is done with a batch is told by its course (see _batch_job.py); here it is done, in async and in plain workflows.
"""

from __future__ import annotations

import asyncio
import heapq
from typing import TYPE_CHECKING, Any, Literal

from stepwell import _waits
from stepwell._errors import InputError
from stepwell._types import Duration, Retry, duration_ms
from stepwell._workflow import Step, current_scope
from stepwell.llm._batch_api import RefusedError
from stepwell.llm._batch_job import BatchJob, Part, Waiting, batch_api
from stepwell.llm._classify import Classification, Classifier

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Sequence

    from stepwell.llm._batch_job import Row, Wish

_TEXTS_MAX = 200_000
# Batches of one call that are under way at the same time.
_AT_ONCE = 4
_LIVE_AT_ONCE = 50
_RETRY = Retry(max_attempts=400, base="2s", cap="10m", max_elapsed="26h", give_up_on=(RefusedError,))
# Runs that began before cuts were recorded had so many rows in a batch.
_CUT_IS_RECORDED, _ROWS_BEFORE = "llm.batch.cut", 10_000


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
    job = _job_of("classify_batch", texts, labels, model, base_url, api_key, unanswered, pause)
    rows = await batched_rows(job, texts)
    live: dict[int, Classification] = {}
    if unanswered == "live":
        open_rows = [index for index, row in enumerate(rows) if not row[0]]
        again = [texts[index] for index in open_rows]
        answers = await _waits.map(job.classifier.classify, again, concurrency=_LIVE_AT_ONCE)
        live = dict(zip(open_rows, answers, strict=True))
    return [live.get(index) or _classification(row, model) for index, row in enumerate(rows)]


def classify_batch_blocking(
    texts: Sequence[str],
    *,
    labels: Sequence[str],
    model: str,
    base_url: str | None = None,
    api_key: str | None = None,
    unanswered: Literal["review", "live"] = "review",
    pause: Duration = "15s",
) -> list[Classification]:
    """Do the same from a plain def workflow. Rows for `unanswered="live"` are asked one after the other."""
    job = _job_of("classify_batch_blocking", texts, labels, model, base_url, api_key, unanswered, pause)
    rows = _batched_rows_blocking(job, texts)
    return [
        job.classifier.classify_blocking(text) if unanswered == "live" and not row[0] else _classification(row, model)
        for row, text in zip(rows, texts, strict=True)
    ]


def _job_of(
    what: str,
    texts: Sequence[str],
    labels: Sequence[str],
    model: str,
    base_url: str | None,
    api_key: str | None,
    unanswered: str,
    pause: Duration,
) -> BatchJob:
    """Check a call and return what it is to do. Nothing has been sent."""
    _waits._activation(what)  # noqa: SLF001
    if unanswered not in ("review", "live"):
        raise InputError("SW-E2190", "unanswered rows", got=repr(unanswered)[:80], expected='"review" or "live"')
    if len(texts) > _TEXTS_MAX:
        raise InputError(
            "SW-E2190",
            f"too many texts for one call of {what}",
            got=str(len(texts)),
            expected=f"at most {_TEXTS_MAX}",
            hint="start a run for each part of them",
        )
    return job_here(Classifier(labels, model=model, base_url=base_url, api_key=api_key), pause)


def job_here(classifier: Classifier, pause: Duration, waiting: Waiting | None = None) -> BatchJob:
    """Return the job of a call in the present run."""
    activation = _waits._activation("classify_batch")  # noqa: SLF001
    step, pause_ms = activation.identify("llm.classify_batch"), duration_ms(pause, "pause")
    api = batch_api(classifier, classifier.model_name)
    return BatchJob(activation.run, step, classifier, api, pause_ms, waiting or Waiting())


# -- carrying it out -----------------------------------------------------------------------------------------------------


async def batched_rows(job: BatchJob, texts: Sequence[str]) -> list[Row]:
    """Carry out a job, with some batches under way at the same time, and return its rows in the order of the texts."""

    async def cut() -> list[list[int]]:
        return await asyncio.to_thread(job.split, texts, job.api.requests_max)

    async def carry_out(part: Part) -> list[Row]:
        course, answer = job.course(part, texts), None
        while True:
            try:
                wish = course.send(answer)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            if isinstance(wish, int):
                answer = await _waits.sleep(f"{wish}ms")  # type: ignore[func-returns-value]
            else:
                answer = await Step(wish[1], name=f"llm.batch.{wish[0]}", retry=_RETRY, timeout=None)()

    is_cut = _waits.patched(_CUT_IS_RECORDED)
    ends = (
        await Step(cut, name="llm.batch.cut", retry=None, timeout=None)() if is_cut else job.split(texts, _ROWS_BEFORE)
    )
    found = await _waits.map(carry_out, [Part(*each) for each in ends], concurrency=_AT_ONCE)
    return [row for part in found for row in part]


def _batched_rows_blocking(job: BatchJob, texts: Sequence[str]) -> list[Row]:
    """Do the same in a plain workflow: one thread takes the batches' steps in turn.

    Whose turn it is is told by the sum of its pauses, not by a clock, so that a replay takes the same turns.
    """
    ends = Step(lambda: job.split(texts, job.api.requests_max), name="llm.batch.cut", retry=None, timeout=None)()
    left = [(index, job.course(Part(*each), texts)) for index, each in enumerate(ends)]
    scope, rows, now = _waits._activation("classify_batch_blocking").identify("batches"), {}, 0  # noqa: SLF001
    turns: list[tuple[int, int, Any]] = []
    while turns or left:
        while left and len(turns) < _AT_ONCE:
            turns.append((now, *left.pop(0)))
        due, index, course = heapq.heappop(turns)
        if due > now:
            _waits.sleep_blocking(f"{due - now}ms")
            now = due
        token = current_scope.set(f"{scope}/{index}/")
        try:
            rest = _until_pause(course)
        finally:
            current_scope.reset(token)
        if isinstance(rest, int):
            heapq.heappush(turns, (now + rest, index, course))
        else:
            rows[index] = rest
    return [row for index in range(len(ends)) for row in rows[index]]


def _until_pause(course: Generator[Wish, Any, list[Row]]) -> int | list[Row]:
    """Take the steps of a batch up to its next pause; return that, or at its end the rows."""
    answer = None
    while True:
        try:
            wish = course.send(answer)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        if isinstance(wish, int):
            return wish
        name, work = wish

        def step(work: Callable[[], Awaitable[Any]] = work) -> Any:
            return asyncio.run(_awaited(work))

        answer = Step(step, name=f"llm.batch.{name}", retry=_RETRY, timeout=None)()


async def _awaited(work: Callable[[], Awaitable[Any]]) -> Any:
    return await work()


def _classification(row: Row, model: str) -> Classification:
    _, label, confidence, reason, tokens_in, tokens_out, cost = row
    status: Literal["ok", "review"] = "review" if label is None else "ok"
    return Classification(label, confidence, status, reason, tokens_in, tokens_out, cost, model)
