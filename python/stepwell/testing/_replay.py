"""Replay recorded runs against the present code, before it is deployed: no step executes, nothing is written."""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import json
import os
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stepwell import Engine, _codec
from stepwell._ends import mismatch_error
from stepwell._errors import ConflictError, InputError, NotFoundError
from stepwell._types import RunStatus, run_name
from stepwell._workflow import Workflow
from stepwell.testing._replay_activation import ReplayActivation

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_SHOWN = 5
_TEXT_MAX = 4_000
_LAST_MAX = 100_000
# A run that somebody or something else ended stops where it was: cancelled, crashed too often, over its deadline.
_ENDED_FROM_OUTSIDE = ("SW-E1006", "SW-E1008", "SW-E1017")


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A run whose history the present code does not follow. `text`: the difference, readable."""

    run_id: str
    workflow: str
    text: str


@dataclass(frozen=True, slots=True)
class ReplayReport:
    """What came of a replay. `open`: runs that have not ended, followed to where they are. `str(report)` is a table.

    `other_results`: ended runs whose steps fit, and whose result differs now: meant, or a clock in the workflow's body.
    """

    replayed: int
    ok: int
    open: int
    mismatched: tuple[Mismatch, ...]
    other_results: tuple[Mismatch, ...]

    def __str__(self) -> str:
        """Show the table and the first differences."""
        rows = [
            ("replayed", self.replayed),
            ("ok", self.ok),
            ("still open", self.open),
            ("another result", len(self.other_results)),
            ("mismatched", len(self.mismatched)),
        ]
        lines = [f"{name:<15} {count:>7}" for name, count in rows]
        for each in (*self.mismatched[:_SHOWN], *self.other_results[:_SHOWN]):
            lines += [
                "",
                f"run {each.run_id} of workflow {each.workflow!r}",
                *(f"  {x}" for x in each.text.splitlines()),
            ]
        hidden = max(0, len(self.mismatched) - _SHOWN) + max(0, len(self.other_results) - _SHOWN)
        return "\n".join([*lines, *([f"\nand {hidden} more"] if hidden else [])])


def replay(
    store: Engine | str | Path, flows: Iterable[Workflow[..., Any]], *, last: int = 1_000, workflow: str | None = None
) -> ReplayReport:
    """Run the histories of the newest `last` runs of `flows` against the present code.

    Steps, calls, waits and children answer from the history; where it ends, the function is left. So no step executes and
    nothing is written: a file is copied first (beside nobody else: SW-E1101 when it is in use). `store` may be an open
    engine, too. `workflow`: only runs of that name.

    A mismatch is code that does not ask for what was recorded, asks for more than an ended run has, or ends otherwise. Raises
    NotFoundError SW-E1403 for a file that is not there, InputError SW-E1404 when no workflow is left to look for.
    """
    known = {flow.name: flow for flow in flows if workflow in (None, flow.name)}
    if not known:
        raise InputError(
            "SW-E1404",
            "there is no workflow to replay",
            got=workflow,
            hint="pass the functions decorated with @sw.workflow",
        )
    if not 1 <= last <= _LAST_MAX:
        raise InputError("SW-E1014", "last is out of range", got=last, expected=f"1 to {_LAST_MAX}")
    with contextlib.ExitStack() as stack:
        engine = store if isinstance(store, Engine) else stack.enter_context(_copy_of(Path(store)))
        numbers = [
            (row[0], name)
            for name in known
            for row in engine._core.find(workflow=name, count_max=last)  # noqa: SLF001
        ]
        verdicts = []
        for number, name in sorted(numbers, reverse=True)[:last]:
            verdicts.append(_judge(known[name], engine._row(number, with_events=True)))  # noqa: SLF001
    kinds = [kind for kind, _ in verdicts]
    return ReplayReport(
        len(verdicts),
        kinds.count("ok"),
        kinds.count("open"),
        tuple(found for kind, found in verdicts if kind == "mismatch" and found),
        tuple(found for kind, found in verdicts if kind == "other result" and found),
    )


def workflows_of(modules: Iterable[str]) -> list[Workflow[..., Any]]:
    """Import modules (from the present folder, too) and return the workflows they hold.

    Raises InputError SW-E1404 for a module that cannot be imported.
    """
    sys.path.insert(0, "")
    found: dict[int, Workflow[..., Any]] = {}
    for name in modules:
        try:
            module = importlib.import_module(name)
        except ImportError as error:
            raise InputError(
                "SW-E1404", f"module {name!r} cannot be imported: {error}", hint="as in python -m"
            ) from error
        found |= {id(each): each for each in vars(module).values() if isinstance(each, Workflow)}
    return list(found.values())


@contextlib.contextmanager
def _copy_of(path: Path) -> Iterator[Engine]:
    """Open a copy of a store's file. Its owner's lock is held while it is copied."""
    if not path.is_file():
        raise NotFoundError("SW-E1403", "there is no such store", got=str(path))
    with tempfile.TemporaryDirectory(prefix="stepwell-replay-") as folder:
        with _locked(path):
            for name in (path.name, f"{path.name}-wal"):
                if (path.parent / name).exists():
                    shutil.copyfile(path.parent / name, Path(folder) / name)
        with Engine(Path(folder) / path.name, durability="relaxed") as engine:
            yield engine


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    lock = path.with_name(f"{path.name}.lock")
    if not lock.exists():  # a store that was copied here: nobody can have it open
        yield
        return
    fd = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise ConflictError(
            "SW-E1101",
            f"{path} is open in another engine; one engine owns a file at a time",
            hint="replay a copy or a backup of the file, or call stepwell.testing.replay(engine, ...) where it is open",
        ) from None
    finally:
        os.close(fd)


def _judge(flow: Workflow[..., Any], row: tuple[Any, ...]) -> tuple[str, Mismatch | None]:
    """Replay one row of the store: ("ok" | "open" | "mismatch" | "other result", the difference)."""
    activation = ReplayActivation(flow, row[0], row[10] or [])
    how, value = activation.drive(row[6])
    status = RunStatus(row[1])
    is_failed = status.is_final and status is not RunStatus.SUCCEEDED
    is_cut = is_failed and _codec.decode_error(row[7]).get("code") in _ENDED_FROM_OUTSIDE
    kind, text = "ok" if status.is_final else "open", ""
    unasked = activation.unasked()
    if unasked:
        kind, text = "mismatch", mismatch_error(activation, unasked, activation.new)["message"]
    elif status.is_final and not is_cut:
        kind, text = _judge_end(activation, how, value, row)
    return kind, Mismatch(run_name(row[0]), flow.name, text[:_TEXT_MAX]) if text else None


def _judge_end(activation: ReplayActivation, how: str, value: Any, row: tuple[Any, ...]) -> tuple[str, str]:
    """Compare how an ended run's code ends now: kind, and text of the difference."""
    status = RunStatus(row[1])
    ended = status.name.lower()
    if how == "open":
        asked = "\n".join(f"  {'asked, not recorded':<24} {step}" for step in activation.new)
        return "mismatch", f"the run has {ended}, and the code asks for more:\n{asked}"
    if (how == "returned") != (status is RunStatus.SUCCEEDED):
        now = f"returns {value!r}" if how == "returned" else f"raises {type(value).__name__}: {value}"
        return "mismatch", f"the run has {ended}, and now the code {now}"
    if how == "returned" and json.loads(_codec.encode(value)) != json.loads(row[7]):
        return "other result", f"recorded {json.loads(row[7])!r}\nnow      {json.loads(_codec.encode(value))!r}"
    return "ok", ""
