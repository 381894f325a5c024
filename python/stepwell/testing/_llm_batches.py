"""The batch APIs of the LLM test server: OpenAI's files and batches, Anthropic's message batches.

A batch ends when it is looked at for the third time; its results come in another order than its requests. By the model's name
in its first request: "...expiring..." has every third row expire, "...unbatchable..." is refused as a whole by OpenAI's form,
"...doubtful..." is made, and the answer that says so is lost: a 500 comes in its place.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from stepwell.testing._serve import Plan, head, plain, refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    #: How the server answers one request of a batch: path and body in, the whole answer out.
    Answer = Callable[[str, bytes], Plan]

_LOOKS_UNTIL_ENDED = 3
_REQUESTS_MAX = {"openai": 50_000, "anthropic": 100_000}
_PAGE, _PAGE_MAX = 20, 100
_FILES = re.compile(r"(.*)/files(?:/([\w-]+)(/content)?)?")
_BATCHES = re.compile(r"(.*)/batches(?:/([\w-]+)(?:/(results|cancel))?)?")
_EXPIRED = {
    "code": "batch_expired",
    "message": "This request could not be executed before the completion window expired.",
}


@dataclass
class _File:
    name: str
    data: bytes
    made_at: int = field(default_factory=lambda: int(time.time()))


@dataclass
class _Batch:
    """One batch. `rows`: custom_id, path and body of each. `outcomes`: custom_id, status (0: expired), answer or error."""

    name: str
    rows: list[tuple[str, str, bytes]]
    shown: dict[str, Any]
    made_at: float = field(default_factory=time.time)
    looks: int = 0
    outcomes: list[tuple[str, int, Any]] | None = None
    files: tuple[str | None, str | None] = (None, None)

    @property
    def model(self) -> str:
        """The model of its first request."""
        return str(json.loads(self.rows[0][2]).get("model", ""))


class RefusedBatchError(Exception):
    """A request about files or batches that makes no sense; the text says why."""


class Batches:
    """What the server keeps of files and batches. `answer` answers a row as if it had come by itself."""

    def __init__(self, answer: Answer, seed: int) -> None:
        self._answer = answer
        self._dice = random.Random(seed)  # noqa: S311 - not a secret
        self._files: dict[str, _File] = {}
        self._batches: dict[str, _Batch] = {}
        self.request_count = 0
        self._origin = ""

    def take(self, method: str, path: str, query: str, headers: Mapping[str, str], body: bytes) -> Plan | None:
        """Answer a request about files or batches; None for any other."""
        self.request_count += 1
        found_file, found_batch = _FILES.fullmatch(path), _BATCHES.fullmatch(path)
        try:
            if found_file is not None:
                return self._file(method, found_file, parse_qs(query), headers, body)
            self._origin = f"http://{headers.get('host', '127.0.0.1')}"
            if found_batch is None:
                return None
            return self._batch(method, found_batch, parse_qs(query), body)
        except RefusedBatchError as error:
            return Plan(refusal(400, str(error)))
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            return Plan(refusal(400, f"We could not make sense of your request: {type(error).__name__}: {error}"))

    # --- files ---

    def _file(
        self, method: str, found: re.Match[str], query: dict[str, list[str]], headers: Mapping[str, str], body: bytes
    ) -> Plan:
        name = found[2]
        if method == "POST" and name is None:
            return self._upload(headers, body)
        if name is None:
            return _page(list(self._files), query, "after", self._shown)
        if name not in self._files:
            return Plan(refusal(404, f"No such File object: {name}"))
        if found[3]:
            data = self._files[name].data
            return Plan(head(200, len(data), kind="application/octet-stream") + data)
        return Plan(plain(200, self._shown(name)))

    def _shown(self, name: str) -> dict[str, Any]:
        file = self._files[name]
        about = {"bytes": len(file.data), "created_at": file.made_at, "filename": file.name, "purpose": "batch"}
        return {"id": name, "object": "file", **about, "status": "processed"}

    def _upload(self, headers: Mapping[str, str], body: bytes) -> Plan:
        kind, _, boundary = headers.get("content-type", "").partition("boundary=")
        if not kind.startswith("multipart/form-data") or not boundary:
            raise RefusedBatchError("multipart/form-data with a boundary is expected")
        fields: dict[str, tuple[str, bytes]] = {}
        for part in body.split(b"--" + boundary.strip('"').encode())[1:-1]:
            lines, _, data = part.partition(b"\r\n\r\n")
            named = dict(re.findall(r'(\w+)="([^"]*)"', lines.decode()))
            fields[named["name"]] = (named.get("filename", ""), data.removesuffix(b"\r\n"))
        if fields["purpose"][1] != b"batch":
            raise RefusedBatchError("purpose: batch is expected")
        return Plan(plain(200, self._shown(self._keep(*fields["file"]))))

    def _keep(self, name: str, data: bytes) -> str:
        digest = hashlib.blake2b(data, digest_size=6, salt=str(len(self._files)).encode()[:16]).hexdigest()
        self._files[f"file-{digest}"] = _File(name, data)
        return f"file-{digest}"

    # --- batches ---

    def _batch(self, method: str, found: re.Match[str], query: dict[str, list[str]], body: bytes) -> Plan:
        is_anthropic, name, more = found[1].endswith("/messages"), found[2], found[3]
        show = self._as_anthropic if is_anthropic else self._as_openai
        mine = {key: batch for key, batch in self._batches.items() if key.startswith("msgbatch_") == is_anthropic}
        if method == "POST" and name is None:
            made = self._from_messages(found[1], body) if is_anthropic else self._from_file(body)
            self._batches[made.name] = made
            if "doubtful" in made.model:
                return Plan(refusal(500, "The server had an error while processing your request."))
            return Plan(plain(200, show(made)))
        if name is None:
            return _page(list(mine), query, "after_id" if is_anthropic else "after", lambda each: show(mine[each]))
        if name not in mine:
            return Plan(refusal(404, f"No batch found with id '{name}'"))
        batch = mine[name]
        if more == "results":
            if batch.outcomes is None:
                raise RefusedBatchError("the batch has not ended yet")
            data = b"".join(_anthropic_line(*each) for each in batch.outcomes)
            return Plan(head(200, len(data), kind="application/x-jsonl") + data)
        self._look(batch, is_anthropic=is_anthropic)
        return Plan(plain(200, show(batch)))

    def _name(self, prefix: str) -> str:
        return f"{prefix}{len(self._batches) + 1:04d}{self._dice.getrandbits(32):08x}"

    def _from_file(self, body: bytes) -> _Batch:
        request = json.loads(body)
        if request["completion_window"] != "24h" or request["input_file_id"] not in self._files:
            raise RefusedBatchError("an input_file_id of a file and a completion_window of 24h are expected")
        rows = []
        for line in self._files[request["input_file_id"]].data.splitlines():
            row = json.loads(line)
            if row["method"] != "POST" or row["url"] != request["endpoint"]:
                raise RefusedBatchError(f"url: {request['endpoint']!r} is expected")
            rows.append((row["custom_id"], row["url"], json.dumps(row["body"]).encode()))
        shown = {key: request.get(key) for key in ("endpoint", "input_file_id", "completion_window", "metadata")}
        return _Batch(self._name("batch_"), _checked(rows, "openai"), shown)

    def _from_messages(self, prefix: str, body: bytes) -> _Batch:
        rows = [(row["custom_id"], prefix, json.dumps(row["params"]).encode()) for row in json.loads(body)["requests"]]
        return _Batch(self._name("msgbatch_"), _checked(rows, "anthropic"), {})

    def _look(self, batch: _Batch, *, is_anthropic: bool) -> None:
        """Count a look at a batch; with the last one it ends."""
        batch.looks += 1
        if batch.looks < _LOOKS_UNTIL_ENDED or batch.outcomes is not None:
            return
        if "unbatchable" in batch.model and not is_anthropic:
            batch.outcomes = []
            return
        batch.outcomes, model = [], batch.model
        for number, (row, path, body) in enumerate(batch.rows):
            if "expiring" in model and number % 3 == 2:
                batch.outcomes.append((row, 0, _EXPIRED))
                continue
            first, _, content = self._answer(path, body).data.partition(b"\r\n\r\n")
            status = int(first.split(b" ", 2)[1]) if first else 500
            try:
                value = json.loads(content)
            except ValueError:  # the connection broke, or the answer was no JSON: a batch knows only rows that failed
                status, value = 500, {"error": {"type": "server_error", "message": "The server had an error"}}
            batch.outcomes.append((row, status, value))
        self._dice.shuffle(batch.outcomes)
        if not is_anthropic:
            good = [each for each in batch.outcomes if each[1] == 200]
            bad = [each for each in batch.outcomes if each[1] != 200]
            names = ("output", good), ("error", bad)
            kept = [
                self._keep(f"{batch.name}_{name}.jsonl", b"".join(_openai_line(*each) for each in part))
                if part
                else None
                for name, part in names
            ]
            batch.files = (kept[0], kept[1])

    def _as_openai(self, batch: _Batch) -> dict[str, Any]:
        outcomes = batch.outcomes
        status = "validating" if batch.looks == 0 else "in_progress"
        errors = None
        if outcomes is not None:
            status = "expired" if any(each[1] == 0 for each in outcomes) else "completed"
            if not outcomes:
                status = "failed"
                error = {"code": "token_limit_exceeded", "message": "Enqueued token limit reached.", "line": None}
                errors = {"object": "list", "data": [error]}
        good = sum(each[1] == 200 for each in outcomes or ())
        counts = {"total": len(batch.rows), "completed": good, "failed": len(outcomes or ()) - good}
        about = {"id": batch.name, "object": "batch", **batch.shown, "status": status, "errors": errors}
        times = {"created_at": int(batch.made_at), "expires_at": int(batch.made_at) + 86_400}
        files = {"output_file_id": batch.files[0], "error_file_id": batch.files[1]}
        return {**about, **times, **files, "request_counts": counts}

    def _as_anthropic(self, batch: _Batch) -> dict[str, Any]:
        outcomes, counts = (
            batch.outcomes,
            dict.fromkeys(("processing", "succeeded", "errored", "canceled", "expired"), 0),
        )
        if outcomes is None:
            counts["processing"] = len(batch.rows)
        for _, status, _ in outcomes or ():
            counts["succeeded" if status == 200 else "errored" if status else "expired"] += 1
        made_at = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(batch.made_at))
        about = {"id": batch.name, "type": "message_batch", "created_at": made_at, "request_counts": counts}
        ends_at = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(batch.made_at + 86_400))
        times = {"expires_at": ends_at, "ended_at": None, "archived_at": None, "cancel_initiated_at": None}
        state = {"processing_status": "in_progress", "results_url": None}
        if outcomes is not None:
            times["ended_at"] = made_at
            results_url = f"{self._origin}/v1/messages/batches/{batch.name}/results"
            state = {"processing_status": "ended", "results_url": results_url}
        return {**about, **times, **state}


def _page(names: list[str], query: Mapping[str, list[str]], after: str, show: Callable[[str], Any]) -> Plan:
    """Return a page of a list, the newest first."""
    names.reverse()
    begin = names.index(query[after][0]) + 1 if after in query else 0
    page = names[begin : begin + min(_PAGE_MAX, int(query.get("limit", [_PAGE])[0]))]
    about = {"has_more": begin + len(page) < len(names), "first_id": page[0] if page else None}
    last = {"last_id": page[-1] if page else None}
    return Plan(plain(200, {"object": "list", "data": [show(each) for each in page], **about, **last}))


def _checked(rows: list[tuple[str, str, bytes]], form: str) -> list[tuple[str, str, bytes]]:
    names = {row[0] for row in rows}
    if not 1 <= len(rows) <= _REQUESTS_MAX[form] or len(names) != len(rows):
        raise RefusedBatchError(f"1 to {_REQUESTS_MAX[form]} requests, each with its own custom_id, are expected")
    if form == "anthropic" and not all(re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name) for name in names):
        raise RefusedBatchError("custom_id: 1 to 64 letters, digits, hyphens or underscores are expected")
    return rows


def _openai_line(row: str, status: int, value: Any) -> bytes:
    response = {"status_code": status, "request_id": f"req_{row}", "body": value} if status else None
    line = {"id": f"batch_req_{row}", "custom_id": row, "response": response, "error": None if status else value}
    return json.dumps(line).encode() + b"\n"


def _anthropic_line(row: str, status: int, value: Any) -> bytes:
    if status == 200:
        result = {"type": "succeeded", "message": value}
    elif status:
        result = {"type": "errored", "error": value}
    else:
        result = {"type": "expired"}
    return json.dumps({"custom_id": row, "result": result}).encode() + b"\n"
