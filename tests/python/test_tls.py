"""TLS and HTTP/2 against a real server: certificates are checked, HTTP/2 is spoken where the server offers it."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

import stepwell as sw

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Answers with the protocol it was asked in, the client's port and the bytes it got.
SERVER = """
import asyncio, json, sys
from hypercorn.asyncio import serve
from hypercorn.config import Config

async def app(scope, receive, send):
    if scope["type"] != "http":
        raise RuntimeError("only HTTP")
    size, more = 0, True
    while more:
        message = await receive()
        size, more = size + len(message.get("body", b"")), message.get("more_body", False)
    body = json.dumps([scope["http_version"], scope["client"][1], size]).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": body})

config = Config()
fd, config.certfile, config.keyfile, protocols = sys.argv[1:5]
config.bind, config.alpn_protocols, config.loglevel = [f"fd://{fd}"], protocols.split(","), "ERROR"
asyncio.run(serve(app, config))
"""


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for localhost that signs itself, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "2",
    ]
    command += [
        "-subj",
        "/CN=localhost",
        "-addext",
        "subjectAltName=DNS:localhost",
        "-keyout",
        str(key),
        "-out",
        str(cert),
    ]
    subprocess.run(command, check=True, capture_output=True)
    return cert, key


@pytest.fixture(params=["h2,http/1.1", "http/1.1"])
def server(request: pytest.FixtureRequest, certificate: tuple[Path, Path]) -> Iterator[tuple[int, str]]:
    """A server's port, and the protocol that it prefers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:  # from here on connections wait, they are not refused
        command = [sys.executable, "-c", SERVER, str(listening.fileno()), *map(str, certificate), request.param]
        child = subprocess.Popen(command, pass_fds=[listening.fileno()])
        try:
            yield listening.getsockname()[1], "2" if "h2" in request.param else "1.1"
        finally:
            child.kill()
            child.wait()


def test_many_calls_in_the_protocol_that_the_server_offers(
    server: tuple[int, str], certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    port, protocol = server
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    body = b"x" * 20_000

    async def main() -> list[list[object]]:
        with sw.Engine() as engine:
            url = f"https://localhost:{port}/v1"
            await engine.arequest("POST", url, body=body)
            answers = await asyncio.gather(*(engine.arequest("POST", url, body=body) for _ in range(200)))
            assert {answer.status for answer in answers} == {200}
            return [json.loads(answer.body) for answer in answers]

    answers = asyncio.run(main())
    assert {(version, size) for version, _, size in answers} == {(protocol, len(body))}
    if protocol == "2":
        assert len({client for _, client, _ in answers}) <= 8, "HTTP/2 shares connections"


def test_a_certificate_nobody_vouches_for_is_refused(server: tuple[int, str]) -> None:
    with sw.Engine() as engine, pytest.raises(sw.StoreError, match="SW-E1305") as caught:
        engine.request("POST", f"https://localhost:{server[0]}/v1", body=b"secret")
    assert "secret" not in str(caught.value)


def test_a_certificate_for_another_name_is_refused(
    server: tuple[int, str], certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    with sw.Engine() as engine, pytest.raises(sw.StoreError, match="SW-E1305"):
        engine.request("POST", f"https://127.0.0.1:{server[0]}/v1", body=b"secret")
