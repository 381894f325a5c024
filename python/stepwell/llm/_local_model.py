"""The arithmetic behind `LocalClassifier`: word vectors, label vectors, four kinds of evidence, one score.

Only the first use of the local model imports this module: it needs numpy and the files of `wordllama`.

For a text and a label the score is the sum of
  meaning    cosine between the summed vectors of the text and of the label's words,
  coverage   how well each word of the text is matched by some word of the label, weighted by how telling the word is,
  mention    how well each word of the label's name is matched by some word of the text, and
  hints      the label's share of the hint words found (only where a label has hints, see `_local_hints`).

The vectors are read from the package's files, not through its code: its loader looks for the tokenizer in a folder that
the wheel does not have and goes on to download it, and its import configures the process's logging.
"""

from __future__ import annotations

import re
import threading
from importlib.machinery import PathFinder
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from stepwell.llm._local_hints import built_in_terms

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

# The weights of the kinds of evidence and the temperature; chosen on texts that no published figure is measured on.
_COVERAGE_WEIGHT = 1.0
_MENTION_WEIGHT = 0.2
_HINTS_WEIGHT = 0.8
_TEMPERATURE = 0.2

_WORDS_MAX = 240  # of one text
_WORD_CHARS_MAX = 40
_KNOWN_WORDS_MAX = 20_000  # of one classifier; the table starts anew when it is full,
_TABLE_BYTES_MAX = 64 << 20  # or when it takes this much
_TEXTS_AT_ONCE = 64
_OPENING_WORDS = 40  # the subject and the first sentence or two count full, what follows less
_LATER_WEIGHT = 0.6
_WEAK_TERM_WEIGHT = 0.4

_WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)?")
_HUMP = re.compile(r"(?<=[a-z\d])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_SUFFIXES = (
    "ations",
    "ation",
    "ments",
    "ment",
    "ings",
    "ing",
    "ies",
    "ied",
    "ers",
    "ed",
    "es",
    "er",
    "ly",
    "s",
    "y",
    "e",
)
_SMALL_WORDS = frozenset(
    """
    a an and are as at be been but by can could did do does for from had has have he her hi his how i if in into is it
    its just let me my no not of on or our out so some than that the their them then there they this to up us was we
    were what when where which who why will with would you your am im ive dont about also any hello hey please thanks
    thank dear
    """.split()  # noqa: SIM905 - ninety quoted words read worse
)
_SMALL_WORD_WEIGHT = 0.3


def words_of(text: str) -> list[str]:
    """The words of a text in lower case, at most `_WORDS_MAX`: most from the start, some from the end."""
    words = [word[:_WORD_CHARS_MAX] for word in _WORD.findall(text.lower())]
    if len(words) > _WORDS_MAX:
        words = words[: _WORDS_MAX - 40] + words[-40:]
    return words


def words_of_label(label: str) -> list[str]:
    """The words of a label's name: `cardNotWorking`, `card_not_working` and `Card not working` are the same."""
    return words_of(_HUMP.sub(" ", label).replace("_", " ")) or [label.lower()[:_WORD_CHARS_MAX]]


def stem(word: str) -> str:
    """Cut an English ending off, crudely: enough for "charged" to meet "charges"."""
    if word.endswith(_SUFFIXES):
        for suffix in _SUFFIXES:
            if word.endswith(suffix) and len(word) - len(suffix) >= 3:
                word = word[: -len(suffix)]
                break
    if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "ls":
        word = word[:-1]
    return word


def _unit(rows: Any) -> Any:
    return rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-9)


class Vectors:
    """The token vectors of the package and its tokenizer. Read-only after construction."""

    def __init__(self, folder: Path) -> None:
        tokenizer = folder / "tokenizers" / "l2_supercat_tokenizer_config.json"
        weights = folder / "weights" / "l2_supercat_256.safetensors"
        for file in (tokenizer, weights):
            if not file.is_file():
                raise FileNotFoundError(f"wordllama carries no {file.name}")
        self._tokenizer = Tokenizer.from_file(str(tokenizer))
        self._tokenizer.no_padding()
        self._rows: NDArray[np.float16] = load_file(str(weights))["embedding.weight"]
        # Token numbers follow the order in which the tokenizer's merges were learned, so they stand for how common a
        # token is. That gives a word weight and a centre without counting any text.
        count = len(self._rows)
        frequency = 1.0 / (np.arange(count, dtype=np.float32) + 300.0)
        frequency[:260] = 0.0  # bytes and control tokens
        frequency /= frequency.sum()
        self._telling = np.where(frequency > 0, 3e-3 / (3e-3 + frequency), 0.5).astype(np.float32)
        self._centre: Floats = frequency @ self._rows.astype(np.float32)

    def of_words(self, words: Sequence[str]) -> tuple[Floats, Floats]:
        """Return for each word a vector whose length says how telling it is, and one of length 1, centred."""
        # One by one: a batch would start the tokenizer's own thread pool, which does not survive a fork.
        tokens = [self._tokenizer.encode(word, add_special_tokens=False).ids or [0] for word in words]
        starts = np.cumsum([0] + [len(ids) for ids in tokens[:-1]])
        flat = np.concatenate([np.asarray(ids) for ids in tokens])
        rows = self._rows[flat].astype(np.float32)
        telling = np.add.reduceat(self._telling[flat, None] * (rows - 0.4 * self._centre), starts, axis=0)
        centred = np.add.reduceat(rows, starts, axis=0) - self._centre
        return telling, _unit(centred)


_vectors: Vectors | None = None
_vectors_lock = threading.Lock()


def shared_vectors() -> Vectors:
    """The vectors, loaded once for all classifiers. Raises ImportError or OSError when the package is not there."""
    global _vectors  # noqa: PLW0603 - 16 MB that never change are worth sharing
    with _vectors_lock:
        if _vectors is None:
            found = PathFinder.find_spec("wordllama")
            if found is None or found.origin is None:
                raise ImportError("No module named 'wordllama'")
            _vectors = Vectors(Path(found.origin).parent)
        return _vectors


class _Terms:
    """Which hint words speak for which label."""

    def __init__(self, labels: Sequence[str], hints: Mapping[str, str]) -> None:
        self.count = len(labels)
        self._exact: dict[str, dict[int, float]] = {}
        self._prefixes: dict[str, dict[int, float]] = {}
        self._pairs: dict[tuple[str, str], dict[int, float]] = {}
        self.described: dict[int, list[str]] = {}  # label -> English words that describe it
        for index, label in enumerate(labels):
            strong, weak = built_in_terms(words_of_label(label))
            own = hints.get(label, "")
            strong = strong + (own.split(",") if "," in own else [w for w in words_of(own) if w not in _SMALL_WORDS])
            for term in strong:
                self._add(index, term, 1.0)
            for term in weak:
                self._add(index, term, _WEAK_TERM_WEIGHT)
            if strong:
                self.described[index] = [w for term in strong if "*" not in term for w in words_of(term)]
        if self.described:  # a label without hints must be able to keep up with those that have some
            for index, label in enumerate(labels):
                for word in words_of_label(label):
                    if word not in _SMALL_WORDS:
                        self._add(index, word, 1.0)

    def _add(self, index: int, term: str, weight: float) -> None:
        words = words_of(term)
        if not words:
            return
        if term.strip().endswith("*"):
            place = self._prefixes.setdefault(words[0], {})
        elif len(words) == 1:
            place = self._exact.setdefault(stem(words[0]), {})
        else:
            place = self._pairs.setdefault((stem(words[0]), stem(words[1])), {})
        place[index] = max(weight, place.get(index, 0.0))

    def row(self, word: str) -> Floats:
        """How much one word speaks for each label. A word that speaks for several says less about each."""
        row = np.zeros(self.count, np.float32)
        beginnings = (word[:length] for length in range(3, len(word) + 1))
        for place in (self._exact.get(stem(word)), *(self._prefixes.get(beginning) for beginning in beginnings)):
            for index, weight in (place or {}).items():
                row[index] = max(row[index], weight)
        speaks_for = int(np.count_nonzero(row))
        return row / speaks_for**0.5 if speaks_for else row

    def add_pairs(self, stems: Sequence[str], row: Floats) -> None:
        """Add to `row` what neighbouring words say together."""
        if self._pairs:
            for pair in {pair for pair in pairwise(stems) if pair in self._pairs}:
                for index, weight in self._pairs[pair].items():
                    row[index] += weight


class _Table:
    """What is known of each word met so far. Rows are written once; the arrays are replaced, never resized in place."""

    def __init__(self, columns: Sequence[int], capacity: int) -> None:
        self.index: dict[str, int] = {}
        self.stems: list[str] = []
        self.parts = tuple(np.zeros((capacity, width), np.float32) for width in columns)

    def grown(self) -> _Table:
        """A table of twice the room with the same rows."""
        other = _Table([], 0)
        other.index, other.stems = dict(self.index), list(self.stems)  # readers of the old one must not see new rows
        other.parts = tuple(np.concatenate([part, np.zeros_like(part)]) for part in self.parts)
        return other


class Scorer:
    """Scores texts against one set of labels. Safe from several threads: new words are added under a lock."""

    def __init__(self, vectors: Vectors, labels: Sequence[str], hints: Mapping[str, str]) -> None:
        # Constant after construction.
        self._vectors = vectors
        self._labels = tuple(labels)
        self._terms = _Terms(labels, hints)
        names = [words_of_label(label) for label in labels]
        described = [names[i] + self._terms.described.get(i, []) for i in range(len(names))]
        known = sorted({word for words in described for word in words})
        place = {word: index for index, word in enumerate(known)}
        telling, self._label_words = vectors.of_words(known)
        self._groups = [np.array(sorted({place[w] for w in words})) for words in described]
        pooled = []
        for index, words in enumerate(names):
            rows = telling[[place[w] for w in words]].sum(axis=0)
            extra = self._terms.described.get(index)
            pooled.append(
                rows + 2.0 * _unit(telling[[place[w] for w in extra]].sum(axis=0)) * np.linalg.norm(rows)
                if extra
                else rows
            )
        self._label_vectors: Floats = _unit(np.stack(pooled))
        # In "mention", a word that many labels share says little about any of them.
        share = np.zeros((len(names), len(known)), np.float32)
        for index, words in enumerate(names):
            for word in words:
                share[index, place[word]] = (_SMALL_WORD_WEIGHT if word in _SMALL_WORDS else 1.0) * np.sqrt(
                    np.linalg.norm(telling[place[word]])
                )
        holders = np.count_nonzero(share, axis=0)
        share *= np.log1p(len(names) / np.maximum(holders, 1)) ** 0.5
        self._mention: Floats = share / np.maximum(share.sum(axis=1, keepdims=True), 1e-9)
        self._label_stems: dict[str, list[int]] = {}
        for word, index in place.items():
            self._label_stems.setdefault(stem(word), []).append(index)
        self._columns = (telling.shape[1], 1, len(names), len(known), len(names))
        self._known_words_max = max(1_000, min(_KNOWN_WORDS_MAX, _TABLE_BYTES_MAX // (4 * sum(self._columns))))
        # Protected by the lock; readers take the table once and use only that.
        self._lock = threading.Lock()
        self._table = _Table(self._columns, 1024)

    def best(self, text: str) -> tuple[str | None, float]:
        """The best label and its probability; (None, 0.0) for a text without words."""
        scores = self.scores(text)
        if scores is None:
            return None, 0.0
        odds = np.exp((scores - scores.max()) / _TEMPERATURE)
        winner = int(scores.argmax())
        return self._labels[winner], float(odds[winner] / odds.sum())

    def best_of_many(self, texts: Sequence[str]) -> list[tuple[str | None, float]]:
        """Do `best` for each text; the new words of many texts are learned together, which is quicker."""
        found: list[tuple[str | None, float]] = []
        for start in range(0, len(texts), _TEXTS_AT_ONCE):
            some = texts[start : start + _TEXTS_AT_ONCE]
            words = {word for text in some for word in words_of(text)}
            self._rows_of(sorted(words)[: self._known_words_max // 2])
            found.extend(self.best(text) for text in some)
        return found

    def scores(self, text: str) -> Floats | None:
        """The score of each label; None for a text without words."""
        words = words_of(text)
        if not words:
            return None
        table, rows = self._rows_of(words)
        telling, weight, cover, close, hint = (part[rows] for part in table.parts)
        standing = np.full((len(words), 1), _LATER_WEIGHT, np.float32)
        standing[:_OPENING_WORDS] = 1.0
        whole = (standing * telling).sum(axis=0)
        scores: Floats = self._label_vectors @ _unit(whole)
        weight = standing * weight
        scores += _COVERAGE_WEIGHT * ((weight * cover).sum(axis=0) / max(float(weight.sum()), 1e-6))
        scores += _MENTION_WEIGHT * (self._mention @ close.max(axis=0))
        if self._terms.described:
            first = np.unique(rows, return_index=True)[1]
            found: Floats = (standing[first] * hint[first]).sum(axis=0)
            self._terms.add_pairs([table.stems[row] for row in rows], found)
            scores += _HINTS_WEIGHT * found / (float(found.sum()) + 1.0)
        return scores

    def _rows_of(self, words: Sequence[str]) -> tuple[_Table, list[int]]:
        """The table and the words' places in it, new words added."""
        table = self._table
        try:
            return table, [table.index[word] for word in words]
        except KeyError:
            pass
        with self._lock:
            table = self._table
            new = sorted({word for word in words if word not in table.index})
            if len(table.stems) + len(new) > self._known_words_max:
                table, new = _Table(self._columns, 1024), sorted(set(words))
            while len(table.stems) + len(new) > len(table.parts[0]):
                table = table.grown()
            if new:
                self._learn(table, new)
            self._table = table
            return table, [table.index[word] for word in words]

    def _learn(self, table: _Table, new: Sequence[str]) -> None:
        """Work out the rows of new words, then let readers see them."""
        telling, centred = self._vectors.of_words(new)
        close = np.maximum(centred @ self._label_words.T, 0.0)
        for offset, word in enumerate(new):
            close[offset, self._label_stems.get(stem(word), [])] = 1.0
        close **= 2
        small = np.array([[_SMALL_WORD_WEIGHT if word in _SMALL_WORDS else 1.0] for word in new], np.float32)
        weight = small * np.linalg.norm(telling, axis=1, keepdims=True)
        cover = np.stack([close[:, group].max(axis=1) for group in self._groups], axis=1)
        hint = np.stack([self._terms.row(word) for word in new])
        start = len(table.stems)
        for part, rows in zip(table.parts, (telling, weight, cover, close, hint), strict=True):
            part[start : start + len(new)] = rows
        table.stems.extend(stem(word) for word in new)
        table.index.update((word, start + offset) for offset, word in enumerate(new))
