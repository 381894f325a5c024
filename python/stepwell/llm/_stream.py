"""`stream`: a model's answer while it grows, recorded whole; and its way on to an HTTP client."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from stepwell import _codec
from stepwell._calls import CALL, CALL_HELD, ask_for_more, held, instead_of, ready, step_failed, wait_name
from stepwell._errors import InputError, WorkflowError
from stepwell._streams import Follow, Inbox, Piece, recorded_stream
from stepwell._types import Duration, Retry, duration_ms
from stepwell._workflow import current_activation
from stepwell.llm._chat import Chat, Question, question
from stepwell.llm._models import DEFAULT_RETRY, resolve_model

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Sequence

    from stepwell._activation import Activation
    from stepwell.llm._adapter import Message
    from stepwell.llm._tools import Tool

# ItemKind of the core.
_STEP_ANSWER, _STREAM_PIECE = 1, 9


def _question(
    messages: Sequence[Message] | str,
    model: str,
    returns: Any,
    base_url: str | None,
    api_key: str | None,
    options: dict[str, Any],
    **asked: Any,
) -> Question:
    if options.get("n", 1) != 1:
        raise InputError("SW-E2120", "a stream is one answer", got=f"n={options['n']!r}"[:80], expected="n left out")
    model_found = resolve_model(model, base_url, api_key)
    return question(model_found, messages, returns, options=options, repair=0, **asked)


def _request(asked: Question, idle: Duration) -> tuple[Any, ...]:
    """Return the call in the core's form: that of a chat, with the body, URL and rule of a stream."""
    adapter = asked.model.adapter
    (method, _, headers, _, connect_ms, total_ms), *rest = asked.request(asked.ask)
    body = _codec.encode(adapter.body(asked.ask, stream=True), "request")
    accept = (("accept", "text/event-stream"),)
    http = (method, asked.model.stream_url, (*headers, *accept), body, connect_ms, total_ms)
    rule = adapter.stream_rule
    stream = (
        tuple(rule.text_pointers),
        tuple(rule.end_events),
        rule.end_data,
        tuple(rule.error_pointers),
        tuple(rule.text_events),
        duration_ms(idle, "idle"),
        tuple(rule.last_pointers),
    )
    retry, repeatable, is_json, pointer, *accounts = rest
    if retry[4]:
        hint = "leave hedge out of its Retry: what is shown while it comes comes from one place"
        raise InputError("SW-E2120", "a stream is not hedged", got=f"hedge={retry[4]} ms", hint=hint)
    admission, spending = (*accounts, (), ())[:2]
    return (http, retry, repeatable, is_json, pointer, admission, spending, stream)


class _Answer:
    """What a stream comes to."""

    def __init__(self, asked: Question) -> None:
        self.asked = asked
        self.text = ""
        self.chat: Chat | None = None

    def seen(self, piece: Piece) -> Piece:
        self.text = "" if piece.restarted else self.text + piece
        return piece

    def finish(self, payload: bytes, attempts: int) -> None:
        recorded = recorded_stream(payload)
        reply = self.asked.model.adapter.read_stream(recorded["text"], recorded["events"])
        chat, problem = self.asked.read(reply, attempts)
        if problem is not None:
            raise problem
        self.chat = chat


class Stream:
    """A model's answer while it grows: `async for piece in stream`, then `await stream.result()`.

    The call is made when the first piece, or the result, is asked for. It goes on to its end, and is recorded, whether or not
    all pieces are read. One reader at a time.
    """

    def __init__(self, asked: Question, pieces: AsyncGenerator[Piece | tuple[bytes, int], None]) -> None:
        self._answer = _Answer(asked)
        self._pieces = pieces
        self._lock = asyncio.Lock()
        self._is_over = False

    @property
    def text(self) -> str:
        """What was read so far, of the present answer."""
        return self._answer.text

    def __aiter__(self) -> AsyncIterator[Piece]:
        """Read on where the last reader stopped."""
        return self

    async def __anext__(self) -> Piece:
        """Return the next piece."""
        async with self._lock:
            if self._is_over:
                raise StopAsyncIteration
            try:
                piece = await anext(self._pieces)
                if not isinstance(piece, Piece):
                    self._is_over = True
                    self._answer.finish(*piece)
                    raise StopAsyncIteration
            except BaseException as error:
                self._is_over = self._is_over or isinstance(error, Exception)
                raise
            return self._answer.seen(piece)

    async def result(self) -> Chat:
        """Read to the end and return the whole answer, as `chat` does. Raises what `chat` raises."""
        async for _ in self:
            pass
        return _chat(self._answer)


class BlockingStream:
    """The same in plain code: `for piece in stream`, then `stream.result()`."""

    def __init__(self, asked: Question, pieces: Generator[Piece | tuple[bytes, int], None, None]) -> None:
        self._answer = _Answer(asked)
        self._pieces = pieces
        self._is_over = False

    @property
    def text(self) -> str:
        """What was read so far, of the present answer."""
        return self._answer.text

    def __iter__(self) -> BlockingStream:
        """Read on where the last reader stopped."""
        return self

    def __next__(self) -> Piece:
        """Wait for the next piece, without the GIL."""
        if self._is_over:
            raise StopIteration
        try:
            piece = next(self._pieces)
            if not isinstance(piece, Piece):
                self._is_over = True
                self._answer.finish(*piece)
                raise StopIteration
        except BaseException:
            self._is_over = True
            raise
        return self._answer.seen(piece)

    def result(self) -> Chat:
        """Read to the end and return the whole answer."""
        for _ in self:
            pass
        return _chat(self._answer)


def _chat(answer: _Answer) -> Chat:
    if answer.chat is None:
        raise InputError("SW-E2120", "the stream has failed, or was left in the middle; it has no result")
    return answer.chat


# -- inside a run -------------------------------------------------------------------------------------------------------


def _collector(came: list[tuple[Any, ...]], stirred: asyncio.Event) -> Callable[[tuple[Any, ...]], None]:
    def on_item(item: tuple[Any, ...]) -> None:
        came.append(item)
        stirred.set()

    return on_item


def _setter(event: asyncio.Event) -> Callable[[object], None]:
    return lambda _: event.set()


async def _in_run(
    activation: Activation, step: str, request: tuple[Any, ...]
) -> AsyncGenerator[Piece | tuple[bytes, int], None]:
    follow = Follow()
    answer, _ = activation.recorded(step)
    if answer is None and (instead := instead_of(activation, step, None)):
        answer = await activation.expect(step, instead)
    waits = wait_name(activation, step) if answer is None else ""
    while answer is None or not answer[0]:
        came: list[tuple[Any, ...]] = []
        stirred = asyncio.Event()
        activation.streams[step] = _collector(came, stirred)
        try:
            report = (CALL, activation.run, activation.token, step, *ready(activation, step, request))
            future = activation.expect(step, report)
            future.add_done_callback(_setter(stirred))
            while not future.done() or came:
                items, came[:] = came[:], []
                for item in items:
                    for piece in follow.take(*item[3:]):
                        yield piece
                if not future.done() and not came:
                    stirred.clear()
                    await stirred.wait()
        finally:
            activation.streams.pop(step, None)
        answer = future.result()
        if not answer[0]:
            ask_for_more(activation, step, request, answer[2])
            await activation.wait(waits, answer[2].decode(), answer[3])
    if not answer[1]:
        raise step_failed(activation.run, step, answer[2], answer[3])
    for piece in follow.finish(answer[2]):
        yield piece
    yield (answer[2], answer[3])


def _in_run_blocking(
    activation: Activation, step: str, request: tuple[Any, ...]
) -> Generator[Piece | tuple[bytes, int], None, None]:
    follow = Follow()
    answer, _ = activation.recorded(step)
    if answer is None and (instead := instead_of(activation, step, None)):
        answer = activation.expect_blocking(instead)
    waits = wait_name(activation, step) if answer is None else ""
    while answer is None or not answer[0]:
        activation.check_stopped()
        inbox = Inbox()
        activation.streams[step] = inbox.put
        try:
            report = (CALL, activation.run, activation.token, step, *ready(activation, step, request))
            activation.worker.core.complete([report])
            while (item := inbox.get())[0] == _STREAM_PIECE:
                yield from follow.take(*item[3:])
        finally:
            activation.streams.pop(step, None)
        activation.check_stopped()
        answer = held(item) if item[0] == CALL_HELD else (True, item[3], item[4], item[5])
        if not answer[0]:
            ask_for_more(activation, step, request, answer[2])
            activation.wait_blocking(waits, answer[2].decode(), answer[3])
    if not answer[1]:
        raise step_failed(activation.run, step, answer[2], answer[3])
    yield from follow.finish(answer[2])
    yield (answer[2], answer[3])


# -- the doors ----------------------------------------------------------------------------------------------------------


def stream(  # noqa: PLR0913 - chat's, and two of its own
    messages: Sequence[Message] | str,
    *,
    model: str,
    returns: Any = str,
    system: str | None = None,
    tools: Sequence[Tool | Callable[..., Any]] = (),
    tool_choice: str = "",
    max_tokens: int | None = None,
    temperature: float | None = None,
    base_url: str | None = None,
    api_key: str | None = None,
    retry: Retry = DEFAULT_RETRY,
    timeout: Duration = "10m",
    idle: Duration = "120s",
    tenant: str = "",
    name: str = "stream",
    **options: Any,
) -> Stream:
    """Ask a model and read its answer while it grows.

        async for piece in (answer := sw.llm.stream("Tell me a story", model="openai:gpt-4o-mini")):
            print(piece, end="")
        chat = await answer.result()

    Everything is as for `chat`, but there is no repair round. `timeout` bounds the whole answer, `idle` the silence between
    two events of it. Its step is "llm." and `name`: `engine.stream(run, step="llm.stream")`. Inside a run
    the answer is recorded with its end; a replay yields it as one piece. A piece that is `restarted` says that the call was
    made again with another answer: throw away what came before (see `Piece`).
    """
    asked = _question(
        messages, model, returns, base_url, api_key, options, retry=retry, timeout=timeout, system=system, tools=tools,
        tool_choice=tool_choice, max_tokens=max_tokens, temperature=temperature, tenant=tenant,
    )  # fmt: skip
    request = _request(asked, idle)
    activation = current_activation.get()
    if activation is None:
        from stepwell.llm._direct import stream_directly

        return Stream(asked, stream_directly(request))
    return Stream(asked, _in_run(activation, activation.identify(f"llm.{name}"), request))


def stream_blocking(  # noqa: PLR0913 - as stream
    messages: Sequence[Message] | str,
    *,
    model: str,
    returns: Any = str,
    system: str | None = None,
    tools: Sequence[Tool | Callable[..., Any]] = (),
    tool_choice: str = "",
    max_tokens: int | None = None,
    temperature: float | None = None,
    base_url: str | None = None,
    api_key: str | None = None,
    retry: Retry = DEFAULT_RETRY,
    timeout: Duration = "10m",
    idle: Duration = "120s",
    tenant: str = "",
    name: str = "stream",
    **options: Any,
) -> BlockingStream:
    """Do the same from plain code, in a script, a notebook or a plain def workflow."""
    asked = _question(
        messages, model, returns, base_url, api_key, options, retry=retry, timeout=timeout, system=system, tools=tools,
        tool_choice=tool_choice, max_tokens=max_tokens, temperature=temperature, tenant=tenant,
    )  # fmt: skip
    request = _request(asked, idle)
    activation = current_activation.get()
    if activation is None:
        from stepwell.llm._direct import stream_directly_blocking

        return BlockingStream(asked, stream_directly_blocking(request))
    return BlockingStream(asked, _in_run_blocking(activation, activation.identify(f"llm.{name}"), request))


async def sse_lines(pieces: AsyncIterator[Piece]) -> AsyncIterator[bytes]:
    """Turn a stream into server-sent events for an HTTP client, one bytes object an event.

        StreamingResponse(sse_lines(engine.stream(run, after=request.headers.get("last-event-id"))), media_type=...)

    A piece is an event with `data: {"text": "..."}` and its place as `id`, which a browser sends back as Last-Event-ID when
    it reconnects. `event: restarted` says that what came before is void, `event: end` that this was all, `event: error` that
    the stream failed: `{"code": ..., "message": ...}`.
    """
    try:
        async for piece in pieces:
            if piece.restarted:
                yield f"event: restarted\nid: {piece.id}\ndata: {json.dumps({'generation': piece.generation})}\n\n".encode()
            else:
                yield f"id: {piece.id}\ndata: {json.dumps({'text': piece}, ensure_ascii=False)}\n\n".encode()
    except WorkflowError as error:
        yield f"event: error\ndata: {json.dumps({'code': error.code, 'message': error.message})}\n\n".encode()
    else:
        yield b"event: end\ndata: {}\n\n"
