"""What a call may cost: the reservation that it makes, against its budgets, before it is sent."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stepwell._budgets.policy import PICODOLLARS, PRICE_MAX, budgets_of, own_budget, picodollars
from stepwell._errors import LlmError

if TYPE_CHECKING:
    from stepwell._activation import Activation
    from stepwell._budgets.policy import Budget
    from stepwell.llm._adapter import UsagePointers
    from stepwell.llm._usage import Price

#: The longest answer of a call that says nothing of it, once it counts against a budget: it is sent with that bound.
TOKENS_OUT_DEFAULT = 1_024
# How an answer is bounded, told apart by how the URL ends: the member of the body, and in which object of it.
_BOUNDS = (
    ("/chat/completions", "", "max_tokens"),
    ("/responses", "", "max_output_tokens"),
    ("/messages", "", "max_tokens"),
    (":generateContent", "generationConfig", "maxOutputTokens"),
    (":streamGenerateContent", "generationConfig", "maxOutputTokens"),
)
_BOUND_NAMES = ("max_tokens", "max_completion_tokens", "max_output_tokens", "maxOutputTokens")


@dataclass(frozen=True, slots=True)
class Costing:
    """What a call may cost, worked out only when it counts against a budget; stands in the request as its spending."""

    model: object
    pointers: UsagePointers | None
    price: Price | None
    tenant: str
    budget: Budget | None

    @staticmethod
    def of(model: object, pointers: UsagePointers | None, price: Price | None, tenant: str) -> Costing:
        """Return a call's costing, with the budget that its caller named."""
        return Costing(model, pointers, price, tenant, own_budget.get())

    def apply(self, activation: Activation, request: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return the request with its spending in the core's form; without budgets it is as it was, and spends nothing."""
        budgets = budgets_of(activation, self.budget)
        http, retry, repeatable, json_body, pointer, admission, _, *rest = request
        if not budgets:
            return (http, retry, repeatable, json_body, pointer, admission, (), *rest)
        tokens_in, tokens_out, body = bounded(http[1], http[3])
        price_in, price_out, price_cached = self._prices(budgets)
        now = int(activation.worker.time() * 1000)
        uses = []
        for budget in budgets:
            account, due_at = budget.account(activation.run, self.tenant, now)
            uses.append((account, *budget.cap, due_at, budget.on_cap == "fail", budget.per == "run"))
        estimate = tokens_in * price_in + tokens_out * price_out
        spending = (estimate, tokens_in + tokens_out, price_in, price_out, price_cached, tuple(uses))
        if not admission:
            pointers = self.pointers or ((), (), "")
            admission = ("", "", self.tenant, tokens_in + tokens_out, *pointers)
        http = (*http[:3], body, *http[4:])
        return (http, retry, repeatable, json_body, pointer, admission, spending, *rest)

    def _prices(self, budgets: list[Budget]) -> tuple[int, int, int]:
        given = next((budget.price for budget in budgets if budget.price is not None), None)
        if given is not None:
            price_in, price_out = (picodollars(each, "a price", PRICE_MAX) // 1_000_000 for each in given)
            return price_in, price_out, price_in
        if self.price is not None:
            tokens_in, tokens_out, cached, _ = (round(each * PICODOLLARS) for each in self.price)
            return tokens_in, tokens_out, cached
        if any(budget.usd is not None for budget in budgets):
            raise LlmError(
                "SW-E2185",
                f"nobody knows what {self.model!r} costs, and it counts against a budget in dollars",
                hint="give the budget a price: Budget(..., price=(0.15, 0.60)), in and out, for a million tokens",
            )
        return 0, 0, 0


def bounded(url: str, body: bytes) -> tuple[int, int, bytes]:
    """Return the tokens in (by four bytes each), the tokens out at most, and the body with a bound on the answer."""
    path = url.partition("?")[0]
    form = next((form for form in _BOUNDS if path.endswith(form[0])), None)
    tokens_in = len(body) // 4 + 1
    if form is None:  # embeddings answer nothing that counts
        return tokens_in, 0 if "mbed" in path else TOKENS_OUT_DEFAULT, body
    members = json.loads(body)
    where = members.setdefault(form[1], {}) if form[1] else members
    for name in _BOUND_NAMES:
        bound = where.get(name)
        if type(bound) is int and bound > 0:
            return tokens_in, bound * _choices(members), body
    name = form[2]
    if form[0] == "/chat/completions" and ("api.openai.com" in url or "/openai/deployments/" in url):
        name = "max_completion_tokens"  # newer models refuse the older name
    where[name] = TOKENS_OUT_DEFAULT
    return tokens_in, TOKENS_OUT_DEFAULT * _choices(members), json.dumps(members, ensure_ascii=False).encode()


def _choices(members: dict[str, Any]) -> int:
    count = members.get("n")
    return count if type(count) is int and 1 < count <= 1_000 else 1
