"""The question whether a budget that was reached may be raised: one approval for each cap."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stepwell._budgets.accounts import dollars, note_of
from stepwell._starts import start_request
from stepwell._workflow import current_step, step, workflow

if TYPE_CHECKING:
    from stepwell._budgets.policy import Budget
    from stepwell._worker import Worker


@step(name="raise the budget", retry=None)
async def _answer_with(asked: dict[str, Any], approved: bool, by: str, why: str) -> None:  # noqa: FBT001
    here = current_step.get()
    assert here is not None  # noqa: S101 - it only runs as a step
    core = here.worker.core
    usd, tokens = (cap + more if cap >= 0 else -1 for cap, more in zip(asked["cap"], asked["more"], strict=True))
    note = note_of("raised" if approved else "closed", by, why, usd, tokens)
    if not approved:
        core.change_budget(asked["budget"], closes=True, note=note)
        return
    row = core.budgets(asked["budget"])[0]  # somebody may have raised it further meanwhile
    cap = (max(usd, row[1]), max(tokens, row[2]))
    core.change_budget(asked["budget"], cap=cap, sets_cap=True, note=note)


@workflow(name="stepwell.budget")
async def budget_flow(asked: dict[str, Any]) -> bool:
    """Ask once whether a budget may be raised, and do what was decided."""
    from stepwell._approvals.flows import approval

    evidence = {
        "budget": asked["budget"],
        "cap_usd": str(dollars(max(0, asked["cap"][0]))),
        "cap_tokens": asked["cap"][1],
    }
    decision = await approval(asked["question"], evidence=evidence, key=f"budget:{asked['budget']}")
    await _answer_with(asked, decision.approved, decision.by, decision.comment)
    return decision.approved


def ask_for_more(worker: Worker, budget: Budget, account: str, wanted: tuple[int, int]) -> None:
    """Open the budget's approval, once for each cap that was reached: whoever comes later finds it open.

    Not while the calls under way may still turn out cheaper than they were reserved for, and leave enough.
    """
    _, *amounts = worker.core.budgets(account)[0]
    cap, spent, reserved, doubt = (amounts[at : at + 2] for at in (0, 2, 4, 6))
    is_used_up = any(c >= 0 and s + d + w > c for c, s, d, w in zip(cap, spent, doubt, wanted, strict=True))
    if any(reserved) and not is_used_up:
        return
    key = f"{account}@{cap[0]}/{cap[1]}"
    if key in worker.asked_budgets:
        return
    worker.need(budget_flow, None)
    more = [max(0, each) for each in budget.cap]
    asked = {"budget": account, "question": budget.ask, "cap": list(cap), "more": more}
    worker.core.start([start_request(budget_flow, asked, key)])
    worker.asked_budgets.add(key)
