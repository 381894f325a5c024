"""Budgets through the engine, against the test server: caps that hold, runs that wait, people who raise them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
from flows import comes_to

import stepwell as sw
from stepwell import store
from stepwell._budgets.policy import Budget
from stepwell.llm._costing import TOKENS_OUT_DEFAULT, bounded
from stepwell.testing.llm_server import Faults, LlmServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

T = TypeVar("T")

LABELS = ["Billing", "Technical", "General"]
PRICE = (60.0, 240.0)
# What one classification may cost by estimate is between these, and what it costs is less than a tenth.
ESTIMATE_LEAST, ESTIMATE_MOST = Decimal("0.24"), Decimal("0.32")


@pytest.fixture(scope="module")
def server() -> Iterator[LlmServer]:
    with LlmServer() as running:
        yield running


@pytest.fixture
def flow(server: LlmServer) -> sw.Workflow[..., Any]:
    @sw.workflow(name="labels")
    async def labels(number: int) -> str:
        answer = await sw.llm.classify(
            f"ticket {number}: a billing problem", labels=LABELS, model="test-model", base_url=server.url
        )
        return str(answer.label)

    return labels


def wait_for(what: Callable[[], T]) -> T:
    """Return the first answer that is true."""
    for _ in range(2_000):
        if found := what():
            return found
        sw.sleep_blocking("10ms")
    raise AssertionError("it did not come to that")


def test_a_batch_stops_at_its_cap_and_goes_on_when_it_is_raised(server: LlmServer, flow: Any, tmp_path: Path) -> None:
    before = server.counts()["charged"]
    with sw.Engine(tmp_path / "s.db") as engine:
        batch = engine.map(flow, range(40), budget=sw.Budget(usd="0.5", name="small", price=PRICE))
        cap = wait_for(lambda: at_the_cap(engine, server.counts()["charged"] - before))
        assert cap is not None
        assert 0 < cap.calls < 40
        assert cap.spent_usd <= Decimal("0.5")
        assert cap.in_doubt_usd == 0
        assert cap.projected_usd(batch.progress()) is not None
        raised = cap.raise_to(usd=5, by="ann", why="the tickets are worth it")
        assert raised.cap_usd == 5
        assert len(batch.results()) == 40
        now = engine.budget("small")
        assert (now.calls, now.waiting, now.odd_calls) == (40, 0, 0)
        assert [(change.by, change.why, change.what) for change in now.changes()][-1] == (
            "ann",
            "the tickets are worth it",
            "raised",
        )
        assert "small" in repr(now)


def at_the_cap(engine: sw.Engine, charged: int) -> sw.BudgetAccount | None:
    """Account "small" once each of its 40 calls was settled or waits, and no more fit; None until then.

    A call that was woken, or is about to wait, is for a moment neither.
    """
    if not engine.budgets("small"):
        return None
    cap = engine.budget("small")
    is_at_rest = cap.calls + cap.waiting == 40 and not cap.reserved_usd and cap.calls == charged
    return cap if is_at_rest and cap.left_usd is not None and cap.left_usd < ESTIMATE_MOST else None


def test_runs_that_wait_for_money_survive_a_restart(flow: Any, tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    budget = sw.Budget(usd="0.33", name="tight", price=PRICE)
    with sw.Engine(path) as engine:
        runs = [engine.start(flow, number, key=f"k{number}", budget=budget) for number in range(30)]
        wait_for(lambda: engine.budgets("tight") != [] and at_rest(engine, runs))
        waiting = engine.budget("tight").waiting
        assert waiting > 0
    assert store.verify(path, payloads=True) == []
    with sw.Engine(path, workflows=[flow]) as engine:  # the budget is not named again: the runs carry it
        assert engine.budget("tight").waiting == waiting
        engine.budget("tight").raise_to(usd=100)
        runs = [engine.start(flow, number, key=f"k{number}") for number in range(30)]
        assert not any(run.is_new for run in runs)
        assert len([run.result(30) for run in runs]) == 30
        assert engine.budget("tight").calls == 30
        assert engine.budget("tight").cap_usd == 100


def at_rest(engine: sw.Engine, runs: list[Any]) -> bool:
    open_count = sum(not run.status().is_final for run in runs)
    account = engine.budget("tight")
    return account.waiting == open_count and not account.reserved_usd


def code_of(run: sw.Run[Any]) -> str:
    try:
        run.result(20)
    except sw.RunFailed as error:
        return error.code
    return ""


def test_a_budget_that_fails_does_so_with_a_code(server: LlmServer, flow: Any, tmp_path: Path) -> None:
    before = server.counts()["requests"]
    with sw.Engine(tmp_path / "s.db") as engine:
        small = sw.Budget(usd="0.01", name="too small", price=PRICE)
        with pytest.raises(sw.RunFailed) as caught:
            engine.start(flow, 1, budget=small).result(20)
        assert caught.value.code == "SW-E2182"
        failing = sw.Budget(usd="0.33", name="failing", price=PRICE, on_cap="fail")
        code, number = "", -1
        while not code and number < 30:
            number += 1
            code = code_of(engine.start(flow, number, budget=failing))
        assert code == "SW-E2180"
        assert engine.budget("failing").waiting == 0
    assert server.counts()["requests"] == before + number


def test_an_approval_raises_the_budget_or_ends_its_runs(flow: Any, tmp_path: Path) -> None:
    budget = sw.Budget(usd="0.33", name="asked", price=PRICE, ask="May the tickets cost more?")
    with sw.Engine(tmp_path / "s.db") as engine:
        runs = [engine.start(flow, number, budget=budget) for number in range(70)]
        wait_for(lambda: len(engine.approvals()) == 1)
        approval = engine.approvals()[0]
        assert approval.question == "May the tickets cost more?"
        assert approval.evidence["budget"] == "asked"
        approval.approve(by="ann")
        wait_for(lambda: engine.budget("asked").cap_usd == Decimal("0.66"))
        wait_for(lambda: len(engine.approvals()) == 1)
        engine.approvals()[0].reject(by="bob", comment="enough")
        ends = [ended(run) for run in runs]
        assert "SW-E2181" in ends
        assert set(ends) == {"SW-E2181", "ok"}
        assert engine.budget("asked").is_closed
        assert [change.by for change in engine.budget("asked").changes()][1:] == ["ann", "bob"]


def ended(run: Any) -> str:
    try:
        run.result(30)
    except sw.RunFailed as error:
        return error.code
    return "ok"


def test_each_run_each_tenant_and_each_day_have_accounts_of_their_own(server: LlmServer, tmp_path: Path) -> None:
    @sw.workflow
    async def asks(tenant: str) -> str:
        answer = await sw.llm.classify(
            "billing",
            labels=LABELS,
            model="test-model",
            base_url=server.url,
            tenant=tenant,
            budget=Budget(tokens=5_000, per="tenant", name="t"),
        )
        return str(answer.label)

    with sw.Engine(tmp_path / "s.db", budget=Budget(usd=9, per="day", name="day", price=PRICE)) as engine:
        per_run = Budget(usd=1, per="run", name="own", price=PRICE)
        runs = [engine.start(asks, tenant, budget=per_run) for tenant in ("acme", "acme", "zeta")]
        for run in runs:
            run.result(20)
        assert {each.name for each in engine.budgets("own")} == {f"own/{run.id}" for run in runs}
        assert {each.run_id for each in engine.budgets("own")} == {run.id for run in runs}
        assert {each.name: each.calls for each in engine.budgets("t")} == {"t/acme": 2, "t/zeta": 1}
        (today,) = engine.budgets("day")
        assert today.calls == 3
        assert today.name == f"day/{datetime.now(UTC).date()}"
        assert sum(each.spent_usd for each in engine.budgets("own")) == today.spent_usd > 0
        with pytest.raises(sw.NotFoundError) as caught:
            engine.budget("nobody's")
        assert caught.value.code == "SW-E2183"


def test_a_days_budget_is_asked_again_the_next_day() -> None:
    budget = Budget(usd=1, per="day", name="d", zone="America/New_York")
    evening = int(datetime(2026, 3, 7, 23, 30, tzinfo=UTC).timestamp() * 1000)
    name, due_at = budget.account(7, "", evening)
    assert name == "d/2026-03-07"
    assert datetime.fromtimestamp(due_at / 1000, UTC) == datetime(2026, 3, 8, 5, 0, tzinfo=UTC)
    assert budget.account(7, "", due_at)[0] == "d/2026-03-08"


def test_a_history_says_what_was_reserved_and_spent(flow: Any, tmp_path: Path) -> None:
    with sw.Engine(tmp_path / "s.db") as engine:
        run = engine.start(flow, 1, budget=sw.Budget(usd=1, name="b", price=PRICE))
        run.result(20)
        kinds = [(entry.kind, entry.name) for entry in run.history()]
        assert kinds == [
            (sw.HistoryKind.RESERVED, "llm.classify"),
            (sw.HistoryKind.SETTLED, "llm.classify"),
            (sw.HistoryKind.SUCCEEDED, "llm.classify"),
        ]
        reserved, spent = run.history()[0].value, run.history()[1].value
        assert reserved["budgets"] == ["b"]
        assert spent["as"] == "spent"
        assert 0 < spent["usd"] < reserved["usd"]
        assert engine.budget("b").spent_usd == Decimal(spent["usd"]) / 10**12


def test_calls_without_a_budget_leave_no_trace_of_one(server: LlmServer, flow: Any, tmp_path: Path) -> None:
    with sw.Engine(tmp_path / "s.db") as engine:
        run = engine.start(flow, 1)
        run.result(20)
        assert [entry.kind for entry in run.history()] == [sw.HistoryKind.SUCCEEDED]
        assert engine.budgets() == []
    assert all(entry["key"] for entry in server.journal()), "a call had no idempotency key"


def test_wrong_usage_settles_at_the_estimate_and_is_flagged(flow: Any, tmp_path: Path) -> None:
    with LlmServer(faults=Faults(share=1.0, kinds={"wrong_usage": 1.0})) as wrong:

        @sw.workflow
        async def asks(number: int) -> str:
            answer = await sw.llm.classify(f"billing {number}", labels=LABELS, model="test-model", base_url=wrong.url)
            return str(answer.status)

        with sw.Engine(tmp_path / "s.db") as engine:
            run = engine.start(asks, 1, budget=sw.Budget(usd=1, name="b", price=PRICE))
            run.result(20)
            account = engine.budget("b")
            assert account.odd_calls >= 1
            assert account.spent_usd >= ESTIMATE_LEAST
            assert any("odd" in (entry.value or {}) for entry in run.history() if entry.kind == sw.HistoryKind.SETTLED)


def test_children_spend_their_parents_budget(flow: Any, tmp_path: Path) -> None:
    @sw.workflow
    async def parent(count: int) -> list[str]:
        return [await sw.child(flow, number) for number in range(count)]

    with sw.Engine(tmp_path / "s.db") as engine:
        engine.start(parent, 3, budget=sw.Budget(usd=5, name="family", price=PRICE)).result(20)
        assert engine.budget("family").calls == 3


def test_exported_runs_bring_their_spending_along(flow: Any, tmp_path: Path) -> None:
    path, other = tmp_path / "s.db", tmp_path / "other.db"
    with sw.Engine(path) as engine:
        engine.start(flow, 1, budget=sw.Budget(usd=1, name="b", price=PRICE)).result(20)
        spent = engine.budget("b").spent_usd
        engine.budget("b").raise_to(usd=20, by="ann", why="worth it")
        engine.start(flow, 2, budget=sw.Budget(usd=1, name="c", price=PRICE)).result(20)
        engine.budget("c").close(by="bob", why="wrong model")
        changes = engine.budget("b").changes()
    store.export(path, tmp_path / "runs.jsonl")
    store.import_runs(other, tmp_path / "runs.jsonl")
    with sw.Engine(other) as engine:
        account = engine.budget("b")
        assert (account.spent_usd, account.cap_usd, account.changes()) == (spent, 20, changes)
        assert engine.budget("c").is_closed


def test_what_makes_no_budget_is_refused() -> None:
    for bad in (
        {},
        {"usd": -1},
        {"usd": "much"},
        {"usd": float("nan")},
        {"usd": True},
        {"usd": 10**9},
        {"tokens": 1.5},
        {"usd": 1, "per": "year"},
        {"usd": 1, "name": "a/b"},
        {"usd": 1, "name": ""},
        {"usd": 1, "on_cap": "shout"},
        {"usd": 1, "ask": "", "name": "x"},
        {"usd": 1, "zone": "Mars"},
        {"usd": 1, "price": (1,)},
    ):
        with pytest.raises(sw.InputError) as caught:
            Budget(**bad)  # type: ignore[arg-type]
        assert caught.value.code == "SW-E2184", bad
    with pytest.raises(sw.InputError, match="needs a name"):
        Budget(usd=1).known_as  # noqa: B018
    for good in (Budget(usd="0.1", tokens=5, name="x", price=(1, 2)), Budget(tokens=5, per="day")):
        assert Budget.from_json(good.to_json()) == good


def test_a_model_without_a_price_is_refused_before_it_is_asked(server: LlmServer, flow: Any, tmp_path: Path) -> None:
    before = server.counts()["requests"]
    with sw.Engine(tmp_path / "s.db") as engine:
        with pytest.raises(sw.RunFailed) as caught:
            engine.start(flow, 1, budget=sw.Budget(usd=1, name="b")).result(20)
        assert caught.value.code == "SW-E2185"
        assert "price=" in caught.value.hint
        engine.start(flow, 1, budget=sw.Budget(tokens=10_000, name="tokens")).result(20)
        assert engine.budget("tokens").spent_tokens > 0
    assert server.counts()["requests"] == before + 1


def test_an_answer_is_bounded_as_its_provider_wants_it() -> None:
    url = "http://127.0.0.1/v1/chat/completions"
    for place, body, name in (
        (url, b'{"messages":[]}', b'"max_tokens": 1024'),
        ("https://api.openai.com/v1/chat/completions", b"{}", b'"max_completion_tokens": 1024'),
        ("https://x/v1/messages", b"{}", b'"max_tokens": 1024'),
        ("https://x/v1/responses", b"{}", b'"max_output_tokens": 1024'),
        ("https://x/v1beta/models/g:generateContent?k=1", b"{}", b'"generationConfig": {"maxOutputTokens": 1024}'),
    ):
        tokens_in, tokens_out, bound = bounded(place, body)
        assert name in bound, place
        assert (tokens_in, tokens_out) == (len(body) // 4 + 1, TOKENS_OUT_DEFAULT)
    assert bounded(url, b'{"max_tokens": 7, "n": 3}')[1:] == (21, b'{"max_tokens": 7, "n": 3}')
    assert bounded("https://x/v1/embeddings", b"{}")[1:] == (0, b"{}")


def test_a_lower_cap_is_refused_and_a_closed_budget_opens_again(flow: Any, tmp_path: Path) -> None:
    with sw.Engine(tmp_path / "s.db") as engine:
        budget = sw.Budget(usd=1, name="b", price=PRICE)
        engine.start(flow, 1, budget=budget).result(20)
        account = engine.budget("b")
        for bad in ({"usd": "0.5"}, {"tokens": 5}):
            with pytest.raises(sw.InputError) as caught:
                account.raise_to(**bad)  # type: ignore[arg-type]
            assert caught.value.code == "SW-E2184"
        assert account.close(by="ann").is_closed
        with pytest.raises(sw.RunFailed) as failed:
            engine.start(flow, 2, budget=budget).result(20)
        assert failed.value.code == "SW-E2181"
        assert not engine.budget("b").raise_to(usd=2).is_closed
        engine.start(flow, 3, budget=budget).result(20)


def test_a_budget_goes_with_its_run(flow: Any, tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    with sw.Engine(path) as engine:
        run = engine.start(flow, 1, budget=sw.Budget(usd=1, per="run", name="own", price=PRICE))
        run.result(20)
        assert len(engine.budgets("own")) == 1
    with closing(sqlite3.connect(path)) as db:
        db.execute("UPDATE finished SET finished_at = 1")
        db.execute("UPDATE runs SET created_at = 1")
        db.commit()
    with sw.Engine(path, retention="1ms") as engine:
        wait_for(lambda: engine.budgets("own") == [])


def test_a_call_outside_of_a_run_has_no_store_for_a_budget(server: LlmServer) -> None:
    with pytest.raises(sw.InputError) as caught:
        sw.llm.classify_blocking(
            "x", labels=LABELS, model="test-model", base_url=server.url, budget=Budget(usd=1, name="b")
        )
    assert caught.value.code == "SW-E2184"


def test_the_same_run_comes_to_rest_when_it_is_held(flow: Any, tmp_path: Path) -> None:
    with sw.Engine(tmp_path / "s.db") as engine:
        budget = sw.Budget(usd="0.25", name="b", price=PRICE)
        runs = [engine.start(flow, number, budget=budget) for number in range(4)]
        wait_for(lambda: any(run.status() == sw.RunStatus.WAITING for run in runs) or all(map(is_over, runs)))
        held = [run for run in runs if not is_over(run)]
        if held:
            comes_to(held[0], sw.RunStatus.WAITING)
            assert any(entry.kind == sw.HistoryKind.HELD for entry in held[0].history())


def is_over(run: Any) -> bool:
    return bool(run.status().is_final)
