"""What the test server answers and what it spoils, as pure functions: faults, latencies, labels."""

from __future__ import annotations

import hashlib
import random
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Sequence

KINDS = (
    "429", "500", "503", "reset", "hang", "slow", "malformed", "truncated", "html", "wrong_label", "refusal", "empty"
)  # fmt: skip
#: What GET /v1/models lists.
MODELS = ("test", "test-model", "m", "t")
_WORD = re.compile(r"\w+")
_FENCED = re.compile(r"<untrusted_text>\n(.*)\n</untrusted_text>", re.DOTALL)
_LATENCY = re.compile(r"(\d+(?:\.\d+)?)(?:ms)?(?:-(\d+(?:\.\d+)?)(?:ms)?)?")


@dataclass(slots=True)
class Faults:
    """What goes wrong: `share` of the attempts, with a kind drawn by weight (default: all but hang, evenly).

    A call (one request body) meets faults in its first `max_faults_per_call` attempts only, so retries get through in the
    end. A 429 asks for `retry_after_s` of patience. Raises ValueError for a share or a kind that is none.
    """

    share: float = 0.0
    kinds: dict[str, float] = field(default_factory=lambda: {kind: 1.0 for kind in KINDS if kind != "hang"})
    max_faults_per_call: int = 3
    retry_after_s: float = 0.01

    known: ClassVar[tuple[str, ...]] = KINDS

    def __post_init__(self) -> None:
        """Refuse what could only be a mistake."""
        if not 0 <= self.share <= 1:
            raise ValueError(f"a share of {self.share}; expected 0 to 1")
        if unknown := set(self.kinds) - set(self.known):
            raise ValueError(f"unknown kinds of faults: {sorted(unknown)}; known are {', '.join(self.known)}")
        if self.share and not sum(self.kinds.values()) > 0:
            raise ValueError("a share of faults, and no kind with a weight")

    def draw(self, seed: int, fingerprint: str, attempt: int) -> str:
        """Return the fault of one attempt, "" for none."""
        if self.share <= 0 or attempt > self.max_faults_per_call:
            return ""
        chance = random.Random(f"{seed}/{fingerprint}/{attempt}")  # noqa: S311 - reproducible on purpose
        if chance.random() >= self.share:
            return ""
        return chance.choices(list(self.kinds), list(self.kinds.values()))[0]


def predict(text: str, labels: Sequence[str]) -> tuple[str, float]:
    """Return the label and confidence that the server gives: words shared with a label's name, else a stable hash."""
    words = set(_WORD.findall(text.lower()))
    best, best_shared = "", 0
    for label in labels:
        shared = len(words.intersection(_WORD.findall(label.lower())))
        if shared > best_shared:
            best, best_shared = label, shared
    if best_shared:
        return best, 0.9
    number = int.from_bytes(hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=4).digest(), "big")
    return labels[number % len(labels)], 0.5


def unfenced(text: str) -> str:
    """Return the text that `sw.llm.untrusted` has fenced; any other text as it is."""
    found = _FENCED.fullmatch(text)
    return found[1] if found else text


def latency_range(text: str) -> tuple[float, float]:
    """Return least and most seconds of "200ms" or "200ms-1000ms". Raises ValueError."""
    found = _LATENCY.fullmatch(text)
    if found is None:
        raise ValueError(f'not a latency: {text!r}; expected "200ms" or "200ms-1000ms"')
    low, high = float(found[1]) / 1000, float(found[2] or found[1]) / 1000
    if low > high:
        raise ValueError(f"the latency {text!r} ends before it begins")
    return low, high
