"""The codes of streams: title, cause, fix."""

from __future__ import annotations

CODES: dict[str, tuple[str, str, str]] = {
    "SW-E1311": (
        "stream cut off",
        "The stream of events stopped before its end. What it brought is kept; an attempt that follows goes on after it.",
        "Nothing if it was tried again with success; else ask the server's owner, or what lies between.",
    ),
    "SW-E1312": (
        "error inside a stream",
        "The server began an answer, then reported an error in it.",
        "Read its words in the message.",
    ),
    "SW-E2131": (
        "no such stream",
        "The run has ended, and none of its steps of this name was a stream.",
        "Name the step as run.history() shows it: engine.stream(run, step=...).",
    ),
    "SW-E2132": (
        "not a place in a stream",
        "A place is a generation and an offset in bytes of UTF-8, as piece.id writes it.",
        "Give back the id of the last piece, or nothing to read from the beginning.",
    ),
}
