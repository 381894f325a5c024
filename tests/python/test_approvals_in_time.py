"""Approvals in time: deadlines, escalations, cancels, other processes."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from approval_flows import asks, both, only, what
from flows import comes_to, made, make, until

import stepwell as sw

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _nothing_made() -> None:
    made.clear()


# -- times ---------------------------------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("kind", ["deadline", "long deadline"])
def test_deadline_without_default_raises(engine: sw.Engine, flow: Any, kind: str) -> None:
    run = engine.start(flow, kind)
    approval = only(engine)
    with pytest.raises(sw.RunFailed, match="SW-E2020"):
        run.result(20)
    with pytest.raises(sw.ConflictError, match="SW-E2022"):
        approval.approve(by="ann")
    late = engine.approval(approval.id)
    assert (late.status, late.time_to_decide, what(late)) == ("expired", None, ["asked", "expired"])


def test_approval_timeout_is_a_wait_timeout(engine: sw.Engine) -> None:
    @sw.workflow
    async def copes() -> str:
        try:
            await sw.approval("?", deadline="10ms")
        except sw.WaitTimeout as error:
            return f"{type(error).__name__} {error.code}"
        return "decided"

    assert engine.start(copes).result(20) == "ApprovalTimeout SW-E2020"


@both
def test_default_is_the_answer_at_the_deadline(engine: sw.Engine, flow: Any) -> None:
    decision = engine.start(flow, "default no").result(20)
    assert (decision["approved"], decision["by"]) == (False, "deadline")
    assert engine.start(flow, "default triage").result(20) == {"queue": "technical", "urgency": 2}


def test_decision_after_the_deadline_never_counts_also_if_nobody_was_there_to_see_it_pass(tmp_path: Path) -> None:
    with sw.Engine(tmp_path / "s.db") as engine:
        run = engine.start(asks, "long deadline", key="k")
        approval = only(engine)
        comes_to(run, sw.RunStatus.WAITING)
        assert approval.deadline_at is not None
        late = {"id": "x", "is_reject": False, "answer": True, "by": "ann", "comment": "", "hash": ""}
        late["at"] = int(approval.deadline_at.timestamp() * 1000)
        sw.Run(engine, engine._approval_flow(), approval._run, is_new=False).signal("decision", late)
        with pytest.raises(sw.RunFailed, match="SW-E2020"):
            run.result(20)
        assert what(engine.approval(approval.id)) == ["asked", "expired", "refused"]


def test_at_the_very_moment_of_the_deadline_workflow_and_decider_hear_the_same(engine: sw.Engine) -> None:
    runs = {run.id: run for run in engine.start_many(asks, ["moment"] * 60)}
    heard: dict[str, bool] = {}
    codes: set[str] = set()

    def decide(approval: sw.Approval, offset_ms: int) -> None:
        assert approval.deadline_at is not None
        threading.Event().wait(approval.deadline_at.timestamp() - time.time() + offset_ms / 1000)
        try:
            heard[approval.asked_by] = approval.approve(by="ann").status == "approved"
        except sw.ConflictError as error:
            heard[approval.asked_by] = False
            codes.add(error.code)

    until(lambda: len(engine.approvals(pending=False)) == len(runs))
    threads = [
        threading.Thread(target=decide, args=(approval, index % 20 - 15))
        for index, approval in enumerate(engine.approvals(pending=False))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {run_id: run.result(20)["approved"] for run_id, run in runs.items()} == heard
    assert codes <= {"SW-E2022"}


@both
def test_escalations_come_once_each_in_order_until_it_is_decided(engine: sw.Engine, flow: Any) -> None:
    run = engine.start(flow, "pages")
    until(lambda: len(made) == 2)
    assert sorted(made) == ["mail: Refund?", "page: Refund? 7"]
    done = only(engine).approve(by="ann")
    assert run.result(20)["approved"]
    until(lambda: "to be called" not in str(done.audit()))
    assert what(done) == ["asked", "escalated", "escalated", "approved"]
    assert [entry.detail.split()[-1] for entry in done.audit()[1:3]] == ["(called)", "(called)"]
    assert len(made) == 2


def test_single_escalation_comes_at_half_time(engine: sw.Engine) -> None:
    run = engine.start(asks, "half")
    decision = run.result(20)
    assert (decision["approved"], decision["by"]) == (True, "deadline")
    until(lambda: made == ["mail: Refund?"])


def test_failing_escalation_is_recorded_and_does_not_end_the_approval(engine: sw.Engine) -> None:
    run = engine.start(asks, "broken")
    until(lambda: len(list(engine.dead_letters())) == 1)
    approval = only(engine)
    assert approval.audit()[1].detail.endswith("ConnectionError: the pager is down)")
    (again,) = engine.dead_letters().replay()  # as any other dead letter
    with pytest.raises(sw.RunFailed, match="the pager is down"):
        again.result(20)
    assert made == ["broken"] * 2
    approval.approve(by="ann")
    assert run.result(20)["approved"]


def test_escalation_that_nobody_could_call_in_time_is_not_called_after_the_decision(tmp_path: Path) -> None:
    with sw.Engine(tmp_path / "s.db") as engine:
        engine.start(asks, "pages late", key="k")
        only(engine)
    with sw.Engine(tmp_path / "s.db") as desk:  # serves no code of ours: only approvals
        until(lambda: what(only(desk)) == ["asked", "escalated"])
        assert only(desk).approve(by="ann").status == "approved"
        assert made == []
    with sw.Engine(tmp_path / "s.db", workflows=[asks]) as engine:
        run = engine.start(asks, "pages late", key="k")
        assert run.result(20)["by"] == "ann"
        (approval,) = engine.approvals(pending=False)
        until(lambda: "decided meanwhile" in approval.audit()[1].detail)
    assert made == []


# -- what survives ---------------------------------------------------------------------------------------------------------


@both
def test_goes_on_in_another_process_without_being_asked_for(tmp_path: Path, flow: Any) -> None:
    with sw.Engine(tmp_path / "s.db") as engine:
        run = engine.start(flow, "long deadline", key="k")
        comes_to(run, sw.RunStatus.WAITING)
    with sw.Engine(tmp_path / "s.db", workflows=[flow]) as engine:
        with pytest.raises(sw.RunFailed, match="SW-E2020"):
            engine.start(flow, "long deadline", key="k").result(20)
        assert len(engine.approvals(pending=False)) == 1


def test_decision_by_a_process_that_knows_nothing_of_the_workflow(tmp_path: Path) -> None:
    with sw.Engine(tmp_path / "s.db") as engine:
        run = engine.start(asks, "two triage", key="k")
        comes_to(run, sw.RunStatus.WAITING)
    with sw.Engine(tmp_path / "s.db") as desk:
        only(desk).decide({"queue": "billing", "urgency": 1}, by="ann")
    with sw.Engine(tmp_path / "s.db") as desk:
        assert [entry.by for entry in only(desk).decisions] == ["ann"]
        assert only(desk).decide({"queue": "billing", "urgency": 1}, by="bob").status == "answered"
    with sw.Engine(tmp_path / "s.db") as engine:
        assert engine.start(asks, "two triage", key="k").result(20) == {"queue": "billing", "urgency": 1}


def test_early_decision_is_kept_until_the_approval_begins(engine: sw.Engine) -> None:
    run = engine.start(asks, "plain")
    approval = only(engine)
    child = sw.Run(engine, engine._approval_flow(), approval._run, is_new=False)
    comes_to(child, sw.RunStatus.WAITING)
    child.pause()
    comes_to(child, sw.RunStatus.PAUSED)
    threading.Thread(target=lambda: approval.approve(by="ann"), daemon=True).start()
    until(lambda: engine.approval(approval.id).status == "approved")  # as the store's order has it
    assert child.status() == sw.RunStatus.PAUSED
    child.resume()
    assert run.result(20)["by"] == "ann"


def test_cancel_of_the_asking_run_withdraws_the_approval(engine: sw.Engine) -> None:
    run = engine.start(asks, "plain")
    approval = only(engine)
    run.cancel()
    until(lambda: engine.approval(approval.id).status == "cancelled")
    with pytest.raises(sw.ConflictError, match="SW-E2027"):
        approval.approve(by="ann")
    assert engine.approvals() == []
    assert what(engine.approval(approval.id)) == ["asked", "cancelled"]


def test_faster_branch_withdraws_the_approval(engine: sw.Engine) -> None:
    @sw.workflow
    async def races() -> str:
        who, _ = await sw.first(people=sw.approval("?"), other=sw.wait_for_signal("go"))
        return who

    run = engine.start(races)
    approval = only(engine)
    run.signal("go")
    assert run.result(20) == "other"
    until(lambda: engine.approval(approval.id).status == "cancelled")


def test_steps_before_the_question_are_not_made_again(tmp_path: Path) -> None:
    with sw.Engine(tmp_path / "s.db") as engine:
        run = engine.start(pays, key="k")
        comes_to(run, sw.RunStatus.WAITING)
        only(engine).approve(by="ann")
        assert run.result(20) == ["look it up", "pay"]
    assert made == ["look it up", "pay"]


def test_replay_from_the_question_asks_anew_with_times_of_its_own(engine: sw.Engine) -> None:
    run = engine.start(asks, "long deadline")
    with pytest.raises(sw.RunFailed, match="SW-E2020"):
        run.result(20)
    again = engine.replay(run, from_step="approval")
    assert only(engine).approve(by="ann").status == "approved"
    assert again.result(20)["by"] == "ann"


@sw.workflow
async def pays() -> list[str]:
    before = await make("look it up")
    decision = await sw.approval("Pay?")
    return [before, await make("pay") if decision.approved else "refused"]
