"""The main job: every row of a table through a classifier, durably, with progress; resumable at any moment."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from stepwell._engine import Engine
from stepwell._errors import StepFailed, WorkflowError
from stepwell._types import Duration, RunStatus, duration_ms
from stepwell._workflow import Workflow
from stepwell.llm._classify import AnyClassifier, Classification, Classifier
from stepwell.triage._by_batch import ByBatch, check_mode
from stepwell.triage._labels import parse_labels
from stepwell.triage._preflight import check_model
from stepwell.triage._progress import Progress, choose_renderer
from stepwell.triage._read import Table, open_table
from stepwell.triage._types import Outcome
from stepwell.triage._write import Lines, check_output, to_native, write_results

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from stepwell.llm._batch_job import Waiting
    from stepwell.llm._policies import AnyModel
    from stepwell.llm._redact import Redact
    from stepwell.triage._report import Report

DEFAULT_STORE = Path(".stepwell") / "triage.db"
_REFRESH_S = 0.1
_FIRST_LOOK_S = 0.15


@dataclass(slots=True)
class Triage:
    """A finished job: the table, an outcome for each of its rows in order, and the report on both."""

    table: Table
    outcomes: list[Outcome]
    report: Report
    progress: Progress
    #: Where results and report were written, if they were.
    out: Path | None = None
    page: Path | None = None

    def frame(self) -> Any:
        """Return the caller's kind of frame with the outcome's columns added."""
        return to_native(self.table, self.outcomes)


@dataclass(slots=True)
class Job:
    """What to do, checked: nothing here has cost anything yet."""

    table: Table
    classifier: Classifier | AnyClassifier
    base_url: str | None
    store: str | Path | None
    concurrency: int
    durability: str
    mode: str = "live"
    #: In mode "batch": how long until the second look at a batch.
    pause: Duration = "15s"
    outcomes: list[Outcome | None] = field(default_factory=list)
    lines: Lines | None = None

    @property
    def id(self) -> str:
        """What makes it the same job: the table's content, its text columns, the labels, the model and its server."""
        parts = (
            self.table.fingerprint,
            *self.table.text_columns,
            *self.classifier.labels,
            self.classifier.model_name,
            self.base_url or "",
            *(() if isinstance(self.classifier, Classifier) else (repr(self.classifier.redact),)),
        )
        return hashlib.blake2b("\x1f".join(parts).encode(), digest_size=9).hexdigest()


def prepare(  # noqa: PLR0913 - as triage_table
    source: Any,
    *,
    labels: str | Sequence[str],
    model: AnyModel,
    base_url: str | None = None,
    api_key: str | None = None,
    text_columns: Sequence[str] | None = None,
    gold: str | None = None,
    id_column: str | None = None,
    out: str | Path | None = None,
    store: str | Path | None = DEFAULT_STORE,
    concurrency: int = 200,
    durability: str = "full",
    redact: Redact | None = None,
    mode: str = "live",
    pause: Duration = "15s",
) -> Job:
    """Check everything that can be checked before a call is paid for. Raises coded errors (SW-E21xx, SW-E22xx)."""
    check_mode(mode, model, base_url)
    duration_ms(pause, "pause")
    names = parse_labels(labels)
    if out is not None:
        check_output(out, source)
    settings: dict[str, Any] = {"base_url": base_url, "api_key": api_key}
    is_plain = isinstance(model, str) and redact is None
    made = Classifier if is_plain else functools.partial(AnyClassifier, redact=redact)
    classifier: Classifier | AnyClassifier = made(names, model=model, **settings)  # type: ignore[arg-type]
    table = open_table(source, text_columns=text_columns, gold=gold, id_column=id_column)
    return Job(table, classifier, base_url, store, concurrency, durability, mode, pause)


def run(
    job: Job,
    *,
    stream: IO[str] | None = None,
    quiet: bool = False,
    out: str | Path | None = None,
    page: str | Path | None = None,
) -> Triage:
    """Do the job, write results and report where `out` and `page` say, and return all of it.

    Ctrl-C stops it cleanly; the same job again goes on where it was.
    """
    job.outcomes = [None] * len(job.table)
    job.lines = Lines(out, job.table) if out is not None else None
    for index, problem in job.table.row_errors.items():
        job.outcomes[index] = problem.outcome()
    renderer = choose_renderer(stream, quiet=quiet)
    with Engine(job.store, durability=job.durability, calls_per_host=job.concurrency) as engine:
        for each in job.classifier.remote:
            check_model(engine, each)
        batches = ByBatch(job, engine)
        meter = _Meter(job, engine, batches.waiting)
        try:
            for index, outcome in batches.recorded().items():
                _settle(job, meter, index, outcome, is_recorded=True)
            if job.mode == "batch":
                _drain_batches(job, engine, batches, meter, renderer)
            else:
                _drain(job, engine, meter, renderer)
        finally:
            progress = meter.progress()
            renderer.close(progress)
        with _closing(engine):
            return _finish(job, progress, out, page)


@contextlib.contextmanager
def _closing(engine: Engine) -> Iterator[None]:
    """Close the engine beside the block: every row is recorded, so that nobody waits for the store's last checkpoint."""
    closing = threading.Thread(target=engine.close, name="stepwell-close")
    closing.start()
    try:
        yield
    finally:
        closing.join()


def _finish(job: Job, progress: Progress, out: str | Path | None, page: str | Path | None) -> Triage:
    from stepwell.triage._report import build_report

    outcomes = [outcome for outcome in job.outcomes if outcome is not None]
    about = {"model": job.classifier.model_name, "rows a second": f"{progress.rate:,.0f}"}
    if job.mode == "batch":
        about["mode"] = "batch"
    report = build_report(job.table, outcomes, labels=job.classifier.labels, about=about)
    return Triage(
        job.table,
        outcomes,
        report,
        progress,
        write_results(out, job.table, outcomes, job.lines) if out is not None else None,
        report.save_html(page) if page is not None else None,
    )


def _load_meanwhile(job: Job) -> None:
    """Load what is needed later, while the first answers are on their way."""
    import stepwell.triage._report  # noqa: F401

    job.classifier.load_prices()


def _open_rows(job: Job) -> list[int]:
    return [index for index, outcome in enumerate(job.outcomes) if outcome is None]


def _settle(job: Job, meter: _Meter, index: int, outcome: Outcome, *, is_recorded: bool) -> None:
    """Take in what became of a row; a row whose outcome is known keeps it."""
    if job.outcomes[index] is None:
        job.outcomes[index] = outcome
        meter.count(outcome, is_recorded=is_recorded)


def _drain_batches(job: Job, engine: Engine, batches: ByBatch, meter: _Meter, renderer: Any) -> None:
    """Ask the rows that no earlier start has answers to, live ones included, by batch."""
    for index, outcome in _answered_live(job, engine):
        _settle(job, meter, index, outcome, is_recorded=True)
    renderer.update(meter.progress())
    _load_meanwhile(job)
    for ended in batches.drain(_open_rows(job)):
        for index, end in ended.items():
            _settle(job, meter, index, end if isinstance(end, Outcome) else _failed(end), is_recorded=False)
        if ended and job.lines is not None:
            job.lines.add(job.outcomes)
        renderer.update(meter.progress())


def _answered_live(job: Job, engine: Engine) -> Iterator[tuple[int, Outcome]]:
    """Yield the rows that an earlier start of this job had answered by live calls, which go in the order of the rows."""
    flow, is_first = _flow_of(job), True
    for index in range(len(job.table)):
        if index in job.table.row_errors:
            continue
        run = engine.find(flow, f"{job.id}:{index}")
        if run is None and is_first:
            return
        is_first = False
        for number in itertools.count(1):
            if run is None or run.status() is RunStatus.SUCCEEDED:
                break
            run = engine.find(flow, f"{job.id}:{index}:{number}")
        if run is not None:
            yield index, Outcome(*(run.result(timeout=60) or ()))


def _drain(job: Job, engine: Engine, meter: _Meter, renderer: Any) -> None:
    """Send every row. One that an earlier start gave up is tried anew: whoever starts the job again means it."""
    rows = _open_rows(job)
    for number in itertools.count():
        rows = _drain_rows(job, engine, meter, renderer, rows, "" if number == 0 else f":{number}")
        if not rows:
            return


def _drain_rows(job: Job, engine: Engine, meter: _Meter, renderer: Any, rows: list[int], suffix: str) -> list[int]:
    """Send these rows and return those that an earlier start had given up under the same key."""
    texts = job.table.texts
    # The engine bounds the calls in flight. Some more rows are under way, so that a call can start the moment another one
    # ends and need not wait until that one's row is written down.
    rows_at_once = job.concurrency if job.classifier.is_local else job.concurrency + job.concurrency // 4 + 8
    batch = engine.map(
        _flow_of(job),
        ([index, texts[index]] for index in rows),
        key=lambda item: f"{job.id}:{item[0]}{suffix}",
        concurrency=rows_at_once,
        name=job.id,
    )
    given_up: list[int] = []
    try:
        renderer.update(meter.progress())
        items = batch.take(timeout=_FIRST_LOOK_S)
        _load_meanwhile(job)
        while items is not None:
            for item in items:
                if item.error is not None and item.is_recorded:
                    given_up.append(rows[item.index])
                    continue
                outcome = _failed(item.error) if item.error is not None else Outcome(*(item.value or ()))
                job.outcomes[rows[item.index]] = outcome
                meter.count(outcome, is_recorded=item.is_recorded)
            if job.lines is not None:
                job.lines.add(job.outcomes)
            renderer.update(meter.progress())
            items = batch.take(timeout=_REFRESH_S)
    finally:
        batch.stop()
    return sorted(given_up)


def _flow_of(job: Job) -> Workflow[..., Any]:
    classifier = job.classifier

    async def triage_remote(row: list[Any]) -> list[Any]:
        return _values(await classifier.classify(row[1]))

    if not isinstance(classifier, Classifier) or not classifier.is_local:
        return Workflow(triage_remote, name="stepwell.triage")
    local = classifier

    def triage_local(row: list[Any]) -> list[Any]:
        return _values(local.classify_local(row[1]))

    return Workflow(triage_local, name="stepwell.triage")


def _values(answer: Classification) -> list[Any]:
    """Return the fields of an Outcome: what is recorded of a row, and what comes back after a crash."""
    reason = "" if answer.status == "ok" else "model_answer"
    return [
        answer.label,
        round(answer.confidence, 4),
        answer.status,
        reason,
        answer.attempts,
        answer.tokens_in,
        answer.tokens_out,
        answer.cost_usd,
        answer.reason,
    ]


def _failed(error: WorkflowError) -> Outcome:
    attempts = (
        error.error.get("attempts", 1)
        if isinstance(error, StepFailed)
        else getattr(error, "error", {}).get("attempts", 1)
    )
    return Outcome(None, None, "error", "call_failed", attempts=int(attempts), error=f"{error.code} {error.message}")


class _Meter:
    """Counts outcomes into a Progress."""

    def __init__(self, job: Job, engine: Engine, waiting: Waiting) -> None:
        self._engine = engine
        self._waiting = waiting
        self._total = len(job.table)
        self._began = time.monotonic()
        self._finished = len(job.table.row_errors)
        self._marked = self._finished
        self._resumed = self._review = self._dead = self._tokens_in = self._tokens_out = 0
        self._cost = 0.0
        self._retries = 0
        self._retries_at = 0.0
        self._down_s: float | None = None
        for problem in job.table.row_errors.values():
            self._review += problem.status == "review"
            self._dead += problem.status == "error"

    def count(self, outcome: Outcome, *, is_recorded: bool) -> None:
        """Take one outcome in."""
        self._finished += 1
        self._resumed += is_recorded
        self._review += outcome.status == "review"
        self._dead += outcome.status == "error"
        self._tokens_in += outcome.tokens_in
        self._tokens_out += outcome.tokens_out
        self._cost += outcome.cost_usd

    def progress(self) -> Progress:
        """Return this moment."""
        elapsed = time.monotonic() - self._began
        done_now = self._finished - self._resumed - self._marked
        rate = done_now / elapsed if elapsed > 0 else 0.0
        left = self._total - self._finished
        looked_at = self._waiting.looked_at
        if elapsed - self._retries_at > _REFRESH_S:
            self._retries, self._retries_at = self._engine.counters().get("retries", 0), elapsed
            open_until = [each.open_until for each in self._engine.circuits().values() if each.open_until is not None]
            self._down_s = max(max(open_until) - time.time(), 0.0) if open_until else None
        return Progress(
            finished=self._finished,
            total=self._total,
            rate=rate,
            eta_s=left / rate if rate > 0 else None,
            cost_usd=self._cost,
            tokens_in=self._tokens_in,
            tokens_out=self._tokens_out,
            retries=self._retries,
            review=self._review,
            dead=self._dead,
            elapsed_s=elapsed,
            resumed=self._resumed,
            down_s=self._down_s,
            batches=len(self._waiting.batches),
            looked_s=None if looked_at is None else max(time.time() - looked_at, 0.0),
        )
