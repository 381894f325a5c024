"""What the outside world saw of a workflow under test, and which attempts of its steps were made."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stepwell._workflow import current_activation, current_step

if TYPE_CHECKING:
    from stepwell._step_context import StepContext


@dataclass(frozen=True, slots=True)
class Attempt:
    """One execution of a step's code. `life` counts the processes, from 1: a crash begins a new one."""

    run: int
    step: str
    attempt: int
    key: str
    life: int


@dataclass(frozen=True, slots=True)
class Effect:
    """Something that the outside world saw. `step` is "" when a workflow did it outside of a step."""

    name: str
    detail: Any
    key: str | None
    step: str
    in_body: bool
    life: int

    @property
    def label(self) -> str:
        """What it is counted as."""
        return self.name if self.detail is None else f"{self.name} {self.detail!r}"


class Journal:
    """The outside world of a test: let your fakes note what they are asked to do, and count it afterwards.

    `journal.note("charge", order, key=sw.step_key())` stands for a service that knows a repeated request by its key: the
    second one with a key is recorded and not counted. Without a key each one counts. Any thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._life = 1
        #: Everything noted, in order.
        self.effects: list[Effect] = []
        #: Every attempt of a step, in order; of engines that were given this journal.
        self.attempts: list[Attempt] = []

    def note(self, effect: str, detail: Any = None, *, key: str | None = None) -> None:
        """Record that `effect` was asked for. `detail` should have a stable repr; `key` is its idempotency key."""
        step = current_step.get()
        in_body = step is None and current_activation.get() is not None
        with self._lock:
            self.effects.append(Effect(effect, detail, key, step.name if step else "", in_body, self._life))

    def counts(self) -> Counter[str]:
        """Return how often each effect happened, by "name detail": those with one key once."""
        seen: set[tuple[str, str]] = set()
        counts: Counter[str] = Counter()
        with self._lock:
            for effect in self.effects:
                if effect.key is not None:
                    if (effect.name, effect.key) in seen:
                        continue
                    seen.add((effect.name, effect.key))
                counts[effect.label] += 1
        return counts

    def count(self, effect: str) -> int:
        """Return how often an effect happened, whatever its detail."""
        return sum(count for name, count in self.counts().items() if name == effect or name.startswith(f"{effect} "))

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self.effects.clear()
            self.attempts.clear()
            self._life = 1

    def next_life(self) -> None:
        """Count what follows to another process."""
        with self._lock:
            self._life += 1

    def enter_attempt(self, context: StepContext) -> None:
        """Record an attempt. Called by the engine."""
        with self._lock:
            self.attempts.append(Attempt(context.run, context.name, context.attempt, context.key, self._life))
