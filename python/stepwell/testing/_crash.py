"""Crash a user's workflow at every commit, and see that it ends as if nothing had happened."""

from __future__ import annotations

import contextlib
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stepwell import _codec
from stepwell._errors import ClosedError, ConflictError, WaitTimeout
from stepwell._types import RunStatus
from stepwell.testing._clock import Cut
from stepwell.testing._crash_report import Crash, CrashFound, CrashReport, Outcome
from stepwell.testing._engine import Engine
from stepwell.testing._guard import Guard
from stepwell.testing._journal import Journal

if TYPE_CHECKING:
    from collections.abc import Callable

    from stepwell._workflow import Workflow

Signals = Mapping[str, Any] | Iterable[tuple[str, Any]]

_KEY = "crash_everywhere"
# EventKind of the core: a step succeeded, a step failed for good.
_FINAL_EVENTS = (1, 2)
_OTHERS_MAX = 10_000


def crash_everywhere(
    flow: Workflow[..., Any],
    value: Any = None,
    *,
    check: Callable[[Outcome], object] | None = None,
    journal: Journal | None = None,
    signals: Signals = (),
    workflows: Iterable[Workflow[..., Any]] = (),
    commits_max: int = 1_000,
    raises: bool = True,
) -> CrashReport:
    """Run `flow` once, then crash it at each of its commits, twice: the commit lost, and kept but never acknowledged.

    After each crash the store is opened again, as a new process would, and the run is driven to its end; sleeps take no time.
    Each end must equal the undisturbed one, or satisfy `check` (by returning True or None; it may assert). What `journal` has
    noted must have happened as often as without a crash. Also found: effects and clocks in the body of a workflow, steps that
    ran again after they were recorded, runs that never end.

    `signals`: what the run is sent, by name (or pairs, in order). `workflows`: further ones that the store's runs need.
    Raises CrashFound (an AssertionError that shows the report), unless `raises=False`; in any case ValueError for a workflow
    that makes more than `commits_max` commits.
    """
    world = _World(flow, value, check, journal or Journal(), list(_pairs(signals)), list(workflows))
    with tempfile.TemporaryDirectory(prefix="stepwell-crash-") as folder:
        commits, expected, first = world.undisturbed(Path(folder) / "0.db")
        if commits > commits_max:
            raise ValueError(f"workflow {flow.name!r} makes {commits} commits; at most {commits_max} are crashed at")
        crashes = [first]
        for commit in range(1, commits + 1 if expected.status.is_final else 1):
            for kept in (False, True):
                store = Path(folder) / f"{commit}{'k' if kept else 'l'}.db"
                crashes.append(world.crashed(store, commit, expected, kept=kept))
                for path in Path(folder).glob(f"{store.name}*"):
                    path.unlink()
    report = CrashReport(flow.name, commits, expected, tuple(crashes))
    if raises and not report.ok:
        raise CrashFound(report)
    return report


def _pairs(signals: Signals) -> Iterable[tuple[str, Any]]:
    return signals.items() if isinstance(signals, Mapping) else signals


class _World:
    """What all crashes of one workflow share."""

    def __init__(
        self,
        flow: Workflow[..., Any],
        value: Any,
        check: Callable[[Outcome], object] | None,
        journal: Journal,
        signals: list[tuple[str, Any]],
        workflows: list[Workflow[..., Any]],
    ) -> None:
        self.flow = flow
        self.value = value
        self.check = check
        self.journal = journal
        self.signals = signals
        #: Effects outside of steps: found once, without a crash.
        self._in_bodies: set[str] = set()
        self.flows = {each.name: each for each in [*workflows, flow]}

    def undisturbed(self, store: Path) -> tuple[int, Outcome, Crash]:
        """Run once without a crash; return the number of commits, the outcome, and what was found."""
        self.journal.clear()
        with Guard() as guard, self._engine(store) as engine:
            run = self._drive(engine)
            outcome, findings = self._outcome(engine, run)
            commits = engine.clock.commit_count
            self.flows.update(engine._worker.flows)  # noqa: SLF001 - children and the like: served from the start next time
        findings += [*guard.found, *self._effects_in_bodies()]
        findings += self._checked(outcome)
        return commits, outcome, Crash(0, kept=True, outcome=outcome, findings=tuple(findings))

    def crashed(self, store: Path, commit: int, expected: Outcome, *, kept: bool) -> Crash:
        """Crash once, open the store again, and return what was found."""
        self.journal.clear()
        accepted = False
        engine = self._engine(store, cut=(commit, kept))
        try:
            accepted = self._drive(engine) > 0
        except (Cut, ClosedError):
            accepted = self._was_accepted
        finally:
            ahead_ms = engine.clock.ahead_ms
            engine.cut()
        self.journal.next_life()
        with self._engine(store, ahead_ms=ahead_ms) as engine:
            recorded = self._recorded(engine)
            findings = [] if recorded is not None or not accepted else ["the run was accepted, and is gone"]
            run = self._drive(engine)
            outcome, wrong = self._outcome(engine, run)
        findings += wrong
        findings += self._ran_again(recorded or set())
        if outcome.status.is_final:  # what an unfinished run has not done needs no words
            findings += self._differences(outcome, expected)
        return Crash(commit, kept, outcome, tuple(dict.fromkeys(findings)))

    # -- driving --------------------------------------------------------------------------------------------------------

    def _engine(self, store: Path, *, cut: tuple[int, bool] = (0, False), ahead_ms: int = 0) -> Engine:
        return Engine(store, auto=False, journal=self.journal, _ahead_ms=ahead_ms, _cut=cut)

    def _drive(self, engine: Engine) -> int:
        """Start the run, or attach to it, send what it waits for, and let everything happen; return its number."""
        self._was_accepted = False
        for flow in self.flows.values():
            engine.serve(flow)
        run = engine.start(self.flow, self.value, key=_KEY)
        self._was_accepted = True
        for number, (name, value) in enumerate(self.signals):
            with contextlib.suppress(ConflictError):  # it has ended
                run.signal(name, value, key=f"{_KEY}-{number}")
        with contextlib.suppress(WaitTimeout):  # it shows in the outcome
            engine.clock.run_until_quiet()
        return run._run  # noqa: SLF001

    def _recorded(self, engine: Engine) -> set[str] | None:
        """Return the steps that the crashed process had recorded; None when the run is not there."""
        rows = engine._core.find(workflow=self.flow.name, key=_KEY, with_events=True)  # noqa: SLF001
        return {event[2] for event in rows[0][10] or [] if event[0] in _FINAL_EVENTS} if rows else None

    # -- judging --------------------------------------------------------------------------------------------------------

    def _outcome(self, engine: Engine, run: int) -> tuple[Outcome, list[str]]:
        row = engine._row(run, with_events=True)  # noqa: SLF001
        status = RunStatus(row[1])
        others: Counter[str] = Counter()
        for name in engine._worker.flows:  # noqa: SLF001
            for other in engine._core.find(workflow=name, count_max=_OTHERS_MAX):  # noqa: SLF001
                if other[0] != run:
                    others[f"{name} {RunStatus(other[1]).name.lower()}"] += 1
        if status is RunStatus.SUCCEEDED:
            return Outcome(status, _codec.decode(row[7]), {}, self.journal.counts(), others), []
        error = _codec.decode_error(row[7]) if row[7] else _last_words(row)
        outcome = Outcome(status, None, error, self.journal.counts(), others)
        return outcome, [] if status.is_final else [f"the run did not end: it is {outcome}"]

    def _checked(self, outcome: Outcome) -> list[str]:
        if self.check is None:
            return []
        try:
            verdict = self.check(outcome)
        except AssertionError as error:
            return [f"check refused the outcome ({outcome}): {error}"]
        return [] if verdict is None or verdict else [f"check refused the outcome: {outcome}"]

    def _differences(self, outcome: Outcome, expected: Outcome) -> list[str]:
        findings = self._checked(outcome)
        if self.check is None and not outcome.same_end(expected):
            findings.append(f"expected: {expected}\nseen:     {outcome}")
        if outcome.others != expected.others:
            findings.append(f"other runs: expected {dict(expected.others)}, seen {dict(outcome.others)}")
        for name in sorted({*outcome.effects, *expected.effects} - self._in_bodies):
            seen, wanted = outcome.effects[name], expected.effects[name]
            if seen > wanted:
                hint = "give the service sw.step_key() as the idempotency key, so that it knows a repeated request"
                findings.append(f"effect {name} happened {seen} times instead of {wanted}: {hint}")
            elif seen < wanted:
                findings.append(f"effect {name} happened {seen} times instead of {wanted}: it was lost")
        return findings

    def _effects_in_bodies(self) -> list[str]:
        self._in_bodies = {effect.label for effect in self.journal.effects if effect.in_body}
        names = dict.fromkeys(effect.name for effect in self.journal.effects if effect.in_body)
        return [f"effect {name} outside of a step: a replay repeats it; put it into a @sw.step" for name in names]

    def _ran_again(self, recorded: set[str]) -> list[str]:
        run = min((each.run for each in self.journal.attempts), default=0)
        findings = []
        keys: dict[tuple[int, str], str] = {}
        for each in self.journal.attempts:
            if each.life > 1 and each.run == run and each.step in recorded:
                findings.append(f"step {each.step!r} was recorded before the crash and ran again after it")
            if keys.setdefault((each.run, each.step), each.key) != each.key:
                findings.append(f"step {each.step!r} was repeated with another key")
        return findings


def _last_words(row: tuple[Any, ...]) -> dict[str, Any]:
    """Return why a run rests: the difference that paused it, or what it waits for."""
    for event in reversed(row[10] or []):
        error = _codec.decode_error(event[3]) if event[3].startswith(b"{") else {}
        if error.get("code") == "SW-E2008":
            return error
    steps = [event[2] for event in row[10] or [] if event[0] in _FINAL_EVENTS]
    done = f"after {', '.join(repr(step) for step in steps[-3:])}" if steps else "nothing was recorded"
    return {"message": f"nobody sends what it waits for ({done})"}
