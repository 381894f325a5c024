"""Faults of the LLM test server on the wire, in every form; streams that break; keys, and what is charged."""

from __future__ import annotations

import http.client
import json
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest
from llm_wire import FORMS, SCHEMA, TOOL, Answered, ask, read, read_stream, request_of, send

from stepwell.testing._llm_faults import PROCESSED
from stepwell.testing.llm_server import KINDS, STREAM_KINDS, Faults, LlmServer

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def server() -> Iterator[LlmServer]:
    with LlmServer() as running:
        yield running


def spoil(server: LlmServer, kind: str, **more: Any) -> None:
    server.set_faults(Faults(share=1.0, kinds={kind: 1.0}, max_faults_per_call=1, **more))


def raw_stream(server: LlmServer, form: str, text: str, **more: Any) -> tuple[list[bytes], str]:
    """Return the HTTP chunks of a streamed answer, and how it ended: "end", "reset" or "closed"."""
    path, body, headers = request_of(form, text, stream=True, **more)
    data = json.dumps(body).encode()
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    host, port = server.url.split("/")[2].split(":")
    with socket.create_connection((host, int(port)), timeout=20) as sock:
        sock.sendall(f"POST {path} HTTP/1.1\r\ncontent-length: {len(data)}\r\n{lines}\r\n".encode() + data)
        got = b""
        try:
            while not got.endswith(b"\r\n0\r\n\r\n"):
                part = sock.recv(65536)
                if not part:
                    return chunks_of(got), "closed"
                got += part
        except ConnectionResetError:
            return chunks_of(got), "reset"
        return chunks_of(got), "end"


def chunks_of(data: bytes) -> list[bytes]:
    head, _, rest = data.partition(b"\r\n\r\n")
    assert b"transfer-encoding: chunked" in head
    chunks = []
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        length = int(size, 16)
        if length == 0:
            break
        chunks.append(rest[:length])
        assert rest[length : length + 2] == b"\r\n"
        rest = rest[length + 2 :]
    return chunks


def events_of(data: bytes) -> list[tuple[str, Any]]:
    return Answered(200, {}, data).events


# --- answers ---


@pytest.mark.parametrize("form", FORMS)
def test_statuses_in_the_words_of_each_form(server: LlmServer, form: str) -> None:
    for kind, status in {"429": 429, "500": 500, "503": 503, "529": 529, "quota": 429}.items():
        spoil(server, kind, retry_after_s=2)
        answer = ask(server, form, f"{kind} {form}")
        assert answer.status == status
        assert answer.headers.get("retry-after") == ("2" if kind == "429" else None)
        error = answer.json["error"]
        assert error["message"]
        if form == "anthropic":
            assert answer.json["type"] == "error"
            assert error["type"].endswith("_error")
        elif form == "gemini":
            assert error["code"] == status
            if status == 429:
                limit = error["details"][0]["metadata"]["quota_limit"]
                assert ("PerDay" in limit) == (kind == "quota")
        elif kind == "quota":
            assert error["code"] == "insufficient_quota"
        entry = server.journal()[-1]
        assert (entry["answer"], entry["charged"], entry["tokens_in"]) == (kind, False, 0)


@pytest.mark.parametrize("form", FORMS)
def test_what_a_model_may_say_instead(server: LlmServer, form: str) -> None:
    def said(kind: str, **more: Any) -> Any:
        spoil(server, kind)
        whole = ask(server, form, f"{kind} billing", **more)
        spoil(server, kind)
        streamed = ask(server, form, f"{kind} billing", stream=True, **more)
        found = read(form, whole.json)
        assert read_stream(form, streamed.events) == found
        assert [each["charged"] for each in server.journal()[-2:]] == [True, True]
        return found

    assert said("empty").text == ""
    assert said("fenced", schema=SCHEMA).text.startswith("```json\n{")
    assert "NaN" in said("nan", schema=SCHEMA).text
    cut = said("cut_json", schema=SCHEMA)
    assert cut.finish in ("length", "max_output_tokens", "max_tokens", "MAX_TOKENS")
    with pytest.raises(ValueError, match=r"."):
        json.loads(cut.text)
    assert said("unknown_tool", tool=TOOL).calls == [("no_such_tool", {})]
    assert said("content_filter").finish in ("content_filter", "refusal", "SAFETY")
    assert said("refusal").text == ""
    assert said("wrong_usage").tokens[1] > 10**17
    assert json.loads(said("wrong_label", schema=SCHEMA).text)["label"] == "Something Else Entirely"


def test_two_choices(server: LlmServer) -> None:
    for form, name in (
        ("chat", "choices"),
        ("responses", "output"),
        ("anthropic", "content"),
        ("gemini", "candidates"),
    ):
        spoil(server, "two_choices")
        assert len(ask(server, form, "two of them").json[name]) == 2


def test_html_malformed_redirect_and_patience(server: LlmServer) -> None:
    spoil(server, "html")
    assert ask(server, "anthropic", "a").headers["content-type"] == "text/html"
    spoil(server, "malformed")
    with pytest.raises(ValueError, match=r"."):
        _ = ask(server, "gemini", "a").json
    spoil(server, "redirect")
    answer = ask(server, "chat", "redirect")
    assert (answer.status, answer.headers["location"]) == (302, "/v1/chat/completions")
    for seconds, text in ((-1, "-1"), (10**12, "1000000000000"), (0.25, "0.25")):
        spoil(server, "429", retry_after_s=seconds)
        assert ask(server, "chat", f"wait {seconds}").headers["retry-after"] == text


def test_a_body_that_breaks_off_and_one_that_trickles(server: LlmServer) -> None:
    spoil(server, "reset_body")
    with pytest.raises((ConnectionResetError, http.client.IncompleteRead)):
        ask(server, "chat", "reset body")
    spoil(server, "trickle", trickle_s=0.001)
    assert read("chat", ask(server, "chat", "drop by drop").json).text == "You said: drop by drop"
    spoil(server, "trickle", trickle_s=60)
    path, body, headers = request_of("chat", "one byte, and then no more for a long time")
    with pytest.raises(TimeoutError):
        send(server, path, body, headers, timeout=0.3)
    assert [each["charged"] for each in server.journal()[-3:]] == [True] * 3


@pytest.mark.parametrize("kind", ["500_done", "reset_done"])
@pytest.mark.parametrize("form", FORMS)
def test_the_work_is_done_and_the_answer_is_lost(server: LlmServer, form: str, kind: str) -> None:
    spoil(server, kind)
    text = f"{kind} {form}"
    if kind == "500_done":
        assert ask(server, form, text).status == 500
    else:
        with pytest.raises((ConnectionResetError, http.client.RemoteDisconnected)):
            ask(server, form, text)
    assert ask(server, form, text).status == 200
    lost, again = server.journal()[-2:]
    assert (lost["answer"], again["answer"]) == (kind, "ok")
    assert lost["charged"]
    assert again["charged"], "without a key the work is done twice"
    assert lost["tokens_out"] == again["tokens_out"] > 0


def test_embeddings_meet_faults_too(server: LlmServer) -> None:
    for kind in ("500", "500_done", "429"):
        spoil(server, kind)
        assert send(server, "/v1/embeddings", {"model": "e", "input": kind}).status == int(kind[:3])
    spoil(server, "wrong_label")
    assert send(server, "/v1/embeddings", {"model": "e", "input": "a"}).status == 200
    assert server.journal()[-1]["answer"] == "ok"


def test_no_more_faults_than_asked_for() -> None:
    with LlmServer(faults=Faults(share=1.0, kinds={"500": 1.0}, max_faults=2)) as server:
        assert [ask(server, "chat", f"text {number}").status for number in range(4)] == [500, 500, 200, 200]
        server.set_faults(Faults(share=1.0, kinds={"503": 1.0}, max_faults=1))
        assert [ask(server, "chat", f"other {number}").status for number in range(2)] == [503, 200]


def test_every_kind_is_one_that_these_tests_know() -> None:
    assert set(PROCESSED) | set(STREAM_KINDS) < set(KINDS)
    assert len(set(KINDS)) == len(KINDS)


# --- keys ---


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("stream", [False, True])
def test_a_key_is_answered_once_and_charged_once(server: LlmServer, form: str, stream: bool) -> None:  # noqa: FBT001
    server.set_faults(Faults())
    key = f"{form}-{stream}"
    first = ask(server, form, "once", stream=stream, idempotency=key)
    second = ask(server, form, "once", stream=stream, idempotency=key)
    other = ask(server, form, "once", stream=stream, idempotency=f"{key}-2")
    assert first.body == second.body != other.body, "the answer of another key has another id"
    entries = server.journal()[-3:]
    assert [each["charged"] for each in entries] == [True, False, True]
    assert [each["replayed"] for each in entries] == [False, True, False]
    assert [each["key"] for each in entries] == [key, key, f"{key}-2"]
    refused = ask(server, form, "something else", stream=stream, idempotency=key)
    assert refused.status == 400
    assert not server.journal()[-1]["charged"]


@pytest.mark.parametrize("kind", ["500_done", "reset_done", "reset_body", "truncated", "slow"])
def test_a_lost_answer_comes_back_with_its_key(kind: str) -> None:
    with LlmServer(faults=Faults(share=1.0, kinds={kind: 1.0}, max_faults_per_call=2)) as server:
        for _ in range(2):
            try:
                ask(server, "chat", "pay once", idempotency="key")
            except (ConnectionResetError, http.client.HTTPException):
                continue
        answer = ask(server, "chat", "pay once", idempotency="key")
        assert read("chat", answer.json).text == "You said: pay once"
        entries = server.journal()
        assert [each["answer"] for each in entries] == [kind, kind, "ok"]
        assert [each["charged"] for each in entries] == [True, False, False]
        counts = server.counts()
        assert (counts["charged"], counts["replayed"]) == (1, 2)
        assert (counts["tokens_in"], counts["tokens_out"]) == read("chat", answer.json).tokens[:2]


def test_a_key_of_an_attempt_that_was_not_processed_is_free() -> None:
    with LlmServer(faults=Faults(share=1.0, kinds={"503": 1.0}, max_faults_per_call=1)) as server:
        assert [ask(server, "chat", "a", idempotency="k").status for _ in range(2)] == [503, 200]
        assert [each["charged"] for each in server.journal()] == [False, True]
        embeddings = [
            send(server, "/v1/embeddings", {"model": "e", "input": "a"}, {"Idempotency-Key": "e"}) for _ in range(3)
        ]
        assert [each.status for each in embeddings] == [503, 200, 200]
        assert embeddings[1].body == embeddings[2].body
        assert [each["charged"] for each in server.journal()[-3:]] == [False, True, False]


# --- streams ---


@pytest.mark.parametrize("form", FORMS)
def test_a_character_is_split_between_two_writes(server: LlmServer, form: str) -> None:
    spoil(server, "split_utf8")
    chunks, end = raw_stream(server, form, "🎈" * 8)
    assert end == "end"
    broken = 0
    for chunk in chunks:
        try:
            chunk.decode()
        except UnicodeDecodeError:
            broken += 1
    assert broken == 6, "three tokens hold such a character"
    assert read_stream(form, events_of(b"".join(chunks))).text == "You said: " + "🎈" * 8


@pytest.mark.parametrize("form", FORMS)
def test_a_stream_is_reset_or_ends_early(server: LlmServer, form: str) -> None:
    path_model = {"model": "test-20-tokens"}
    spoil(server, "stream_reset")
    chunks, end = raw_stream(server, form, "reset", **path_model)
    assert end == "reset"
    before = b"".join(chunks)
    assert b"t8 " in before
    assert b"t19 " not in before
    spoil(server, "stream_cut")
    chunks, end = raw_stream(server, form, "cut", **path_model)
    assert end == "end", "HTTP ends as it should, the stream does not"
    data = b"".join(chunks)
    assert b"t8 " in data
    assert b"t19 " not in data
    assert not any(mark in data for mark in (b"[DONE]", b"message_stop", b"response.completed", b"finishReason"))
    spoil(server, "stream_no_end")
    chunks, end = raw_stream(server, form, "no end", **path_model)
    data = b"".join(chunks)
    assert end == "end"
    assert b"t19 " in data, "all of the text is there"
    assert not any(mark in data for mark in (b"[DONE]", b"message_stop", b"response.completed", b"finishReason"))
    entries = server.journal()[-3:]
    assert [(each["charged"], each["tokens_out"]) for each in entries] == [(True, 20)] * 3


@pytest.mark.parametrize("form", FORMS)
def test_an_error_after_200(server: LlmServer, form: str) -> None:
    spoil(server, "stream_error")
    name, value = ask(server, form, "fail", stream=True, model="test-20-tokens").events[-1]
    if form == "responses":
        assert (name, value["type"]) == ("error", "error")
    else:
        assert value["error"]["message"]
        assert name == ("error" if form == "anthropic" else "")


@pytest.mark.parametrize("form", FORMS)
def test_what_a_reader_has_to_skip(server: LlmServer, form: str) -> None:
    spoil(server, "stream_comments")
    answer = ask(server, form, "comments", stream=True)
    assert answer.body.startswith(b": keep-alive\n\n")
    assert read_stream(form, answer.events).text == "You said: comments"
    spoil(server, "stream_no_data")
    answer = ask(server, form, "no data", stream=True)
    assert b"event: nothing\nid: 7\n\n" in answer.body
    assert read_stream(form, answer.events).text == "You said: no data"
    spoil(server, "malformed")
    assert b"data: {'choices'" in ask(server, form, "malformed", stream=True).body


def test_an_endless_stream_ends_with_its_reader(server: LlmServer) -> None:
    spoil(server, "stream_endless")
    path, body, headers = request_of("chat", "for ever", stream=True)
    connection = http.client.HTTPConnection(server.url.split("/")[2], timeout=20)
    connection.request("POST", path, json.dumps(body), headers)
    answer = connection.getresponse()
    assert len(answer.read(8 << 20)) == 8 << 20
    connection.close()
    assert ask(server, "chat", "the server goes on").status == 200


def test_a_stream_kind_does_not_hit_a_whole_answer(server: LlmServer) -> None:
    spoil(server, "stream_error")
    assert read("chat", ask(server, "chat", "whole").json).text == "You said: whole"
    assert server.journal()[-1]["answer"] == "ok"


def test_tokens_come_at_their_rate_one_a_chunk() -> None:
    with LlmServer(token_rate=200) as server:
        for form in FORMS:
            began = time.monotonic()
            chunks, end = raw_stream(server, form, "slowly", model="test-21-tokens")
            assert time.monotonic() - began >= 20 / 200
            assert (end, len(chunks)) == ("end", 21)
            assert read_stream(form, events_of(b"".join(chunks))).tokens[1] == 21


def test_requests_behind_a_stream_are_answered_after_it() -> None:
    path, body, _ = request_of("chat", "first", stream=True)
    data = json.dumps(body).encode()
    request = f"POST {path} HTTP/1.1\r\ncontent-length: {len(data)}\r\n\r\n".encode() + data
    last = b"GET /nowhere HTTP/1.1\r\nconnection: close\r\n\r\n"
    with LlmServer(token_rate=500) as server:
        host, port = server.url.split("/")[2].split(":")
        with socket.create_connection((host, int(port)), timeout=20) as sock:
            sock.sendall(request * 3 + last)
            got = b"".join(iter(lambda: sock.recv(65536), b""))
    assert got.count(b"data: [DONE]") == 3
    assert got.count(b"\r\n0\r\n\r\n") == 3
    assert got.rindex(b"HTTP/1.1 404") > got.rindex(b"[DONE]")
