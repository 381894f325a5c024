"""How long ended runs are kept. Without a policy nothing is ever deleted."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from stepwell._errors import InputError
from stepwell._types import Duration, duration_ms

if TYPE_CHECKING:
    from collections.abc import Mapping

_DAY_MS = 86_400_000
_Times = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Retention:
    """How long runs are kept after their end; None keeps them for ever.

    `finished` is for runs that succeeded, were cancelled or compensated. Failed runs and dead letters go only if `failed`
    and `dead` say so: somebody may still want to replay them. `per_workflow` names workflows with times of their own, as
    a duration (for finished runs) or as a Retention.

    A key answers for at least `keys` (24 hours or more) after its run's start. A run that goes before that loses its
    input and history, and keeps its key and result until then. Later the key starts a new run.
    """

    finished: Duration | None = None
    failed: Duration | None = None
    dead: Duration | None = None
    per_workflow: Mapping[str, Retention | Duration] = field(default_factory=dict)
    keys: Duration = "30d"

    def __post_init__(self) -> None:
        """Refuse a policy that would break a promise."""
        self.to_core()
        if duration_ms(self.keys, "Retention.keys") < _DAY_MS:
            raise InputError(
                "SW-E1110", "Retention.keys is too short", got=repr(self.keys), expected="24h or more: a key's promise"
            )
        for name, own in self.per_workflow.items():
            if isinstance(own, Retention) and (own.per_workflow or own.keys != "30d"):
                raise InputError(
                    "SW-E1110",
                    f"the retention of workflow {name!r} has keys or workflows of its own",
                    expected="only finished, failed and dead; keys are kept alike for all",
                )

    def _times(self) -> _Times:
        finished, failed, dead = (
            -1 if value is None else duration_ms(value, f"Retention.{name}")
            for name, value in (("finished", self.finished), ("failed", self.failed), ("dead", self.dead))
        )
        return finished, failed, dead

    def to_core(self) -> tuple[_Times, dict[str, _Times], int]:
        """Return the policy in the core's form; times in milliseconds, -1 for ever."""
        own = {name: retention_of(value)._times() for name, value in self.per_workflow.items()}  # noqa: SLF001
        return self._times(), own, duration_ms(self.keys, "Retention.keys")


def retention_of(value: Retention | Duration) -> Retention:
    """Turn `"30d"` into a policy for finished runs."""
    return value if isinstance(value, Retention) else Retention(finished=value)
