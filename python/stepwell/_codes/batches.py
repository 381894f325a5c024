"""The codes of batches that a provider carries out: title, cause, fix."""

from __future__ import annotations

CODES: dict[str, tuple[str, str, str]] = {
    "SW-E2190": (
        "no batch mode for this",
        "The provider has no batch API that Stepwell speaks, or the rows are too many for one call.",
        "Use a model of OpenAI or Anthropic, split the rows over several runs, or map over classify.",
    ),
    "SW-E2191": (
        "batch request refused",
        "The provider refused a request about a batch, or could not carry it out.",
        "Look at the provider's words in the message; then replay the run: what was recorded is not done again.",
    ),
    "SW-E2192": (
        "batch without end",
        "The provider has not ended a batch after two days.",
        "Look at the batch with the provider; replay the run to wait on.",
    ),
}
