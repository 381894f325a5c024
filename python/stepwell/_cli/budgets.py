"""`stepwell budgets STORE [show|raise|close NAME]`: what LLM calls may cost and have cost, and people who change it."""

from __future__ import annotations

import dataclasses
import json
from argparse import SUPPRESS
from typing import TYPE_CHECKING, Any

from stepwell._cli.terminal import printable, table
from stepwell._errors import InputError

if TYPE_CHECKING:
    import argparse
    from decimal import Decimal

    from stepwell._budgets.accounts import BudgetAccount, BudgetChange
    from stepwell._engine import Engine

_HEAD = ("budget", "cap", "spent", "reserved", "in doubt", "left", "calls", "waiting", "odd", "")
# Longer amounts are rounded on the terminal; --json has all of them.
_SHOWN_DIGITS = "0.000001"


def add_to(parser: argparse.ArgumentParser) -> None:
    """Add the verbs; without one the accounts are listed."""
    verbs = parser.add_subparsers(dest="verb", metavar="[show | raise | close]")
    for name, about in (
        ("show", "print one account with its changes"),
        ("raise", "set a higher cap; the calls that wait go on as far as it reaches"),
        ("close", "pay nothing more from it; the calls that wait fail"),
    ):
        verb = verbs.add_parser(name, help=about)
        verb.add_argument("name", metavar="NAME", help="the account's, e.g. support or daily/2026-11-21")
        if name == "raise":
            verb.add_argument("--usd", metavar="AMOUNT", help="the new cap in dollars")
            verb.add_argument("--tokens", type=int, metavar="N", help="the new cap in tokens")
        if name != "show":
            verb.add_argument("--why", required=True, metavar="TEXT", help="why; kept with the change")
            verb.add_argument("--by", default="", metavar="NAME", help="who does it (default: the user)")
        verb.add_argument("--json", action="store_true", default=SUPPRESS, help="for programs")  # or before the verb


def run(engine: Engine, args: argparse.Namespace) -> str:
    """Return the accounts, or one as it stands after what was done to it."""
    if args.verb is None:
        found = engine.budgets()
        if args.json:
            return "\n".join(json.dumps(_plain(each), ensure_ascii=False) for each in found)
        return table([_HEAD, *map(_row, found)]) if found else "no budgets"
    account = engine.budget(args.name)
    if args.verb == "raise":
        if args.usd is None and args.tokens is None:
            raise InputError("SW-E2184", "no new cap", expected="--usd or --tokens, or both")
        account = account.raise_to(usd=args.usd, tokens=args.tokens, by=args.by, why=args.why)
    elif args.verb == "close":
        account = account.close(by=args.by, why=args.why)
    return _one(account, is_json=args.json)


def _one(account: BudgetAccount, *, is_json: bool) -> str:
    changes = account.changes()
    if is_json:
        return json.dumps({**_plain(account), "changes": [_change(each) for each in changes]}, ensure_ascii=False)
    lines = [
        f"  {each.at:%Y-%m-%d %H:%M:%S} UTC  {each.what}  {printable(each.by)}  {_amount(each.cap_usd, each.cap_tokens)}"
        f"  {printable(each.why)}".rstrip()
        for each in changes
    ]
    return "\n".join([table([_HEAD, _row(account)]), "", *(lines or ["  nobody changed it"])])


def _row(account: BudgetAccount) -> tuple[str, ...]:
    kinds = (account.cap_usd is not None, account.cap_tokens is not None)

    def amount(usd: Decimal | None, tokens: int | None) -> str:
        return _amount(usd if kinds[0] or not kinds[1] else None, tokens if kinds[1] else None)

    return (
        printable(account.name),
        _amount(account.cap_usd, account.cap_tokens),
        amount(account.spent_usd, account.spent_tokens),
        amount(account.reserved_usd, account.reserved_tokens),
        amount(account.in_doubt_usd, account.in_doubt_tokens),
        amount(account.left_usd, account.left_tokens),
        f"{account.calls:,}",
        f"{account.waiting:,}",
        f"{account.odd_calls:,}",
        "closed" if account.is_closed else "",
    )


def _amount(usd: Decimal | None, tokens: int | None) -> str:
    said = [] if usd is None else [f"${_rounded(usd)}"]
    return ", ".join([*said, *([] if tokens is None else [f"{tokens:,} tokens"])]) or "none"


def _rounded(usd: Decimal) -> str:
    from decimal import Decimal

    exact = f"{usd:f}"
    short = f"{usd.quantize(Decimal(_SHOWN_DIGITS)):f}"
    return min(exact, short, key=len)


def _plain(account: BudgetAccount) -> dict[str, Any]:
    def text(usd: Decimal | None) -> str | None:
        return None if usd is None else f"{usd:f}"

    return {
        "name": account.name,
        "cap_usd": text(account.cap_usd),
        "cap_tokens": account.cap_tokens,
        "spent_usd": text(account.spent_usd),
        "spent_tokens": account.spent_tokens,
        "reserved_usd": text(account.reserved_usd),
        "reserved_tokens": account.reserved_tokens,
        "in_doubt_usd": text(account.in_doubt_usd),
        "in_doubt_tokens": account.in_doubt_tokens,
        "left_usd": text(account.left_usd),
        "left_tokens": account.left_tokens,
        "calls": account.calls,
        "waiting": account.waiting,
        "odd_calls": account.odd_calls,
        "is_closed": account.is_closed,
        "run": account.run_id,
        "changed": account.changed_at.isoformat(timespec="milliseconds"),
    }


def _change(change: BudgetChange) -> dict[str, Any]:
    plain = dataclasses.asdict(change)
    usd = change.cap_usd
    return {**plain, "at": change.at.isoformat(timespec="milliseconds"), "cap_usd": None if usd is None else f"{usd:f}"}
