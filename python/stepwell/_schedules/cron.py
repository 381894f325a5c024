"""When a schedule fires: pure functions of a cron expression, a time zone and a time. All times are milliseconds of UTC.

Daylight saving follows Debian's cron (through cronsim): where neither the minute nor the hour begins with a star, a time that
the clocks jump over fires when they have jumped, and one that they pass twice fires the first time. With a star in one of
them, or with seconds, it fires by the time that really passes: not in the gap, and in both of the doubled hours.
"""

from __future__ import annotations

from collections import deque
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from cronsim import CronSim, CronSimError

from stepwell._errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from zoneinfo import ZoneInfo

# However busy the machine, a fire is on time while it is late by less than this, and by less than half the way to the next.
_LATE_MS_MAX = 60_000


def zone(name: str) -> ZoneInfo:
    """Return a time zone by its name. Raises InputError SW-E1031."""
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, TypeError, OSError):  # ZoneInfoNotFoundError is a KeyError
        raise InputError(
            "SW-E1031",
            "unknown time zone",
            got=repr(name)[:80],
            expected='a name such as "Europe/Berlin" or "UTC"',
            hint="on a system without time zones: pip install tzdata",
        ) from None


class Cron:
    """A cron expression of five fields, or of six with seconds first, in a time zone."""

    def __init__(self, expression: str, tz: str) -> None:
        self.expression = expression
        self.zone = zone(tz)
        try:
            next(CronSim(expression, datetime(2024, 1, 1, tzinfo=UTC)))
        except StopIteration:
            raise _bad(expression, "it never fires") from None
        except (CronSimError, AssertionError, AttributeError, TypeError, ValueError) as error:
            raise _bad(expression, str(error) or "it cannot be read") from None

    def after(self, at: int) -> Iterator[int]:
        """Give the fires later than `at`, in order; none for ever only for one that ends within fifty years."""
        latest = at
        for when in CronSim(self.expression, self._local(at)):
            fire = int(when.timestamp()) * 1000
            if fire > latest:  # in a doubled hour cronsim comes by again
                latest = fire
                yield fire

    def next(self, at: int) -> int | None:
        """Return the first fire later than `at`."""
        return next(self.after(at), None)

    def last(self, after: int, until: int, count_max: int) -> list[int]:
        """Return the last fires later than `after` and not later than `until`, in order; quick however many there were."""
        begin = after
        back = CronSim(self.expression, self._local(until + 1_000), reverse=True)
        for count, when in enumerate(back):
            if int(when.timestamp()) * 1000 <= after:
                break
            # Two further than need be: what counts is the way forward.
            if count > count_max + 1:
                begin = max(after, int(when.timestamp()) * 1000 - 1)
                break
        fires: deque[int] = deque(maxlen=count_max)
        for fire in self.after(begin):
            if fire > until:
                break
            fires.append(fire)
        return list(fires)

    def due(self, at: int, now: int, missed: str, missed_max: int) -> tuple[list[int], int | None]:
        """Return the fires to make at `now`, when those from `at` on are due, and the next one.

        `missed`: "skip" makes only the last one and only if it is on time, "one" the last one for all, "all" the last
        `missed_max` of them.
        """
        now = max(now, at)
        following = self.next(now)
        fires = self.last(at - 1, now, missed_max if missed == "all" else 1)
        if missed == "skip" and fires:
            way = _LATE_MS_MAX if following is None else (following - fires[0]) // 2
            if now - fires[0] > min(_LATE_MS_MAX, way):
                fires = []
        return fires, following

    def _local(self, at: int) -> datetime:
        return datetime.fromtimestamp(at // 1000, self.zone)


def _bad(expression: object, why: str) -> InputError:
    return InputError(
        "SW-E1030",
        f"not a usable cron expression: {why}",
        got=repr(expression)[:80],
        expected='"minute hour day-of-month month day-of-week" such as "*/5 * * * *", or six fields with the second first',
    )


def iso(at: int) -> str:
    """Return a fire time as its key names it: UTC, to the second."""
    return datetime.fromtimestamp(at // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
