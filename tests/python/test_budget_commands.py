"""`stepwell budgets` on a store whose runs wait for money."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from flows import until

import stepwell as sw
from stepwell.__main__ import main
from stepwell.testing.llm_server import LlmServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PRICE = (60.0, 240.0)
RUNS = 12


@sw.workflow
async def labels_for_money(ticket: dict[str, Any]) -> str:
    text = f"ticket {ticket['number']}: a billing problem"
    answer = await sw.llm.classify(text, labels=["Billing", "Other"], model="test-model", base_url=ticket["url"])
    return str(answer.label)


@pytest.fixture(scope="module")
def server() -> Iterator[LlmServer]:
    with LlmServer() as running:
        yield running


@pytest.fixture
def store(server: LlmServer, tmp_path: Path) -> str:
    """A store with a budget in dollars that is used up, and one in tokens that is not."""
    path = tmp_path / "s.db"
    tight = sw.Budget(usd="0.33", name="tight", price=PRICE)
    with sw.Engine(path) as engine:
        for number in range(RUNS):
            engine.start(labels_for_money, {"number": number, "url": server.url}, key=f"k{number}", budget=tight)
        many = sw.Budget(tokens=1_000_000, name="many")
        engine.start(labels_for_money, {"number": 0, "url": server.url}, budget=many).result(20)
        until(lambda: engine.budgets("tight") != [] and is_at_rest(engine.budget("tight")))
    return str(path)


def is_at_rest(account: sw.BudgetAccount) -> bool:
    return account.waiting > 0 and account.calls + account.waiting == RUNS and not account.reserved_usd


def printed(capsys: pytest.CaptureFixture[str], *command: str, code: int = 0) -> str:
    assert main(command) == code
    out, err = capsys.readouterr()
    return err if code else out


def shown(capsys: pytest.CaptureFixture[str], *command: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(printed(capsys, *command))
    return found


def test_budgets_are_listed_as_they_stand(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [line.split() for line in printed(capsys, "budgets", store).splitlines()]
    assert lines[0][:4] == ["budget", "cap", "spent", "reserved"]
    assert [line[:2] for line in lines[1:]] == [["many", "1,000,000"], ["tight", "$0.33"]]
    many, tight = (json.loads(line) for line in printed(capsys, "budgets", store, "--json").splitlines())
    with sw.Engine(store) as engine:
        account = engine.budget("tight")
        assert (tight["cap_usd"], tight["spent_usd"]) == ("0.33", f"{account.spent_usd:f}")
        assert (tight["waiting"], tight["calls"], tight["is_closed"]) == (account.waiting, account.calls, False)
        assert many["left_tokens"] == engine.budget("many").left_tokens == 1_000_000 - many["spent_tokens"]
    assert many["spent_tokens"] > 0
    assert many["cap_usd"] is None


def test_a_budget_raised_from_the_command_line_lets_its_runs_go_on(
    store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    raised = shown(
        capsys, "budgets", store, "raise", "tight", "--usd", "20", "--why", "worth it", "--by", "ann", "--json"
    )
    assert raised["cap_usd"] == "20"
    last = raised["changes"][-1]
    assert (last["what"], last["by"], last["why"], last["cap_usd"]) == ("raised", "ann", "worth it", "20")
    text = printed(capsys, "budgets", store, "show", "tight")
    assert "raised  ann  $20  worth it" in text
    assert shown(capsys, "budgets", store, "--json", "show", "tight")["changes"] == raised["changes"]
    with sw.Engine(store, workflows=[labels_for_money]) as engine:
        until(lambda: engine.budget("tight").calls == RUNS)
        runs = [engine.find(labels_for_money, f"k{number}") for number in range(RUNS)]
        assert all(run is not None and run.result(20) for run in runs)


def test_a_budget_closed_from_the_command_line_fails_its_runs(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    waiting = shown(capsys, "budgets", store, "show", "tight", "--json")["waiting"]
    text = printed(capsys, "budgets", store, "close", "tight", "--why", "wrong\u202emodel")
    assert "wrong\\u202emodel" in text, "what would turn the line around is spelled out"
    assert "closed" in text.splitlines()[1]
    with sw.Engine(store, workflows=[labels_for_money]) as engine:
        codes = []
        for number in range(RUNS):
            run = engine.find(labels_for_money, f"k{number}")
            assert run is not None
            try:
                run.result(20)
            except sw.RunFailed as error:
                codes.append(error.code)
    assert codes == ["SW-E2181"] * waiting


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (("show", "nobody's"), "SW-E2183"),
        (("close", "nobody's", "--why", "x"), "SW-E2183"),
        (("raise", "tight", "--usd", "0.1", "--why", "x"), "SW-E2184"),
        (("raise", "tight", "--usd", "much", "--why", "x"), "SW-E2184"),
        (("raise", "tight", "--tokens", "5", "--why", "x"), "SW-E2184"),
        (("raise", "many", "--tokens", "-1", "--why", "x"), "SW-E2184"),
        (("raise", "tight", "--why", "x"), "SW-E2184"),
    ],
)
def test_budgets_that_cannot_be_changed_so(
    store: str, capsys: pytest.CaptureFixture[str], command: tuple[str, ...], code: str
) -> None:
    before = printed(capsys, "budgets", store, "--json")
    exit_code = 1 if code == "SW-E2183" else 2
    assert code in printed(capsys, "budgets", store, *command, code=exit_code)
    assert printed(capsys, "budgets", store, "--json") == before


def test_a_change_needs_its_why(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["budgets", store, "raise", "tight", "--usd", "5"])
    assert stopped.value.code == 2
    assert "--why" in capsys.readouterr().err


def test_budgets_of_no_store_of_an_empty_one_and_of_one_that_is_open(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = tmp_path / "none.db"
    assert "SW-E1102" in printed(capsys, "budgets", str(missing), code=2)
    assert not missing.exists()
    path = str(tmp_path / "s.db")
    with sw.Engine(path):
        command = [sys.executable, "-m", "stepwell", "budgets", path]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "SW-E1101" in done.stderr
    assert printed(capsys, "budgets", path) == "no budgets\n"
