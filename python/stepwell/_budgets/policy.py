"""`Budget`: what calls may cost at most, and which budgets a call counts against."""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import json
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Literal
from zoneinfo import ZoneInfo

from stepwell._errors import InputError
from stepwell._types import run_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stepwell._activation import Activation

Per = Literal["run", "batch", "tenant", "day"]
OnCap = Literal["wait", "fail"]
_PERS, _ON_CAPS = ("run", "batch", "tenant", "day"), ("wait", "fail")
_NAME_CHARS_MAX = 120
_TENANT_CHARS_MAX = 120
USD_MAX = 1_000_000
_TOKENS_MAX = 10**15
PRICE_MAX = 100_000  # dollars for a million tokens
PICODOLLARS = 10**12


def picodollars(usd: Decimal | float | str, what: str, most: int) -> int:
    """Return dollars in the ledger's unit, 10^-12 of one. Raises InputError SW-E2184 for what is no amount up to `most`."""
    try:
        amount = Decimal(str(usd))
    except InvalidOperation:
        amount = Decimal("NaN")
    if isinstance(usd, bool) or not amount.is_finite() or not 0 <= amount <= most:
        raise InputError(
            "SW-E2184", f"{what} is no amount of money", got=repr(usd)[:80], expected=f"dollars, 0 to {most:,}"
        )
    return int((amount * PICODOLLARS).to_integral_value())


@dataclass(frozen=True, slots=True)
class Budget:
    """At most so much money, or so many tokens, for the calls that count against it. The cap holds to the last call.

    - `usd`, `tokens`: the caps; at least one of them.
    - `per`: whose account it is: "run" (each run its own), "batch" (all that name it share one), "tenant" (each `tenant` of
      the calls its own), "day" (a new one each day in `zone`, an IANA name).
    - `name`: the account's name. Two budgets of one name are the same account; `engine.map` names its own by itself.
    - `on_cap`: what happens to a call that does not fit: "wait" (its run waits in the store, until there is room again, the
      next day has come, or somebody raised the cap) or "fail" (StepFailed SW-E2180).
    - `ask`: a question. At the cap one approval is opened; who approves adds the budget's amount once more, who rejects
      closes the budget, and the runs that wait fail with SW-E2181.
    - `price`: (in, out) dollars for a million tokens, in the place of the price list's.

    Raises InputError SW-E2184 for what makes no budget.
    """

    usd: Decimal | float | str | None = None
    tokens: int | None = None
    per: Per = "batch"
    name: str | None = None
    on_cap: OnCap = "wait"
    ask: str | None = None
    price: tuple[float, float] | None = None
    zone: str = "UTC"

    def __post_init__(self) -> None:
        """Refuse what makes no budget."""
        if self.usd is None and self.tokens is None:
            raise InputError("SW-E2184", "a budget needs a cap", expected="usd=... or tokens=..., or both")
        if self.per not in _PERS or self.on_cap not in _ON_CAPS:
            got = f"per={self.per!r}, on_cap={self.on_cap!r}"[:120]
            raise InputError(
                "SW-E2184", "unknown kind of budget", got=got, expected=f"one of {_PERS}, one of {_ON_CAPS}"
            )
        tokens = self.tokens
        if tokens is not None and (type(tokens) is not int or not 0 <= tokens <= _TOKENS_MAX):
            raise InputError("SW-E2184", "tokens is no count", got=repr(tokens)[:80])
        if self.usd is not None:
            picodollars(self.usd, "usd", USD_MAX)
        for each in self.price or ():
            picodollars(each, "a price", PRICE_MAX)
        if self.price is not None and len(self.price) != 2:
            raise InputError("SW-E2184", "a price has two parts", got=repr(self.price)[:80], expected="(in, out)")
        name = self.name
        if name is not None and not (
            isinstance(name, str) and 0 < len(name) <= _NAME_CHARS_MAX and name.isprintable() and "/" not in name
        ):
            expected = f"1 to {_NAME_CHARS_MAX} printable characters without a slash"
            raise InputError("SW-E2184", "not a name for a budget", got=repr(name)[:200], expected=expected)
        if self.ask is not None and (not isinstance(self.ask, str) or not self.ask.strip() or self.on_cap == "fail"):
            raise InputError(
                "SW-E2184", "ask is a question, of a budget that waits at its cap", got=repr(self.ask)[:80]
            )
        try:
            ZoneInfo(self.zone)
        except (ValueError, OSError, LookupError, TypeError, AttributeError):
            raise InputError("SW-E2184", "unknown time zone", got=repr(self.zone)[:80], expected="e.g. UTC") from None

    @property
    def cap(self) -> tuple[int, int]:
        """The cap in picodollars and tokens; -1: none."""
        usd = -1 if self.usd is None else picodollars(self.usd, "usd", USD_MAX)
        return usd, -1 if self.tokens is None else self.tokens

    @property
    def known_as(self) -> str:
        """The name; for a budget per run, tenant or day without one it follows from its caps."""
        if self.name is not None:
            return self.name
        if self.per == "batch":
            hint = 'name="support", or engine.map(..., budget=...), which names it'
            raise InputError("SW-E2184", "several runs share this budget, so it needs a name", hint=hint)
        caps = "" if self.usd is None else f" ${self.usd}"
        return f"per {self.per}{caps}" + ("" if self.tokens is None else f" {self.tokens} tokens")

    def named(self, name: str) -> Budget:
        """Return this budget under a name of its own, or `name` if it has none."""
        return self if self.name is not None else dataclasses.replace(self, name=name)

    def account(self, run: int, tenant: str, now_ms: int) -> tuple[str, int]:
        """Return which account a call of `run` counts against at `now_ms`, and when a new one begins (-1: never)."""
        name = self.known_as
        if self.per == "run":
            return f"{name}/{run_name(run)}", -1
        if self.per == "tenant":
            return f"{name}/{tenant[:_TENANT_CHARS_MAX] or '-'}", -1
        if self.per == "day":
            zone = ZoneInfo(self.zone)
            today = datetime.fromtimestamp(now_ms / 1000, zone).date()
            midnight = datetime.combine(today + timedelta(days=1), time.min, zone)
            return f"{name}/{today.isoformat()}", int(midnight.timestamp() * 1000)
        return name, -1

    def to_json(self) -> bytes:
        """Return the definition, as it is kept in the store."""
        members = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        if self.usd is not None:
            members["usd"] = str(self.usd)
        return json.dumps(members).encode()

    @staticmethod
    def from_json(text: bytes) -> Budget:
        """Return the budget that a store keeps."""
        members = json.loads(text)
        if members.get("price") is not None:
            members["price"] = tuple(members["price"])
        return Budget(**members)


# -- a call's side -------------------------------------------------------------------------------------------------------

own_budget: contextvars.ContextVar[Budget | None] = contextvars.ContextVar("stepwell_budget", default=None)
_NOTHING: contextlib.nullcontext[None] = contextlib.nullcontext()


def counted(budget: Budget | None) -> contextlib.AbstractContextManager[None]:
    """Let the calls that are prepared inside count against `budget`, too."""
    return _NOTHING if budget is None else _counting(budget)


@contextlib.contextmanager
def _counting(budget: Budget) -> Iterator[None]:
    from stepwell._workflow import current_activation

    if current_activation.get() is None:
        hint = "call it in a workflow that an engine runs"
        raise InputError(
            "SW-E2184", "a budget is kept in an engine's store, and this call is outside of a run", hint=hint
        )
    budget.known_as  # noqa: B018 - refuses a batch's budget without a name before anything is sent
    token = own_budget.set(budget)
    try:
        yield
    finally:
        own_budget.reset(token)


def budgets_of(activation: Activation, own: Budget | None) -> list[Budget]:
    """Return the budgets that a call of a run counts against: its own, and those that the run was started with."""
    names = activation.budgets or activation.worker.budgets
    found = [] if own is None else [own]
    if names:
        from stepwell._budgets.accounts import find_budget

        found += [find_budget(activation.worker, name) for name in names.split("\n")]
    by_name = {budget.known_as: budget for budget in reversed(found)}  # one of a name counts once, the call's own first
    return list(by_name.values())
