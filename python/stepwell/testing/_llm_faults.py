"""What the test server answers and what it spoils, as pure functions: faults, latencies, labels."""

from __future__ import annotations

import functools
import hashlib
import random
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Drawn by default. hang, the error statuses, reset, html and malformed: the request was not processed, and costs nothing.
USUAL = (
    "429", "500", "503", "reset", "slow", "malformed", "truncated", "html", "wrong_label", "refusal", "empty"
)  # fmt: skip
#: The work is done and charged; then the answer is lost, comes in part, or is not what was asked for.
PROCESSED = (
    "500_done", "reset_done", "reset_body", "trickle",
    "fenced", "cut_json", "nan", "content_filter", "unknown_tool", "two_choices", "wrong_usage",
)  # fmt: skip
#: What may happen to a stream once it has begun. A request that asks for no stream is answered as if they were not.
STREAM_KINDS = (
    "split_utf8", "stream_reset", "stream_cut", "stream_error", "stream_endless", "stream_comments", "stream_no_data",
    "stream_no_end", "stream_silent",
)  # fmt: skip
KINDS = (*USUAL, "hang", "529", "quota", "redirect", *PROCESSED, *STREAM_KINDS)
#: What GET /v1/models lists: names that say nothing, two that have a price, and those that have batches behave in a way.
_BATCHES = ("expiring", "doubtful", "unbatchable")
MODELS = ("test", "test-model", "m", "t", "gpt-4o-mini", "claude-3-5-haiku-latest", *_BATCHES)
_WORD = re.compile(r"\w+")
_LATENCY = re.compile(r"(\d+(?:\.\d+)?)(?:ms)?(?:-(\d+(?:\.\d+)?)(?:ms)?)?")


@dataclass(slots=True)
class Faults:
    """What goes wrong: `share` of the attempts, with a kind drawn by weight (default: the kinds of USUAL, evenly).

    A call (one request body) meets faults in its first `max_faults_per_call` attempts only, so retries get through in the
    end; the server stops spoiling after `max_faults` in all (0: it goes on). A 429 asks for `retry_after_s` of patience;
    a trickle sends one byte every `trickle_s`. Raises ValueError for a share or a kind that is none.
    """

    share: float = 0.0
    kinds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(USUAL, 1.0))
    max_faults_per_call: int = 3
    retry_after_s: float = 0.01
    max_faults: int = 0
    trickle_s: float = 10.0

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


@functools.lru_cache(maxsize=10_000)
def _words_of(label: str) -> frozenset[str]:
    return frozenset(_WORD.findall(label.lower()))


def predict(text: str, labels: Sequence[str]) -> tuple[str, float]:
    """Return the label and confidence that the server gives: words shared with a label's name, else a stable hash."""
    words = set(_WORD.findall(text.lower()))
    best, best_shared = "", 0
    for label in labels:
        shared = len(words & _words_of(label))
        if shared > best_shared:
            best, best_shared = label, shared
    if best_shared:
        return best, 0.9
    number = int.from_bytes(hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=4).digest(), "big")
    return labels[number % len(labels)], 0.5


def latency_range(text: str) -> tuple[float, float]:
    """Return least and most seconds of "200ms" or "200ms-1000ms". Raises ValueError."""
    found = _LATENCY.fullmatch(text)
    if found is None:
        raise ValueError(f'not a latency: {text!r}; expected "200ms" or "200ms-1000ms"')
    low, high = float(found[1]) / 1000, float(found[2] or found[1]) / 1000
    if low > high:
        raise ValueError(f"the latency {text!r} ends before it begins")
    return low, high
