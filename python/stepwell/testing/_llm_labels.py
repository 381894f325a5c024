"""What the server answers: a label by keywords or by a stable hash, a value that fits a schema, or a plain text."""

from __future__ import annotations

import functools
import json
import re
import zlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

# Words that stand in many labels and in most texts, and so say nothing.
_COMMON = frozenset({"and", "the", "for", "with", "from", "your", "not", "other"})
_WORD = re.compile(r"[^\W_]+")
_WORD_LETTERS_MIN = 3
_ASCII_TO_WORDS = str.maketrans({chr(code): " " for code in range(128) if not chr(code).isalnum()})
_DEPTH_MAX = 12


def words_of(text: str) -> set[str]:
    """Return the words of `text`, case-folded: runs of letters and digits."""
    folded = text.casefold()
    if folded.isascii():  # several times as fast as the expression, and the same words
        return set(folded.translate(_ASCII_TO_WORDS).split())
    return set(_WORD.findall(folded))


def stable_hash(text: str) -> int:
    """Return 32 bits of `text`, the same on every machine and in every version."""
    # A checksum's neighbours are alike; the multiplication spreads them (Knuth's constant).
    return (zlib.crc32(text.encode("utf-8", "surrogatepass")) * 2654435761 >> 5) & 0xFFFFFFFF


class Taxonomy:
    """Labels with an index of their words."""

    __slots__ = ("_by_word", "_word_counts", "labels")

    def __init__(self, labels: tuple[str, ...]) -> None:
        self.labels = labels
        self._by_word: dict[str, list[int]] = {}
        self._word_counts: list[int] = []
        for index, label in enumerate(labels):
            every = words_of(label)
            telling = {word for word in every if len(word) >= _WORD_LETTERS_MIN and word not in _COMMON} or every
            self._word_counts.append(len(telling) or 1)
            for word in telling:
                self._by_word.setdefault(word, []).append(index)

    def predict(self, text: str) -> tuple[int, int]:
        """Return the label's index and the confidence in hundredths."""
        digest = stable_hash(text)
        hits: dict[int, int] = {}
        for word in self._by_word.keys() & words_of(text):
            for index in self._by_word[word]:
                hits[index] = hits.get(index, 0) + 1
        if not hits:
            return digest % len(self.labels), 40 + digest // 7 % 35
        if len(hits) == 1:
            return next(iter(hits)), 75 + digest % 25
        # Most words in common wins, then the label that is matched more fully, then the hash.
        scores = {index: (count, count / self._word_counts[index]) for index, count in hits.items()}
        best = max(scores.values())
        tied = sorted(index for index, score in scores.items() if score == best)
        return tied[digest % len(tied)], 75 + digest % 25


@functools.lru_cache(maxsize=256)
def taxonomy_of(labels: tuple[str, ...]) -> Taxonomy:
    """Return the index of `labels`, built once."""
    return Taxonomy(labels)


def predict(text: str, labels: Sequence[str]) -> tuple[str, float]:
    """Return the label and the confidence that the server answers for `text`.

    The label that shares most words with the text, with a confidence of 0.75 to 0.99; without any word in common one that
    a stable hash of the text picks, with 0.40 to 0.74. Raises ValueError without labels.
    """
    if not labels:
        raise ValueError("predict: no labels")
    index, hundredths = taxonomy_of(tuple(labels)).predict(text)
    return labels[index], hundredths / 100


class Answerer:
    """The answers to one `response_format`."""

    __slots__ = ("_cache", "_has_confidence", "_is_json", "_schema", "_taxonomy")

    def __init__(self, response_format: object) -> None:
        self._taxonomy: Taxonomy | None = None
        self._cache: dict[tuple[int, int], str] = {}
        self._schema = schema = _schema_of(response_format)
        self._is_json = isinstance(response_format, dict) and response_format.get("type") in ("json_schema", "json_object")
        self._has_confidence = False
        if schema is None:
            return
        properties = schema.get("properties")
        if isinstance(properties, dict) and not set(properties) - {"label", "confidence"}:
            label = _resolved(properties.get("label"), schema)
            labels = label.get("enum")
            if isinstance(labels, list) and labels and all(isinstance(name, str) for name in labels):
                self._taxonomy = taxonomy_of(tuple(labels))
                self._has_confidence = "confidence" in properties or schema.get("additionalProperties") is not False

    def content(self, text: str) -> str:
        """Return the right answer for the user's `text`."""
        if self._taxonomy is not None:
            key = self._taxonomy.predict(text)
            found = self._cache.get(key)
            if found is None:
                found = self._cache[key] = self._labelled(self._taxonomy.labels[key[0]], key[1])
            return found
        if self._schema is not None:
            return json.dumps(_fitting(self._schema, self._schema, text, ""), ensure_ascii=False)
        if self._is_json:
            return json.dumps({"answer": stable_hash(text)})
        return f"This is answer {stable_hash(text):08x} to a message of {len(text)} characters."

    def wrong(self, text: str) -> str:
        """Return an answer of the right form whose label is not in the taxonomy."""
        name = f"Unlisted {stable_hash(text):08x}"
        if self._taxonomy is not None:
            return self._labelled(name, self._taxonomy.predict(text)[1])
        return json.dumps({"label": name}) if self._is_json else name

    def _labelled(self, label: str, hundredths: int) -> str:
        answer: dict[str, Any] = {"label": label}
        if self._has_confidence:
            answer["confidence"] = hundredths / 100
        return json.dumps(answer, ensure_ascii=False)


def _schema_of(response_format: object) -> dict[str, Any] | None:
    if not isinstance(response_format, dict) or not isinstance(response_format.get("json_schema"), dict):
        return None
    schema = response_format["json_schema"].get("schema")
    return schema if isinstance(schema, dict) else None


def _resolved(part: object, root: dict[str, Any]) -> dict[str, Any]:
    """Follow local references and take the first alternative that is not null."""
    for _ in range(_DEPTH_MAX):
        if not isinstance(part, dict):
            return {}
        options = part.get("anyOf") or part.get("oneOf") or part.get("allOf")
        reference = part.get("$ref")
        if isinstance(reference, str) and reference.startswith("#/"):
            part = functools.reduce(
                lambda at, name: at.get(name) if isinstance(at, dict) else None, reference[2:].split("/"), root
            )
        elif isinstance(options, list) and options:
            part = next((one for one in options if isinstance(one, dict) and one.get("type") != "null"), options[0])
        else:
            return part
    return {}


def _fitting(part: object, root: dict[str, Any], text: str, name: str, depth: int = 0) -> Any:  # noqa: PLR0911
    """Return a small value that fits a schema: enums by `predict`, a confidence as there, the rest by type."""
    schema = _resolved(part, root)
    choices = schema.get("enum")
    if "const" in schema:
        return schema["const"]
    if isinstance(choices, list) and choices:
        if all(isinstance(choice, str) for choice in choices):
            return predict(text, choices)[0]
        return choices[stable_hash(text) % len(choices)]
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((one for one in kind if one != "null"), "null")
    if kind == "object" or "properties" in schema:
        inner = schema.get("properties")
        if depth >= _DEPTH_MAX or not isinstance(inner, dict):
            return {}
        return {key: _fitting(value, root, text, key, depth + 1) for key, value in inner.items()}
    if kind == "array":
        count = schema.get("minItems", 1)
        count = count if isinstance(count, int) and depth < _DEPTH_MAX else 0
        return [_fitting(schema.get("items", {}), root, text, name, depth + 1) for _ in range(min(count, 100))]
    if kind in ("number", "integer"):
        return _fitting_number(schema, text, is_whole=kind == "integer", is_confidence=name == "confidence")
    return {"boolean": stable_hash(text) % 2 == 0, "null": None}.get(kind, f"{name or 'text'} {stable_hash(text):08x}")


def _fitting_number(schema: dict[str, Any], text: str, *, is_whole: bool, is_confidence: bool) -> float:
    number: float = 40 + stable_hash(text) % 60
    if not is_whole:
        number /= 100
    if is_confidence:
        return number
    low, high = schema.get("minimum"), schema.get("maximum")
    if isinstance(low, (int, float)):
        number = max(number, low)
    if isinstance(high, (int, float)):
        number = min(number, high)
    return int(number) if is_whole else number
