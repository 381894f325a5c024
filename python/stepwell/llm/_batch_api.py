"""The batch APIs of the providers, as requests and answers: OpenAI's files and batches, Anthropic's message batches.

Everything here is sent from inside a step, unrecorded; what a step returns of it is what is kept.
"""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from stepwell._errors import LlmError, closed_error, failure_of
from stepwell._workflow import current_step
from stepwell.llm._adapter import a_dict, a_text, dicts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from stepwell.llm._models import Model

_CONNECT_MS, _TIMEOUT_MS = 10_000, 600_000
_ANSWER_BYTES_MAX = 16 << 20
# The results of a batch: Egress.bulk_bytes_max says how large they may be. Neither provider documents ranges of them.
_RESULTS_BYTES_MAX = 1 << 30
_TOO_LARGE = "SW-E1304"
# Lists are read from their newest entry on, this many pages at most.
_PAGES_MAX = 50
# How far the provider's clock may be behind ours.
_SKEW_S = 600
_SAID_CHARS_MAX = 200


#: Makes the requests of a batch, as `line` gives them: only who sends them needs them.
Lines = Callable[[], list[bytes]]


class RefusedError(LlmError):
    """The provider refused a request about a batch; asking again would not help."""


class Outcome(NamedTuple):
    """What became of one row: the answer as if it had been asked alone, or why there is none."""

    row: int
    answer: dict[str, Any] | None
    reason: str


@dataclass(frozen=True, slots=True)
class State:
    """How far a batch is. `files`: what holds its outcomes. `reason`: why it was refused as a whole."""

    is_over: bool
    files: tuple[str, ...] = ()
    reason: str = ""


class BatchApi(Protocol):
    """One provider's batches. `key` names a batch of ours, and no other's."""

    requests_max: int
    bytes_max: int

    def line(self, key: str, row: int, body: bytes) -> bytes:
        """Return the request of one row, as it stands in a batch."""

    async def find(self, key: str, count: int, since: float, known: Sequence[str]) -> str:
        """Return the name of the batch that was made for `key`, "" when there is none."""

    async def upload(self, key: str, lines: Lines, *, looks_first: bool) -> str:
        """Send what the batch will read; return its name, "" where nothing is sent beforehand."""

    async def create(self, key: str, lines: Lines, file: str) -> str:
        """Make the batch and return its name."""

    async def state(self, batch: str) -> State:
        """Look how far it is."""

    def outcomes(self, key: str, batch: str, files: Sequence[str]) -> AsyncIterator[Outcome]:
        """Yield what became of its rows, in any order."""


class _Api:
    """What both have in common: sending, pages, lines."""

    def __init__(self, model: Model) -> None:
        self.model = model

    async def _ask(self, method: str, path: str, body: bytes = b"", kind: str = "application/json") -> bytes:
        """Send one request. Raises RefusedError for a refusal, LlmError for what may go better later."""
        return await self._answered(method, path, body, kind, (_ANSWER_BYTES_MAX, False))

    async def _results(self, path: str) -> bytes:
        """Get the results of a batch, which may be larger than any other answer."""
        return await self._answered("GET", path, b"", "", (_RESULTS_BYTES_MAX, True))

    async def _answered(self, method: str, path: str, body: bytes, kind: str, bounds: tuple[int, bool]) -> bytes:
        headers = tuple(pair for pair in self.model.headers if pair[0] != "content-type")
        if body:
            headers += (("content-type", kind),)
        url = self.model.url_of(path)
        status, content = await _send((method, url, headers, body, _CONNECT_MS, _TIMEOUT_MS, *bounds))
        if 200 <= status < 300:
            return content
        said = _said(content)
        text = f"{method} {path.partition('?')[0]} was answered with {status}: {said}"
        if status in (408, 409, 429) or status >= 500:
            raise LlmError("SW-E2191", text)
        raise RefusedError("SW-E2191", text, hint="look at the message; a key may lack the right to make batches")

    async def _json(self, method: str, path: str, value: Any = None) -> dict[str, Any]:
        content = await self._ask(method, path, b"" if value is None else json.dumps(value).encode())
        try:
            return a_dict(json.loads(content))
        except (ValueError, RecursionError):
            raise LlmError("SW-E2191", f"{method} {path.partition('?')[0]} was answered with no JSON") from None

    async def _pages(self, path: str, after: str) -> AsyncIterator[dict[str, Any]]:
        """Yield the entries of a list, the newest first."""
        place = ""
        for _ in range(_PAGES_MAX):
            page = await self._json("GET", path + place)
            entries = dicts(page.get("data"))
            for entry in entries:
                yield entry
            if not page.get("has_more") or not entries:
                return
            place = f"&{after}={a_text(entries[-1].get('id'))}"


class OpenAiBatches(_Api):
    """POST /files, /batches; GET /batches/ID, /files/ID/content."""

    requests_max = 50_000
    bytes_max = 200_000_000

    @property
    def _endpoint(self) -> str:
        return "/v1" + self.model.adapter.path(self.model.name)

    def line(self, key: str, row: int, body: bytes) -> bytes:
        """Return one line of the input file."""
        about = {"custom_id": f"{key}-{row}", "method": "POST", "url": self._endpoint}
        return json.dumps(about).encode()[:-1] + b', "body": ' + body + b"}\n"

    async def find(self, key: str, count: int, since: float, known: Sequence[str]) -> str:  # noqa: ARG002
        """Look for the batch whose metadata name our key."""
        async for each in self._pages("/batches?limit=100", "after"):
            if a_dict(each.get("metadata")).get("stepwell") == key:
                return a_text(each.get("id"))
            made_at = each.get("created_at")
            if isinstance(made_at, int) and made_at < since - _SKEW_S:
                break
        return ""

    async def upload(self, key: str, lines: Lines, *, looks_first: bool) -> str:
        """Upload the input file, unless one of its name is there."""
        name, rows = f"stepwell-{key}.jsonl", await asyncio.to_thread(lines)
        if looks_first:
            async for each in self._pages("/files?purpose=batch&limit=1000", "after"):
                if each.get("filename") == name and each.get("bytes") == sum(map(len, rows)):
                    return a_text(each.get("id"))
        boundary = f"stepwell-{key}"  # no line holds it: a key stands there without this in front
        text = f'--{boundary}\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--{boundary}\r\n'
        text += f'content-disposition: form-data; name="file"; filename="{name}"\r\n'
        text += "content-type: application/jsonl\r\n\r\n"
        body = b"".join([text.encode(), *rows, f"\r\n--{boundary}--\r\n".encode()])
        file = json.loads(await self._ask("POST", "/files", body, f"multipart/form-data; boundary={boundary}"))
        return a_text(a_dict(file).get("id"))

    async def create(self, key: str, lines: Lines, file: str) -> str:  # noqa: ARG002 - the file holds them
        """Make the batch of an uploaded file."""
        wanted = {"input_file_id": file, "endpoint": self._endpoint, "completion_window": "24h"}
        return a_text((await self._json("POST", "/batches", {**wanted, "metadata": {"stepwell": key}})).get("id"))

    async def state(self, batch: str) -> State:
        """Look how far it is."""
        seen = await self._json("GET", f"/batches/{batch}")
        if seen.get("status") not in ("completed", "failed", "expired", "cancelled"):
            return State(is_over=False)
        errors = [a_text(each.get("message")) for each in dicts(a_dict(seen.get("errors")).get("data"))]
        files = tuple(a_text(seen.get(name)) for name in ("output_file_id", "error_file_id") if seen.get(name))
        return State(is_over=True, files=files, reason="; ".join(errors)[:_SAID_CHARS_MAX])

    async def outcomes(self, key: str, batch: str, files: Sequence[str]) -> AsyncIterator[Outcome]:  # noqa: ARG002
        """Read the output file and the error file."""
        for file in files:
            for row, line in _rows(await self._results(f"/files/{file}/content"), key):
                response, error = a_dict(line.get("response")), a_dict(line.get("error"))
                if response.get("status_code") == 200:
                    yield Outcome(row, a_dict(response.get("body")), "")
                    continue
                said = error or a_dict(a_dict(response.get("body")).get("error"))
                yield Outcome(row, None, _reason(said.get("code") or said.get("type"), said.get("message")))


class AnthropicBatches(_Api):
    """POST /messages/batches; GET /messages/batches/ID, /messages/batches/ID/results."""

    requests_max = 100_000
    bytes_max = 256_000_000

    def line(self, key: str, row: int, body: bytes) -> bytes:
        """Return one of `requests`."""
        return f'{{"custom_id": "{key}-{row}", "params": '.encode() + body + b"}"

    async def find(self, key: str, count: int, since: float, known: Sequence[str]) -> str:
        """Look for our batch by its size and age; its rows tell whether it is ours.

        The API keeps nothing of ours but the rows' names, and shows those only at the end: one that still runs and could be
        ours is waited for, by raising LlmError, which has the step tried again later.
        """
        async for each in self._pages("/messages/batches?limit=100", "after_id"):
            name, counts = a_text(each.get("id")), a_dict(each.get("request_counts"))
            if _unix(each.get("created_at")) < since - _SKEW_S:
                break
            if name in known or sum(each for each in counts.values() if isinstance(each, int)) != count:
                continue
            if not (await self.state(name)).is_over:
                raise LlmError("SW-E2191", f"batch {name} may be ours, and tells only when it has ended")
            content = await self._results(f"/messages/batches/{name}/results")
            if next(_rows(content, key), None) is not None:
                return name
        return ""

    async def upload(self, key: str, lines: Lines, *, looks_first: bool) -> str:  # noqa: ARG002
        """Send nothing: a batch comes with its requests."""
        return ""

    async def create(self, key: str, lines: Lines, file: str) -> str:  # noqa: ARG002 - there is none
        """Make the batch."""
        body = b'{"requests": [' + b",".join(await asyncio.to_thread(lines)) + b"]}"
        return a_text(a_dict(json.loads(await self._ask("POST", "/messages/batches", body))).get("id"))

    async def state(self, batch: str) -> State:
        """Look how far it is."""
        seen = await self._json("GET", f"/messages/batches/{batch}")
        return State(is_over=seen.get("processing_status") == "ended")

    async def outcomes(self, key: str, batch: str, files: Sequence[str]) -> AsyncIterator[Outcome]:  # noqa: ARG002
        """Read the results, from where the batch is, not from where its `results_url` says: the key goes along."""
        for row, line in _rows(await self._results(f"/messages/batches/{batch}/results"), key):
            result = a_dict(line.get("result"))
            if result.get("type") == "succeeded":
                yield Outcome(row, a_dict(result.get("message")), "")
                continue
            error = a_dict(result.get("error"))
            error = a_dict(error.get("error")) or error
            yield Outcome(row, None, _reason(error.get("type") or result.get("type"), error.get("message")))


async def _send(request: tuple[Any, ...]) -> tuple[int, bytes]:
    """Send a plain request through the engine whose step this is; return status and body."""
    context = current_step.get()
    assert context is not None  # noqa: S101 - only steps get here
    loop, worker = asyncio.get_running_loop(), context.worker
    future: asyncio.Future[list[tuple[Any, ...]]] = loop.create_future()

    def settle(items: list[tuple[Any, ...]]) -> None:
        if not future.done():
            future.set_result(items)

    group = worker.open_group(lambda items: _call_soon(loop, settle, items))
    try:
        worker.core.send([request], group << 32)
        items = await future
    finally:
        worker.close_group(group)
    if not items:
        raise closed_error()
    _, _, failure, status, _, content, _ = items[0]
    if failure is None:
        return status, content
    error = failure_of(failure)
    if error.code == _TOO_LARGE:  # as large the next time
        hint = "raise bulk_bytes_max of sw.Egress, and replay the run from this step: the batch is there"
        raise RefusedError(_TOO_LARGE, error.message, hint=hint)
    raise error


def _call_soon(loop: asyncio.AbstractEventLoop, settle: Callable[[Any], None], items: Any) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(settle, items)


def _rows(content: bytes, key: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield our rows of a file of outcomes; lines that are none, and those of others, are passed over."""
    begin = f"{key}-"
    for text in io.BytesIO(content):
        try:
            line = a_dict(json.loads(text)) if text.strip() else {}
        except (ValueError, RecursionError):
            continue
        name = a_text(line.get("custom_id"))
        if name.startswith(begin) and name[len(begin) :].isdecimal():
            yield int(name[len(begin) :]), line


def _unix(text: object) -> float:
    from datetime import datetime

    try:
        return datetime.fromisoformat(a_text(text)).timestamp()
    except ValueError:
        return float("inf")  # of an unknown age: it may be ours


def _reason(kind: object, message: object) -> str:
    words = [a_text(each) for each in (kind, message) if each]
    return (": ".join(words) or "the provider gave no reason")[:_SAID_CHARS_MAX]


def _said(content: bytes) -> str:
    try:
        error = a_dict(a_dict(json.loads(content)).get("error"))
    except (ValueError, RecursionError):
        error = {}
    return (a_text(error.get("message")) or content[:_SAID_CHARS_MAX].decode("utf-8", "replace"))[:_SAID_CHARS_MAX]
