"""Whether a JSON value fits a JSON schema: the part of the standard that type annotations give rise to.

Keywords that it does not know are passed over, so it may let through what the type itself would refuse, never the reverse.
"""

from __future__ import annotations

import re
from typing import Any

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}


def misfit(value: Any, schema: Any, *, at: str = "answer", root: Any = None) -> str:
    """Return what is wrong with `value`, in words that name the place; an empty text when it fits."""
    root = schema if root is None else root
    if isinstance(schema, bool):
        return "" if schema else f"{at}: nothing is allowed here"
    if "$ref" in schema:
        return misfit(value, root.get("$defs", {}).get(schema["$ref"].rpartition("/")[2], {}), at=at, root=root)
    return (
        _misfit_choice(value, schema, at, root)
        or _misfit_type(value, schema, at)
        or (_misfit_object(value, schema, at, root) if isinstance(value, dict) else "")
        or (_misfit_array(value, schema, at, root) if isinstance(value, list) else "")
        or (_misfit_bounds(value, schema, at) if isinstance(value, (str, int, float)) else "")
    )


def _is_same(one: Any, other: Any) -> bool:
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


def _misfit_choice(value: Any, schema: dict[str, Any], at: str, root: Any) -> str:
    allowed = [schema["const"]] if "const" in schema else schema.get("enum")
    if allowed is not None and not any(_is_same(value, each) for each in allowed):
        return f"{at}: {value!r:.80} is none of {', '.join(map(repr, allowed[:20]))}"
    for each in schema.get("allOf", ()):
        if why := misfit(value, each, at=at, root=root):
            return why
    branches = schema.get("anyOf") or schema.get("oneOf")
    if branches:
        found = [misfit(value, each, at=at, root=root) for each in branches]
        return "" if "" in found else found[0]
    return ""


def _misfit_type(value: Any, schema: dict[str, Any], at: str) -> str:
    names = schema.get("type")
    if names is None:
        return ""
    names = [names] if isinstance(names, str) else names
    for name in names:
        if isinstance(value, _TYPES.get(name, (object,))) and (name == "boolean" or not isinstance(value, bool)):
            return ""
        if name == "integer" and isinstance(value, float) and value.is_integer():
            return ""
    return f"{at}: {value!r:.80} is not of type {' or '.join(names)}"


def _misfit_object(value: dict[str, Any], schema: dict[str, Any], at: str, root: Any) -> str:
    for name in schema.get("required", ()):
        if name not in value:
            return f"{at}.{name}: is missing"
    known = schema.get("properties", {})
    others = schema.get("additionalProperties", True)
    for name, each in value.items():
        if why := misfit(each, known.get(name, others), at=f"{at}.{name}", root=root):
            return why
    return ""


def _misfit_array(value: list[Any], schema: dict[str, Any], at: str, root: Any) -> str:
    if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
        return f"{at}: {len(value)} items are too few or too many"
    heads = schema.get("prefixItems", [])
    for index, each in enumerate(value):
        rule = heads[index] if index < len(heads) else schema.get("items", True)
        if why := misfit(each, rule, at=f"{at}[{index}]", root=root):
            return why
    return ""


def _misfit_bounds(value: str | float, schema: dict[str, Any], at: str) -> str:
    if isinstance(value, str):
        if not schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value)):
            return f"{at}: {len(value)} characters are too few or too many"
        pattern = schema.get("pattern")
        return f"{at}: does not match {pattern!r}" if pattern and not _matches(pattern, value) else ""
    is_within = (
        schema.get("minimum", value) <= value <= schema.get("maximum", value)
        and ("exclusiveMinimum" not in schema or value > schema["exclusiveMinimum"])
        and ("exclusiveMaximum" not in schema or value < schema["exclusiveMaximum"])
    )
    return "" if is_within else f"{at}: {value!r} is out of range"


def _matches(pattern: str, value: str) -> bool:
    try:
        return re.search(pattern, value) is not None
    except re.error:  # another dialect: the type itself decides
        return True
