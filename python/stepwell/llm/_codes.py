"""The codes of policies, caches, redaction, estimates and what-if: title, cause, fix."""

from __future__ import annotations

CODES: dict[str, tuple[str, str, str]] = {
    "SW-E2150": (
        "policy makes no sense",
        "A Fallback, Cascade or Vote was given models or conditions that it cannot work with.",
        "Read what the message expects; docs/guide/policies.md has an example of each.",
    ),
    "SW-E2151": (
        "policy does not fit",
        "The policy asks something of an answer that this kind of answer does not have: a confidence, a label to compare.",
        "Give Cascade a when=, Cascade or Vote a key=; embeddings take one model.",
    ),
    "SW-E2152": (
        "vote undecided",
        "No answer had the votes that the quorum asks for, or two had as many.",
        'Say who decides: tie="first" or a function; or ask an odd number of models.',
    ),
    "SW-E2153": (
        "no model answered",
        "Every model that the policy could ask failed, timed out or refused.",
        "The message and error['path'] say what came of each.",
    ),
    "SW-E2154": (
        "too many calls",
        "The run has made as many LLM calls as max_calls, or calls_per_run of the engine, allows. Nothing was sent.",
        "Look for a loop; raise the cap if so many are meant.",
    ),
    "SW-E2155": ("bad cache key", "Cache.key is no function, or what it returned has no JSON form.", "Return text."),
    "SW-E2156": ("bad call cap", "A cap on a run's calls is a whole number from 1 on.", "Give one, or None."),
    "SW-E2157": (
        "bad redaction",
        "A pattern cannot be compiled, a kind is no name, or the hook returned no usable span.",
        "Kinds are capitals, digits and _; a hook returns (kind, begin, end).",
    ),
    "SW-E2158": ("bad estimate", "A share is not from 0 to 1, or a limit is not positive.", "Correct the number."),
    "SW-E2159": (
        "what-if makes no sense",
        "There is no run, step or model to look at, or the answers of the file are those of other settings.",
        "Read what the message expects; docs/guide/whatif.md has an example.",
    ),
}
