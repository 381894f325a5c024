"""Approvals: what people are asked, how they answer, and what is refused."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from datetime import timedelta
from typing import Any, Literal

import pytest
from approval_flows import Amount, Queue, Triage, asks, both, only, page_on_call, what
from flows import comes_to, made, until

import stepwell as sw


@pytest.fixture(autouse=True)
def _nothing_made() -> None:
    made.clear()


#: A decision as it is sent.
WHOLE = {"id": "x", "is_reject": False, "answer": True, "by": "ann", "comment": "", "at": 1, "hash": ""}


# -- asking and answering -----------------------------------------------------------------------------------------------


@both
def test_approval_waits_in_the_store_and_is_answered(engine: sw.Engine, flow: Any) -> None:
    run = engine.start(flow, "plain")
    approval = only(engine)
    comes_to(run, sw.RunStatus.WAITING)
    until(lambda: engine.counters()["runs_in_flight"] == 0)
    assert (approval.status, approval.asked_by, approval.question) == ("pending", run.id, "Refund?")
    done = approval.approve(by="ann", comment="fine")
    assert done.status == "approved"
    decision = run.result(20)
    assert decision == {"approved": True, "by": "ann", "comment": "fine", "at": decision["at"]}
    assert what(done) == ["asked", "approved"]
    assert done.time_to_decide is not None
    assert timedelta(0) <= done.time_to_decide < timedelta(minutes=1)
    assert engine.approvals() == []
    assert [each.id for each in engine.approvals(pending=False)] == [approval.id]


@both
def test_rejection_is_an_answer_to_yes_or_no(engine: sw.Engine, flow: Any) -> None:
    run = engine.start(flow, "bool")
    assert only(engine).reject(by="bob").status == "rejected"
    assert run.result(20) is False
    run = engine.start(flow, "plain")
    assert only(engine).decide(False, by="bob", comment="no").status == "rejected"  # noqa: FBT003
    assert run.result(20)["approved"] is False


def test_decision_object_in_the_workflow(engine: sw.Engine) -> None:
    @sw.workflow
    async def sees() -> list[Any]:
        decision = await sw.approval("Refund?")
        return [type(decision).__name__, decision.approved, decision.by, decision.at.tzinfo is not None]

    run = engine.start(sees)
    only(engine).approve(by="ann")
    assert run.result(20) == ["Decision", True, "ann", True]


@pytest.mark.parametrize(
    ("kind", "answer", "expected"),
    [
        (Triage, Triage(queue="billing", urgency=1), "Triage"),
        (Triage, {"queue": "billing", "urgency": 1}, "Triage"),
        (Amount, Amount(5), "Amount"),
        (Queue, Queue.BILLING, "Queue"),
        (Literal["a", "b"], "a", "str"),
        (int | None, None, "NoneType"),
        (list[Amount], [{"euros": 3, "reason": "x"}], "list"),
        (Any, {"any": [1]}, "dict"),
        (str, "text", "str"),
    ],
)
def test_typed_answers(engine: sw.Engine, kind: Any, answer: Any, expected: str) -> None:
    @sw.workflow
    async def of_a_type() -> str:
        return type(await sw.approval("?", type=kind)).__name__

    run = engine.start(of_a_type)
    assert only(engine).decide(answer, by="ann").status == "answered"
    assert run.result(20) == expected


@pytest.mark.parametrize(
    "answer",
    [
        {"queue": "sales", "urgency": 1},
        {"queue": "billing", "urgency": 9},
        {"queue": "billing", "urgency": True},
        {"queue": "billing"},
        {"queue": "billing", "urgency": 5},  # what only the type itself knows
        "billing",
        True,
    ],
)
def test_answer_that_does_not_fit_is_refused_and_the_approval_stays_open(engine: sw.Engine, answer: Any) -> None:
    run = engine.start(asks, "triage")
    approval = only(engine)
    with pytest.raises(sw.InputError, match="SW-E2025"):
        approval.decide(answer, by="ann")
    assert only(engine).decide({"queue": "billing", "urgency": 2}, by="ann").status == "answered"
    assert run.result(20) == {"queue": "billing", "urgency": 2}
    refused = engine.approval(approval.id).audit()[1]
    assert (refused.what, refused.by, refused.answer) == ("refused", "ann", answer)
    assert refused.detail.startswith("SW-E2025")


def test_typed_question_can_be_rejected(engine: sw.Engine) -> None:
    run = engine.start(asks, "triage")
    with pytest.raises(sw.InputError, match="SW-E2025"):
        only(engine).approve(by="ann")  # a yes is no answer to it
    assert only(engine).reject(by="ann", comment="nonsense").status == "rejected"
    with pytest.raises(sw.RunFailed, match="SW-E2029"):
        run.result(20)


def test_in_branches_and_maps_each_has_its_own(engine: sw.Engine) -> None:
    @sw.workflow
    async def branches() -> list[Any]:
        return [
            *await sw.gather(sw.approval("a?", type=str), sw.approval("b?", type=str)),
            *await sw.map(lambda name: sw.approval(name, type=str), ["c?", "d?"]),
        ]

    run = engine.start(branches)
    for _ in range(2):
        until(lambda: len(engine.approvals()) == 2)
        for approval in engine.approvals():
            approval.decide(f"{approval.question} yes", by="ann")
    assert run.result(20) == ["a? yes", "b? yes", "c? yes", "d? yes"]


def test_found_by_id_by_key_and_not_otherwise(engine: sw.Engine) -> None:
    engine.start(asks, "evidence")
    approval = only(engine)
    assert engine.approval("ticket-7").id == engine.approval(approval.id).id == approval.id
    assert (approval.evidence, approval.payload) == ({"ticket": 7}, {"to": "ann", "euros": 20})
    for unknown in ("ticket-8", "r_123", "r_?", approval.asked_by):
        with pytest.raises(sw.NotFoundError, match="SW-E1005"):
            engine.approval(unknown)


def test_async_twins_and_other_threads(engine: sw.Engine) -> None:
    first, second, third = (engine.start(asks, kind) for kind in ("plain", "bool", "triage"))

    async def main() -> list[Any]:
        found = {each.asked_by: each for each in engine.approvals()}
        await asyncio.gather(
            found[first.id].aapprove(by="ann"),
            found[second.id].areject(by="bob"),
            found[third.id].adecide({"queue": "billing", "urgency": 1}, by="eve"),
        )
        return [await first, await second, await third]

    until(lambda: len(engine.approvals()) == 3)
    one, two, three = asyncio.run(main())
    assert (one["by"], two, three["queue"]) == ("ann", False, "billing")


# -- who, what, how many -------------------------------------------------------------------------------------------------


def test_payload_hash_is_that_of_the_canonical_json_and_another_is_refused(engine: sw.Engine) -> None:
    run = engine.start(asks, "evidence")
    approval = only(engine)
    assert approval.payload_hash == hashlib.sha256(b'{"euros":20,"to":"ann"}').hexdigest()
    with pytest.raises(sw.ConflictError, match="SW-E2024"):
        approval.approve(by="ann", payload_hash=hashlib.sha256(b'{"euros":2000,"to":"ann"}').hexdigest())
    with pytest.raises(sw.ConflictError, match="SW-E2024"):
        approval.approve(by="ann", payload_hash="")
    done = approval.approve(by="ann", payload_hash=approval.payload_hash)
    assert what(done) == ["asked", "refused", "refused", "approved"]
    assert run.result(20)["approved"]


def test_only_approvers_decide(engine: sw.Engine) -> None:
    engine.start(asks, "listed")
    approval = only(engine)
    for by in ("mallory", "Ann", ""):
        with pytest.raises(sw.InputError, match="SW-E2023"):
            approval.approve(by=by)
        with pytest.raises(sw.InputError, match="SW-E2023"):
            approval.reject(by=by)
    assert approval.approve(by="bob").status == "approved"


def test_quorum_counts_each_person_once(engine: sw.Engine) -> None:
    run = engine.start(asks, "two")
    approval = only(engine).approve(by="ann", comment="one")
    assert approval.status == "pending"
    assert [entry.by for entry in approval.decisions] == ["ann"]
    with pytest.raises(sw.ConflictError, match="SW-E2026"):
        approval.approve(by="ann")
    assert approval.approve(by="bob", comment="two").status == "approved"
    decision = run.result(20)
    assert (decision["by"], decision["comment"]) == ("ann, bob", "one; two")


def test_one_rejection_ends_it_unless_more_are_wanted(engine: sw.Engine) -> None:
    run = engine.start(asks, "two")
    only(engine).approve(by="ann")
    assert only(engine).reject(by="bob").status == "rejected"
    assert run.result(20)["approved"] is False
    run = engine.start(asks, "two of three")
    only(engine).reject(by="ann")
    only(engine).approve(by="bob")
    assert only(engine).approve(by="eve").status == "approved"
    assert run.result(20)["by"] == "bob, eve"


def test_typed_quorum_wants_the_same_answer_and_ends_when_nobody_can_agree(engine: sw.Engine) -> None:
    run = engine.start(asks, "two triage")
    only(engine).decide({"queue": "billing", "urgency": 1}, by="ann")
    assert only(engine).decide({"urgency": 1, "queue": "billing"}, by="bob").status == "answered"
    assert run.result(20) == {"queue": "billing", "urgency": 1}
    run = engine.start(asks, "two triage")
    only(engine).decide({"queue": "billing", "urgency": 1}, by="ann")
    assert only(engine).decide({"queue": "billing", "urgency": 2}, by="bob").status == "rejected"
    with pytest.raises(sw.RunFailed, match="SW-E2029"):
        run.result(20)


def test_first_decision_wins_and_the_second_hears_who_decided_what_and_when(engine: sw.Engine) -> None:
    engine.start(asks, "plain")
    approval = only(engine)
    approval.approve(by="ann")
    with pytest.raises(sw.ConflictError, match=r"SW-E2021 .*approved by ann at 20\d\d-.* UTC"):
        approval.reject(by="bob")
    with pytest.raises(sw.ConflictError, match="SW-E2021"):
        approval.approve(by="ann")
    engine.start(asks, "triage")
    approval = only(engine)
    approval.decide({"queue": "billing", "urgency": 1}, by="ann")
    with pytest.raises(sw.ConflictError, match=r'SW-E2021 .*answered {"queue":"billing","urgency":1} by ann'):
        approval.decide({"queue": "technical", "urgency": 1}, by="bob")


def test_of_many_at_once_exactly_as_many_win_as_are_wanted(engine: sw.Engine) -> None:
    run = engine.start(asks, "many")
    approval = only(engine)
    outcomes: list[str] = []

    def decide(number: int) -> None:
        try:
            approval.approve(by=f"p{number}")
            outcomes.append(f"p{number}")
        except sw.ConflictError as error:
            outcomes.append(error.code)

    threads = [threading.Thread(target=decide, args=(number,)) for number in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    winners = [outcome for outcome in outcomes if outcome != "SW-E2021"]
    assert len(winners) == 2
    assert sorted(run.result(20)["by"].split(", ")) == sorted(winners)


@pytest.mark.parametrize("junk", [None, "yes", {"by": "ann"}, {**WHOLE, "at": "now"}, {**WHOLE, "is_reject": 1}])
def test_signal_that_is_no_decision_is_dropped(engine: sw.Engine, junk: Any) -> None:
    run = engine.start(asks, "plain")
    approval = only(engine)
    sw.Run(engine, engine._approval_flow(), approval._run, is_new=False).signal("decision", junk)
    assert only(engine).status == "pending"
    assert what(approval.approve(by="ann")) == ["asked", "approved"]
    assert run.result(20)["by"] == "ann"


def test_refused_attempts_are_bounded(engine: sw.Engine) -> None:
    engine.start(asks, "listed")
    approval = only(engine)
    for _ in range(100):
        with pytest.raises(sw.InputError, match="SW-E2023"):
            approval.approve(by="mallory")
    with pytest.raises(sw.BusyError, match="SW-E2030"):
        approval.approve(by="mallory")
    done = approval.approve(by="ann")
    assert what(done) == ["asked", *["refused"] * 100, "approved"]


# -- questions that cannot be asked ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"question": ""}, "question"),
        ({"quorum": 0}, "quorum"),
        ({"quorum": 3, "approvers": ["ann", "bob"]}, "quorum"),
        ({"reject_quorum": 2, "approvers": ["ann", "ann"]}, "reject_quorum"),
        ({"approvers": []}, "approvers"),
        ({"approvers": "ann"}, "approvers"),
        ({"default": True}, "deadline"),
        ({"default": "yes", "deadline": "1s"}, "default"),
        ({"default": {"queue": "x"}, "deadline": "1s", "type": Triage}, "default"),
        ({"type": threading.Lock}, "type"),
        ({"escalate": page_on_call}, "deadline"),
        ({"escalate": [("2s", page_on_call)], "deadline": "1s"}, "too late"),
        ({"deadline": "99999d"}, "deadline"),
        ({"escalate": [("1s", lambda request: None)]}, "step"),
        ({"escalate": [("1s", sw.step(lambda request: None))]}, "step"),
        ({"dead_line": "1s"}, "dead_line"),
    ],
)
def test_bad_questions_are_refused_before_anybody_is_asked(engine: sw.Engine, wrong: dict[str, Any], text: str) -> None:
    @sw.workflow
    async def wrongly() -> Any:
        return await sw.approval(**{"question": "?", **wrong})

    with pytest.raises(sw.RunFailed, match=r"SW-E2028") as failure:
        engine.start(wrongly).result(20)
    assert text in str(failure.value)
    assert engine.approvals(pending=False) == []


def test_approval_outside_of_a_run_says_so() -> None:
    with pytest.raises(sw.InputError, match="SW-E2009"):
        asyncio.run(sw.approval("?"))
    with pytest.raises(sw.InputError, match="SW-E2009"):
        sw.approval_blocking("?")
