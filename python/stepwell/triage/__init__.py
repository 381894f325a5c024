"""Ticket triage: a table in, the same table with labels out, durably.

    frame = sw.triage(frame, labels=["Billing", "Technical", "General"], model="local")

The module is callable: `sw.triage(...)` and `sw.triage.Report` are both fine.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import IO, TYPE_CHECKING, Any, Literal

from stepwell.triage._types import Outcome

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stepwell._types import Duration
    from stepwell.llm._policies import AnyModel
    from stepwell.llm._redact import Redact
    from stepwell.triage._job import Triage
    from stepwell.triage._report import Report  # noqa: TC004 - loaded when it is asked for

__all__ = ["Outcome", "Report", "triage", "triage_table"]


def triage_table(  # noqa: PLR0913 - a job has that many sides
    source: Any,
    *,
    labels: str | Sequence[str],
    model: AnyModel = "local",
    base_url: str | None = None,
    api_key: str | None = None,
    text_columns: Sequence[str] | None = None,
    gold: str | None = None,
    id_column: str | None = None,
    store: str | Path | None = Path(".stepwell") / "triage.db",
    concurrency: int = 200,
    redact: Redact | None = None,
    mode: Literal["live", "batch"] = "live",
    pause: Duration = "15s",
    quiet: bool = False,
    stream: IO[str] | None = None,
) -> Triage:
    """Label every row of a file or frame; return table, outcomes and report.

    What an earlier start of the same job recorded (same content, labels, model) is not called again; `store=None` keeps
    nothing. `model` may be a policy; `redact`: what is replaced before a call (see stepwell.llm). `mode="batch"`: by the
    provider's batch API, half the price within 24 hours; `pause`: until the second look at a batch, later ones grow.
    Raises InputError and LlmError (SW-E21xx, SW-E22xx) before any call; a row that cannot be sent is marked.
    """
    from stepwell.triage import _job

    job = _job.prepare(
        source,
        labels=labels,
        model=model,
        base_url=base_url,
        api_key=api_key,
        text_columns=text_columns,
        gold=gold,
        id_column=id_column,
        store=store,
        concurrency=concurrency,
        redact=redact,
        mode=mode,
        pause=pause,
    )
    return _job.run(job, stream=stream, quiet=quiet)


def triage(source: Any, *, labels: str | Sequence[str], **options: Any) -> Any:
    """Label every row and return the caller's kind of frame with the outcome's columns (options: `triage_table`)."""
    return triage_table(source, labels=labels, **options).frame()


class _CallableModule(ModuleType):
    def __getattr__(self, name: str) -> Any:
        """Load the report's part when it is asked for: a job needs it last."""
        if name == "Report":
            from stepwell.triage._report import Report

            return Report
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")

    def __call__(self, source: Any, *, labels: str | Sequence[str], **options: Any) -> Any:
        """Do what `triage.triage` does."""
        return triage(source, labels=labels, **options)


sys.modules[__name__].__class__ = _CallableModule
