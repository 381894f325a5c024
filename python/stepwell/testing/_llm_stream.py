"""The answer of the LLM test server as a stream: what is written when, and what goes wrong on the way."""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING

from stepwell.testing._serve import Plan

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stepwell.testing._llm_faults import Faults
    from stepwell.testing._llm_forms import Event, Form

HEAD = (
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\n"
    "transfer-encoding: chunked\r\n"
)
_NOT_JSON = b"data: {'choices': [{'delta': x}]}\n\n"
_KEEP_ALIVE = b": keep-alive\n\n"
_FINISH = re.compile(rb',?"finishReason":"[A-Z_]+"')
_NO_DATA = b"event: nothing\nid: 7\n\n"
# So that what is split arrives in two reads.
_SPLIT_S = 0.002
_SLOW_S = 0.02
_WHOLE = ("", "slow", "wrong_label", "refusal", "empty", "fenced", "cut_json", "nan", "content_filter", "unknown_tool",
          "two_choices", "wrong_usage")  # fmt: skip


def stream_plan(form: Form, events: list[Event], extra: str, rate: float, fault: str, faults: Faults) -> Plan:
    """Return how a stream is written: `rate` tokens a second (0: all at once); `extra`: further lines of the head."""
    head = f"{HEAD}{extra}\r\n".encode()
    pause = 1 / rate if rate > 0 else 0.0
    if fault in _WHOLE:
        parts = _by_token(events) if pause or fault == "slow" else [b"".join(event.data for event in events)]
        return Plan(head, "stream", parts=parts, pause_s=pause or (_SLOW_S if fault == "slow" else 0.0))
    if fault == "trickle":
        data = b"".join(event.data for event in events)
        return Plan(head, "stream", parts=(data[at : at + 1] for at in range(len(data))), pause_s=faults.trickle_s)
    if fault == "stream_silent":  # half of it, and no more for as long as the client stays
        middle = _middle(events)
        parts = [b"".join(event.data for event in events[:middle]), b": silent\n\n"]
        return Plan(head, "stream", parts=parts, pause_s=faults.trickle_s)
    if fault == "split_utf8":
        return Plan(head, "stream", parts=_split(_by_token(events)), pause_s=pause / 2 or _SPLIT_S)
    return Plan(head, "stream", parts=_spoilt(form, events, fault), pause_s=pause)


def _by_token(events: list[Event]) -> list[bytes]:
    """Group events: what stands before the first token goes with it, what follows a token goes with that one."""
    groups: list[bytes] = []
    has_token = False
    for event in events:
        if not groups or (event.is_token and has_token):
            groups.append(event.data)
            has_token = event.is_token
        else:
            groups[-1] += event.data
            has_token |= event.is_token
    return groups


def _split(parts: list[bytes]) -> list[bytes]:
    """Cut each part in two: inside of a character of several bytes, if it has one."""
    halves = []
    for part in parts:
        inside = [at for at, byte in enumerate(part) if byte & 0xC0 == 0x80]
        at = inside[0] if inside else len(part) // 2
        halves += [part[:at], part[at:]]
    return halves


def _middle(events: list[Event]) -> int:
    tokens = [at for at, event in enumerate(events) if event.is_token]
    return tokens[len(tokens) // 2] if tokens else 0


def _spoilt(form: Form, events: list[Event], fault: str) -> Iterable[bytes | None]:
    middle = _middle(events)
    data = [event.data for event in events]
    if fault in ("stream_cut", "truncated"):
        return data[:middle]
    if fault in ("stream_reset", "reset_body"):
        return [*data[:middle], None]
    if fault == "stream_error":
        return [*data[:middle], form.error_event("The server had an error while processing your request.")]
    if fault == "stream_endless":
        return itertools.chain(data[: middle + 1], itertools.repeat(data[middle]))
    if fault == "stream_no_end":  # all of the text; Gemini says its end in the event that has the last of it
        return [*data[:-1], _FINISH.sub(b"", data[-1])] if events[-1].is_token else data[:-1]
    if fault == "malformed":
        return [*data[:middle], _NOT_JSON, *data[middle:]]
    between = {"stream_comments": _KEEP_ALIVE, "stream_no_data": _NO_DATA}[fault]
    return [each for part in data for each in (between, part)]
