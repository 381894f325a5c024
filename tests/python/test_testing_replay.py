"""Replaying recorded runs: what fits is ok, what was changed is shown, nothing executes and nothing is written."""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import pytest
from flows import made, make, make_plain

import stepwell as sw
from stepwell.testing import Engine, ReplayReport, replay

if TYPE_CHECKING:
    from pathlib import Path


@sw.workflow(name="ships")
async def ships(x: int) -> Any:
    first = await make(f"pick {x}")
    await sw.gather(make("pack"), sw.sleep("2d"), make("label"))
    who, _ = await sw.first(nobody=sw.sleep("1h"), asked=sw.wait_for_signal("asked"))
    if x == 1:
        raise ValueError("no such parcel")
    if x == 2:
        await sw.wait_for_signal("go")
    return [first, who, await make("post"), sw.now().isoformat()]


@sw.workflow(name="bills")
def bills(x: int) -> str:
    first = make_plain(f"bill {x}")
    sw.sleep_blocking("30d")
    if x == 2:
        sw.wait_for_signal_blocking("go")
    return first + make_plain("remind")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A file with four runs of each: one failed or not, one still waits, one was cancelled."""
    path = tmp_path / "runs.db"
    with Engine(path, auto=False) as engine:
        runs = [engine.start(flow, x) for x in range(4) for flow in (ships, bills)]
        engine.clock.advance("1d")
        runs[6].cancel()
        engine.clock.run_until_quiet()
    made.clear()
    return path


def digest(path: Path) -> dict[str, str]:
    return {each.name: hashlib.sha256(each.read_bytes()).hexdigest() for each in path.parent.iterdir()}


def replayed(path: Path, *flows: Any, **options: Any) -> ReplayReport:
    before = digest(path)
    report = replay(path, flows, **options)
    assert digest(path) == before
    assert made == []
    return report


def test_unchanged_code_follows_every_history(store: Path) -> None:
    report = replayed(store, ships, bills)
    assert (report.replayed, report.ok, report.open, report.mismatched, report.other_results) == (8, 6, 2, (), ())
    assert replayed(store, ships, bills, workflow="bills").replayed == 4
    assert replayed(store, ships, bills, last=3).replayed == 3


def test_a_step_that_was_taken_out_is_a_mismatch(store: Path) -> None:
    @sw.workflow(name="bills")
    def shorter(x: int) -> str:
        first = make_plain(f"bill {x}")
        sw.sleep_blocking("30d")
        return first

    report = replayed(store, shorter)
    assert [each.workflow for each in report.mismatched] == ["bills"] * 3
    assert "recorded, not asked for  make_plain#2" in report.mismatched[0].text
    assert "recorded, asked for      make_plain\n" in report.mismatched[0].text
    assert "mismatched            3" in str(report)
    # The one that waits for a signal that the code no longer wants would simply end now.
    assert report.open == 1


def test_a_step_that_was_renamed_is_a_mismatch_in_open_runs_too(store: Path) -> None:
    @sw.step
    def bill(what: str) -> str:
        raise AssertionError("no step executes")

    @sw.workflow(name="bills")
    def renamed(x: int) -> str:
        first = bill(f"bill {x}")
        sw.sleep_blocking("30d")
        return first + make_plain("remind")

    report = replayed(store, renamed)
    assert len(report.mismatched) == 4
    assert "asked, not recorded      bill" in report.mismatched[0].text


def test_an_ended_run_that_would_go_on_is_a_mismatch(store: Path) -> None:
    @sw.workflow(name="ships")
    async def longer(x: int) -> Any:
        result = await ships(x)
        await make("tell the customer")
        return result

    report = replayed(store, longer)
    assert len(report.mismatched) == 1  # one failed before, one waits, one was cancelled
    assert "the run has succeeded, and the code asks for more:" in report.mismatched[0].text
    assert "asked, not recorded      make#3" in report.mismatched[0].text


def test_patched_code_follows_old_histories(store: Path) -> None:
    @sw.workflow(name="ships")
    async def patched(x: int) -> Any:
        if sw.patched("check-address"):
            await make("check the address")
        return await ships(x)

    assert replayed(store, patched).mismatched == ()


def test_another_end_is_a_mismatch_and_another_result_is_said(store: Path) -> None:
    @sw.workflow(name="bills")
    def raises(x: int) -> str:
        bills(x)
        raise KeyError(x)

    @sw.workflow(name="ships")
    async def forgives(x: int) -> Any:
        try:
            return await ships(x)
        except ValueError:
            return None

    @sw.workflow(name="bills")
    def louder(x: int) -> str:
        return bills(x).upper()

    assert "now the code raises KeyError" in replayed(store, raises).mismatched[0].text
    assert "now the code returns None" in replayed(store, forgives).mismatched[0].text
    report = replayed(store, louder)
    assert report.mismatched == ()
    assert "recorded 'bill 3remind'\nnow      'BILL 3REMIND'" in report.other_results[0].text


def test_an_undone_run_is_followed_to_its_end(tmp_path: Path) -> None:
    @sw.step(undo=lambda what: made.append(f"undo {what}"))
    async def hold(x: int) -> str:
        return f"hold {x}"

    @sw.workflow
    async def refund(x: int) -> str:
        await hold(x)
        await sw.sleep("1d")
        raise PermissionError("refused")

    with Engine(tmp_path / "s.db", workflows=[refund]) as engine, pytest.raises(sw.RunFailed):
        engine.start(refund, 1).result(20)
    made.clear()
    assert replayed(tmp_path / "s.db", refund).ok == 1


def test_an_open_engine_can_be_asked(tmp_path: Path) -> None:
    with Engine(tmp_path / "s.db") as engine:
        assert engine.start(bills, 1).result(20) == "bill 1remind"
        assert replay(engine, [bills]).ok == 1
        with pytest.raises(sw.ConflictError, match="SW-E1101"):
            replay(tmp_path / "s.db", [bills])


def test_it_can_be_asked_from_an_event_loop(store: Path) -> None:
    async def main() -> ReplayReport:
        return replayed(store, ships, bills)

    assert asyncio.run(main()).replayed == 8


def test_bad_wishes_are_refused(tmp_path: Path, store: Path) -> None:
    with pytest.raises(sw.NotFoundError, match="SW-E1403"):
        replay(tmp_path / "none.db", [bills])
    with pytest.raises(sw.InputError, match="SW-E1404"):
        replay(store, [bills], workflow="other")
    with pytest.raises(sw.InputError, match="SW-E1014"):
        replay(store, [bills], last=0)
    assert not (tmp_path / "none.db").exists()


# -- the command line ------------------------------------------------------------------------------------------------------

CODE = """
import stepwell as sw

@sw.step
def pay(x: int) -> int:
    open("paid", "a").write("x")
    return x

@sw.workflow
def order(x: int) -> int:
    paid = pay(x)
    sw.sleep_blocking("1ms")
    return paid + pay(x){more}
"""


def command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "stepwell", "replay", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        # Bytecode is told apart by whole seconds: the second version must not be taken for the first.
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
    )


def test_the_command_line_says_it_with_its_exit_code(tmp_path: Path) -> None:
    code = tmp_path / "orders.py"
    code.write_text(CODE.format(more=""))
    start = "import orders, stepwell as sw\nwith sw.Engine('s.db') as e: print(e.start(orders.order, 2).result())"
    subprocess.run([sys.executable, "-B", "-c", textwrap.dedent(start)], cwd=tmp_path, check=True)
    assert (tmp_path / "paid").read_text() == "xx"

    done = command(tmp_path, "s.db", "-m", "orders", "--last", "10")
    assert (done.returncode, done.stderr) == (0, "")
    assert " ".join(done.stdout.split()) == "replayed 1 ok 1 still open 0 another result 0 mismatched 0"
    code.write_text(CODE.format(more="").replace("return paid + pay(x)", "return paid"))
    done = command(tmp_path, "s.db", "-m", "orders")
    assert done.returncode == 1
    assert "recorded, not asked for  pay#2" in done.stdout
    code.write_text(CODE.format(more=" + 1"))
    assert command(tmp_path, "s.db", "-m", "orders").returncode == 0
    assert command(tmp_path, "s.db", "-m", "orders", "--strict").returncode == 1
    assert (tmp_path / "paid").read_text() == "xx"


def test_the_command_line_helps(tmp_path: Path, store: Path) -> None:
    missing = command(tmp_path, str(store), "-m", "no_such_module")
    assert missing.returncode == 2
    assert "SW-E1404" in missing.stderr
    with sw.Engine(store):
        busy = command(tmp_path, str(store), "-m", "json")
    assert busy.returncode == 2  # no workflow in there
    assert "SW-E1404" in busy.stderr
