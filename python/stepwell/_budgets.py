"""Budgets as an engine shows and changes them: accounts in its store, and the question whether one may be raised."""

from __future__ import annotations

import getpass
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from stepwell._errors import InputError, NotFoundError
from stepwell._starts import start_request
from stepwell._types import run_name
from stepwell._workflow import current_step, step, workflow

if TYPE_CHECKING:
    from stepwell._batch import BatchProgress
    from stepwell._worker import Worker
    from stepwell._workflow import Workflow
    from stepwell.llm._budget import Budget

#: The kind of the documents that hold the definitions.
KIND = "budget"
_USD_MAX = 1_000_000
_PICODOLLARS = 10**12
_WORDS_MAX = 1_000


@dataclass(frozen=True, slots=True)
class BudgetChange:
    """A change that somebody made: what they set, when and why."""

    at: datetime
    by: str
    why: str
    what: str
    cap_usd: Decimal | None
    cap_tokens: int | None


class BudgetAccount:
    """One account of a budget, as it stood when it was read. Money in dollars, exact to the ledger's 10^-12.

    `spent` is settled; `reserved` is held by calls under way; `in_doubt` by calls that may have been done, of which nobody
    knows what they cost. All three count against the cap. Immutable; changing it returns it as it stands then.
    """

    def __init__(self, core: Any, row: tuple[Any, ...]) -> None:
        self._core = core
        self._row = row
        self.name: str = row[0]
        #: None: no cap.
        self.cap_usd: Decimal | None = None if row[1] < 0 else _dollars(row[1])
        self.cap_tokens: int | None = None if row[2] < 0 else row[2]
        self.spent_usd, self.spent_tokens = _dollars(row[3]), int(row[4])
        self.reserved_usd, self.reserved_tokens = _dollars(row[5]), int(row[6])
        self.in_doubt_usd, self.in_doubt_tokens = _dollars(row[7]), int(row[8])
        #: Calls that were settled, and how many of them with usage that made no sense or was more than the estimate.
        self.calls: int = row[9]
        self.odd_calls: int = row[10]
        #: Calls that wait for room.
        self.waiting: int = row[11]
        #: Nothing more is paid from it.
        self.is_closed: bool = row[12]
        #: The run whose own it is, for a budget per run.
        self.run_id: str | None = run_name(row[13]) if row[13] else None
        self.changed_at = datetime.fromtimestamp(row[14] / 1000, UTC)

    @property
    def left_usd(self) -> Decimal | None:
        """What may still be reserved; None: no cap."""
        used = self.spent_usd + self.reserved_usd + self.in_doubt_usd
        return None if self.cap_usd is None else max(Decimal(0), self.cap_usd - used)

    @property
    def left_tokens(self) -> int | None:
        """The same in tokens."""
        used = self.spent_tokens + self.reserved_tokens + self.in_doubt_tokens
        return None if self.cap_tokens is None else max(0, self.cap_tokens - used)

    def changes(self) -> list[BudgetChange]:
        """Return who changed the account, the oldest first (of the newest 1,000)."""
        return [_change(json.loads(line)) for line in self._row[15].splitlines()]

    def projected_usd(self, progress: BatchProgress) -> Decimal | None:
        """Return what a batch will have cost at its end, by what its items cost so far; None while nobody can tell."""
        if progress.total is None or progress.finished - progress.recorded <= 0:
            return None
        each = self.spent_usd / (progress.finished - progress.recorded)
        return self.spent_usd + each * (progress.total - progress.finished)

    def raise_to(
        self,
        *,
        usd: Decimal | float | str | None = None,
        tokens: int | None = None,
        by: str = "",
        why: str = "",
    ) -> BudgetAccount:
        """Set a higher cap, durably, and let the calls that wait go on as far as it reaches. A closed budget opens again.

        `by`: who does it (default: the user of this process). Raises InputError SW-E2184 for a cap that is lower.
        """
        from stepwell.llm._budget import picodollars

        cap_usd = self._row[1] if usd is None else picodollars(usd, "usd", _USD_MAX)
        cap_tokens = self._row[2] if tokens is None else tokens
        for new, old in ((cap_usd, self._row[1]), (cap_tokens, self._row[2])):
            if type(new) is not int or new < old or (new > old == -1):
                hint = "a cap is raised; a budget in tokens has none in dollars"
                raise InputError("SW-E2184", "not a higher cap", got=f"usd={usd}, tokens={tokens}"[:120], hint=hint)
        note = _note("raised", by, why, cap_usd, cap_tokens)
        self._core.change_budget(self.name, cap=(cap_usd, cap_tokens), sets_cap=True, note=note)
        return account_of(self._core, self.name)

    def close(self, *, by: str = "", why: str = "") -> BudgetAccount:
        """Pay nothing more from it: calls that wait or come fail with SW-E2181, until somebody raises it."""
        note = _note("closed", by, why, self._row[1], self._row[2])
        self._core.change_budget(self.name, closes=True, note=note)
        return account_of(self._core, self.name)

    def __repr__(self) -> str:
        """Tell how it stands."""
        cap = "no cap in dollars" if self.cap_usd is None else f"${self.cap_usd:f}"
        held = f", ${self.reserved_usd:f} reserved" if self.reserved_usd else ""
        doubt = f", ${self.in_doubt_usd:f} in doubt" if self.in_doubt_usd else ""
        return f"<budget {self.name!r}: ${self.spent_usd:f} of {cap} spent{held}{doubt}, {self.waiting} calls wait>"


def _dollars(amount: int) -> Decimal:
    return (Decimal(amount) / _PICODOLLARS).normalize()


def _note(what: str, by: str, why: str, cap_usd: int, cap_tokens: int) -> str:
    who = str(by or getpass.getuser())[:_WORDS_MAX]
    at = int(datetime.now(UTC).timestamp() * 1000)
    return json.dumps({"what": what, "by": who, "why": str(why)[:_WORDS_MAX], "at": at, "cap": [cap_usd, cap_tokens]})


def _change(note: dict[str, Any]) -> BudgetChange:
    usd, tokens = note["cap"]
    at = datetime.fromtimestamp(note["at"] / 1000, UTC)
    caps = (None if usd < 0 else _dollars(usd), None if tokens < 0 else tokens)
    return BudgetChange(at, note["by"], note["why"], note["what"], *caps)


def account_of(core: Any, name: str) -> BudgetAccount:
    """Return an account by its name. Raises NotFoundError SW-E2183."""
    rows = core.budgets(name)
    if not rows or rows[0][0] != name:
        hint = "engine.budgets() lists them; an account begins with its first call"
        raise NotFoundError("SW-E2183", f"there is no budget {name!r}", hint=hint)
    return BudgetAccount(core, rows[0])


def find_budget(worker: Worker, name: str) -> Budget:
    """Return the definition that the store keeps under a name; a run may have been started by another process."""
    known = worker.known_budgets.get(name)
    if known is None:
        from stepwell.llm._budget import Budget

        found = worker.core.documents(KIND, name)
        if not found:
            raise NotFoundError("SW-E2183", f"the run counts against budget {name!r}, which the store does not know")
        known = worker.known_budgets[name] = Budget.from_json(found[0][3])
    return known


# -- asking for more -----------------------------------------------------------------------------------------------------


@step(name="raise the budget", retry=None)
async def _answer_with(asked: dict[str, Any], approved: bool, by: str, why: str) -> None:  # noqa: FBT001
    here = current_step.get()
    assert here is not None  # noqa: S101 - it only runs as a step
    core = here.worker.core
    usd, tokens = (cap + more if cap >= 0 else -1 for cap, more in zip(asked["cap"], asked["more"], strict=True))
    note = _note("raised" if approved else "closed", by, why, usd, tokens)
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
        "cap_usd": str(_dollars(max(0, asked["cap"][0]))),
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


# -- the engine's verbs --------------------------------------------------------------------------------------------------


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
                note = _note("defined", "", "", *budget.cap)
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
