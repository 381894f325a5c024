"""Triage by the provider's batch API: the same rows, labels and report, at half the price and within a day.

Each batch is a run of its own, under the job's keys 0, 1, 2, ...: together they say which rows have been asked, so that a
job that was killed goes on with the batches that were made. Texts are not recorded: the file has them, and names the job.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from stepwell import _codec
from stepwell._errors import InputError, WorkflowError
from stepwell._history import HistoryKind
from stepwell._types import RunStatus
from stepwell._workflow import Workflow
from stepwell.llm._batch_job import BatchJob, Waiting, batch_api, check_has_batches
from stepwell.llm._batch_mode import batched_rows, job_here
from stepwell.llm._classify import Classifier
from stepwell.triage._types import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stepwell._engine import Engine
    from stepwell._run import Run
    from stepwell.triage._job import Job

MODES = ("live", "batch")
# Rows of one batch: with that many, what a run returns is within what one record may hold.
_ROWS_MAX = 50_000
# Batches that are under way at the same time.
_AT_ONCE = 4
_LOOK_S = 0.1

# Rows as they are recorded: begin and end of each row that follows the one before.
_Ranges = list[list[int]]


def check_mode(mode: str, model: Any, base_url: str | None) -> None:
    """Refuse what no batch can do, before anything is read. Raises InputError SW-E2246 and SW-E2190."""
    if mode not in MODES:
        raise InputError("SW-E2246", "there is no such mode", got=repr(mode)[:80], expected='"live" or "batch"')
    if mode == "batch":
        check_has_batches(model, base_url)


class ByBatch:
    """The batches of one job. `waiting` tells what is waited for."""

    def __init__(self, job: Job, engine: Engine) -> None:
        self._job = job
        self._engine = engine
        self._texts = job.table.texts
        #: Policies and the local model have no batches, and so no records of any.
        remote = job.classifier.remote
        self._classifier = job.classifier if isinstance(job.classifier, Classifier) else next(iter(remote), None)
        self._redact = None if isinstance(job.classifier, Classifier) else job.classifier.redact
        self._flow = self._made_flow()
        self._next = 0
        #: Runs whose outcomes are known. One that ends later, however soon, is waited for.
        self._settled: set[str] = set()
        self.waiting = Waiting()

    def _made_flow(self) -> Workflow[..., Any]:
        async def triage_batch(rows: _Ranges) -> dict[str, Any]:
            classifier = self._classifier
            assert classifier is not None  # noqa: S101 - checked before a batch was started
            texts = [self._text(index) for index in _indexes(rows)]
            found = await batched_rows(job_here(classifier, self._job.pause, self.waiting), texts)
            places = {label: place for place, label in enumerate(classifier.labels)}
            return {"rows": rows, "outcomes": [_values(row, places) for row in found]}

        # With the job in its name, so that no other job's engine takes its runs up.
        return Workflow(triage_batch, name=f"stepwell.triage.batch.{self._job.id}")

    def _text(self, index: int) -> str:
        return self._texts[index] if self._redact is None else self._redact(self._texts[index])[0]

    # -- what is recorded ------------------------------------------------------------------------------------------------

    def recorded(self) -> dict[int, Outcome]:
        """Return the rows that the batches of earlier starts answered. Rows that they did not are asked anew."""
        runs = [run for run in self._runs().values() if run.status() is RunStatus.SUCCEEDED]
        self._settled = {run.id for run in runs}
        found = (pair for run in runs for pair in self._outcomes(run))
        return {index: outcome for index, outcome in found if outcome.status != "error"}

    def _runs(self) -> dict[str, Run[Any]]:
        """Return the last run of each set of rows."""
        runs: dict[str, Run[Any]] = {}
        self._next = 0
        while (run := self._engine.find(self._flow, str(self._next))) is not None:
            payload = self._engine._row(run._run)[6]  # noqa: SLF001
            runs[bytes(payload).decode() or run.id] = run
            self._next += 1
        return runs

    def _outcomes(self, run: Run[Any]) -> Iterator[tuple[int, Outcome]]:
        found = run.result(timeout=60)
        for index, (label, *rest) in zip(_indexes(found["rows"]), found["outcomes"], strict=True):
            yield index, Outcome(None if label is None else self._job.classifier.labels[label], *rest)

    # -- carrying them out -----------------------------------------------------------------------------------------------

    def drain(self, rows: list[int]) -> Iterator[dict[int, Outcome | WorkflowError]]:
        """Ask these rows, and yield what became of them as batches end; empty ones between, to look around.

        What earlier starts have under way is waited for, and what failed goes on from the step that did.
        """
        self._engine.serve(self._flow)
        open_runs, asked = self._taken_up(set(rows))
        parts = self._parts([index for index in rows if index not in asked])
        while open_runs or parts:
            while parts and len(open_runs) < _AT_ONCE:
                part = parts.pop(0)
                key = str(self._next)
                self._next += 1
                open_runs.append((self._engine.start(self._flow, part, key=key), part))
            yield {}
            time.sleep(_LOOK_S)
            for each in [each for each in open_runs if each[0].status().is_final]:
                open_runs.remove(each)
                yield self._end_of(*each)

    def _taken_up(self, wanted: set[int]) -> tuple[list[tuple[Run[Any], _Ranges]], set[int]]:
        """Return the runs that earlier starts left open, the failed ones anew, and their rows."""
        taken: list[tuple[Run[Any], _Ranges]] = []
        asked: set[int] = set()
        for rows, run in self._runs().items():
            status = run.status()
            if run.id in self._settled or not rows.startswith("["):
                continue
            ranges: _Ranges = _codec.decode(rows.encode())
            if status.is_final and status is not RunStatus.SUCCEEDED:
                step = self._failed_step(run)
                if step is None or wanted.isdisjoint(_indexes(ranges)):
                    continue
                run = self._engine.replay(run, from_step=step, key=str(self._next))  # noqa: PLW2901
                self._next += 1
            self._look_into(run)
            taken.append((run, ranges))
            asked.update(_indexes(ranges))
        return taken, asked

    def _failed_step(self, run: Run[Any]) -> str | None:
        """Return from where a failed run goes on: the step that failed; of one that waited too long its second look."""
        entries = run.history()
        failed = [entry.name for entry in entries if entry.kind is HistoryKind.FAILED and "llm.batch." in entry.name]
        found = failed or [entry.name for entry in entries if entry.name.endswith("llm.batch.look#2")]
        return found[-1] if found else None

    def _look_into(self, run: Run[Any]) -> None:
        """Learn from a run's record which batch it waits for: it may sleep for a while yet."""
        entries = [entry for entry in run.history() if entry.kind is HistoryKind.SUCCEEDED]
        if any(entry.name.endswith("llm.batch.fetch") for entry in entries):
            return
        for entry in entries:
            if entry.name.endswith("llm.batch.create"):
                self.waiting.batches.add(entry.value)
            elif "llm.batch.look" in entry.name:
                self.waiting.looked_at = max(self.waiting.looked_at or 0.0, entry.at.timestamp())

    def _parts(self, rows: list[int]) -> list[_Ranges]:
        """Cut rows into what one batch may hold."""
        if not rows or self._classifier is None:
            return []
        api = batch_api(self._classifier, self._classifier.model_name)
        cut = BatchJob(0, "", self._classifier, api, 0).split(
            [self._text(index) for index in rows], min(_ROWS_MAX, api.requests_max)
        )
        return [_ranges(rows[begin:end]) for begin, end in cut]

    def _end_of(self, run: Run[Any], rows: _Ranges) -> dict[int, Outcome | WorkflowError]:
        try:
            return dict(self._outcomes(run))
        except WorkflowError as error:
            return dict.fromkeys(_indexes(rows), error)


def _indexes(rows: _Ranges) -> Iterator[int]:
    for begin, end in rows:
        yield from range(begin, end)


def _ranges(indexes: list[int]) -> _Ranges:
    ranges: _Ranges = []
    for index in indexes:
        if ranges and ranges[-1][1] == index:
            ranges[-1][1] += 1
        else:
            ranges.append([index, index + 1])
    return ranges


def _values(row: list[Any], places: dict[str, int]) -> list[Any]:
    """Return the fields of an Outcome, the label as its place in the taxonomy: what is recorded of a row."""
    is_answered, label, confidence, reason, tokens_in, tokens_out, cost = row
    if not is_answered:
        return [None, None, "error", "call_failed", 1, 0, 0, 0.0, reason]
    status, short = ("review", "model_answer") if label is None else ("ok", "")
    place = None if label is None else places[label]
    return [place, round(confidence, 4), status, short, 1, tokens_in, tokens_out, cost, reason]
