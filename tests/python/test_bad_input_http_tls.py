"""The bad-input catalogue, entries 133 and 136: certificates and HTTP/2 peers that misbehave."""

from __future__ import annotations

import contextlib
import ssl
import subprocess
import warnings
from typing import TYPE_CHECKING, Any

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import pytest
from raw_peers import GOOD, Peer, answer, call, good

import stepwell as sw
import stepwell.testing

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from pathlib import Path


class Authority:
    """A CA of our own, and the certificates that it signs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.bundle = folder / "ca.pem"
        self._openssl(
            "req", "-x509", *self._new_key("ca"), "-days", "2", "-subj", "/CN=a test's CA", "-out", self.bundle
        )

    def server(self, name: str = "localhost", days: int = 2, *, is_signed: bool = True) -> ssl.SSLContext:
        """Return a server's context for `name`; signed by itself if not by us."""
        path = self._folder / f"{name}{days}{is_signed}"
        extension, request, cert = path.with_suffix(".ext"), path.with_suffix(".csr"), path.with_suffix(".pem")
        extension.write_text(f"subjectAltName=DNS:{name}\n")
        self._openssl("req", *self._new_key(path.name), "-subj", f"/CN={name}", "-out", request)
        key = self._folder / f"{path.name}.key"
        signer = ("-CA", self.bundle, "-CAkey", self._folder / "ca.key", "-CAcreateserial") if is_signed else ()
        signer = signer or ("-key", key)
        self._openssl("x509", "-req", "-in", request, *signer, "-days", days, "-extfile", extension, "-out", cert)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)
        return context

    def _new_key(self, name: str) -> tuple[Any, ...]:
        curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
        return (*curve, "-keyout", self._folder / f"{name}.key")

    def _openssl(self, *arguments: Any) -> None:
        subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture(autouse=True)
def trust(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.bundle))


def refuses(context: ssl.SSLContext) -> None:
    """See that the peer gets neither the request nor a second chance."""
    with stepwell.testing.Engine() as engine, Peer(GOOD, tls=context) as peer:
        seen = call(engine, peer.url)
        assert (seen.ok, seen.attempts, seen.code) == (False, 1, "SW-E1305"), seen
        assert (peer.connections, peer.requests) == (1, [])


def test_133_a_certificate_that_is_good(authority: Authority) -> None:
    """The others below fail for what is wrong with them, and for nothing else."""
    with stepwell.testing.Engine() as engine, Peer(GOOD, tls=authority.server()) as peer:
        assert call(engine, peer.url).ok


def test_133_a_certificate_that_has_expired(authority: Authority) -> None:
    """SW-E1305 before anything is sent, and not tried again."""
    refuses(authority.server(days=-1))


def test_133_a_certificate_of_another_host(authority: Authority) -> None:
    """SW-E1305 before anything is sent, and not tried again."""
    refuses(authority.server("other.example"))


def test_133_a_certificate_that_nobody_vouches_for(authority: Authority) -> None:
    """SW-E1305 before anything is sent, and not tried again. Revocation lists are not asked for."""
    refuses(authority.server(is_signed=False))


def test_133_a_peer_that_speaks_old_tls_only(authority: Authority) -> None:
    """TLS 1.2 is the least: SW-E1305."""
    context = authority.server()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    refuses(context)


Behaviour = "Callable[[h2.connection.H2Connection, int], None]"


def speaks_h2(behave: Any) -> Callable[[socket.socket], None]:
    """Return what a server does with a connection: `behave` answers each request, by its stream."""

    def act(peer: socket.socket) -> None:
        speaker = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        speaker.initiate_connection()
        peer.sendall(speaker.data_to_send())
        while data := peer.recv(65_536):
            with contextlib.suppress(h2.exceptions.ProtocolError):  # it went away, and the client still speaks
                for event in speaker.receive_data(data):
                    if isinstance(event, h2.events.StreamEnded):
                        assert event.stream_id is not None
                        behave(speaker, event.stream_id)
            peer.sendall(speaker.data_to_send())

    return act


def answers(speaker: h2.connection.H2Connection, stream: int) -> None:
    speaker.send_headers(stream, [(":status", "200"), ("content-type", "application/json")])
    speaker.send_data(stream, b'{"ok": true}', end_stream=True)


class H2Peer(Peer):
    """Speaks HTTP/2; its n-th request gets the n-th behaviour, the last one repeats."""

    def __init__(self, *behaviours: Any, tls: ssl.SSLContext) -> None:
        tls.set_alpn_protocols(["h2"])
        super().__init__(tls=tls)
        self.streams = 0
        self._behaviours = behaviours

    def _behave(self, speaker: h2.connection.H2Connection, stream: int) -> None:
        with self._lock:
            behave = self._behaviours[min(self.streams, len(self._behaviours) - 1)]
            self.streams += 1
        behave(speaker, stream)

    def _answer_one(self, peer: socket.socket) -> bool:
        speaks_h2(self._behave)(peer)
        return False


def goes_away(speaker: h2.connection.H2Connection, _stream: int) -> None:
    """Say that no stream was worked on."""
    speaker.close_connection(last_stream_id=0)


def breaks_off(code: h2.errors.ErrorCodes) -> Any:
    return lambda speaker, stream: speaker.reset_stream(stream, code)


@pytest.mark.parametrize(
    "first",
    [
        goes_away,
        breaks_off(h2.errors.ErrorCodes.REFUSED_STREAM),
        breaks_off(h2.errors.ErrorCodes.INTERNAL_ERROR),
        breaks_off(h2.errors.ErrorCodes.CANCEL),
    ],
    ids=["GOAWAY", "REFUSED_STREAM", "INTERNAL_ERROR", "CANCEL"],
)
def test_136_http2_streams_that_are_broken_off(authority: Authority, first: Any) -> None:
    """GOAWAY and resets: repeated if the call may be, otherwise in doubt (SW-E1306)."""
    with stepwell.testing.Engine() as engine:
        with H2Peer(first, answers, tls=authority.server()) as peer:
            assert call(engine, peer.url) == good(2)
            assert peer.streams == 2
        with H2Peer(first, answers, tls=authority.server()) as peer:
            seen = call(engine, peer.url, repeatable=False)
            assert (seen.ok, seen.attempts, seen.code) == (False, 1, "SW-E1306"), seen
            assert "may have been processed" in seen.message
            assert peer.streams == 1


def test_136_a_peer_that_breaks_off_every_stream(authority: Authority) -> None:
    """The policy's attempts are the most that it gets."""
    breaks = breaks_off(h2.errors.ErrorCodes.REFUSED_STREAM)
    with stepwell.testing.Engine() as engine, H2Peer(breaks, tls=authority.server()) as peer:
        seen = call(engine, peer.url, attempts=4)
        assert (seen.code, seen.attempts, peer.streams) == ("SW-E1306", 4, 4)


def test_136_a_peer_that_goes_away_after_its_answer(authority: Authority) -> None:
    """The answer counts; the next call makes a connection of its own."""

    def answers_and_goes(speaker: h2.connection.H2Connection, stream: int) -> None:
        answers(speaker, stream)
        speaker.close_connection(last_stream_id=stream)

    with stepwell.testing.Engine() as engine, H2Peer(answers_and_goes, tls=authority.server()) as peer:
        for _ in range(3):
            assert call(engine, peer.url, repeatable=False).ok
        assert peer.streams == 3


def test_133_the_proxy_and_the_target_are_told_apart() -> None:
    """A proxy that answers itself, or refuses the tunnel, is no peer (SW-E1305, SW-E1302); it is told no key."""
    for given, code in ((GOOD, "SW-E1305"), (answer(b"", status=b"403 No"), "SW-E1302")):
        with Peer(given) as proxy, sw.Engine(egress=sw.Egress(proxy=f"http://127.0.0.1:{proxy.port}")) as engine:
            seen = call(engine, "https://api.example/v1", repeatable=False, attempts=1)
            assert (seen.ok, seen.code) == (False, code), seen
            assert [request.split(b" ")[:2] for request in proxy.requests] == [[b"CONNECT", b"api.example:443"]]
            assert b"secret-of-a-test" not in proxy.requests[0]
