"""`model="local"`: sorts text into labels on this machine. No key, no network, nothing sent, nothing downloaded.

It compares what a text says with what the labels are called, by the word vectors that the optional package
`wordllama` carries, and knows by heart what common help-desk labels mean (`_local_hints`). It learns nothing and
remembers nothing: the same text and labels always give the same answer. It is a good first sorter, not a language
model: it cannot follow a negation or an argument, and what a text tells it to do it cannot do.

The package is loaded by the first call, not by the import of this module.
"""

from __future__ import annotations

import html
import re
import threading
from typing import TYPE_CHECKING

from stepwell._errors import LlmError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from stepwell.llm._local_model import Scorer

# A help-desk text says what it is about early on; the rest is history, logs and signatures.
_TEXT_CHARS_MAX = 2_000
# Markup can be much longer than what it shows, so more than that is looked at before it is taken out.
_RAW_CHARS_MAX = 20_000

_HIDDEN = re.compile(r"<(style|script|head|title)\b.*?(?:</\1\s*>|\Z)|<!--.*?(?:-->|\Z)", re.DOTALL | re.IGNORECASE)
_TAG = re.compile(r"</?[a-zA-Z][^<>]{0,1000}>")
_ADDRESS = re.compile(r"\b(?:https?://|www\.)\S{1,2000}|[\w.+-]{1,64}@[\w-]{1,63}\.[\w.-]{1,200}")
_QUOTED_LINE = re.compile(r"^[ \t]*>.*$", re.MULTILINE)
_SENTENCE = re.compile(r"[^.!?\n]+[.!?\n]*")
# Sentences that talk to whoever sorts the ticket. They are no evidence of what the ticket is about.
_INSTRUCTION = re.compile(
    r"\b(?:ignor\w*|disregard|forget|override|bypass|vergiss|olvid\w*)\b.{0,60}"
    r"\b(?:instruct\w*|prompts?|rules?|anweisung\w*|regeln?|instruccion\w*|reglas?)\b"
    r"|\b(?:label|classify|categori[sz]e|tag|clasifi\w*|etiquet\w*|klassifizier\w*|einordnen)\b.{0,40}\b(?:as|als|como)\b"
    r"|\b(?:system prompt|you are now|as an ai|language model)\b"
    r"|^\W*(?:system|assistant|developer)\s*:"
    r"|[\"']?\b(?:queue|label|category)[\"']?\s*[:=]",
    re.IGNORECASE,
)


def excerpt(text: str) -> str:
    """Return the part of a text that is worth reading: no markup, addresses, quoted mail or orders to the sorter."""
    text = text[:_RAW_CHARS_MAX]
    if "<" in text:
        text = _TAG.sub(" ", _HIDDEN.sub(" ", text))
    if "&" in text:
        text = html.unescape(text)
    unquoted = _QUOTED_LINE.sub(" ", text) if ">" in text else text
    text = _ADDRESS.sub(" ", unquoted if unquoted.strip() else text)[:_TEXT_CHARS_MAX]
    if _INSTRUCTION.search(text):
        text = " ".join(part for part in _SENTENCE.findall(text) if not _INSTRUCTION.search(part))
    return text


class LocalClassifier:
    """Sorts texts into `labels` by their names; `hints` adds words that a label's texts use.

        LocalClassifier(["Billing", "Fleet"], hints={"Fleet": "van, truck, driver, fuel card"})

    Safe to use from several threads at once. Labels are returned exactly as given.

    Raises LlmError SW-E2110, from the first call and not from the constructor, when the extra `local` is not installed.
    """

    def __init__(self, labels: Sequence[str], *, hints: Mapping[str, str] | None = None) -> None:
        if not labels or not all(label.strip() for label in labels):
            raise ValueError("labels: expected at least one non-empty name")
        self._labels = tuple(labels)
        self._hints = dict(hints or {})
        unknown = sorted(self._hints.keys() - set(self._labels))
        if unknown:
            raise ValueError(f"hints: {unknown[0]!r} is not one of the labels {list(self._labels)}")
        self._lock = threading.Lock()
        self._scorer: Scorer | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels, as given."""
        return self._labels

    def load(self) -> None:
        """Load the vectors now instead of with the first text, e.g. to fail early."""
        self._ready()

    def classify(self, text: str) -> tuple[str | None, float]:
        """Return the best label and how sure that is, 0 to 1; (None, 0.0) for a text without words.

        The confidence is calibrated over several kinds of text and labels: where it says 0.5, about half were right, at
        0.8 and more eight or nine in ten. Labels that mean little by their names can make it too sure; hints help
        (`docs/design/001-local-model.md`). With a single label there is nothing to choose and it is 1.
        """
        return self._ready().best(excerpt(text))

    def classify_many(self, texts: Iterable[str]) -> list[tuple[str | None, float]]:
        """Classify each text; the answers stand in the same order."""
        return self._ready().best_of_many([excerpt(text) for text in texts])

    def _ready(self) -> Scorer:
        """The scorer; made by the first caller, while others wait for it."""
        scorer = self._scorer
        if scorer is not None:
            return scorer
        with self._lock:
            if self._scorer is None:
                try:
                    from stepwell.llm._local_model import Scorer, shared_vectors

                    self._scorer = Scorer(shared_vectors(), self._labels, self._hints)
                except (ImportError, OSError) as error:
                    raise LlmError(
                        "SW-E2110",
                        f'model="local" needs a package that is missing or incomplete: {error}',
                        hint="pip install 'stepwell[local]'",
                    ) from error
            return self._scorer
