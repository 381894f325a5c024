"""How streams fail, over real HTTP: each way has its code, and is tried again or not."""

from __future__ import annotations

import threading

import pytest
from stream_peer import HEAD, PATIENCE_S, Peer, StreamServer

import stepwell as sw

QUICK = sw.Retry(max_attempts=3, base="1ms", cap="1ms")


@sw.workflow
async def tells(url: str) -> str:
    return (await sw.llm.stream("Tell me", model="test", base_url=url, retry=QUICK).result()).text


def _event(text: str) -> bytes:
    return b"data: " + text.encode() + b"\n\n"


# The server hangs up after each answer; one that does not say so would be asked again on a connection that is going away.
CLOSE = b"\r\nconnection: close\r\n\r\n"

FAILURES: list[tuple[str, list[bytes], str, str]] = [
    ("no end", [HEAD.replace(b"\r\n\r\n", CLOSE), b"0\r\n\r\n"], "SW-E1311", "without its end"),
    ("an error in the stream", [HEAD, _event('{"error": {"message": "too busy"}}')], "SW-E1312", "too busy"),
    ("no JSON", [HEAD, _event("<html>")], "SW-E1308", "not JSON"),
    (
        "HTML",
        [b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 4" + CLOSE, b"oops"],
        "SW-E1308",
        "text/html",
    ),
    ("a status", [b"HTTP/1.1 500 no\r\ncontent-length: 4" + CLOSE, b"oops"], "SW-E1307", "oops"),
    ("a broken chunk", [HEAD, b"xyz\r\n"], "SW-E1306", ""),
    ("nothing at all", [b""], "SW-E1306", ""),
]


@pytest.mark.parametrize(("what", "sent", "code", "words"), FAILURES, ids=[case[0] for case in FAILURES])
def test_how_a_stream_fails(what: str, sent: list[bytes], code: str, words: str) -> None:
    def answer(peer: Peer, _: int) -> None:
        head, *rest = sent
        peer.raw(head)
        for data in rest:
            if data.startswith(b"data:"):
                peer.chunk(data)
            else:
                peer.raw(data)

    with StreamServer(answer) as server, sw.Engine() as engine:
        run = engine.start(tells, server.url)
        with pytest.raises(sw.RunFailed) as failed:
            run.result(timeout=PATIENCE_S)
        assert (failed.value.code, len(server.requests)) == (code, 3), what
        assert words in str(failed.value)
        with pytest.raises(sw.StepFailed) as reader:
            list(engine.stream_blocking(run))
        assert reader.value.code == code


def test_an_error_that_no_wait_can_heal_is_not_tried_again() -> None:
    def answer(peer: Peer, _: int) -> None:
        peer.raw(HEAD)
        peer.chunk(_event('{"error": {"type": "invalid_request_error", "message": "no"}}'))

    with StreamServer(answer) as server, sw.Engine() as engine:
        with pytest.raises(sw.RunFailed, match="no"):
            engine.start(tells, server.url).result(timeout=PATIENCE_S)
        assert len(server.requests) == 1


@pytest.mark.parametrize("between", [b": keep-alive\n\n", b"event: ping\ndata: {}\n\n", b"event: nothing\n\n"])
def test_a_peer_that_only_keeps_the_connection_alive_is_given_up(between: bytes) -> None:
    def answer(peer: Peer, _: int) -> None:
        peer.raw(HEAD)
        peer.say("Once")
        while True:
            peer.chunk(between)
            if over.wait(0.01):
                return

    over = threading.Event()
    with StreamServer(answer) as server:
        stream = sw.llm.stream_blocking(
            "Tell me", model="test", base_url=server.url, idle="150ms", retry=sw.Retry(max_attempts=1)
        )
        with pytest.raises(sw.RunFailed, match="no event for 150 ms") as failed:
            stream.result()
        over.set()
    assert failed.value.code == "SW-E1303"
    assert stream.text == "Once"


def test_an_endless_stream_meets_its_timeout() -> None:
    def answer(peer: Peer, _: int) -> None:
        peer.raw(HEAD)
        while True:
            peer.say("more ")

    with StreamServer(answer) as server:
        stream = sw.llm.stream_blocking(
            "Tell me", model="test", base_url=server.url, timeout="300ms", retry=sw.Retry(max_attempts=1)
        )
        with pytest.raises(sw.RunFailed) as failed:
            stream.result()
    assert failed.value.code in ("SW-E1303", "SW-E1304"), "the time, or the bytes on a fast machine"


def test_a_peer_that_has_said_its_end_need_not_close() -> None:
    over = threading.Event()

    def answer(peer: Peer, _: int) -> None:
        peer.raw(HEAD)
        peer.say("all")
        peer.chunk(b"data: [DONE]\n\n")
        over.wait(PATIENCE_S)

    with StreamServer(answer) as server:
        assert sw.llm.stream_blocking("Tell me", model="test", base_url=server.url).result().text == "all"
        over.set()
