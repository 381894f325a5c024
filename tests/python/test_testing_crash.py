"""crash_everywhere: sound workflows survive it, and each kind of badly written one is caught, with words that help."""

from __future__ import annotations

import random
import time
import uuid
from datetime import datetime
from typing import Any

import pytest

import stepwell as sw
from stepwell.testing import CrashFound, CrashReport, Journal, Outcome, crash_everywhere

journal = Journal()


@sw.step(retry=sw.Retry(max_attempts=3, base="1h", max_elapsed="10d"))
async def charge(x: int) -> str:
    journal.note("charge", x, key=sw.step_key())
    return f"charged {x}"


@sw.step
def charge_plain(x: int) -> str:
    journal.note("charge", x, key=sw.step_key())
    return f"charged {x}"


@sw.step
async def charge_without_key(x: int) -> str:
    journal.note("charge", x)
    return f"charged {x}"


def release(what: str) -> None:
    journal.note("release", what, key=what)


@sw.step(undo=release)
async def hold(x: int) -> str:
    journal.note("hold", x, key=sw.step_key())
    return f"hold {x}"


@sw.workflow
async def parcel(x: int) -> str:
    return await charge(x)


@sw.workflow
async def receipt(x: int) -> None:
    await charge(1_000 + x)


@sw.step
async def order_receipt(x: int) -> None:
    sw.send(receipt, x, key=f"receipt-{x}", delay="2d")


@sw.workflow
async def order(x: int) -> dict[str, Any]:
    first = await charge(x)
    await sw.sleep("7d")
    both = await sw.gather(charge(x + 1), charge(x + 2))
    who, yes = await sw.first(lead=sw.wait_for_signal("answer"), nobody=sw.sleep("3d"))
    sent = await sw.child(parcel, x + 3)
    await order_receipt(x)
    return {"charges": [first, *both], "who": who, "yes": yes, "sent": sent, "id": str(sw.uuid()), "at": str(sw.now())}


def same_charges(outcome: Outcome) -> bool:
    return outcome.status is sw.RunStatus.SUCCEEDED and outcome.value["charges"] == [
        "charged 1",
        "charged 2",
        "charged 3",
    ]


def test_a_sound_workflow_survives_every_crash() -> None:
    report = crash_everywhere(order, 1, journal=journal, signals={"answer": True}, check=same_charges)
    assert report.ok
    assert report.commits > 12
    assert len(report.crashes) == 1 + 2 * report.commits
    assert report.expected.value["who"] == "lead"
    assert report.expected.others == {"parcel succeeded": 1, "receipt succeeded": 1}
    assert report.expected.effects["charge 1001"] == 1
    assert {crash.kept for crash in report.crashes if crash.commit} == {True, False}
    assert "every crash was survived" in str(report)


def test_a_plain_workflow_survives_every_crash() -> None:
    @sw.workflow
    def plain(x: int) -> list[Any]:
        first = charge_plain(x)
        sw.sleep_blocking("7d")
        return [first, charge_plain(x + 1), sw.wait_for_signal_blocking("answer"), sw.child_blocking(parcel, 9)]

    report = crash_everywhere(plain, 1, journal=journal, signals=[("answer", "a")])
    assert report.expected.value == ["charged 1", "charged 2", "a", "charged 9"]


def test_a_failure_is_an_end_too_and_is_undone_once() -> None:
    @sw.workflow
    async def refund(x: int) -> str:
        await hold(x)
        await sw.sleep("1d")
        raise PermissionError("refused")

    report = crash_everywhere(refund, 5, journal=journal)
    assert report.expected.status is sw.RunStatus.COMPENSATED
    assert report.expected.effects == {"hold 5": 1, "release 'hold 5'": 1}


@pytest.mark.parametrize("is_plain", [False, True])
def test_no_handler_of_the_workflow_sees_the_crash(is_plain: bool) -> None:  # noqa: FBT001
    @sw.workflow
    async def careful(x: int) -> str:
        try:
            await charge(x)
            await sw.sleep("1d")
            return await charge(x + 1)
        except Exception:
            journal.note("handler", x)
            raise

    @sw.workflow
    def careful_plain(x: int) -> str:
        try:
            charge_plain(x)
            sw.sleep_blocking("1d")
            return charge_plain(x + 1)
        except Exception:
            journal.note("handler", x)
            raise

    assert crash_everywhere(careful_plain if is_plain else careful, 5, journal=journal).commits > 4


def test_an_attempt_that_failed_keeps_its_key() -> None:
    @sw.step(retry=sw.Retry(max_attempts=3, base="1h", max_elapsed="10d"))
    async def flaky(x: int) -> int:
        mine = [each for each in journal.attempts if each.step == "flaky"]
        if mine[-1].attempt < 3:
            raise OSError("not yet")
        return x

    @sw.workflow
    async def tries(x: int) -> int:
        return await flaky(x)

    crash_everywhere(tries, 5, journal=journal)
    keys = {each.key for each in journal.attempts if each.step == "flaky"}
    assert len(keys) == 1


# -- what it catches ---------------------------------------------------------------------------------------------------------


def caught(flow: Any, value: Any = None, **options: Any) -> str:
    with pytest.raises(CrashFound) as found:
        crash_everywhere(flow, value, journal=journal, **options)
    report = found.value.report
    assert isinstance(report, CrashReport)
    assert not report.ok
    return str(report)


def test_it_catches_an_effect_without_a_key() -> None:
    @sw.workflow
    async def careless(x: int) -> str:
        return await charge_without_key(x)

    said = caught(careless, 7)
    assert "effect charge 7 happened 2 times instead of 1" in said
    assert "sw.step_key()" in said
    assert "lost" in said


def test_it_catches_an_effect_outside_of_a_step() -> None:
    @sw.workflow
    async def leaky(x: int) -> str:
        journal.note("mail", x)
        await sw.sleep("1d")
        return await charge(x)

    assert "effect mail outside of a step: a replay repeats it" in caught(leaky, 7)


@pytest.mark.parametrize("is_plain", [False, True])
def test_it_catches_a_branch_on_the_clock(is_plain: bool) -> None:  # noqa: FBT001
    @sw.workflow
    async def moody(x: int) -> str:
        if int(time.time() * 1e6) % 2:
            return await charge(x)
        return await charge(-x)

    @sw.workflow
    def moody_plain(x: int) -> str:
        return charge_plain(x) if int(time.time() * 1e6) % 2 else charge_plain(-x)

    said = caught(moody_plain if is_plain else moody, 7)
    assert "time.time() in the body of a workflow" in said
    assert "test_testing_crash.py:" in said
    assert "use sw.now()" in said


@pytest.mark.parametrize(
    ("read", "name", "instead"),
    [
        (lambda: datetime.now(), "datetime.now()", "sw.now()"),  # noqa: DTZ005, PLW0108 - the point
        (lambda: random.random(), "random.random()", "sw.random()"),  # noqa: PLW0108
        (lambda: random.choice([1, 2]), "random.choice()", "sw.random()"),
        (lambda: uuid.uuid4(), "uuid.uuid4()", "sw.uuid()"),  # noqa: PLW0108
        (lambda: time.monotonic(), "time.monotonic()", "sw.now()"),  # noqa: PLW0108
    ],
)
def test_it_names_every_clock_and_dice(read: Any, name: str, instead: str) -> None:
    @sw.workflow
    async def rolls() -> None:
        read()

    said = caught(rolls)
    assert f"{name} in the body of a workflow" in said
    assert f"use {instead}" in said


def test_clocks_in_steps_and_recorded_ones_are_fine() -> None:
    @sw.step
    async def measured() -> float:
        return time.time() + random.random()

    @sw.workflow
    async def fine() -> None:
        await measured()
        sw.now()
        sw.uuid()
        sw.random()

    assert crash_everywhere(fine, check=lambda outcome: outcome.status is sw.RunStatus.SUCCEEDED).ok


def test_it_catches_state_outside_of_the_run() -> None:
    seen: list[int] = []

    @sw.workflow
    async def remembers(x: int) -> int:
        seen.append(x)
        await charge(x)
        return len(seen)

    assert "expected: succeeded with 1" in caught(remembers, 7)


def test_it_catches_a_run_that_never_ends() -> None:
    @sw.workflow
    async def waits(x: int) -> Any:
        await charge(x)
        return await sw.wait_for_signal("go")

    said = caught(waits, 7)
    assert "the run did not end: it is waiting: nobody sends what it waits for (after 'charge')" in said
    assert crash_everywhere(waits, 7, signals={"go": 1}).ok


def test_check_decides_what_is_right() -> None:
    def is_positive(outcome: Outcome) -> None:
        assert "-" not in outcome.value, "a negative charge"

    assert "check refused the outcome" in caught(parcel, -7, check=is_positive)
    report = crash_everywhere(parcel, -7, check=lambda _: False, raises=False)
    assert all(crash.findings for crash in report.crashes)


def test_too_many_commits_are_refused() -> None:
    with pytest.raises(ValueError, match="at most 2 are crashed at"):
        crash_everywhere(parcel, 7, commits_max=2)


def test_nothing_is_left_behind() -> None:
    import threading

    before = {thread.name for thread in threading.enumerate()}
    crash_everywhere(parcel, 7)
    assert {thread.name for thread in threading.enumerate()} <= before
    assert threading.getprofile() is None
