"""What goes wrong and when: a seeded plan, decided by the request and its attempt, never by the order of arrival."""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import asdict, dataclass, field, fields
from hashlib import blake2b
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Every kind of fault. `hang` is the only one that is not in the default mix, since each costs the client its timeout.
KINDS = (
    "429",  # too many requests, with Retry-After
    "500",  # server error
    "503",  # overloaded
    "reset",  # the connection is reset before the first byte
    "reset_mid",  # ... and in the middle of the answer
    "hang",  # no answer ever
    "slow",  # the right answer, in drops
    "malformed",  # status 200, not JSON
    "truncated",  # status 200, JSON cut off, with the length of what is left
    "html",  # status 200, a web page
    "wrong_label",  # a label that is not in the taxonomy
    "refusal",  # the model refuses: `refusal` is set, `content` is null
    "empty",  # the content is ""
    "length",  # the content is cut off, finish_reason "length"
)
_DRAW_MAX = 1 << 32


def _default_kinds() -> dict[str, float]:
    return {kind: 1.0 for kind in KINDS if kind != "hang"}


@dataclass(frozen=True, slots=True)
class Faults:
    """How many of the calls go wrong, and how.

    `share`: 0 to 1 of all attempts. `kinds`: weights by name (see KINDS); the default is an even mix of all but "hang".
    An attempt that went wrong may be followed by another one, until `max_faults_per_call` of one call went wrong.

    `retry_after`: seconds that a 429 asks for, written as "decimal" (0.05), as "integer" (rounded up to 1) or as "ms"
    (retry-after-ms: 50, beside the integer). `hang`: seconds until a hanging connection is closed, 0 for never.
    `slow`: seconds over which a slow answer drops in.
    """

    share: float = 0.0
    kinds: Mapping[str, float] = field(default_factory=_default_kinds)
    max_faults_per_call: int = 3
    retry_after: float = 0.05
    retry_after_form: Literal["decimal", "integer", "ms"] = "decimal"
    hang: float = 0.0
    slow: float = 0.2

    def __post_init__(self) -> None:
        """Refuse what cannot be drawn from."""
        if not 0 <= self.share <= 1:
            raise ValueError(f"faults: share is a number from 0 to 1, not {self.share!r}")
        unknown = sorted(set(self.kinds) - set(KINDS))
        if unknown:
            raise ValueError(f"faults: unknown kind {unknown[0]!r}; there are {', '.join(KINDS)}")
        if any(weight < 0 for weight in self.kinds.values()) or (self.share > 0 and not sum(self.kinds.values()) > 0):
            raise ValueError("faults: weights are not negative, and one of them is above 0")
        if self.retry_after_form not in ("decimal", "integer", "ms"):
            raise ValueError(f"faults: retry_after_form is decimal, integer or ms, not {self.retry_after_form!r}")
        if min(self.max_faults_per_call, self.retry_after, self.hang, self.slow) < 0:
            raise ValueError("faults: counts and seconds are not negative")

    def to_json(self) -> dict[str, Any]:
        """Return the plan as it goes over the wire."""
        return asdict(self)

    @staticmethod
    def from_json(plan: object) -> Faults:
        """Read a plan from parsed JSON. Raises ValueError that names what is wrong."""
        if not isinstance(plan, dict):
            raise ValueError("faults: expected a JSON object")  # noqa: TRY004 - callers expect one type
        unknown = sorted(set(plan) - {known.name for known in fields(Faults)})
        if unknown:
            raise ValueError(f"faults: unknown setting {unknown[0]!r}")
        try:
            return Faults(**plan)
        except (TypeError, AttributeError):
            raise ValueError("faults: a setting has the wrong type") from None


class FaultPlan:
    """Faults and latency, ready to be drawn from."""

    __slots__ = ("_bounds", "_key", "_kinds", "_threshold", "faults", "is_active", "latency")

    def __init__(self, faults: Faults, seed: int, latency: tuple[float, float]) -> None:
        self.faults = faults
        self.latency = latency
        self._key = f"{seed}|"
        kinds = [(kind, weight) for kind, weight in faults.kinds.items() if weight > 0]
        self._kinds = [kind for kind, _ in kinds]
        total = sum(weight for _, weight in kinds) or 1.0
        self._bounds = [bound / total * _DRAW_MAX for bound in accumulate(weight for _, weight in kinds)]
        self._threshold = faults.share * _DRAW_MAX
        #: False when every draw gives no fault and no delay, so that the fast path need not draw.
        self.is_active = faults.share > 0 or latency[1] > 0

    def draw(self, fingerprint: str, attempt: int, faults_before: int) -> tuple[str, float]:
        """Return the kind of fault ("" for none) and the seconds to wait, the same for the same arguments and seed."""
        text = f"{self._key}{fingerprint}|{attempt}"
        digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=12).digest()
        low, high = self.latency
        delay = low + (high - low) * int.from_bytes(digest[8:], "big") / _DRAW_MAX
        if int.from_bytes(digest[:4], "big") >= self._threshold or faults_before >= self.faults.max_faults_per_call:
            return "", delay
        place = bisect_right(self._bounds, int.from_bytes(digest[4:8], "big"))
        return self._kinds[min(place, len(self._kinds) - 1)], delay


def parse_latency(text: str) -> tuple[float, float]:
    """Read "200ms", "1.5s" or "200ms-1000ms" as seconds from and to. Raises ValueError for anything else."""
    match = re.fullmatch(r"\s*([\d.]+)\s*(ms|s)?\s*(?:-\s*([\d.]+)\s*(ms|s)\s*)?", text)
    try:
        if match is None:
            raise ValueError
        last_unit = match[4] or match[2]
        if last_unit is None:
            raise ValueError
        low = float(match[1]) / (1000 if (match[2] or last_unit) == "ms" else 1)
        high = low if match[3] is None else float(match[3]) / (1000 if last_unit == "ms" else 1)
    except ValueError:
        raise ValueError(f'latency is written "200ms", "1.5s" or "200ms-1000ms", not {text!r}') from None
    if high < low:
        raise ValueError(f"latency: {text!r} ends before it begins")
    return low, high
