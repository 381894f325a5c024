"""The codes of limits."""

from __future__ import annotations

CODES: dict[str, tuple[str, str, str]] = {
    "SW-E1330": (
        "call beyond its limit",
        "The tokens that the call reserves are more than its model's limit lets through in a minute: it could never be sent.",
        "Give the call a smaller max_tokens or a shorter text, or raise tokens_per_minute: engine.limit(...).",
    ),
    "SW-E1332": (
        "circuit open",
        "The provider fails, its circuit is open, and the call was not to wait: its policy has another model to ask.",
        "engine.circuits() says until when; engine.breaker(...) sets when it opens.",
    ),
    "SW-E1331": (
        "bad limit",
        "A number of a Limit or a Breaker makes no sense.",
        'Write e.g. engine.limit("openai:gpt-4o-mini", requests_per_minute=500, tokens_per_minute=90_000).',
    ),
}
