"""The programme that proves the promises, in its short form: `python -m pytest tests -k promises`. It prints its counts.

The long form with fresh seeds is `./dev soak`; which promise each part proves stands in docs/promises.md.
"""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from test_faults_process import stop_many_times
from test_kill import one_round
from test_kill_orders import kill_orders

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAMS = Path(__file__).resolve().parents[2] / "build" / "release" / "tests" / "cpp"
NOTHING = ("lost", "corrupt", "duplicated")


@pytest.fixture(scope="module")
def counts(request: pytest.FixtureRequest) -> Iterator[Counter[str]]:
    """What the parts have counted; printed when they are through."""
    counted: Counter[str] = Counter(dict.fromkeys(NOTHING, 0))
    failed_before = request.session.testsfailed
    yield counted
    verdict = "promises" if request.session.testsfailed == failed_before else "promises BROKEN, see the failures"
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        parts = [f"{name} {count:,}" for name, count in counted.items() if name not in NOTHING]
        print(f"\n{verdict}: {', '.join(parts + [f'{name} {counted[name]}' for name in NOTHING])}")


def run_built(name: str, *arguments: str) -> str:
    """Run a C++ test program and return what it printed."""
    if not (PROGRAMS / name).exists():
        pytest.skip(f"{name} is not built: cmake --preset release && cmake --build --preset release --target {name}")
    done = subprocess.run([PROGRAMS / name, *arguments], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def numbers(pattern: str, text: str) -> list[int]:
    found = re.search(pattern, text)
    assert found, text
    return list(map(int, found.groups()))


@pytest.mark.timeout(300)
def test_promises_power_cuts_and_disk_errors(counts: Counter[str]) -> None:
    text = run_built("power_cut_test", "--cuts=2000", "--faults=500")
    counts["power cuts"], lost_in_cuts, corrupt_in_cuts, lost_in_control = numbers(
        r"power cuts: (\d+), lost (\d+), corrupt (\d+); control arm \(relaxed\): \d+, lost (\d+)", text
    )
    write_errors, short_writes, full, failed_syncs, lost, corrupt = numbers(
        r"\((\d+) write error.*?, (\d+) short write, (\d+) disk full, (\d+) failed fsync.*?\), lost (\d+), corrupt (\d+)",
        text,
    )
    counts["disk errors"] = write_errors + short_writes + full + failed_syncs
    counts["lost"] += lost_in_cuts + lost
    counts["corrupt"] += corrupt_in_cuts + corrupt
    assert min(write_errors, short_writes, full, failed_syncs) > 0
    assert lost_in_control > 0, "the control arm lost nothing: the cuts could not have found anything"
    assert counts["lost"] == counts["corrupt"] == 0


def test_promises_seeds(counts: Counter[str]) -> None:
    text = run_built("sim_test", "--seeds=500")
    counts["seeds"], counts["simulated crashes"], counts["late writes refused"], failed = numbers(
        r"sim: (\d+) seeds.*?(\d+) crashes, .*?(\d+) late writes refused, (\d+) failed", text
    )
    assert failed == 0
    assert counts["late writes refused"] > 0


STORE_KILLS = 12  # of one run of the C++ test


@pytest.mark.kill
@pytest.mark.timeout(300)
def test_promises_kills_of_stores(counts: Counter[str]) -> None:
    """Each kills a process that commits as fast as it can, and looks whether all that it had answered is there."""
    run_built("stepwell_tests", "--gtest_filter=*KilledProcessLosesNothing*", "--gtest_repeat=20", "--gtest_brief=1")
    counts["kills"] += 20 * STORE_KILLS


@pytest.mark.kill
@pytest.mark.timeout(300)
def test_promises_kills(counts: Counter[str], tmp_path: Path) -> None:
    """Both programs assert that nothing is lost and that no recorded step is done again."""
    (tmp_path / "triage").mkdir()
    counts["kills"] += one_round(tmp_path / "triage", rows=300, seed=7)
    kills, _ = kill_orders(tmp_path, rounds=9, first=7)
    counts["kills"] += kills


def test_promises_zombies(counts: Counter[str], tmp_path: Path) -> None:
    refused, kept = stop_many_times(tmp_path, stops=10)
    counts["zombies"] += refused
    counts["runs kept by them"] += kept
    assert refused == 10
