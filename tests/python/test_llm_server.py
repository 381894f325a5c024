"""The test server itself: right answers, each fault on the wire, what it refuses, the journal, and how it ends."""

from __future__ import annotations

import http.client
import json
import os
import select
import socket
import subprocess
import sys
import textwrap
import time
from typing import TYPE_CHECKING, Any

import pytest

from stepwell.testing._llm_faults import latency_range
from stepwell.testing.llm_server import USUAL, Faults, LlmServer, predict

if TYPE_CHECKING:
    from pathlib import Path

LABELS = ["Billing", "Technical problems", "General"]
PATH = "/v1/chat/completions"


def body_of(text: str, **more: object) -> bytes:
    schema = {"type": "object", "properties": {"label": {"type": "string", "enum": LABELS}}}
    wanted = {"type": "json_schema", "json_schema": {"name": "t", "schema": schema}}
    messages = [{"role": "system", "content": "Label tickets."}, {"role": "user", "content": text}]
    return json.dumps({"model": "test", "messages": messages, "response_format": wanted, **more}).encode()


def ask(
    server: LlmServer, body: bytes, headers: dict[str, str] | None = None, *, timeout: float = 20
) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection(server.url.split("/")[2], timeout=timeout)
    try:
        connection.request("POST", PATH, body, headers or {})
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def message_of(body: bytes) -> dict[str, Any]:
    message: dict[str, Any] = json.loads(body)["choices"][0]["message"]
    return message


def faulty(kind: str, **more: Any) -> LlmServer:
    return LlmServer(faults=Faults(share=1.0, kinds={kind: 1.0}, max_faults_per_call=1, **more))


def raw(server: LlmServer, data: bytes) -> bytes:
    """Send bytes as they are and return what comes until the server hangs up."""
    host, port = server.url.split("/")[2].split(":")
    with socket.create_connection((host, int(port)), timeout=10) as sock:
        sock.sendall(data)
        parts = []
        while part := sock.recv(65536):
            parts.append(part)
        return b"".join(parts)


def test_answers_with_the_label_that_predict_names() -> None:
    with LlmServer() as server:
        for text in ("My billing is wrong", "technical trouble", "none of these words", "Grüße 🎈"):
            status, _, body = ask(server, body_of(text))
            said = json.loads(message_of(body)["content"])
            assert (status, said["label"]) == (200, predict(text, LABELS)[0])
            assert json.loads(body)["usage"]["total_tokens"] > 0
        plain = json.dumps({"model": "test", "messages": [{"role": "user", "content": "hello"}]}).encode()
        assert message_of(ask(server, plain)[2])["content"] == "You said: hello"


@pytest.mark.parametrize("kind", [kind for kind in USUAL if kind not in ("reset", "slow")])
def test_faults_that_are_answers(kind: str) -> None:
    with faulty(kind, retry_after_s=0.25) as server:
        status, headers, body = ask(server, body_of("billing"))
        if kind in ("429", "500", "503"):
            assert status == int(kind)
            assert "error" in json.loads(body)
            assert headers.get("retry-after") == ("0.25" if kind == "429" else None)
        elif kind == "html":
            assert (status, headers["content-type"]) == (200, "text/html")
        elif kind in ("malformed", "truncated"):
            assert status == 200
            with pytest.raises(ValueError, match=r"."):
                json.loads(body)
        elif kind == "wrong_label":
            assert json.loads(message_of(body)["content"])["label"] not in LABELS
        elif kind == "refusal":
            assert message_of(body)["content"] is None
            assert message_of(body)["refusal"]
        else:
            assert message_of(body)["content"] == ""
        # The second attempt of the same call is beyond max_faults_per_call.
        assert ask(server, body_of("billing"))[0] == 200
        assert [entry["answer"] for entry in server.journal()] == [kind, "ok"]
        assert [entry["attempt"] for entry in server.journal()] == [1, 2]


def test_reset_hang_and_slow_on_the_wire() -> None:
    with faulty("reset") as server, pytest.raises(ConnectionResetError):
        ask(server, body_of("a"))
    with faulty("hang") as server, pytest.raises(TimeoutError):
        ask(server, body_of("a"), timeout=0.3)
    with faulty("slow") as server:
        began = time.monotonic()
        assert ask(server, body_of("a"))[0] == 200
        assert time.monotonic() - began > 0.1  # seven pauses of 20 ms


def test_faults_follow_the_seed_and_not_the_order() -> None:
    texts = [f"ticket {n}" for n in range(200)]
    seen = []
    for seed, order in ((5, texts), (5, texts[::-1]), (6, texts)):
        kinds = {"500": 3.0, "429": 1.0}
        with LlmServer(faults=Faults(share=0.3, kinds=kinds), seed=seed) as server:
            for text in order:
                ask(server, body_of(text))
            seen.append({entry["text"]: entry["answer"] for entry in server.journal()})
    assert seen[0] == seen[1] != seen[2]
    answers = list(seen[0].values())
    assert 30 <= len(texts) - answers.count("ok") <= 90
    assert answers.count("500") > answers.count("429") > 0


def test_refuses_what_is_no_request() -> None:
    with LlmServer(require_key="Right-Key") as server:
        assert ask(server, body_of("a"))[0] == 401
        assert ask(server, body_of("a"), {"Authorization": "Bearer right-key"})[0] == 401
        allowed = {"Authorization": "Bearer Right-Key"}
        assert ask(server, body_of("a"), allowed)[0] == 200
        assert ask(server, b"{not json", allowed)[0] == 400
        assert ask(server, body_of("a", model="missing-one"), allowed)[0] == 404
        for bad in (
            b"nonsense\r\n\r\n",
            b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
            b"POST /v1/chat/completions HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n",
            b"GET / HTTP/1.1\r\nx: " + b"y" * 70_000,
        ):
            assert raw(server, bad).startswith(b"HTTP/1.1 400 ")
        assert raw(server, b"POST / HTTP/1.1\r\ncontent-length: 999999999999\r\n\r\n").startswith(b"HTTP/1.1 413 ")
        answers = [entry["answer"] for entry in server.journal()]
        assert answers == ["401", "401", "ok", "400", "404", "400", "400", "400", "400", "413"]


def test_pipelined_requests_are_answered_in_order() -> None:
    body = body_of("billing")
    head = b"POST %b HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % (PATH.encode(), len(body))
    last = b"GET /nowhere HTTP/1.1\r\nconnection: close\r\n\r\n"
    with LlmServer(latency="5ms") as server:
        answers = raw(server, (head + body) * 3 + last)
    with LlmServer() as server:
        many = raw(server, (head + body) * 2_000 + last)
    assert [part[:3] for part in answers.split(b"HTTP/1.1 ")[1:]] == [b"200"] * 3 + [b"404"]
    assert many.count(b"HTTP/1.1 200 ") == 2_000


def test_the_journal_file_has_every_request(tmp_path: Path) -> None:
    file = tmp_path / "journal.ndjson"
    with LlmServer(journal=file) as server:
        for n in range(3):
            ask(server, body_of(f"ticket {n}"))
        lines = [json.loads(line) for line in file.read_text().splitlines()]  # before the server ends
        assert lines == server.journal()
        assert [line["text"] for line in lines] == [f"ticket {n}" for n in range(3)]
        assert server.count() == 3


def test_faults_change_while_it_runs() -> None:
    with LlmServer() as server:
        server.set_faults(Faults(share=1.0, kinds={"503": 1.0}))
        assert ask(server, body_of("a"))[0] == 503


@pytest.mark.parametrize(
    "settings", [{"share": 1.5}, {"share": -0.1}, {"kinds": {"strange": 1.0}}, {"share": 0.1, "kinds": {"500": 0.0}}]
)
def test_faults_that_make_no_sense(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"share|kinds"):
        Faults(**settings)


def test_latency() -> None:
    assert latency_range("200ms") == (0.2, 0.2)
    assert latency_range("200ms-1000ms") == (0.2, 1.0)
    for text in ("", "fast", "5s", "10ms-5ms", "-1ms"):
        with pytest.raises(ValueError, match="latency"):
            latency_range(text)
    with LlmServer(latency="50ms") as server:
        began = time.monotonic()
        ask(server, body_of("a"))
        assert time.monotonic() - began >= 0.05


def test_a_server_that_cannot_start_says_so(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="did not start"):
        LlmServer(journal=tmp_path / "no" / "such" / "folder")


def test_it_ends_with_the_process_that_started_it() -> None:
    program = """
        import os, sys
        from stepwell.testing.llm_server import LlmServer
        server = LlmServer()
        print(server._process.pid, flush=True)
        os.kill(os.getpid(), 9)
    """
    out = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=False
    ).stdout
    ended = os.pidfd_open(int(out)) if is_alive(int(out)) else None
    if ended is not None:
        assert select.select([ended], [], [], 10)[0], "the server outlived its parent"
        os.close(ended)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
