"""Seeded faults for an engine under test."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from stepwell._errors import InputError

if TYPE_CHECKING:
    from stepwell._step_context import StepContext
    from stepwell._workflow import Step

_SEED_VARIABLE = "STEPWELL_TEST_SEED"


class InjectedError(Exception):
    """What a step of a test engine raised because its faults wanted it."""


def _draw_seed() -> int:
    given = os.environ.get(_SEED_VARIABLE, "")
    return int(given) if given.isdigit() else random.SystemRandom().randrange(1, 1 << 31)


@dataclass(frozen=True, slots=True)
class Faults:
    """What goes wrong in an engine under test, as shares from 0 to 1.

    `slow_commit`: the store rests for up to 20 ms. `busy`: a start or a signal is refused with BusyError SW-E1003 and was not
    taken. `step_error`: an attempt of a step raises InjectedError, half of them before the step's code and half after it;
    only attempts that the step's retry policy lets be tried again, so a workflow that retries ends as it would without.

    The same seed gives the same faults in the same order of events; without one a fresh seed is drawn (or taken from
    $STEPWELL_TEST_SEED), and a failing test prints it.
    """

    seed: int = field(default_factory=_draw_seed)
    slow_commit: float = 0.0
    busy: float = 0.0
    step_error: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what could only be a mistake."""
        for name in ("slow_commit", "busy", "step_error"):
            share = getattr(self, name)
            if not 0 <= share <= 1:
                raise InputError("SW-E1402", f"Faults.{name} is a share", got=share, expected="0 to 1")

    def draw(self, step: Step[..., Any], context: StepContext, run: int) -> str:
        """Return where an attempt raises: "before" or "after" the step's code, "" for nowhere. `run`: which one, from 0."""
        if context.attempt >= step.retry.max_attempts:
            return ""
        chance = random.Random(f"{self.seed}/{run}/{context.name}/{context.attempt}")  # noqa: S311 - reproducible
        return chance.choice(("before", "after")) if chance.random() < self.step_error else ""

    @property
    def reminder(self) -> str:
        """How to run the same again."""
        return f"stepwell faults: {self!r}; run it again with {_SEED_VARIABLE}={self.seed}, or Faults(seed={self.seed}, ...)"
