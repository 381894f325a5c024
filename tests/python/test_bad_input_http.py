"""The bad-input catalogue, entries 121 to 136: what HTTP peers answer. Each test bears the number of its entry."""

from __future__ import annotations

import gzip
import json
import zlib
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

import pytest
from raw_peers import GOOD, Outcome, Peer, answer, call, good, resets

import stepwell as sw
import stepwell.testing

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture
def engine() -> Iterator[stepwell.testing.Engine]:
    """A test engine: waits between attempts take no time."""
    with stepwell.testing.Engine() as opened:
        yield opened


def is_retried_or_in_doubt(engine: sw.Engine, first: Any, code: str) -> None:
    """See that a call that may be repeated is, and that another ends with the code, in doubt, after one request."""
    with Peer(first, GOOD) as peer:
        assert call(engine, peer.url) == good(2)
        assert len(peer.requests) == 2
    with Peer(first, GOOD) as peer:
        seen = call(engine, peer.url, repeatable=False)
        assert (seen.ok, seen.attempts, seen.code) == (False, 1, code), seen
        assert "may have been processed" in seen.message
        assert len(peer.requests) == 1


def fails_at_once(engine: sw.Engine, given: Any, code: str, **ask: Any) -> Outcome:
    """See that a call fails with the code and is not tried again."""
    with Peer(given) as peer:
        seen = call(engine, peer.url, **ask)
        assert (seen.ok, seen.attempts, seen.code) == (False, 1, code), seen
        assert len(peer.requests) == 1
    return seen


@pytest.mark.parametrize(
    "first",
    [resets(), b"", resets(b"HTTP/1.1 200 OK\r\nContent-Le"), resets(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{")],
    ids=["before", "closed", "inside the headers", "after the headers"],
)
def test_121_a_connection_that_breaks(engine: sw.Engine, first: Any) -> None:
    """Before, inside or after the headers: repeated if the call may be, otherwise in doubt (SW-E1306)."""
    is_retried_or_in_doubt(engine, first, "SW-E1306")


@pytest.mark.parametrize(
    "first", [b"hello there, this is HTTP/0.9\n", b"220 mail.example ESMTP\r\n", b"\0\0\0\0\r\n\r\n"]
)
def test_122_no_status_line(engine: sw.Engine, first: bytes) -> None:
    """HTTP/0.9 and other protocols are no answer: repeated if the call may be, otherwise in doubt (SW-E1306)."""
    is_retried_or_in_doubt(engine, first, "SW-E1306")


def test_122_a_flood_of_interim_answers(engine: sw.Engine) -> None:
    """Their headers count: after 64 KiB the call fails."""
    fails_at_once(engine, b"HTTP/1.1 103 Early Hints\r\nX: y\r\n\r\n" * 10_000 + GOOD, "SW-E1304")


def test_122_interim_answers_and_odd_statuses(engine: sw.Engine) -> None:
    """Interim answers are passed over, also an unasked 101, after which nothing comes; 999 is a failure."""
    with Peer(b"HTTP/1.1 103 Early Hints\r\nX: y\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + GOOD) as peer:
        assert call(engine, peer.url).ok
    fails_at_once(engine, answer(b"", status=b"999 Odd"), "SW-E1307")
    is_retried_or_in_doubt(engine, b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", "SW-E1306")


def test_122_a_204_with_a_body(engine: sw.Engine) -> None:
    """Its body does not exist: good where no body is asked for, SW-E1308 where JSON is."""
    given = answer(b'{"ok": true}', status=b"204 No Content")
    with Peer(given) as peer:
        assert call(engine, peer.url, json=False) == good(1, "")
    fails_at_once(engine, given, "SW-E1308", repeatable=False)


@pytest.mark.parametrize(
    "first",
    [
        CHUNKED + b'5\r\n{"o',
        CHUNKED + b'5\r\n{"ok"\r\n',
        CHUNKED + b"-5\r\n{}",
        CHUNKED + b"ffffffffffffffffff\r\n{}",
        CHUNKED + b"nonsense\r\n{}",
        answer(b"{}").replace(b": 2", b": 20"),
        answer(b"{}").replace(b": 2", b": -2"),
        answer(b"{}", b"Content-Length: 1\r\n"),
    ],
    ids=["cut", "no end", "negative", "huge", "no number", "longer", "negative length", "two lengths"],
)
def test_123_chunks_and_lengths_that_lie(engine: sw.Engine, first: bytes) -> None:
    """An answer that is cut or contradicts itself is none: repeated if the call may be, otherwise in doubt."""
    is_retried_or_in_doubt(engine, first, "SW-E1306")


def test_123_a_length_that_is_too_small(engine: sw.Engine) -> None:
    """What was announced is the answer; if that is no whole JSON text, the call fails."""
    with Peer(answer(b'{"ok": true}') + b"and more") as peer:
        assert call(engine, peer.url) == good(1)
    fails_at_once(engine, b'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{"ok": true}', "SW-E1308", repeatable=False)


def packed(body: bytes, name: bytes = b"gzip") -> bytes:
    return answer(body, b"Content-Encoding: %b\r\n" % name)


def test_124_bodies_that_unpack_to_far_more_than_was_sent(engine: sw.Engine) -> None:
    """More than a hundred times as much ends the call, after about a megabyte; so does what is over the limit."""
    spaces = b'"' + b" " * (4 << 20) + b'"'
    brotli = bytes.fromhex("9b01004000a440444a91cb02997bff93")  # the same text
    twice = gzip.compress(gzip.compress(spaces))
    for given in (packed(gzip.compress(spaces)), packed(brotli, b"br"), packed(zlib.compress(spaces), b"deflate")):
        assert "100 times" in fails_at_once(engine, given, "SW-E1304").message
    fails_at_once(engine, packed(twice, b"gzip, gzip"), "SW-E1304")
    with Peer(packed(gzip.compress(spaces))) as peer, sw.Engine(egress=sw.Egress(unpack_ratio_max=10_000)) as lenient:
        assert len(lenient.request("POST", peer.url).body) == len(spaces)
    with (
        Peer(answer(b"x" * 2_000)) as peer,
        sw.Engine(egress=sw.Egress(body_bytes_max=1_999)) as strict,
        pytest.raises(sw.StoreError, match="SW-E1304"),
    ):
        strict.request("POST", peer.url)


def test_124_bodies_that_are_packed_wrongly(engine: sw.Engine) -> None:
    """Packed bodies are not asked for, and unpacked all the same; wrong, unknown or cut ones are no answer."""
    whole = gzip.compress(b'{"ok": true}', mtime=0)
    with Peer(packed(whole)) as peer:
        assert call(engine, peer.url) == good(1)
        assert b"\r\nAccept-Encoding: identity\r\n" in peer.requests[0]
    wrong_sum = whole[:-8] + b"\0\0\0\0" + whole[-4:]
    for given in (packed(b'{"ok": true}'), packed(whole, b"snappy"), packed(whole, b"br"), packed(wrong_sum)):
        is_retried_or_in_doubt(engine, given, "SW-E1306")
    is_retried_or_in_doubt(engine, packed(whole).replace(b"Length: ", b"Length: 9"), "SW-E1306")
    # Cut, in a frame that is whole: half a JSON text.
    half = gzip.compress(b'{"ok": [' + b",".join(b"%d" % number for number in range(9_999)) + b"]}")
    fails_at_once(engine, packed(half[: len(half) // 2]), "SW-E1308", repeatable=False)
    # By chance the time in a gzip header makes the rest read as the beginning of a brotli text.
    by_chance = gzip.compress(b'{"ok": true}', mtime=0x6B025861)
    fails_at_once(engine, packed(by_chance, b"br"), "SW-E1308", repeatable=False)


@pytest.mark.parametrize(
    "head",
    [b"X: " + b"h" * 102_400 + b"\r\n", b"".join(b"X-%d: y\r\n" % number for number in range(10_000))],
    ids=["100 KiB", "10,000"],
)
def test_125_headers_without_end(engine: sw.Engine, head: bytes) -> None:
    """More than 64 KiB of headers fail the call."""
    fails_at_once(engine, answer(b"{}", head), "SW-E1304")


def test_125_headers_that_are_none(engine: sw.Engine) -> None:
    """A NUL, or a line without a colon, is no answer."""
    for head in (b"X: a\0b\r\n", b"no colon here\r\n"):
        is_retried_or_in_doubt(engine, answer(b"{}", head), "SW-E1306")


def test_125_a_header_in_several_lines(engine: sw.Engine) -> None:
    """It is read as one line."""
    with Peer(answer(b"{}", b"X-Folded: a\r\n  b\r\n\tc\r\n")) as peer:
        assert engine.request("POST", peer.url).header("x-folded") == "a b c"


@pytest.mark.parametrize(
    ("value", "least_s", "most_s"),
    [
        ("-1", 0, 60),
        ("abc", 0, 60),
        ("", 0, 60),
        ("nan", 0, 60),
        ("1e9", 0, 60),
        ("9" * 400, 0, 60),
        (formatdate(784111777, usegmt=True), 0, 60),  # 1994
        ("120", 120, 200),
        ("0.5", 0, 60),
    ],
)
def test_126_a_retry_after_that_can_be_borne(
    engine: stepwell.testing.Engine, value: str, least_s: float, most_s: float
) -> None:
    """Nonsense and the past count as nothing, seconds are waited for at least."""
    with Peer(answer(b"", b"Retry-After: %b\r\n" % value.encode(), b"429 Too Many Requests"), GOOD) as peer:
        began = engine.clock.time()
        assert call(engine, peer.url) == good(2)
        assert least_s <= engine.clock.time() - began < most_s


@pytest.mark.parametrize("value", ["1000000000000", "Fri, 01 Jan 2999 00:00:00 GMT", "3600"])
def test_126_a_retry_after_beyond_all_patience(engine: stepwell.testing.Engine, value: str) -> None:
    """An hour is the most that is believed. A call whose policy has less patience fails at once instead of waiting."""
    limited = answer(b"", b"Retry-After: %b\r\n" % value.encode(), b"429 Too Many Requests")
    fails_at_once(engine, limited, "SW-E1307")
    with Peer(limited, GOOD) as peer:
        began = engine.clock.time()
        assert call(engine, peer.url, patience="2h") == good(2)
        assert 3_600 <= engine.clock.time() - began < 3_700


def test_126_retry_after_in_both_forms(engine: stepwell.testing.Engine) -> None:
    """Of two the first one counts; milliseconds, where a provider sends them, before both."""
    date = formatdate(784111777, usegmt=True).encode()
    for head, least_s in (
        (b"Retry-After: 100\r\nRetry-After: %b\r\n" % date, 100),
        (b"Retry-After: %b\r\nRetry-After: 100\r\n" % date, 0),
        (b"Retry-After: 0\r\nRetry-After-Ms: 200000\r\n", 200),
    ):
        with Peer(answer(b"", head, b"503 Later"), GOOD) as peer:
            began = engine.clock.time()
            assert call(engine, peer.url) == good(2)
            assert least_s <= engine.clock.time() - began < least_s + 60


def test_127_a_page_behind_200(engine: sw.Engine) -> None:
    """HTML where JSON was asked for is a failure: repeated if the call may be, otherwise SW-E1308."""
    page = answer(b"<html>Please log in</html>", b"Content-Type: text/html\r\n")
    with Peer(page, GOOD) as peer:
        assert call(engine, peer.url) == good(2)
    assert "Please log in" in fails_at_once(engine, page, "SW-E1308", repeatable=False).message


def test_127_an_error_behind_200(engine: sw.Engine) -> None:
    """JSON that does not hold what was asked for is a failure, and its error's words are shown."""
    given = answer(b'{"error": {"message": "model is overloaded"}}')
    with Peer(given, answer(b'{"choices": [1]}')) as peer:
        assert call(engine, peer.url, pointer="/choices/0").attempts == 2
    seen = fails_at_once(engine, given, "SW-E1308", repeatable=False, pointer="/choices/0")
    assert "model is overloaded" in seen.message


@pytest.mark.parametrize("status", [b"400 Bad", b"401 No", b"403 No", b"404 No", b"409 Exists", b"410 Gone", b"422 No"])
def test_128_129_refusals(engine: sw.Engine, status: bytes) -> None:
    """A wrong key (for ever 401), a conflict, a bad request: asking again would not help, so the call fails at once."""
    given = answer(b'{"error": {"message": "because"}}', status=status)
    seen = fails_at_once(engine, given, "SW-E1307")
    assert status[:3].decode() in seen.message
    assert "because" in seen.message


def test_130_a_429_without_retry_after(engine: sw.Engine) -> None:
    """The policy's own delays hold; the call may be repeated whatever it is, because nothing was done."""
    limited = answer(b"", status=b"429 Too Many Requests")
    for repeatable in (True, False):
        with Peer(limited, limited, GOOD) as peer:
            assert call(engine, peer.url, repeatable=repeatable) == good(3)
    with Peer(limited) as peer:
        seen = call(engine, peer.url)
        assert (seen.attempts, seen.code, len(peer.requests)) == (3, "SW-E1307", 3)


def test_131_an_error_after_the_work_was_done(engine: sw.Engine) -> None:
    """A call that may be repeated carries its key again, so that the peer can tell; another is left as it is, in doubt."""
    broken = answer(b"done, but I could not say so", status=b"500 Oops")
    with Peer(broken, GOOD) as peer:
        assert call(engine, peer.url) == good(2)
        assert all(b"\r\nidempotency-key: k1\r\n" in request for request in peer.requests)
    fails_at_once(engine, broken, "SW-E1307", repeatable=False)


def test_132_an_answer_to_another_request(engine: sw.Engine) -> None:
    """What comes after an answer is never the next call's answer."""
    forged = answer(b'{"forged": true}')
    with Peer(GOOD + forged, GOOD, keeps=True) as peer:
        for _ in range(3):
            assert call(engine, peer.url) == good(1)
            assert json.loads(engine.request("POST", peer.url).body) == {"ok": True}


def test_134_a_byte_now_and_then() -> None:
    """An answer that brings less than a byte a second is given up after Egress.stall, 60 seconds by default."""

    def drips(peer: socket.socket) -> None:
        peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
        peer.settimeout(2.5)
        while True:
            peer.sendall(b"x")
            try:
                if not peer.recv(1):
                    return
            except TimeoutError:
                continue

    with sw.Engine(egress=sw.Egress(stall="1s")) as engine:
        seen = fails_at_once(engine, drips, "SW-E1303", repeatable=False)
        assert "less than a byte a second" in seen.message
        assert "may have been processed" in seen.message


def test_135_cookies_are_not_kept(engine: sw.Engine) -> None:
    """Neither for their own host nor for another."""
    cookies = b"Set-Cookie: a=b\r\nSet-Cookie: c=d; Domain=example.com\r\n"
    with Peer(answer(b"{}", cookies), keeps=True) as peer:
        for _ in range(3):
            assert call(engine, peer.url).ok
        assert not any(b"cookie:" in request.lower() for request in peer.requests)


@pytest.mark.parametrize("status", [b"301 Moved", b"302 Found", b"303 Other", b"307 Temporary", b"308 Permanent"])
def test_127_redirects_are_not_followed(engine: sw.Engine, status: bytes) -> None:
    """Neither to another host, which would get the credentials, nor in a loop: the call fails at once."""
    with Peer(GOOD) as other, Peer(answer(b"", b"Location: %b\r\n" % other.url.encode(), status)) as peer:
        seen = call(engine, peer.url)
        assert (seen.code, seen.attempts, len(peer.requests)) == ("SW-E1307", 1, 1)
        assert "redirects are not followed" in seen.message
        assert not other.requests
    with Peer(answer(b"", b"Location: /v1\r\n", status)) as peer:
        assert call(engine, peer.url).code == "SW-E1307"
        assert len(peer.requests) == 1
