"""Small public values: durations, retry policies, run statuses."""

from __future__ import annotations

import enum
import functools
import math
import re
from dataclasses import dataclass
from datetime import timedelta

from stepwell._errors import InputError

_UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_RUN_DIGITS = re.compile(r"[0-9a-f]{1,16}")
_DURATION_MS_MAX = 1_000_000 * _UNITS_MS["d"]  # a sum with any time of the calendar still fits 64 bits
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")

Duration = str | timedelta


def duration_ms(value: Duration, what: str = "duration") -> int:
    """Turn `"30s"`, `"5m"`, `"1h30m"` or a timedelta into whole milliseconds.

    Raises InputError SW-E1010 for anything else: negative, zero and more than a million days included.
    """
    if isinstance(value, timedelta):
        ms = int(value.total_seconds() * 1000)
    elif isinstance(value, str) and len(value) < 80 and _DURATION.sub("", value.strip()) == "" and value.strip():
        ms = int(sum(float(number) * _UNITS_MS[unit] for number, unit in _DURATION.findall(value)))
    else:
        ms = 0
    if not 0 < ms <= _DURATION_MS_MAX:
        raise InputError(
            "SW-E1010",
            f"{what} is not a positive duration",
            got=repr(value)[:80],
            expected='a string such as "30s", "5m", "1h30m", "250ms", or a timedelta; a million days at most',
        )
    return ms


def is_count(value: object, most: int, *, least: int = 1) -> bool:
    """Whether `value` is a whole number in a range; True, "10" and 1.0 are none."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def check_text(value: object, what: str, *, least: int = 1) -> None:
    """Raise InputError SW-E1202 for what is no text of at most 255 bytes."""
    try:
        is_text = isinstance(value, str) and least <= len(value.encode()) <= 255
    except UnicodeEncodeError:
        is_text = False
    if not is_text:
        raise InputError(
            "SW-E1202", f"not a usable {what}", got=repr(value)[:80], expected=f"{least} to 255 characters"
        )


def wait_s(timeout: float | None) -> float | None:
    """Return how long to wait in seconds, None for ever. Raises InputError SW-E1010 for text, NaN and the like."""
    if timeout is None or timeout == math.inf:
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not timeout == timeout:  # noqa: PLR0124 - NaN
        raise InputError(
            "SW-E1010",
            "timeout is not a number of seconds",
            got=repr(timeout)[:80],
            expected="30, 0.5, or None: for ever",
        )
    return min(max(timeout, 0.0), _DURATION_MS_MAX / 1000)


@dataclass(frozen=True, slots=True)
class Retry:
    """When a failed attempt is tried again. Delays are drawn from 0 to min(cap, base * 2^n) (full jitter).

    A step is retried on any exception but those in `give_up_on`; a call by the kind of its failure.

    `hedge`: a call's request that has no answer after so long is sent once more beside itself, if limits, breaker and the
    share of retries leave room; the first good answer is taken, the other one given up. Both carry one Idempotency-Key. A
    provider that minds none charges both, so calls that a budget pays for are not hedged, nor are streams. Steps cannot be.
    """

    max_attempts: int = 3
    base: Duration = "500ms"
    cap: Duration = "30s"
    max_elapsed: Duration = "10m"
    give_up_on: tuple[type[BaseException], ...] = ()
    hedge: Duration | None = None

    def __post_init__(self) -> None:
        """Refuse a policy that could never run."""
        if not is_count(self.max_attempts, 1000):
            raise InputError(
                "SW-E1011", "Retry.max_attempts is out of range", got=repr(self.max_attempts), expected="1 to 1000"
            )
        self.to_core()

    def to_core(self) -> tuple[int, int, int, int, int]:
        """Return the policy in the core's form: attempts, base, cap, elapsed and hedge (0: none) in milliseconds."""
        return _retry_core(self.max_attempts, self.base, self.cap, self.max_elapsed, self.hedge)


@functools.lru_cache(maxsize=256)
def _retry_core(
    max_attempts: int, base: Duration, cap: Duration, max_elapsed: Duration, hedge: Duration | None
) -> tuple[int, int, int, int, int]:
    return (
        max_attempts,
        duration_ms(base, "Retry.base"),
        duration_ms(cap, "Retry.cap"),
        duration_ms(max_elapsed, "Retry.max_elapsed"),
        0 if hedge is None else duration_ms(hedge, "Retry.hedge"),
    )


class RunStatus(enum.IntEnum):
    """Where a run stands. SUCCEEDED, FAILED, CANCELLED, DEAD and COMPENSATED are final. The numbers are those of the core."""

    QUEUED = 0
    RUNNING = 1
    SUCCEEDED = 2
    FAILED = 3
    CANCELLED = 4
    DEAD = 5
    WAITING = 6
    PAUSED = 7
    COMPENSATED = 8

    @property
    def is_final(self) -> bool:
        """Whether the run has ended."""
        return self not in (RunStatus.QUEUED, RunStatus.RUNNING, RunStatus.WAITING, RunStatus.PAUSED)


@dataclass(slots=True)
class HttpAnswer:
    """An answer to a plain request: status, body, and headers as lines "name: value" (names in lower case)."""

    status: int
    body: bytes
    header_lines: bytes

    def header(self, name: str) -> str | None:
        """Return one header's value (the first of several), None when it did not come. Faster than `headers`."""
        lines, wanted = b"\n" + self.header_lines, f"\n{name.lower()}: ".encode()
        at = lines.find(wanted)
        if at < 0:
            return None
        begin = at + len(wanted)
        return lines[begin : lines.index(b"\n", begin)].decode("utf-8", "replace")

    @property
    def header_pairs(self) -> list[tuple[str, str]]:
        """The headers as they came, those with one name too."""
        lines = self.header_lines.decode("utf-8", "replace").split("\n")
        return [(name, value) for name, _, value in (line.partition(": ") for line in lines if line)]

    @property
    def headers(self) -> dict[str, str]:
        """The headers by name; of several with one name the last."""
        return dict(self.header_pairs)


def run_name(run: int) -> str:
    """Return a run id as people see it."""
    return f"r_{run:x}"


def run_number(name: str) -> int:
    """Return the run id that `run_name` has made a name of; 0 for what is no such name."""
    digits = name.removeprefix("r_")
    number = int(digits, 16) if name.startswith("r_") and _RUN_DIGITS.fullmatch(digits) else 0
    return number if number < 1 << 63 else 0
