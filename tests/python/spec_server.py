"""A mock of an API that is made from its OpenAPI document alone: it refuses what the document does not allow.

    with SpecServer(Spec.load("openai")) as server:
        ...                                   # code that talks to server.url
        assert [each.status for each in server.seen] == [200]

Each request is judged by path, method, query, required headers, credentials, content type and body (JSON Schema, with OpenAPI
3.0's `nullable` and boolean bounds rewritten); a refused one answers 400 or 401 with the reason. An accepted one is answered
by `answer`, or by an example; both must fit the response's schema, or the answer is 500. A schema that cannot be read is an
error, never a request that passes.
"""

from __future__ import annotations

import json
import os
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qsl, urlsplit

import jsonschema
from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

SHARED = Path(os.environ.get("STEPWELL_SHARED") or Path(__file__).resolve().parents[2].parent / "shared")
SPECS = SHARED / "specs"
_METHODS = {"get", "put", "post", "delete", "patch", "head", "options"}
_DOCUMENT = "urn:spec"
_DEPTH_MAX = 12


class Refused(Exception):
    """A request that the document does not allow."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


def plain_schema(node: Any) -> Any:
    """Return a part of an OpenAPI document with what 3.0 spells in its own way spelled as JSON Schema does."""
    if isinstance(node, list):
        return [plain_schema(each) for each in node]
    if not isinstance(node, dict):
        return node
    out = {name: plain_schema(value) for name, value in node.items() if name != "nullable"}
    for bound, inclusive in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if isinstance(out.get(bound), bool):
            is_exclusive = out.pop(bound)
            if is_exclusive and inclusive in out:
                out[bound] = out.pop(inclusive)
    if node.get("nullable") is True:
        if isinstance(out.get("type"), str) and "enum" not in out:
            out["type"] = [out["type"], "null"]
        else:
            out = {"anyOf": [out, {"type": "null"}]}
    return out


@dataclass(frozen=True)
class Operation:
    """One method of one path; schemas as pointers into the document."""

    name: str
    pattern: re.Pattern[str]
    method: str
    parameters: list[dict[str, Any]]
    body: dict[str, str]
    needs_body: bool
    responses: dict[str, str]
    examples: dict[str, Any]
    security: list[dict[str, Any]]


class Spec:
    """An OpenAPI document, ready to judge."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = plain_schema(document)
        # What was written down from somebody's documentation does not know every name.
        self.is_whole = document["info"].get("x-provenance", {}).get("kind") != "authored-from-docs"
        self._registry = Registry().with_resource(_DOCUMENT, Resource(self.document, DRAFT202012))
        self._validators: dict[tuple[str, bool], Draft202012Validator] = {}
        self.operations = list(self._read_operations())
        for operation in self.operations:
            for pointer in (*operation.body.values(), *operation.responses.values()):
                # A reference that leads nowhere or a pattern that is none would let everything pass later.
                list(self.validator(pointer).iter_errors({}))

    @classmethod
    def load(cls, name: str) -> Spec:
        """Read ../shared/specs/NAME.openapi.json."""
        return cls(json.loads((SPECS / f"{name}.openapi.json").read_text(encoding="utf-8")))

    def resolve(self, node: dict[str, Any]) -> dict[str, Any]:
        """Follow references of this document."""
        while "$ref" in node:
            found: Any = self.document
            for part in node["$ref"].removeprefix("#/").split("/"):
                found = found[part.replace("~1", "/").replace("~0", "~")]
            node = found
        return node

    def _read_operations(self) -> Iterator[Operation]:
        base = urlsplit((self.document.get("servers") or [{"url": ""}])[0]["url"]).path.rstrip("/")
        for path, item in self.document["paths"].items():
            pattern = re.compile(re.sub(r"\\{[^{}]*\\}", "[^/]+", re.escape(base + path)))
            for method, operation in item.items():
                if method not in _METHODS:
                    continue
                here = f"#/paths/{path.replace('~', '~0').replace('/', '~1')}/{method}"
                body = self.resolve(operation.get("requestBody") or {})
                if "$ref" in (operation.get("requestBody") or {}):
                    here_body = operation["requestBody"]["$ref"]
                else:
                    here_body = f"{here}/requestBody"
                responses, examples = self._read_responses(operation, here)
                yield Operation(
                    f"{method.upper()} {path}",
                    pattern,
                    method.upper(),
                    [self.resolve(each) for each in (*item.get("parameters", ()), *operation.get("parameters", ()))],
                    _contents(body, here_body),
                    bool(body.get("required")),
                    responses,
                    examples,
                    operation.get("security", self.document.get("security", [])),
                )

    def _read_responses(self, operation: dict[str, Any], here: str) -> tuple[dict[str, str], dict[str, Any]]:
        pointers, examples = {}, {}
        for status, given in operation["responses"].items():
            where = given.get("$ref") or f"{here}/responses/{status}"
            response = self.resolve(given)
            for kind, pointer in _contents(response, where).items():
                if kind == "application/json":
                    pointers[status] = pointer
                    if "example" in response["content"][kind]:
                        examples[status] = response["content"][kind]["example"]
        return pointers, examples

    def validator(self, pointer: str, *, closed: bool = False) -> Draft202012Validator:
        """Return the validator of a schema of the document. `closed`: names at its top that it does not know are errors."""
        if (pointer, closed) not in self._validators:
            schema = {"$ref": _DOCUMENT + pointer, **({"unevaluatedProperties": False} if closed else {})}
            self._validators[pointer, closed] = Draft202012Validator(schema, registry=self._registry)
        return self._validators[pointer, closed]

    def judge(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Operation:
        """Return the operation of a request that the document allows. Raises Refused."""
        url = urlsplit(target)
        found = [each for each in self.operations if each.pattern.fullmatch(url.path)]
        if not found:
            raise Refused(404, f"no path {url.path}; known are {', '.join(each.name for each in self.operations)}")
        operation = next((each for each in found if each.method == method), None)
        if operation is None:
            raise Refused(405, f"{url.path} has no {method}")
        self._judge_credentials(operation, headers)
        self._judge_parameters(operation, dict(parse_qsl(url.query, keep_blank_values=True)), headers)
        if operation.body and (body or operation.needs_body):
            kind = headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind not in operation.body:
                raise Refused(400, f"content type {kind!r}; expected one of {sorted(operation.body)}")
            try:
                value = json.loads(body)
            except ValueError as error:
                raise Refused(400, f"the body is not JSON: {error}") from None
            self.check(value, operation.body[kind], closed=self.is_whole)
        return operation

    def check(self, value: object, pointer: str, *, closed: bool = False) -> None:
        """Raise Refused with the reason when a value does not fit a schema."""
        # Open first: a value that does not fit leaves all of its names unknown, which says little.
        for is_closed in (False, closed):
            error = jsonschema.exceptions.best_match(self.validator(pointer, closed=is_closed).iter_errors(value))
            if error is not None:
                raise Refused(400, f"{error.json_path}: {error.message[:300]}")

    def _judge_credentials(self, operation: Operation, headers: Mapping[str, str]) -> None:
        schemes = self.document.get("components", {}).get("securitySchemes", {})
        wanted = [name for choice in operation.security for name in choice]
        for name in wanted:
            scheme = schemes[name]
            if scheme["type"] == "http" and re.fullmatch(r"(?i)bearer \S+", headers.get("authorization", "")):
                return
            if scheme["type"] == "apiKey" and headers.get(scheme["name"].lower()):
                return
        if wanted:
            raise Refused(401, f"no credentials; expected {' or '.join(wanted)}")

    def _judge_parameters(self, operation: Operation, query: Mapping[str, str], headers: Mapping[str, str]) -> None:
        given = {"query": query, "header": headers}
        known = {each["name"] for each in operation.parameters if each["in"] == "query"}
        if unknown := query.keys() - known:
            raise Refused(400, f"unknown query parameters: {sorted(unknown)}")
        for parameter in operation.parameters:
            place = given.get(parameter["in"])
            name = parameter["name"].lower() if parameter["in"] == "header" else parameter["name"]
            if place is not None and parameter.get("required") and not place.get(name):
                raise Refused(400, f"the {parameter['in']} parameter {parameter['name']} is required")

    def example(self, operation: Operation, status: str = "200") -> object:
        """Return an answer that fits; the document's own example, else the least that its schema demands."""
        value = operation.examples.get(status)
        if value is None:
            value = self._least({"$ref": operation.responses[status]}, 0)
        self.check(value, operation.responses[status])
        return value

    def _least(self, schema: Any, depth: int) -> Any:
        schema = self.resolve(schema)
        if depth > _DEPTH_MAX:
            return None
        for name in ("const", "default", "example"):
            if name in schema:
                return schema[name]
        if schema.get("enum"):
            return schema["enum"][0]
        if schema.get("allOf"):
            parts = [self._least(each, depth + 1) for each in schema["allOf"]]
            merged = {name: value for part in parts if isinstance(part, dict) for name, value in part.items()}
            return merged or parts[0]
        for word in ("anyOf", "oneOf"):
            if schema.get(word):
                return self._least(schema[word][0], depth + 1)
        kind = schema.get("type", "object")
        kind = kind[0] if isinstance(kind, list) else kind
        if kind == "object":
            wanted = schema.get("required", ())
            return {name: self._least(schema.get("properties", {}).get(name, {}), depth + 1) for name in wanted}
        if kind == "array":
            return [self._least(schema.get("items", {}), depth + 1)] * max(1, schema.get("minItems", 1))
        return {"string": "text", "integer": 1, "number": 1, "boolean": True, "null": None}[kind]


def _contents(holder: dict[str, Any], here: str) -> dict[str, str]:
    """Return the pointer of each content type's schema."""
    content = holder.get("content", {})
    return {
        kind: f"{here}/content/{kind.replace('~', '~0').replace('/', '~1')}/schema"
        for kind in content
        if "schema" in content[kind]
    }


@dataclass
class Seen:
    """What came in, and how it was judged."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    status: int
    reason: str


@dataclass
class SpecServer:
    """Serves a document on a loopback port until the `with` block ends. `answer` makes the 200 of a request's JSON."""

    spec: Spec
    answer: Callable[[str, dict[str, str], bytes], Any] | None = None
    seen: list[Seen] = field(default_factory=list)

    def __enter__(self) -> Self:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                """Keep the test's output quiet."""

            def _take(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                status, value = outer.take(self.command, self.path, headers, body)
                data = json.dumps(value).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _take  # noqa: N815 - http.server's names

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()
        self.origin = f"http://127.0.0.1:{self._server.server_address[1]}"
        return self

    def take(self, method: str, target: str, headers: dict[str, str], body: bytes) -> tuple[int, object]:
        """Judge a request, remember it, and answer it."""
        try:
            operation = self.spec.judge(method, target, headers, body)
            status, reason = 200, ""
            value = self.spec.example(operation) if self.answer is None else self.answer(target, headers, body)
            try:
                self.spec.check(value, operation.responses["200"])
            except Refused as error:
                status, reason = 500, f"our own answer does not fit: {error.reason}"
        except Refused as error:
            status, reason = error.status, error.reason
        if reason:
            value = {"type": "error", "error": {"type": "invalid_request_error", "message": reason}}
        self.seen.append(Seen(method, target, headers, body, status, reason))
        return status, value

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
