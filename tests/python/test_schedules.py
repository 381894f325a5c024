"""Schedules on both stores: what fires when, once; what was missed; pauses, triggers, backfills, changes."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from flows import made, make, until

import stepwell as sw

if TYPE_CHECKING:
    from pathlib import Path

EVERY_SECOND = "* * * * * *"
HOUR = 3_600_000


@sw.workflow
async def ticks(tick: sw.Tick) -> str:
    assert tick.scheduled_at <= tick.fired_at
    await make(f"{tick.name} {tick.scheduled_at:%Y-%m-%dT%H:%M:%SZ}")
    return tick.name


@sw.workflow
async def writes(value: Any) -> Any:
    await make(json.dumps(value))
    return value


@pytest.fixture(autouse=True)
def _nothing_made() -> None:
    made.clear()


def hourly() -> tuple[str, int]:
    """Return a cron expression that fires once an hour, and its last fire, half an hour ago."""
    last = int(time.time()) // 60 * 60_000 - HOUR // 2
    return f"{last // 60_000 % 60} * * * *", last


def leave_behind(engine: sw.Engine, name: str, cron: str, first_at: int, **other: Any) -> None:
    """Put a schedule into the store whose first fire is long due, as a process leaves it that died right after."""
    body = {
        "workflow": "ticks",
        "version": "",
        "queue": "ticks",
        "priority": 0,
        "cron": cron,
        "tz": "UTC",
        "input": "null",
        "takes_tick": True,
        "sla": [],
        "missed": "skip",
        "max_missed": 100,
        "paused": False,
        "generation": "g1",
        "first_at": first_at,
    }
    engine._core.keep("schedule", name, 0, json.dumps(body | other).encode())


def firings(engine: sw.Engine) -> list[dict[str, Any]]:
    """Return what the ended "stepwell.schedule" runs recorded, newest first."""
    rows = engine._core.find(workflow="stepwell.schedule", count_max=1000)
    return [json.loads(row[7]) for row in rows if row[1] == sw.RunStatus.SUCCEEDED]


def next_firing_ends(engine: sw.Engine) -> dict[str, Any]:
    until(lambda: len(firings(engine)) > 0)
    return firings(engine)[0]


# -- firing ----------------------------------------------------------------------------------------------------------


def test_it_fires_each_second_once(engine: sw.Engine) -> None:
    engine.apply_schedules([sw.Schedule("s", ticks, EVERY_SECOND, missed="all")])
    until(lambda: len(made) >= 3)
    engine.schedule("s").pause()
    times = [datetime.fromisoformat(entry.split()[1]) for entry in made]
    assert times == [times[0] + timedelta(seconds=n) for n in range(len(times))]
    found = engine.find(ticks, f"s@{made[0].split()[1]}")
    assert found is not None
    assert found.result(20) == "s"
    until(lambda: engine.schedule("s").last_fire is not None)
    for row in engine._core.find(workflow="stepwell.schedule", count_max=100, with_events=True):
        assert len(row[10] or []) <= 1, "no history grows"


def test_value_queue_and_priority(engine: sw.Engine) -> None:
    engine.apply_schedules([sw.Schedule("s", writes, EVERY_SECOND, value={"a": 1}, queue="slow", priority=7)])
    until(lambda: made[:1] == ['{"a": 1}'])
    row = engine._core.find(workflow="writes")[0]
    assert (row[4], json.loads(row[6])) == ("slow", {"a": 1})


def test_it_goes_on_when_the_store_is_opened_again(tmp_path: Path) -> None:
    with sw.Engine(tmp_path / "s.db") as engine:
        engine.apply_schedules([sw.Schedule("s", ticks, EVERY_SECOND)])
        until(lambda: len(made) > 0)
    made.clear()
    with sw.Engine(tmp_path / "s.db", workflows=[ticks]):
        until(lambda: len(made) > 1)
    assert len(made) == len(set(made))


def test_fires_of_an_unknown_workflow_are_kept_for_it(tmp_path: Path) -> None:
    with sw.Engine(tmp_path / "s.db") as engine:
        cron, last = hourly()
        leave_behind(engine, "s", cron, last - 3 * HOUR, missed="all")
        engine.serve(writes)
        assert next_firing_ends(engine)["count"] == 4
        assert engine._core.look("ticks")[1] == 4
        assert engine.schedule("s").trigger().status() == sw.RunStatus.QUEUED
        engine.serve(ticks)
        until(lambda: len(made) == 5)
    assert len(set(made)) == 5


def test_a_fire_that_was_given_up_is_made_when_the_store_is_opened_again(tmp_path: Path) -> None:
    cron, last = hourly()
    with sw.Engine(tmp_path / "s.db") as engine:
        leave_behind(engine, "s", cron, last, missed="all", tz="Zone/Of/Another/Machine")
        engine.serve(ticks)
        until(lambda: engine.dead_letters().groups() != [])
        (letter,) = engine.dead_letters()
        assert (letter.workflow, letter.error["code"]) == ("stepwell.schedule", "SW-E1031")
        _, version, _, body = engine._core.documents("schedule", "s")[0]
        mended = json.loads(body) | {"tz": "UTC"}
        engine._core.keep("schedule", "s", version, json.dumps(mended).encode())
    for _ in range(2):  # the second time there is nothing to do
        with sw.Engine(tmp_path / "s.db", workflows=[ticks]) as engine:
            until(lambda: len(made) == 1)
            until(lambda engine=engine: engine._core.look("stepwell.schedule")[1:] == (0, 0, 0))
            assert len(engine._core.find(workflow="ticks", count_max=9)) == 1


# -- missed fires ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("missed", "max_missed", "expected"), [("skip", 100, 0), ("one", 100, 1), ("all", 100, 6), ("all", 2, 2)]
)
def test_missed_fires(engine: sw.Engine, missed: str, max_missed: int, expected: int) -> None:
    cron, last = hourly()
    first = last - 5 * HOUR
    leave_behind(engine, "s", cron, first, missed=missed, max_missed=max_missed)
    engine.serve(ticks)
    assert next_firing_ends(engine)["count"] == expected
    until(lambda: len(made) == expected)
    hours = [datetime.fromtimestamp((first + n * HOUR) / 1000, UTC) for n in range(6)]
    assert sorted(made) == [f"s {at:%Y-%m-%dT%H:%M:%SZ}" for at in hours[6 - expected :]]
    shown = engine.schedule("s")
    assert shown.next_fire == hours[-1] + timedelta(hours=1)
    if expected:
        until(lambda: engine.schedule("s").last_fire == hours[-1])


# -- changing ------------------------------------------------------------------------------------------------------------


def test_apply_says_what_it_did_and_is_idempotent(engine: sw.Engine) -> None:
    yearly, daily = sw.Schedule("yearly", ticks, "0 0 1 1 *"), sw.Schedule("daily", writes, "0 0 * * *", value=1)
    assert engine.apply_schedules([yearly, daily]) == sw.Applied(created=("yearly", "daily"))
    assert engine.apply_schedules([yearly, daily]) == sw.Applied(unchanged=("yearly", "daily"))
    other = sw.Schedule("daily", writes, "0 0 * * *", value=2)
    third = sw.Schedule("third", writes, "0 0 * * *")
    assert engine.apply_schedules([other, third], keep_others=True) == sw.Applied(
        created=("third",), changed=("daily",)
    )
    assert engine.apply_schedules([other]) == sw.Applied(unchanged=("daily",), deleted=("third", "yearly"))
    assert [(each.name, each.value, each.paused) for each in engine.schedules()] == [("daily", 2, False)]
    with pytest.raises(sw.NotFoundError, match="SW-E1034"):
        engine.schedule("yearly")


def test_what_is_due_outlasts_a_change_of_the_value_but_not_of_the_times(engine: sw.Engine) -> None:
    cron, last = hourly()
    leave_behind(
        engine, "kept", cron, last - 2 * HOUR, workflow="writes", queue="writes", takes_tick=False, missed="one"
    )
    leave_behind(engine, "other", cron, last, workflow="writes", queue="writes", takes_tick=False, missed="one")
    engine.apply_schedules(
        [
            sw.Schedule("kept", writes, cron, value="new", missed="one"),
            sw.Schedule("other", writes, "30 12 1 1 *", value="late", missed="one"),
        ]
    )
    until(lambda: made == ['"new"'])


def test_a_change_of_the_zone(engine: sw.Engine) -> None:
    engine.apply_schedules([sw.Schedule("s", ticks, "0 9 * * *", tz="Europe/Berlin")])
    berlin = engine.schedule("s")
    assert berlin.next_fire is not None
    assert (berlin.next_fire.hour, str(berlin.next_fire.tzinfo)) == (9, "Europe/Berlin")
    assert engine.apply_schedules([sw.Schedule("s", ticks, "0 9 * * *", tz="America/New_York")]).changed == ("s",)
    york = engine.schedule("s")
    assert york.next_fire is not None
    assert york.next_fire.utcoffset() in (timedelta(hours=-5), timedelta(hours=-4))
    assert york.next_fire.hour == 9
    assert york.next_fire != berlin.next_fire
    waiting = engine._core.find(workflow="stepwell.schedule", count_max=1)
    assert waiting[0][11] == int(york.next_fire.timestamp()) * 1000


def test_pause_and_resume(engine: sw.Engine) -> None:
    engine.apply_schedules([sw.Schedule("s", ticks, EVERY_SECOND, missed="all")])
    until(lambda: len(made) > 0)
    assert engine.schedule("s").pause().next_fire is None
    assert engine.apply_schedules([sw.Schedule("s", ticks, EVERY_SECOND, missed="all")]).unchanged == ("s",)
    until(lambda: next_firing_ends(engine)["outcome"] == "superseded")
    until(lambda: len(engine._core.find(workflow="ticks", count_max=100)) == len(made))
    before, paused_at = list(made), datetime.now(UTC)
    assert engine.schedule("s").resume().next_fire is not None
    until(lambda: len(made) > len(before))
    assert datetime.fromisoformat(made[len(before)].split()[1]) > paused_at.replace(microsecond=0)
    assert len(made) == len(set(made))


def test_a_deleted_schedule_does_not_fire(engine: sw.Engine) -> None:
    soon = f"{(int(time.time()) + 3) % 60} * * * * *"
    engine.apply_schedules([sw.Schedule("s", ticks, soon)])
    engine.apply_schedules([])
    assert next_firing_ends(engine)["outcome"] == "superseded"
    assert made == []
    assert engine.schedules() == []
    assert engine._core.look("stepwell.schedule")[1:] == (0, 0, 0)


# -- by hand -------------------------------------------------------------------------------------------------------------


def test_trigger(engine: sw.Engine) -> None:
    engine.apply_schedules([sw.Schedule("s", ticks, "0 0 1 1 *"), sw.Schedule("v", writes, "0 0 1 1 *", value=[1])])
    assert engine.schedule("s").trigger().result(20) == "s"
    assert [engine.schedule("v").trigger().result(20) for _ in range(2)] == [[1], [1]]
    engine.schedule("v").pause()
    assert engine.schedule("v").trigger().result(20) == [1]


def test_a_backfill_makes_each_fire_once(engine: sw.Engine) -> None:
    engine.apply_schedules([sw.Schedule("s", ticks, "0 3 * * *", tz="Europe/Berlin")])
    start, end = datetime(2026, 3, 27, tzinfo=UTC), datetime(2026, 3, 31, tzinfo=UTC)
    runs = engine.schedule("s").backfill(start, end)
    assert [run.result(20) for run in runs] == ["s"] * 4
    assert sorted(made)[1:3] == ["s 2026-03-28T02:00:00Z", "s 2026-03-29T01:00:00Z"]
    again = engine.schedule("s").backfill(start - timedelta(days=1), end)
    assert [run.is_new for run in again] == [True, False, False, False, False]
    assert [run.result(20) for run in again] == ["s"] * 5
    assert len(made) == len(set(made)) == 5


def test_a_backfill_does_not_repeat_what_has_fired(engine: sw.Engine) -> None:
    cron, last = hourly()
    first = last - 2 * HOUR
    leave_behind(engine, "s", cron, first, missed="all")
    engine.serve(ticks)
    until(lambda: len(made) == 3)
    runs = engine.schedule("s").backfill(
        datetime.fromtimestamp(first / 1000 - 7200, UTC), datetime.fromtimestamp(first / 1000 + 7201, UTC)
    )
    assert [run.is_new for run in runs] == [True, True, False, False, False]
    assert [run.result(20) for run in runs] == ["s"] * 5
    assert len(made) == len(set(made)) == 5


# -- refusals ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "options"),
    [
        ("SW-E1030", {"cron": "every minute"}),
        ("SW-E1030", {"cron": None}),
        ("SW-E1031", {"tz": "Mars/Olympus"}),
        ("SW-E1032", {"name": ""}),
        ("SW-E1032", {"name": "a\nb"}),
        ("SW-E1032", {"name": "x" * 151}),
        ("SW-E1033", {"missed": "some"}),
        ("SW-E1033", {"missed": "all", "max_missed": 10**6}),
        ("SW-E1033", {"max_missed": 0}),
        ("SW-E1018", {"priority": 10**9}),
        ("SW-E1036", {"value": "x" * 20_000}),
        ("SW-E1210", {"value": object()}),
        ("SW-E2005", {"flow": print}),
        ("SW-E1036", {"flow": ticks, "value": 1}),
    ],
)
def test_refusals(code: str, options: dict[str, Any]) -> None:
    with pytest.raises(sw.InputError, match=code) as caught:
        sw.Schedule(**{"name": "s", "flow": writes, "cron": "* * * * *"} | options)
    assert caught.value.expected or caught.value.hint


def test_nothing_is_applied_of_a_bad_list(engine: sw.Engine) -> None:
    good = sw.Schedule("s", ticks, "0 0 1 1 *")
    with pytest.raises(sw.InputError, match="SW-E1032"):
        engine.apply_schedules([good, sw.Schedule("s", writes, "0 0 1 1 *")])
    with pytest.raises(sw.InputError, match="SW-E1032"):
        engine.apply_schedules([good, "s"])  # type: ignore[list-item]
    assert engine.schedules() == []
    engine.apply_schedules([sw.Schedule("s", ticks, EVERY_SECOND)])
    schedule, now = engine.schedule("s"), datetime.now(UTC)
    for start, end in ((now, now - timedelta(1)), (now - timedelta(1), now + timedelta(1)), (now - timedelta(12), now)):
        with pytest.raises(sw.InputError, match="SW-E1035"):
            schedule.backfill(start, end)
    with pytest.raises(sw.InputError, match="SW-E2010"):
        schedule.backfill(datetime(2026, 1, 1), now)  # noqa: DTZ001 - what is refused
