"""Every code a user can meet: title, cause, fix. `stepwell explain CODE` reads it, offline."""

from __future__ import annotations

import difflib

from stepwell._errors import NotFoundError


def catalogue() -> dict[str, tuple[str, str, str]]:
    """Return all codes with title, cause and fix."""
    from stepwell._codes.approvals import CODES as APPROVALS
    from stepwell._codes.batches import CODES as BATCHES
    from stepwell._codes.budgets import CODES as BUDGETS
    from stepwell._codes.engine import CODES as ENGINE
    from stepwell._codes.limits import CODES as LIMITS
    from stepwell._codes.streams import CODES as STREAMS
    from stepwell.llm._codes import CODES as CALLS
    from stepwell.triage._codes import CODES

    return {**ENGINE, **APPROVALS, **BATCHES, **BUDGETS, **LIMITS, **STREAMS, **CALLS, **CODES}


def explain(code: str) -> str:
    """Return what is known of `code`. Raises NotFoundError SW-E1005 for one that does not exist."""
    codes = catalogue()
    name = code.strip().upper()
    name = name if name.startswith("SW-E") else "SW-E" + name.removeprefix("E")
    if name not in codes:
        near = difflib.get_close_matches(name[:20], codes, 3)
        hint = f"did you mean {', '.join(near)}?" if near else "codes look like SW-E2101"
        raise NotFoundError("SW-E1005", f"there is no code {code[:80]!r}", hint=hint)
    title, cause, fix = codes[name]
    return f"{name}  {title}\n  cause     {cause}\n  fix       {fix}"
