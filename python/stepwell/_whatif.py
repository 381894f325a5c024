"""What if another model, or another prompt, had answered? Recorded runs are looked at anew from their LLM calls on.

    report = sw.whatif("support.db", triage, model="anthropic:claude-sonnet-4-5", last=100, live=True, out="whatif.jsonl")
    print(report)

The workflow runs again over a copy of the store: what it recorded answers it, but for the LLM calls that are asked
differently. No step executes and nothing is written to the store. Where the new answer leads to what was never
recorded, the run is left.
"""

from __future__ import annotations

import contextlib
import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from stepwell import _codec
from stepwell._activation import LaidAside
from stepwell._errors import InputError, LlmError, RunError, WorkflowError
from stepwell._queues import check_concurrency
from stepwell._types import RunStatus, run_name
from stepwell._whatif_rows import RowFile, WhatIf, WhatIfRow
from stepwell._workflow import current_activation
from stepwell.llm._asking import current_change, usage_in
from stepwell.llm._cache import Cache, Shelf, current_keeper
from stepwell.llm._policies import said_by
from stepwell.testing._replay import _copy_of
from stepwell.testing._replay_activation import ReplayActivation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stepwell._engine import Engine
    from stepwell._workflow import Workflow
    from stepwell.llm._policies import AnyModel

_LAST_MAX = 100_000
_STEP = re.compile(r"(?:.*/)?(llm\.(?:classify|chat|extract))(?:#\d+)?")
# Which argument of a call its prompt is.
_PROMPTS = {"llm.classify": "prompt", "llm.chat": "system", "llm.extract": "instructions"}


def whatif(
    store: Engine | str | Path,
    flow: Workflow[..., Any],
    *,
    step: str = "llm.classify",
    model: AnyModel | None = None,
    prompt: str | None = None,
    answer: Callable[[Any, dict[str, Any]], Any] | None = None,
    last: int = 100,
    live: bool = False,
    base_url: str | None = None,
    api_key: str | None = None,
    concurrency: int = 8,
    out: str | Path | None = None,
) -> WhatIf:
    """Look at the newest `last` ended runs of `flow` as if their LLM calls named `step` had been asked differently.

    `step`: a kind of call (llm.classify, llm.chat, llm.extract: all of a run), or one by its whole name ("llm.chat#2").
    `model` (a policy, too) and `prompt` take the place of the call's own; `prompt` is that of classify, the system message of
    chat, the instructions of extract.

    No call leaves the process unless `live`. In the sandbox the new answer is that of `answer(what, settings)`, a function of
    what was asked (it returns a label, or a whole answer), or of the local model, or an answer of the store's cache to the
    very same request; without one the run is left, and its row is "unanswered". A live call is made outside of the store.

    `out` (.jsonl or .csv) gets each row as soon as its run is done; the same settings again go on from there. Raises
    InputError SW-E2159, NotFoundError SW-E1403, ConflictError SW-E1101 when another engine has the file open.
    """
    check_concurrency(concurrency)
    kind = _STEP.fullmatch(step)
    if kind is None or (model is None and prompt is None and answer is None) or not 1 <= last <= _LAST_MAX:
        raise InputError(
            "SW-E2159", "nothing to look at", got=f"step={step!r}, model={model!r}, prompt={prompt!r}, last={last}"[:300],
            expected=f"an LLM call as step, a model, prompt or answer, last from 1 to {_LAST_MAX}",
        )  # fmt: skip
    settings = json.dumps([flow.name, step, repr(model), prompt, live, base_url, getattr(answer, "__name__", None)])
    file = None if out is None else RowFile(Path(out), settings)
    with contextlib.ExitStack() as stack:
        from stepwell._engine import Engine

        engine = store if isinstance(store, Engine) else stack.enter_context(_copy_of(Path(store)))
        kept = Shelf(engine._worker)  # noqa: SLF001
        rows = engine._core.find(workflow=flow.name, count_max=last)  # noqa: SLF001
        numbers = [row[0] for row in rows if RunStatus(row[1]).is_final and row[6]]
        if not numbers:
            raise InputError(
                "SW-E2159", f"workflow {flow.name!r} has no ended runs in this store", hint="stepwell runs STORE"
            )

        def look(number: int) -> list[WhatIfRow]:
            if file is not None and run_name(number) in file.known:
                return file.known[run_name(number)]
            change = Change(
                step, kind[1], model, prompt, answer, kept, settings, live=live, base_url=base_url, api_key=api_key
            )
            found = _look(flow, engine._row(number, with_events=True), change)  # noqa: SLF001
            if file is not None:
                file.add(run_name(number), found)
            return found

        with ThreadPoolExecutor(concurrency) as pool:
            found = list(pool.map(look, numbers))
    return WhatIf(tuple(row for each in found for row in each), len(numbers), sum(not each for each in found))


def _look(flow: Workflow[..., Any], row: tuple[Any, ...], change: Change) -> list[WhatIfRow]:
    """Run one recorded run again, and say how its calls would be answered."""
    activation = _Activation(flow, row[0], row[10] or [])
    activation.change = change
    change.activation = activation
    how, value = activation.drive(row[6])
    if change.problem is not None:
        raise change.problem
    then: Literal["same", "another", "left", "raised"] = "left"
    if how == "returned":
        is_same = row[1] == RunStatus.SUCCEEDED and json.loads(_codec.encode(value)) == json.loads(row[7])
        then = "same" if is_same or not any(each.changed for each in change.rows) else "another"
    elif how == "raised":
        then = "raised"
    for each in change.rows:
        each.run_then = then
    return change.rows


class _Activation(ReplayActivation):
    __slots__ = ("change",)

    change: Change

    def drive(self, payload: bytes) -> tuple[str, Any]:
        token = current_change.set(self.change)
        try:
            return super().drive(payload)
        finally:
            current_change.reset(token)

    async def _body(self, payload: bytes) -> tuple[str, Any]:
        current_change.set(self.change)  # an async workflow is driven in a thread of its own
        return await super()._body(payload)


class _UnansweredError(Exception):
    """Nobody in the sandbox knows the answer."""


class _OnlyKept:
    """Stands in a cache's place: whatever it does not hold is not asked."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    def find(self, request: tuple[Any, ...]) -> bytes:
        found = self._shelf.find(Cache().digest(request), 0)
        if found is None:
            raise _UnansweredError
        return found

    async def afind(self, request: tuple[Any, ...]) -> bytes:
        return self.find(request)

    def note(self, name: str, request: tuple[Any, ...], answer: tuple[bytes, int]) -> None:
        """Nothing is kept here."""


class Change:
    """How the calls of one run are asked differently, and what came of them."""

    def __init__(
        self,
        step: str,
        kind: str,
        model: AnyModel | None,
        prompt: str | None,
        answer: Callable[[Any, dict[str, Any]], Any] | None,
        kept: Shelf,
        settings: str,
        *,
        live: bool,
        base_url: str | None,
        api_key: str | None,
    ) -> None:
        self._step, self._kind, self._answer, self._live = step, kind, answer, live
        self._settings, self._kept = settings, kept
        self._more: dict[str, Any] = {} if prompt is None else {_PROMPTS[kind]: prompt}
        if model is not None:
            self._more |= {"model": model, "base_url": base_url}
            self._more["api_key"] = api_key if live else (api_key or "none-is-needed")
        self.activation: Any = None
        self.rows: list[WhatIfRow] = []
        self.problem: WorkflowError | None = None

    def is_for(self, name: str) -> bool:
        """Whether a call of that kind is asked differently where the run stands."""
        return name == self._kind and self._step in (name, self._place(name))

    def _place(self, name: str) -> str:
        """Return the name that the next call will have, without giving it one."""
        known = dict(self.activation.occurrences)
        place: str = self.activation.identify(name)
        self.activation.occurrences = known
        return place

    async def ask(self, call: Callable[..., Any], kwargs: dict[str, Any]) -> Any:
        """Return the new answer to an async call, once the recorded one is known."""
        with self._as_recorded():
            place = self._place(self._kind)
            before, error = None, ""
            try:
                before = await call(**kwargs)
            except WorkflowError as failed:
                error = failed.code
            row = self._row(place, before, error)
            if self._answer is not None:
                return self._heard(row, before, self._given(call, kwargs))
            with self._elsewhere(row):
                return self._heard(row, before, await call(**self._settings_of(kwargs)))

    def ask_blocking(self, call: Callable[..., Any], kwargs: dict[str, Any]) -> Any:
        """Do the same in plain code."""
        with self._as_recorded():
            place = self._place(self._kind)
            before, error = None, ""
            try:
                before = call(**kwargs)
            except WorkflowError as failed:
                error = failed.code
            row = self._row(place, before, error)
            if self._answer is not None:
                return self._heard(row, before, self._given(call, kwargs))
            with self._elsewhere(row):
                return self._heard(row, before, call(**self._settings_of(kwargs)))

    @contextlib.contextmanager
    def _as_recorded(self) -> Iterator[None]:
        token = current_change.set(None)
        try:
            yield
        finally:
            current_change.reset(token)

    @contextlib.contextmanager
    def _elsewhere(self, row: WhatIfRow) -> Iterator[None]:
        """Be outside of the run; without leave to call, nothing but what is kept here answers."""
        outside = current_activation.set(None)
        keeper: Any = None if self._live else _OnlyKept(self._kept)
        kept = current_keeper.set(keeper)
        began = time.monotonic()
        try:
            yield
        except _UnansweredError:
            row.status = "unanswered"
            raise LaidAside from None
        except RunError as error:
            row.status, row.after = "failed", f"{error.error.get('code', error.code)}"
            raise LaidAside from None
        except LlmError as error:
            row.status, row.after = "failed", error.code
            raise LaidAside from None
        except WorkflowError as error:  # a setting of the what-if itself: no run can be looked at with it
            self.problem = error
            raise LaidAside from None
        finally:
            row.seconds_after = round(time.monotonic() - began, 6)
            current_keeper.reset(kept)
            current_activation.reset(outside)

    def _settings_of(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in kwargs.items() if name != "cache"} | self._more

    def _row(self, place: str, before: Any, error: str) -> WhatIfRow:
        events = [
            event for event in self.activation.history.values() if event[2] == place or event[2].startswith(f"{place}/")
        ]
        row = WhatIfRow(
            run_name(self.activation.run), place, self._settings, error if before is None else _word(before),
            usd_before=None if before is None else usage_in(before).cost_usd,
            seconds_before=sum(max(0, event[5]) for event in events) / 1000,
        )  # fmt: skip
        self.rows.append(row)
        return row

    def _given(self, call: Any, kwargs: dict[str, Any]) -> Any:
        assert self._answer is not None  # noqa: S101 - asked only with one
        found = self._answer(call.args[0], kwargs)
        if self._kind != "llm.classify" or not isinstance(found, str):
            return found
        from stepwell.llm._classify import Classification

        is_known = found in kwargs["labels"]
        reason = "" if is_known else f"the label {found[:60]!r} is not in the taxonomy"
        return Classification(
            found if is_known else None, 1.0, "ok" if is_known else "review", reason, 0, 0, 0.0, "given"
        )

    def _heard(self, row: WhatIfRow, before: Any, after: Any) -> Any:
        row.after = _word(after)
        row.status = "review" if getattr(after, "status", "ok") == "review" else "ok"
        row.changed = before is None or row.after != row.before
        row.usd_after = usage_in(after).cost_usd
        return after


def _word(answer: Any) -> str:
    """Return what tells one answer from another: the label ("" for review), the value, the text."""
    if hasattr(answer, "label"):
        return answer.label or ""
    value = getattr(answer, "value", None)
    return said_by(answer) if value is None or isinstance(value, str) else _codec.encode(value).decode()
