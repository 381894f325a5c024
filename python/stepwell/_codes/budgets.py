"""The codes of budgets."""

from __future__ import annotations

CODES: dict[str, tuple[str, str, str]] = {
    "SW-E2180": (
        "budget used up",
        'A budget with on_cap="fail" had no room for what this call may cost.',
        "Raise it: engine.budget(name).raise_to(usd=...), then start the run again.",
    ),
    "SW-E2181": (
        "budget closed",
        "Somebody closed the budget, or rejected the question whether it may be raised.",
        "See engine.budget(name).changes(); raise_to opens it again.",
    ),
    "SW-E2182": (
        "call beyond the whole budget",
        "What this one call may cost is more than the budget's whole cap: waiting could not help.",
        "Give the call a smaller max_tokens or a shorter text, or raise the budget.",
    ),
    "SW-E2183": (
        "no such budget",
        "The store knows no budget of this name.",
        "engine.budgets(), or stepwell budgets, lists them.",
    ),
    "SW-E2184": (
        "bad budget",
        "A budget's cap, name, kind or price makes no sense.",
        'Write e.g. Budget(usd=5, per="day", name="support"); a new cap is not lower than the old one.',
    ),
    "SW-E2185": (
        "price unknown",
        "The price list does not know the model, and the call counts against a budget in dollars.",
        "Give the budget a price: Budget(usd=5, price=(0.15, 0.60)), dollars for a million tokens in and out.",
    ),
}
