"""What an engine can do with budgets, and how runs carry their names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stepwell._budgets.accounts import KIND, BudgetAccount, account_of, note_of
from stepwell._budgets.asking import budget_flow

if TYPE_CHECKING:
    from stepwell._budgets.policy import Budget
    from stepwell._worker import Worker
    from stepwell._workflow import Workflow


class BudgetVerbs:
    """What an engine adds for budgets."""

    _core: Any
    _worker: Worker
    _has_looked_for_budgets = False

    def _need(self, flow: Workflow[..., Any]) -> None:
        raise NotImplementedError

    def budgets(self, name: str = "") -> list[BudgetAccount]:
        """Return all accounts, or those of one budget (per run, tenant or day there are several), by name; at most 10,000."""
        return [BudgetAccount(self._core, row) for row in self._core.budgets(name)]

    def budget(self, name: str) -> BudgetAccount:
        """Return one account by its name: "support", "daily/2026-11-21". Raises NotFoundError SW-E2183 without it."""
        return account_of(self._core, name)

    def _adopt(self, budget: Budget | None) -> str:
        """Keep a budget's definition in the store; return its name, which runs are started with. A changed one wins."""
        if budget is None:
            return ""
        name, body = budget.known_as, budget.to_json()
        if self._worker.known_budgets.get(name) == budget:
            return name
        kept = self._core.documents(KIND, name)
        if not kept or kept[0][3] != body:
            self._core.keep(KIND, name, -1, body)
            if budget.per == "batch":
                note = note_of("defined", "", "", *budget.cap)
                self._core.change_budget(name, cap=budget.cap, makes=True, sets_cap=True, note=note)
        self._worker.known_budgets[name] = budget
        return name

    def _serve_budgets(self, flow: Workflow[..., Any]) -> None:
        """Drive questions that an earlier process left, in an engine that has the user's code."""
        if self._has_looked_for_budgets or flow.name.startswith("stepwell."):
            return
        self._has_looked_for_budgets = True
        if self._core.find(workflow=budget_flow.name):
            self._need(budget_flow)


def with_budgets(request: tuple[Any, ...], names: str) -> tuple[Any, ...]:
    """Return a start (in the core's form) of a run whose calls count against budgets: their names, a line each."""
    if not names:
        return request
    tail: tuple[Any, ...] = (0, -1, -1, "", [], "", (), -1, -1, "")
    return (*request, *tail[len(request) - 6 :], names)


def joined(*names: str) -> str:
    """Return names of budgets, each once, as a run carries them."""
    return "\n".join(dict.fromkeys(name for name in names if name))


def refused_by(topic: bytes, step: str) -> str:
    """Return the account that had no room for a call that was held; empty: it was held for another reason."""
    text = topic.decode()
    return text[len("budget:") : -len(step) - 1] if text.startswith("budget:") else ""
