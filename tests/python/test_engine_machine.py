"""The engine against a model: starts, keys, signals, pauses, cancels, limits and restarts in any order (hypothesis)."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

import stepwell as sw

KEYS = st.sampled_from(["k1", "k2", "k3", "k4"])
TOPICS = ("first", "second")


@sw.step
async def note(text: str) -> str:
    return f"noted {text}"


@sw.workflow
async def listens(n: int) -> list[str]:
    """Take one signal of each topic, and record a step for each."""
    heard = [await note(f"{n} {await sw.wait_for_signal(topic, returns=int)}") for topic in TOPICS]
    await sw.sleep("1ms")
    return heard


@dataclass
class Known:
    """What the model knows of a run."""

    id: str
    n: int
    heard: dict[str, list[int]] = field(default_factory=lambda: {topic: [] for topic in TOPICS})
    sent_keys: set[tuple[str, str]] = field(default_factory=set)
    is_paused: bool = False
    is_cancelled: bool = False

    @property
    def can_end(self) -> bool:
        return not self.is_paused and not self.is_cancelled and all(self.heard.values())

    @property
    def result(self) -> list[str]:
        return [f"noted {self.n} {self.heard[topic][0]}" for topic in TOPICS]


class EngineMachine(RuleBasedStateMachine):
    """Every call does to the model what it should do to the engine."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.runs: dict[str, Known] = {}
        self.engine = self.open()

    def open(self) -> sw.Engine:
        return sw.Engine(Path(self.folder.name) / "s.db", durability="relaxed", workflows=[listens])

    def run_of(self, key: str) -> sw.Run[list[str]]:
        run = self.engine.find(listens, key)
        assert run is not None
        assert run.id == self.runs[key].id
        return run

    @rule(key=KEYS, n=st.integers(0, 2), group=st.sampled_from(["", "a", "b"]))
    def start(self, key: str, n: int, group: str) -> None:
        known = self.runs.get(key)
        if known is not None and known.n != n:
            with pytest.raises(sw.ConflictError, match="SW-E1201"):
                self.engine.start(listens, n, key=key)
            return
        run = self.engine.start(listens, n, key=key, group=group)
        assert run.is_new == (known is None)
        if known is None:
            self.runs[key] = Known(run.id, n)
        else:
            assert run.id == known.id

    @precondition(lambda self: self.runs)
    @rule(data=st.data(), topic=st.sampled_from(TOPICS), value=st.integers(0, 9), once=st.sampled_from(["", "x"]))
    def signal(self, data: st.DataObject, topic: str, value: int, once: str) -> None:
        key = data.draw(st.sampled_from(sorted(self.runs)))
        known = self.runs[key]
        if known.can_end or known.is_cancelled:
            return  # it may have ended meanwhile
        self.run_of(key).signal(topic, value, key=once)
        if once and (topic, once) in known.sent_keys:
            return
        known.sent_keys.add((topic, once))
        known.heard[topic].append(value)

    @precondition(lambda self: self.runs)
    @rule(data=st.data(), is_pause=st.booleans())
    def pause_or_resume(self, data: st.DataObject, *, is_pause: bool) -> None:
        key = data.draw(st.sampled_from(sorted(self.runs)))
        known = self.runs[key]
        if known.can_end or known.is_cancelled:
            return
        run = self.run_of(key)
        (run.pause if is_pause else run.resume)()
        known.is_paused = is_pause

    @precondition(lambda self: self.runs)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.runs)))
        known = self.runs[key]
        if known.can_end:
            assert self.run_of(key).result(20) == known.result
        self.run_of(key).cancel()
        known.is_cancelled = known.is_cancelled or not known.can_end

    @rule(limit=st.sampled_from([None, 1, 2]), fair=st.booleans())
    def limit(self, limit: int | None, *, fair: bool) -> None:
        self.engine.queue(listens, concurrency=limit, per_group=limit, fair=fair)

    @rule(is_patient=st.booleans())
    def reopen(self, *, is_patient: bool) -> None:
        self.engine.close(5.0 if is_patient else 0.0)
        self.engine = self.open()

    @invariant()
    def ended_ones_have_their_results(self) -> None:
        for key, known in self.runs.items():
            status = self.run_of(key).status()
            if status == sw.RunStatus.SUCCEEDED:
                assert known.can_end, f"{key} ended without having heard all"
            if known.is_cancelled:
                assert status == sw.RunStatus.CANCELLED

    def teardown(self) -> None:
        try:
            for key, known in self.runs.items():
                run = self.run_of(key)
                if known.is_cancelled:
                    with pytest.raises(sw.RunCancelled):
                        run.result(20)
                    continue
                for topic in TOPICS:
                    if not known.heard[topic]:
                        run.signal(topic, 5)
                        known.heard[topic].append(5)
                if known.is_paused:
                    run.resume()
                assert run.result(20) == known.result
                steps = [entry.name for entry in run.history() if entry.name.startswith("note")]
                assert sorted(steps) == ["note", "note#2"], "each step was recorded once"
        finally:
            self.engine.close(0.0)
            self.folder.cleanup()


TestEngineMachine = EngineMachine.TestCase
TestEngineMachine.settings = settings(
    max_examples=25,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
