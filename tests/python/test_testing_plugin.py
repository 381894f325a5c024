"""The pytest plugin, as users have it: a test file of theirs, run by pytest in a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest

import stepwell.testing

if TYPE_CHECKING:
    from pathlib import Path

FLOWS = """
import json, time, urllib.request
import pytest, stepwell as sw
from stepwell.testing import Faults, Journal

@sw.step(retry=sw.Retry(max_attempts=5, base="1h", max_elapsed="10d"))
async def work(x: int) -> int:
    return x + 1

@sw.workflow
async def weekly(x: int) -> int:
    await sw.sleep("7d")
    return await work(x)

@sw.workflow
async def careless(x: int) -> float:
    return time.time()
"""


def pytest_on(folder: Path, test: str, *arguments: str) -> str:
    (folder / "test_users.py").write_text(FLOWS + textwrap.dedent(test))
    environment = {name: value for name, value in os.environ.items() if name != "STEPWELL_TEST_SEED"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "-W", "error", "--strict-markers", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert done.stderr == ""
    return done.stdout


def test_the_fixtures_work(tmp_path: Path) -> None:
    said = pytest_on(
        tmp_path,
        """
        def test_engine(stepwell_engine):
            assert stepwell_engine.start(weekly, 1).result(20) == 2

        def test_crash(stepwell_crash):
            assert stepwell_crash(weekly, 1).commits > 3

        def test_http(stepwell_http):
            stepwell_http.answer("GET /stock", {"left": 3})
            with urllib.request.urlopen(stepwell_http.url + "/stock") as answer:
                assert json.load(answer) == {"left": 3}

        def test_llm(stepwell_llm):
            assert sw.triage(["I was charged twice"], labels=["Billing", "Shipping"], model="t",
                             base_url=stepwell_llm.url) is not None
            assert stepwell_llm.count() >= 1

        @pytest.mark.stepwell(auto=False, workflows=[weekly])
        def test_marker(stepwell_engine):
            run = stepwell_engine.start(weekly, 1)
            stepwell_engine.clock.settle()
            assert run.status() is sw.RunStatus.WAITING  # waiting runs may be left
        """,
    )
    assert "5 passed" in said


def test_a_workflow_that_does_not_survive_fails_the_test_readably(tmp_path: Path) -> None:
    said = pytest_on(tmp_path, "def test_it(stepwell_crash):\n    stepwell_crash(careless, 1)\n")
    assert "1 failed" in said
    assert "time.time() in the body of a workflow" in said
    assert re.search(r"test_users\.py:\d+\); a replay sees another value: use sw\.now\(\)", said)


def test_runs_that_are_left_under_way_fail_the_test(tmp_path: Path) -> None:
    said = pytest_on(
        tmp_path,
        """
        import threading

        @sw.step
        def stuck() -> None:
            threading.Event().wait(60)

        @sw.workflow
        def hangs() -> None:
            stuck()

        def test_it(stepwell_engine):
            stepwell_engine.start(hangs)
        """,
    )
    assert "1 passed, 1 error" in said
    assert "runs are left that have neither ended nor wait" in said
    assert "of hangs: running" in said


def test_a_failing_seed_is_printed_and_gives_the_same_again(tmp_path: Path) -> None:
    test = """
        @pytest.mark.stepwell(faults=Faults(step_error=0.5), journal=(journal := Journal()))
        def test_it(stepwell_engine):
            for x in range(5):
                stepwell_engine.start(weekly, x).result(20)
            pytest.fail(f"attempts {len(journal.attempts)}")
        """
    first = pytest_on(tmp_path, test)
    assert "1 failed" in first
    seed = re.search(r"run it again with STEPWELL_TEST_SEED=(\d+)", first)
    attempts = re.search(r"Failed: (attempts \d+)", first)
    assert seed is not None
    assert attempts is not None
    again = pytest_on(tmp_path, test.replace("Faults(", f"Faults(seed={seed[1]}, "))
    assert attempts[1] in again


def test_an_unknown_option_of_the_marker_is_refused(tmp_path: Path) -> None:
    said = pytest_on(tmp_path, "@pytest.mark.stepwell(speed=2)\ndef test_it(stepwell_engine): pass\n")
    assert "knows no speed" in said


def test_loading_the_plugin_loads_nothing_heavy(tmp_path: Path) -> None:
    (tmp_path / "test_light.py").write_text(
        "import sys\n"
        "def test_it(pytestconfig):\n"
        "    assert pytestconfig.pluginmanager.hasplugin('stepwell')\n"
        "    assert 'stepwell.testing.plugin' in sys.modules\n"
        "    heavy = ('_core', '_engine', 'testing._engine', 'testing._crash', 'testing.http_server', 'llm')\n"
        "    assert not [name for name in heavy if f'stepwell.{name}' in sys.modules]\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "1 passed" in done.stdout


@pytest.mark.parametrize("name", stepwell.testing.__all__)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    assert getattr(stepwell.testing, name).__doc__
    assert name in dir(stepwell.testing)


def test_the_public_names_are_sorted_and_no_others() -> None:
    assert stepwell.testing.__all__ == sorted(stepwell.testing.__all__)
    assert set(stepwell.testing.__all__) == set(stepwell.testing._WHERE)
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = stepwell.testing.Nothing
