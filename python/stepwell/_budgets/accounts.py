"""The accounts of budgets in a store: how they stand, and who changed them."""

from __future__ import annotations

import getpass
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from stepwell._budgets.policy import PICODOLLARS, USD_MAX, Budget, picodollars
from stepwell._errors import InputError, NotFoundError
from stepwell._types import run_name

if TYPE_CHECKING:
    from stepwell._batch import BatchProgress
    from stepwell._worker import Worker

#: The kind of the documents that hold the definitions.
KIND = "budget"
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
        self.cap_usd: Decimal | None = None if row[1] < 0 else dollars(row[1])
        self.cap_tokens: int | None = None if row[2] < 0 else row[2]
        self.spent_usd, self.spent_tokens = dollars(row[3]), int(row[4])
        self.reserved_usd, self.reserved_tokens = dollars(row[5]), int(row[6])
        self.in_doubt_usd, self.in_doubt_tokens = dollars(row[7]), int(row[8])
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
        cap_usd = self._row[1] if usd is None else picodollars(usd, "usd", USD_MAX)
        cap_tokens = self._row[2] if tokens is None else tokens
        for new, old in ((cap_usd, self._row[1]), (cap_tokens, self._row[2])):
            if type(new) is not int or new < old or (new > old == -1):
                hint = "a cap is raised; a budget in tokens has none in dollars"
                raise InputError("SW-E2184", "not a higher cap", got=f"usd={usd}, tokens={tokens}"[:120], hint=hint)
        note = note_of("raised", by, why, cap_usd, cap_tokens)
        self._core.change_budget(self.name, cap=(cap_usd, cap_tokens), sets_cap=True, note=note)
        return account_of(self._core, self.name)

    def close(self, *, by: str = "", why: str = "") -> BudgetAccount:
        """Pay nothing more from it: calls that wait or come fail with SW-E2181, until somebody raises it."""
        note = note_of("closed", by, why, self._row[1], self._row[2])
        self._core.change_budget(self.name, closes=True, note=note)
        return account_of(self._core, self.name)

    def __repr__(self) -> str:
        """Tell how it stands."""
        cap = "no cap in dollars" if self.cap_usd is None else f"${self.cap_usd:f}"
        held = f", ${self.reserved_usd:f} reserved" if self.reserved_usd else ""
        doubt = f", ${self.in_doubt_usd:f} in doubt" if self.in_doubt_usd else ""
        return f"<budget {self.name!r}: ${self.spent_usd:f} of {cap} spent{held}{doubt}, {self.waiting} calls wait>"


def dollars(amount: int) -> Decimal:
    """Return an amount of the ledger in dollars."""
    return (Decimal(amount) / PICODOLLARS).normalize()


def note_of(what: str, by: str, why: str, cap_usd: int, cap_tokens: int) -> str:
    """Return the line that an account keeps of a change."""
    who = str(by or getpass.getuser())[:_WORDS_MAX]
    at = int(datetime.now(UTC).timestamp() * 1000)
    return json.dumps({"what": what, "by": who, "why": str(why)[:_WORDS_MAX], "at": at, "cap": [cap_usd, cap_tokens]})


def _change(note: dict[str, Any]) -> BudgetChange:
    usd, tokens = note["cap"]
    at = datetime.fromtimestamp(note["at"] / 1000, UTC)
    caps = (None if usd < 0 else dollars(usd), None if tokens < 0 else tokens)
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
        found = worker.core.documents(KIND, name)
        if not found:
            raise NotFoundError("SW-E2183", f"the run counts against budget {name!r}, which the store does not know")
        known = worker.known_budgets[name] = Budget.from_json(found[0][3])
    return known
