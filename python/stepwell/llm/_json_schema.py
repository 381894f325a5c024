"""JSON schemas of answers: of a type, and in the dialect that each provider takes.

Providers know parts of the standard and refuse a request with more. What they do not know is left out of what is sent; an
answer is checked against the type itself, so nothing is lost but help for the model.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from stepwell import _codec
from stepwell._errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

_DEPTH_MAX = 100
_OPENAI_FORMATS = {"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"}
# Not a rule for values, or one that no provider enforces.
_NEVER = {
    "default",
    "examples",
    "discriminator",
    "deprecated",
    "readOnly",
    "writeOnly",
    "contentMediaType",
    "contentEncoding",
}
_LENGTHS = {"minLength", "maxLength", "uniqueItems", "minProperties", "maxProperties"}
_BOUNDS = {
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "minItems",
    "maxItems",
    "pattern",
}
# Keywords whose meaning would be lost without them, in objects and arrays of a free shape.
_FREE = ("patternProperties", "prefixItems", "allOf", "not", "if", "propertyNames", "dependentRequired")


def schema_of(returns: Any) -> tuple[dict[str, Any], bool]:
    """Return the schema of a type, and whether its value stands in an object's field `value`: providers want objects.

    Raises InputError SW-E2120 for a type that has no schema.
    """
    try:
        if inspect.isroutine(returns):  # pydantic would describe its parameters
            raise TypeError("a function is no type")
        schema = _codec.schema_of(returns)
    except Exception as error:  # noqa: BLE001 - pydantic raises many kinds, and annotations run any code
        raise InputError(
            "SW-E2120",
            f"a model cannot be asked for this type: {str(error)[:200]}",
            got=repr(returns)[:200],
            expected="a pydantic model, a dataclass, a TypedDict or a type of plain JSON",
        ) from None
    if schema.get("type") == "object" or "$ref" in schema:
        return schema, False
    definitions = {"$defs": schema.pop("$defs")} if "$defs" in schema else {}
    wrapped = {"type": "object", "properties": {"value": schema}, "required": ["value"], "additionalProperties": False}
    return {**wrapped, **definitions}, True


def openai_form(schema: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    """Return a schema for OpenAI, and whether its strict mode can take it."""
    if not _is_closed(schema):
        return _inlined(schema, dict(schema)), False
    return _inlined(schema, _form(schema, _NEVER | _LENGTHS, all_required=True)), True


def anthropic_form(schema: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return a schema for Anthropic; None when it has objects of a free shape, or is recursive."""
    if not _is_closed(schema) or _is_recursive(schema):
        return None
    # Optional fields are few there, and with OpenAI there are none: each field is asked for, everywhere.
    return _inlined(schema, _form(schema, _NEVER | _LENGTHS | _BOUNDS, all_required=True))


def gemini_form(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return a schema for Gemini."""
    form: dict[str, Any] = _form(
        schema, _NEVER | {"minLength", "maxLength", "pattern", "uniqueItems"}, all_required=False, closed=False
    )
    return form


def _inlined(schema: Mapping[str, Any], form: dict[str, Any]) -> dict[str, Any]:
    """Put an object at the root, where a recursive type has only a reference."""
    if "$ref" not in form:
        return form
    name = str(schema["$ref"]).rpartition("/")[2]
    return {**form.get("$defs", {}).get(name, {}), "$defs": form.get("$defs", {})}


def _references(node: Any) -> set[str]:
    if isinstance(node, list):
        return {name for each in node for name in _references(each)}
    if not isinstance(node, dict):
        return set()
    own = {str(node["$ref"]).rpartition("/")[2]} if "$ref" in node else set()
    return own.union(*(_references(each) for name, each in node.items() if name != "$defs"))


def _is_recursive(schema: Mapping[str, Any]) -> bool:
    """Whether a definition leads back to itself."""
    leads = {name: _references(each) for name, each in schema.get("$defs", {}).items()}
    for start, first in leads.items():
        seen, ahead = set[str](), [*first]
        while ahead:
            name = ahead.pop()
            if name == start:
                return True
            if name not in seen:
                seen.add(name)
                ahead += leads.get(name, ())
    return False


def _is_closed(node: Any, depth: int = 0) -> bool:
    """Whether every object in a schema names all its fields."""
    if depth > _DEPTH_MAX:
        return False
    if isinstance(node, list):
        return all(_is_closed(each, depth + 1) for each in node)
    if not isinstance(node, dict):
        return True
    if any(word in node for word in _FREE) or node == {}:
        return False
    is_object = node.get("type") == "object" or "properties" in node
    if is_object and ("properties" not in node or node.get("additionalProperties", False) is not False):
        return False
    if not _says_something(node):
        return False
    named = [*node.get("properties", {}).values(), *node.get("$defs", {}).values()]
    rest = [node[word] for word in ("items", "anyOf", "oneOf") if word in node]
    if node.get("type") == "array" and "items" not in node:
        return False
    return all(_is_closed(each, depth + 1) for each in [*named, *rest])


def _says_something(node: Mapping[str, Any]) -> bool:
    """Whether a schema restricts its values at all: `Any` has one that does not."""
    return any(word in node for word in ("type", "enum", "const", "anyOf", "oneOf", "$ref"))


def _form(node: Any, dropped: set[str], *, all_required: bool, closed: bool = True, depth: int = 0) -> Any:
    if isinstance(node, list):
        return [_form(each, dropped, all_required=all_required, closed=closed, depth=depth + 1) for each in node]
    if not isinstance(node, dict) or depth > _DEPTH_MAX:
        return node
    if "$ref" in node and depth:
        return {"$ref": node["$ref"]}  # nothing may stand beside it
    out: dict[str, Any] = {}
    for word, value in node.items():
        if word in dropped or (word == "format" and value not in _OPENAI_FORMATS):
            continue
        if word in ("properties", "$defs"):
            out[word] = {
                name: _form(each, dropped, all_required=all_required, closed=closed, depth=depth + 1)
                for name, each in value.items()
            }
        elif word in ("items", "anyOf", "oneOf", "allOf", "prefixItems"):
            name = "anyOf" if word == "oneOf" else word
            out[name] = _form(value, dropped, all_required=all_required, closed=closed, depth=depth + 1)
        elif word == "const":
            out["enum"] = [value]
        else:
            out[word] = value
    if "properties" in out:
        if closed:
            out["additionalProperties"] = False
        if all_required:
            out["required"] = list(out["properties"])
    return out
