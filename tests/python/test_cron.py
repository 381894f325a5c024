"""When cron expressions fire: over the changes of the clocks, after a time away, and which are refused."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile

import pytest

import stepwell as sw
from stepwell._schedules.cron import Cron, iso

HOUR = 3_600_000


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp()) * 1000


def fires(expression: str, tz: str, after: str, count: int) -> list[str]:
    return [iso(at) for at in islice(Cron(expression, tz).after(ms(after)), count)]


# Where a night has no 02:30 it fires at 03:00; where it has two, the first time.
BERLIN_GAP = ["2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]
BERLIN_TWICE = ["2026-10-24T00:30:00Z", "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]
YORK_GAP = ["2026-03-07T07:30:00Z", "2026-03-08T07:00:00Z", "2026-03-09T06:30:00Z"]
YORK_TWICE = ["2026-10-31T05:30:00Z", "2026-11-01T05:30:00Z", "2026-11-02T06:30:00Z"]


@pytest.mark.parametrize(
    ("expression", "tz", "after", "expected"),
    [
        ("30 2 * * *", "Europe/Berlin", "2026-03-27T12:00:00Z", BERLIN_GAP),
        ("30 2 * * *", "Europe/Berlin", "2026-10-23T12:00:00Z", BERLIN_TWICE),
        ("30 2 * * *", "America/New_York", "2026-03-06T12:00:00Z", YORK_GAP),
        ("30 1 * * *", "America/New_York", "2026-10-30T12:00:00Z", YORK_TWICE),
        # A star in the hour: by the time that passes, in both of the doubled hours and not in the gap.
        (
            "30 * * * *",
            "Europe/Berlin",
            "2026-10-24T23:40:00Z",
            ["2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z", "2026-10-25T02:30:00Z"],
        ),
        (
            "30 * * * *",
            "America/New_York",
            "2026-03-08T06:00:00Z",
            ["2026-03-08T06:30:00Z", "2026-03-08T07:30:00Z"],
        ),
        ("*/20 * * * * *", "UTC", "2026-01-01T00:00:01Z", ["2026-01-01T00:00:20Z", "2026-01-01T00:00:40Z"]),
        ("0 9 * * MON-FRI", "Europe/Berlin", "2026-11-20T09:00:00Z", ["2026-11-23T08:00:00Z"]),
        ("0 0 L * *", "UTC", "2028-02-01T00:00:00Z", ["2028-02-29T00:00:00Z"]),
    ],
)
def test_fires(expression: str, tz: str, after: str, expected: list[str]) -> None:
    assert fires(expression, tz, after, len(expected)) == expected


@pytest.mark.parametrize("tz", ["Europe/Berlin", "America/New_York", "UTC", "Australia/Lord_Howe"])
@pytest.mark.parametrize("expression", ["15,45 2 * * *", "*/7 * * * *", "0 */2 * * *", "5 1-3 * * *", "10 * * * * *"])
def test_the_last_fires_are_those_of_the_way_forward(tz: str, expression: str) -> None:
    draw = random.Random(f"{tz} {expression}")
    cron = Cron(expression, tz)
    changes = [
        ms("2026-03-29T00:30:00Z"),
        ms("2026-10-25T00:30:00Z"),
        ms("2026-03-08T07:00:00Z"),
        ms("2026-11-01T06:00:00Z"),
    ]
    for _ in range(12):
        begin = draw.choice(changes) + draw.randint(-6 * HOUR, 2 * HOUR)
        until = begin + draw.randint(0, 30 * HOUR if expression.count(" ") == 4 else HOUR)
        forward = list(takewhile(lambda at, until=until: at <= until, cron.after(begin)))
        assert forward == sorted(set(forward))
        for count in (1, 2, 5, 10_000):
            assert cron.last(begin, until, count) == forward[-count:]


def test_a_time_away() -> None:
    cron = Cron("0 * * * *", "UTC")
    first, now, late = ms("2026-01-01T01:00:00Z"), ms("2026-01-01T05:00:20Z"), ms("2026-01-01T05:30:00Z")
    hours = [first + n * HOUR for n in range(5)]
    following = hours[-1] + HOUR
    assert cron.due(first, now, "skip", 100) == (hours[-1:], following), "twenty seconds late is on time"
    assert cron.due(first, late, "skip", 100) == ([], following)
    assert cron.due(first, late, "one", 100) == (hours[-1:], following)
    assert cron.due(first, late, "all", 100) == (hours, following)
    assert cron.due(first, late, "all", 3) == (hours[-3:], following)
    assert cron.due(first, first - 5_000, "skip", 100) == ([first], first + HOUR), "a clock set back loses no fire"
    seconds = Cron("* * * * * *", "UTC")
    assert seconds.due(first, first + 400, "skip", 100) == ([first], first + 1_000)
    assert seconds.due(first, first + 600, "skip", 100) == ([], first + 1_000)


def test_a_million_missed_fires_are_not_counted_out() -> None:
    now = ms("2026-01-01T00:00:00Z")
    fires, following = Cron("* * * * * *", "Europe/Berlin").due(now - 10**9, now, "all", 100)
    assert fires == [now - n * 1_000 for n in range(100)][::-1]
    assert following == now + 1_000


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "* * * *",
        "* * * * * * *",
        "61 * * * *",
        "* 25 * * *",
        "x * * * *",
        "*/0 * * * *",
        "0 0 31 2 *",
        "@daily",
        "5-1 * * * *",
    ],
)
def test_bad_expressions(expression: str) -> None:
    with pytest.raises(sw.InputError, match="SW-E1030") as caught:
        Cron(expression, "UTC")
    assert "expected" in str(caught.value)


@pytest.mark.parametrize("tz", ["", "Europe/Atlantis", "../../etc/passwd", "/etc/localtime", "CEST+1 "])
def test_unknown_zones(tz: str) -> None:
    with pytest.raises(sw.InputError, match="SW-E1031"):
        Cron("* * * * *", tz)


def test_fires_begin_after_now() -> None:
    now = datetime.now(UTC)
    at = Cron("* * * * *", "Asia/Kathmandu").next(int(now.timestamp() * 1000))
    assert at is not None
    assert now < datetime.fromtimestamp(at / 1000, UTC) <= now + timedelta(minutes=1)
