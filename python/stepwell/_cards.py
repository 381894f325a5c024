"""Cards for notebooks: one run as HTML that needs no script, readable in light and dark."""

from __future__ import annotations

from datetime import UTC, datetime
from html import escape
from typing import Any

from stepwell._types import RunStatus, run_name

_COLORS = {"succeeded": "#1a7f37", "failed": "#cf222e", "dead": "#cf222e", "cancelled": "#6e7781", "running": "#0969da"}
_EVENTS = {
    1: ("recorded", "#1a7f37"),
    2: ("failed", "#cf222e"),
    3: ("tried, retried", "#9a6700"),
    4: ("waits", "#6e7781"),
    5: ("child started", "#6e7781"),
    6: ("code changed", "#cf222e"),
    7: ("later than agreed", "#9a6700"),
}
_EXCERPT_CHARS = 160
_STEPS_SHOWN = 50


def run_card(row: tuple[Any, ...]) -> str:
    """Return the card of one row of `find(with_events=True)`: status, times, result, and each recorded step."""
    run, status, claims, workflow, _, key, _, result, created_at, finished_at, events, *_ = row
    name = RunStatus(status).name.lower()
    color = _COLORS.get(name, "#6e7781")
    facts = [f"started {_time(created_at)}"]
    if finished_at:
        facts.append(f"took {(finished_at - created_at) / 1000:.3f} s")
    if key:
        facts.append(f"key {escape(key)}")
    if claims > 1:
        facts.append(f"taken up {claims} times")
    rows = "".join(_step(event, created_at) for event in (events or [])[:_STEPS_SHOWN])
    more = len(events or []) - _STEPS_SHOWN
    if more > 0:
        rows += f"<tr><td colspan=4>and {more} more</td></tr>"
    table = f"<table style='margin-top:6px'><tr><th>step<th>attempt<th>what<th>after</tr>{rows}</table>" if rows else ""
    return (
        "<div style='border:1px solid #8886;border-radius:6px;padding:8px 12px;max-width:48em;font-family:system-ui'>"
        f"<b>{escape(workflow)}</b> <code>{run_name(run)}</code> "
        f"<span style='background:{color};color:#fff;border-radius:9px;padding:1px 9px'>{name}</span>"
        f"<div style='opacity:.75'>{' · '.join(facts)}</div>"
        f"<code>{escape(_excerpt(result))}</code>{table}</div>"
    )


def _step(event: tuple[Any, ...], created_at: int) -> str:
    kind, attempt, step, payload, at, *_ = event
    word, color = _EVENTS.get(kind, ("?", "#6e7781"))
    return (
        f"<tr><td style='text-align:left'>{escape(step)}</td><td>{attempt}</td>"
        f"<td style='color:{color}' title='{escape(_excerpt(payload))}'>{word}</td><td>{at - created_at} ms</td></tr>"
    )


def _excerpt(payload: bytes) -> str:
    text = payload.decode("utf-8", "replace")
    return text if len(text) <= _EXCERPT_CHARS else text[:_EXCERPT_CHARS] + "…"


def _time(wall_ms: int) -> str:
    return datetime.fromtimestamp(wall_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
