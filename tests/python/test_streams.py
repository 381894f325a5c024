"""Streams over real HTTP: pieces in the workflow and outside, what is recorded, restarts, failures, ends."""

from __future__ import annotations

import asyncio
import json
import pickle
import threading
from typing import TYPE_CHECKING, Any

import pytest
from stream_peer import HEAD, PATIENCE_S, Peer, StreamServer

import stepwell as sw

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WORDS = ["Grüße ", "aus ", "der ", "Ferne, ", "請求🧾 ", "und ", "Ende."]
TEXT = "".join(WORDS)
QUICK = sw.Retry(max_attempts=3, base="1ms", cap="1ms")


def good(peer: Peer, _: int) -> None:
    peer.raw(HEAD)
    peer.say(*WORDS)
    peer.end()


@pytest.fixture
def server() -> Iterator[StreamServer]:
    with StreamServer(good) as opened:
        yield opened


@sw.workflow
async def tells(url: str) -> list[Any]:
    stream = sw.llm.stream("Tell me", model="test", base_url=url, retry=QUICK, idle="20s")
    pieces = [piece async for piece in stream]
    chat = await stream.result()
    usage = chat.usage
    return ["".join(pieces), chat.text, chat.finish_reason, usage.tokens_in, usage.tokens_out, chat.attempts]


@sw.workflow
def tells_plainly(url: str) -> list[Any]:
    stream = sw.llm.stream_blocking("Tell me", model="test", base_url=url, retry=QUICK)
    pieces = list(stream)
    chat = stream.result()
    usage = chat.usage
    return ["".join(pieces), chat.text, chat.finish_reason, usage.tokens_in, usage.tokens_out, chat.attempts]


@pytest.mark.parametrize("flow", [tells, tells_plainly])
def test_a_run_sees_the_pieces_and_records_the_whole(engine: sw.Engine, server: StreamServer, flow: Any) -> None:
    run = engine.start(flow, server.url)
    assert run.result(timeout=PATIENCE_S) == [TEXT, TEXT, "stop", 3, 5, 1]
    request = server.requests[0]
    assert request.body["stream"] is True
    assert b"accept: text/event-stream" in request.head.lower()
    assert [entry.name for entry in run.history()] == ["llm.stream"]
    assert "".join(engine.stream_blocking(run)) == TEXT, "a reader that comes late reads what was recorded"


def test_it_is_read_directly_too(server: StreamServer) -> None:
    stream = sw.llm.stream_blocking("Tell me", model="test", base_url=server.url)
    assert "".join(stream) == TEXT
    assert stream.text == TEXT
    assert stream.result().finish_reason == "stop"

    async def ask() -> tuple[str, sw.llm.Chat]:
        answer = sw.llm.stream("Tell me", model="test", base_url=server.url)
        return "".join([piece async for piece in answer]), await answer.result()

    text, chat = asyncio.run(ask())
    assert text == chat.text == TEXT
    assert chat.usage.tokens_out == 5


def test_each_piece_knows_its_place(server: StreamServer) -> None:
    place = 0
    for piece in sw.llm.stream_blocking("Tell me", model="test", base_url=server.url):
        assert (piece.generation, piece.offset, piece.restarted) == (1, place, False)
        place = piece.end
        assert piece.id == f"1:{place}"
        again = pickle.loads(pickle.dumps(piece))  # noqa: S301 - our own
        assert (again, again.id) == (piece, piece.id)
    assert place == len(TEXT.encode())


def test_a_reader_outside_follows_and_reads_on_from_any_place(engine: sw.Engine) -> None:
    goes_on = threading.Event()

    def answer(peer: Peer, _: int) -> None:
        peer.raw(HEAD)
        peer.say(*WORDS[:4])
        goes_on.wait(PATIENCE_S)
        peer.say(*WORDS[4:])
        peer.end()

    with StreamServer(answer) as server:
        run = engine.start(tells, server.url)
        half = "".join(WORDS[:4])
        seen = []
        for piece in engine.stream_blocking(run):
            seen.append(piece)
            if "".join(seen) == half:
                goes_on.set()
        assert "".join(seen) == TEXT
        run.result(timeout=PATIENCE_S)
    for piece in seen:
        assert "".join(engine.stream_blocking(run, after=piece.id)) == TEXT.encode()[piece.end :].decode()
        assert "".join(engine.stream_blocking(run.id, offset=piece.offset)) == TEXT.encode()[piece.offset :].decode()


def test_several_streams_of_a_run_are_told_apart_by_their_step(engine: sw.Engine) -> None:
    def answer(peer: Peer, _: int) -> None:
        peer.raw(HEAD)
        peer.say("answer to ", peer.body["messages"][0]["content"])
        peer.end()

    @sw.workflow
    async def two(url: str) -> list[str]:
        first = sw.llm.stream("one", model="test", base_url=url)
        second = sw.llm.stream("two", model="test", base_url=url, name="second")
        third = sw.llm.stream("three", model="test", base_url=url)
        chats = await sw.gather(first.result(), second.result(), third.result())
        return [chat.text for chat in chats]

    with StreamServer(answer) as server:
        run = engine.start(two, server.url)
        texts = ["answer to one", "answer to two", "answer to three"]
        steps = ["llm.stream", "llm.second", "llm.stream#2"]
        assert ["".join(engine.stream_blocking(run, step=step)) for step in steps] == texts
        assert run.result(timeout=PATIENCE_S) == texts


def test_an_attempt_that_begins_as_the_last_one_goes_on_after_it(engine: sw.Engine) -> None:
    def answer(peer: Peer, number: int) -> None:
        peer.raw(HEAD)
        if number == 1:
            peer.say(*WORDS[:5])  # cut off
        else:
            peer.say(TEXT[:3], TEXT[3:8], TEXT[8:])  # the same text in other pieces
            peer.end()

    with StreamServer(answer) as server:
        run = engine.start(tells, server.url)
        assert "".join(engine.stream_blocking(run)) == TEXT
        assert run.result(timeout=PATIENCE_S) == [TEXT, TEXT, "stop", 3, 5, 2]


def test_another_answer_begins_a_generation(engine: sw.Engine) -> None:
    reader_has_seen = threading.Event()

    def answer(peer: Peer, number: int) -> None:
        peer.raw(HEAD)
        peer.say("It was ", "a dark " if number == 1 else "a bright ", "night")
        if number == 1:
            reader_has_seen.wait(PATIENCE_S)
        else:
            peer.end()

    @sw.workflow
    async def tells_all(url: str) -> list[Any]:
        stream = sw.llm.stream("Tell me", model="test", base_url=url, retry=QUICK)
        return [[piece, piece.generation, piece.offset, piece.restarted] async for piece in stream] + [stream.text]

    with StreamServer(answer) as server:
        run = engine.start(tells_all, server.url)
        seen = []
        for piece in engine.stream_blocking(run):
            seen.append(piece)
            if "".join(seen) == "It was a dark night":
                reader_has_seen.set()
        *pieces, text = run.result(timeout=PATIENCE_S)
    for got in ([[*map(str, [p]), p.generation, p.offset, p.restarted] for p in seen], pieces):
        at = next(index for index, piece in enumerate(got) if piece[3])
        assert "".join(piece[0] for piece in got[:at]) == "It was a dark night"
        assert {piece[1] for piece in got[:at]} == {1}
        assert got[at] == ["", 2, 0, True]
        assert "".join(piece[0] for piece in got[at:]) == "It was a bright night"
        assert got[at + 1][1:3] == [2, 0]
    assert text == "It was a bright night"
    *_, last = engine.stream_blocking(run, after="1:7")
    assert last.generation == 2


def test_an_answer_that_is_a_part_of_the_last_one_is_another_answer(engine: sw.Engine) -> None:
    def answer(peer: Peer, number: int) -> None:
        peer.raw(HEAD)
        peer.say("Yes", *([", of course"] if number == 1 else []))
        if number > 1:
            peer.end()

    with StreamServer(answer) as server:
        run = engine.start(tells, server.url)
        pieces = list(engine.stream_blocking(run))
        assert run.result(timeout=PATIENCE_S)[1] == "Yes"
    after = [index for index, piece in enumerate(pieces) if piece.restarted]
    assert "".join(pieces[after[-1] if after else 0 :]) == "Yes"


def test_cancelling_a_run_reaches_the_socket(engine: sw.Engine) -> None:
    hung_up = threading.Event()

    def answer(peer: Peer, _: int) -> None:
        peer.raw(HEAD)
        peer.say("Once")
        if peer.hang_up_seen():
            hung_up.set()

    with StreamServer(answer) as server:
        run = engine.start(tells, server.url)
        pieces = engine.stream_blocking(run)
        assert next(pieces) == "Once"
        run.cancel()
        assert hung_up.wait(PATIENCE_S)
        with pytest.raises(sw.RunCancelled):
            next(pieces)
        assert next(engine.stream_blocking(run)) == "Once", "what was committed can still be read"


def test_a_run_that_ends_lets_its_stream_go(engine: sw.Engine) -> None:
    hung_up = threading.Event()

    def answer(peer: Peer, _: int) -> None:
        peer.raw(HEAD)
        peer.say("Once")
        if peer.hang_up_seen():
            hung_up.set()

    @sw.workflow
    async def looks_in(url: str) -> str:
        async for piece in sw.llm.stream("Tell me", model="test", base_url=url):
            return str(piece)
        return ""

    with StreamServer(answer) as server:
        assert engine.start(looks_in, server.url).result(timeout=PATIENCE_S) == "Once"
        assert hung_up.wait(PATIENCE_S)


def test_closing_the_engine_ends_the_readers(server: StreamServer) -> None:
    over = threading.Event()

    def answer(peer: Peer, _: int) -> None:
        peer.raw(HEAD)
        peer.say("Once")
        over.wait(PATIENCE_S)

    with StreamServer(answer) as slow, sw.Engine() as engine:
        pieces = engine.stream_blocking(engine.start(tells, slow.url))
        assert next(pieces) == "Once"
        closing = threading.Thread(target=engine.close, args=(0.0,))
        closing.start()
        with pytest.raises(sw.ClosedError):
            next(pieces)
        closing.join(PATIENCE_S)
        over.set()


def test_a_slow_reader_loses_nothing(engine: sw.Engine) -> None:
    words = [f"word {number} " for number in range(20_000)]

    def answer(peer: Peer, _: int) -> None:
        peer.raw(HEAD)
        for at in range(0, len(words), 100):
            peer.say("".join(words[at : at + 100]))
        peer.end()

    with StreamServer(answer) as server:
        run = engine.start(tells, server.url)
        pieces = engine.stream_blocking(run)
        first = next(pieces)
        assert run.result(timeout=PATIENCE_S)[1] == "".join(words)
        assert first + "".join(pieces) == "".join(words)


@pytest.mark.parametrize(
    "place", [{"offset": -1}, {"offset": 1.5}, {"after": "x"}, {"after": "0:1"}, {"after": "1:2", "offset": 1}]
)
def test_a_place_that_is_none(place: dict[str, Any]) -> None:
    with sw.Engine() as engine, pytest.raises(sw.InputError) as refused:
        next(engine.stream_blocking(1, **place))
    assert refused.value.code == "SW-E2132"


def test_streams_that_are_not_there(server: StreamServer) -> None:
    with sw.Engine() as engine:
        with pytest.raises(sw.NotFoundError) as missing:
            next(engine.stream_blocking("r_1234"))
        assert missing.value.code == "SW-E1005"
        run = engine.start(tells, server.url)
        run.result(timeout=PATIENCE_S)
        with pytest.raises(sw.NotFoundError) as other:
            next(engine.stream_blocking(run, step="other"))
        assert other.value.code == "SW-E2131"
        with pytest.raises(sw.InputError):
            next(engine.stream_blocking("nonsense"))
    with pytest.raises(sw.InputError, match="one answer"):
        sw.llm.stream("x", model="test", base_url=server.url, n=2)


def test_an_http_client_reconnects_and_reads_on(tmp_path: Path) -> None:
    """A little server as an application has it: events out, Last-Event-ID in."""
    goes_on = threading.Event()

    def answer(peer: Peer, _: int) -> None:
        peer.raw(HEAD)
        peer.say(*WORDS[:3])
        goes_on.wait(PATIENCE_S)
        peer.say(*WORDS[3:])
        peer.end()

    async def scenario(engine: sw.Engine, run: Any) -> list[dict[str, str]]:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            after = head.partition("last-event-id: ")[2].partition("\r\n")[0] or None
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")
            async for line in sw.llm.sse_lines(engine.stream(run, after=after)):
                writer.write(line)
                await writer.drain()
                if (await reader.read(1)) == b"":  # this client breaks off after each event
                    break
            writer.close()

        async def one_event(port: int, last: str) -> dict[str, str]:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET / HTTP/1.1\r\n" + (f"Last-Event-ID: {last}\r\n".encode() if last else b"") + b"\r\n")
            await reader.readuntil(b"\r\n\r\n")
            event = (await reader.readuntil(b"\n\n")).decode().strip()
            writer.close()
            await writer.wait_closed()
            return {"event": "message", "id": last, **dict(line.split(": ", 1) for line in event.splitlines())}

        events: list[dict[str, str]] = []
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as app:
            while not events or events[-1]["event"] != "end":
                events.append(await one_event(app.sockets[0].getsockname()[1], events[-1]["id"] if events else ""))
                goes_on.set()
        return events

    with StreamServer(answer) as server, sw.Engine(tmp_path / "s.db") as engine:
        run = engine.start(tells, server.url)
        events = asyncio.run(asyncio.wait_for(scenario(engine, run), PATIENCE_S))
    assert len(events) >= 3, "it had to connect again"
    assert "".join(json.loads(event["data"])["text"] for event in events[:-1]) == TEXT
