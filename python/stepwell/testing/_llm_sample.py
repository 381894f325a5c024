"""A value that fits a JSON Schema: what the LLM test server says when a structure is asked for."""

from __future__ import annotations

import math
from typing import Any

from stepwell.testing._llm_faults import predict

_DEPTH_MAX = 32
_FORMATS = {
    "date": "2026-01-31",
    "date-time": "2026-01-31T12:00:00Z",
    "time": "12:00:00Z",
    "duration": "PT5M",
    "email": "someone@example.com",
    "uuid": "00000000-0000-4000-8000-000000000000",
    "uri": "https://example.com/",
}


def sample(schema: dict[str, Any], text: str, label: str | None = None, confidence: float | None = None) -> Any:
    """Return the value that the server gives for `schema`.

    An enum of strings gets `label`, else what `predict` names for `text`; a number called confidence how sure that was.
    Every property that is declared is given. Types may be spelled as Gemini spells them.
    """
    return _Sampler(schema, text, label, confidence).value(schema, "", 0)


class _Sampler:
    def __init__(self, root: dict[str, Any], text: str, label: str | None, confidence: float | None) -> None:
        self._root = root
        self._text = text
        self._label = label
        self._confidence = confidence

    def value(self, schema: Any, name: str, depth: int) -> Any:
        if not isinstance(schema, dict) or depth > _DEPTH_MAX:
            return None
        if "$ref" in schema:
            found: Any = self._root
            for part in str(schema["$ref"]).split("/")[1:]:
                found = found.get(part, {}) if isinstance(found, dict) else {}
            return self.value(found, name, depth + 1)
        if "const" in schema:
            return schema["const"]
        if schema.get("enum"):
            return self._pick(schema["enum"])
        for word in ("anyOf", "oneOf", "allOf"):
            if schema.get(word):
                return self.value(schema[word][0], name, depth + 1)
        return self._of_type(schema, name, depth)

    def _pick(self, options: list[Any]) -> Any:
        labels = [each for each in options if isinstance(each, str)]
        if not labels:
            return options[0]
        label, confidence = predict(self._text, labels)
        if self._confidence is None:
            self._confidence = confidence
        return self._label if self._label is not None else label

    def _of_type(self, schema: dict[str, Any], name: str, depth: int) -> Any:
        kind = schema.get("type", "object" if "properties" in schema else "string")
        kind = str(kind[0] if isinstance(kind, list) else kind).lower()
        if kind == "object":
            properties = schema.get("properties") or {}
            return {each: self.value(inner, each, depth + 1) for each, inner in properties.items()}
        if kind == "array":
            return [self.value(schema.get("items", {}), name, depth + 1)] * max(1, schema.get("minItems", 1))
        if kind in ("number", "integer"):
            return self._number(schema, name, kind)
        if kind == "boolean":
            return True
        if kind == "null":
            return None
        return self._string(schema)

    def _number(self, schema: dict[str, Any], name: str, kind: str) -> Any:
        if name == "confidence" and kind == "number":
            return 0.5 if self._confidence is None else self._confidence
        least = schema.get("minimum", schema.get("exclusiveMinimum"))
        if least is None:
            most = schema.get("maximum", schema.get("exclusiveMaximum", 2))
            return 1 if most > 1 else math.ceil(most) - 1
        step = 1 if "exclusiveMinimum" in schema and "minimum" not in schema else 0
        return math.ceil(least) + step if kind == "integer" else least + step * 0.5

    def _string(self, schema: dict[str, Any]) -> str:
        if schema.get("format") in _FORMATS:
            return _FORMATS[schema["format"]]
        text = " ".join(self._text.split())[: min(40, schema.get("maxLength", 40))] or "-"
        return text.ljust(schema.get("minLength", 0), "-")
