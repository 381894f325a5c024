"""The egress guard: what counts as the public internet, what a policy lets through, and what callers see of a refusal."""

from __future__ import annotations

import ipaddress
import json
import logging
import random
from typing import Any

import pytest
from raw_peers import GOOD, Peer, answer, call

import stepwell as sw
import stepwell.testing
from stepwell import _core

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

#: What Python calls global and we do not let through, and why.
STRICTER = {
    "224.0.0.0/4": "multicast is no peer of a call",
    "ff00::/8": "multicast is no peer of a call",
    "192.0.0.0/24": "protocols' own; Python excepts some of its addresses",
    "192.88.99.0/24": "6to4 relays: deprecated, and they lead anywhere",
    "168.63.129.16/32": "Azure's host agent, behind a registered address",
    "fec0::/10": "site-local: deprecated, but private where it is still used",
    "::/96": "an IPv4 address in IPv6: who judges by the outer one lets the inner one through",
    "64:ff9b::/96": "as above (NAT64)",
    "64:ff9b:1::/48": "as above (NAT64 of the own network; private in newer Pythons)",
    "2002::/16": "as above (6to4; private in newer Pythons)",
    "2001::/23": "protocols' own; newer Pythons except some of its blocks",
    "3fff::/20": "documentation (since 2024; private in newer Pythons)",
}
#: All of IPv6 that is not 2000::/3 is not handed out to anybody; Python calls most of it global.
GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")
EDGES = [
    ipaddress.ip_network(text)
    for text in (
        *STRICTER,
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.2.0/24"),
        *("192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4", "192.31.196.0/24"),
        *("::/128", "::1/128", "::ffff:0:0/96", "100::/64", "2001::/32", "2001:db8::/32", "2000::/3", "fc00::/7"),
        *("fe80::/10", "2001:2::/48", "2001:10::/28", "2001:20::/28", "2001:4:112::/48", "2620:4f:8000::/48"),
    )
]


def is_listed(address: Address) -> bool:
    """Whether we are stricter than Python on purpose."""
    if address.version == 6 and address not in GLOBAL_UNICAST:
        return True
    return any(address in ipaddress.ip_network(block) for block in STRICTER)


def addresses(count: int) -> list[Address]:
    """The edges of every block, with their neighbours; and random addresses, most of them near a block."""
    drawn = random.Random(20_261_121)
    found: list[Address] = []
    for block in EDGES:
        kind = type(block.network_address)
        first, last = int(block.network_address), int(block.broadcast_address)
        top = 2**block.max_prefixlen - 1
        found += [kind(number) for number in (first, last, max(first - 1, 0), min(last + 1, top))]
    for _ in range(count):
        found.append(ipaddress.IPv4Address(drawn.getrandbits(32)))
        found.append(ipaddress.IPv6Address(drawn.getrandbits(128)))
        found.append(ipaddress.IPv6Address((1 << 125) | drawn.getrandbits(125)))  # global unicast
        block = drawn.choice(EDGES)
        inside = drawn.getrandbits(block.max_prefixlen - block.prefixlen or 1) % block.num_addresses
        found.append(
            block[inside]
            if drawn.random() < 0.5
            else type(block.network_address)(
                (int(block.network_address) ^ (1 << drawn.randrange(block.max_prefixlen))) | inside
            )
        )
    return found


def test_the_classifier_agrees_with_pythons_but_where_it_is_stricter_on_purpose() -> None:
    looser, stricter, public = [], set(), 0
    for address in addresses(50_000):
        is_public = _core.special_range(str(address)) == ""
        public += is_public
        if is_public and not address.is_global:
            looser.append(str(address))
        if not is_public and address.is_global:
            assert is_listed(address), f"{address}: {_core.special_range(str(address))}"
            stricter.add(next((b for b in STRICTER if address in ipaddress.ip_network(b)), "not 2000::/3"))
    assert looser == []
    assert public > 50_000
    assert {"224.0.0.0/4", "192.88.99.0/24", "168.63.129.16/32", "not 2000::/3"} <= stricter


@pytest.mark.parametrize("text", ["", "localhost", "127.1", "0x7f.0.0.1", "::1%lo", "1.2.3.4\0"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(sw.InputError, match="SW-E1322"):
        _core.special_range(text)


# -- policies -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"allow": "10.0.0.0/8"},
        {"allow": ["10.0.0.1/8"]},
        {"allow": ["http://vllm.internal"]},
        {"allow": ["vllm.internal:8000"]},
        {"allow": [8]},
        {"deny": [""]},
        {"deny": None},
        {"hosts": ["a b"]},
        {"hosts": "api.example"},
        {"http": 1},
        {"proxy": ""},
        {"proxy": 3128},
        {"body_bytes_max": 0},
        {"body_bytes_max": True},
        {"header_bytes_max": 2**40},
        {"unpack_ratio_max": 1.5},
    ],
    ids=str,
)
def test_a_policy_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(sw.InputError, match="SW-E1322"):
        sw.Egress(**wrong)


def test_a_policy_is_a_plain_value() -> None:
    names = ["vllm.internal", "10.0.0.0/8"]
    policy = sw.Egress(allow=names, stall="2m")
    names.append("evil.example")
    assert policy == sw.Egress(allow=("vllm.internal", "10.0.0.0/8"), stall="2m")
    assert policy != sw.Egress()
    with pytest.raises(AttributeError):
        policy.http = True  # type: ignore[misc]
    with pytest.raises(sw.InputError, match="SW-E1010"):
        sw.Egress(stall="soon")
    with pytest.raises(sw.InputError, match="SW-E1322"):
        sw.Engine(egress="none")  # type: ignore[arg-type]


def refusal(engine: sw.Engine, url: str) -> sw.InputError:
    with pytest.raises(sw.InputError) as caught:
        engine.request("POST", url, body=b"secret")
    return caught.value


def test_what_is_refused_by_default_and_what_is_not() -> None:
    with Peer(GOOD) as peer, sw.Engine() as engine:
        for host in ("127.0.0.1", "localhost"):
            assert engine.request("POST", f"http://{host}:{peer.port}/").status == 200
        for url, code, word in (
            ("https://10.0.0.1/", "SW-E1320", "private network"),
            ("https://169.254.169.254/latest/meta-data/", "SW-E1320", "hands out credentials"),
            ("https://[fd00:ec2::254]/", "SW-E1320", "hands out credentials"),
            ("https://[::ffff:127.0.0.1]/", "SW-E1320", "mapped"),
            (f"https://0.0.0.0:{peer.port}/", "SW-E1320", "this host"),
            ("http://api.example/", "SW-E1321", "https://"),
            ("https://user:word@api.example/", "SW-E1301", "user name"),
        ):
            error = refusal(engine, url)
            assert error.code == code
            assert word in str(error)
            assert "word@" not in str(error)
        assert peer.connections == 2


def test_a_refused_call_is_not_retried_and_says_the_fix() -> None:
    with stepwell.testing.Engine() as engine:
        seen = call(engine, "https://10.0.0.1:8000/v1?key=secret", attempts=5)
    assert (seen.ok, seen.attempts, seen.code) == (False, 1, "SW-E1320")
    assert 'egress=sw.Egress(allow=["10.0.0.1"])' in seen.message
    assert "secret" not in seen.message


def test_the_policy_of_an_engine_holds() -> None:
    with Peer(GOOD) as peer:
        url = f"http://localhost:{peer.port}/"
        with sw.Engine(egress=sw.Egress(deny=["127.0.0.0/8", "::1"])) as engine:
            assert refusal(engine, url).code == refusal(engine, peer.url).code == "SW-E1320"
        with sw.Engine(egress=sw.Egress(hosts=["api.example"])) as engine:
            assert 'hosts=[..., "localhost"]' in str(refusal(engine, url))
        assert peer.connections == 0
        with sw.Engine(egress=sw.Egress(allow=["0.0.0.0/8"], http=True)) as engine:
            assert (
                engine.request("POST", f"http://0.0.0.0:{peer.port}/").status == 200
            )  # Linux takes it for this machine


def test_direct_calls_take_their_policy_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with Peer(GOOD) as peer:
        url = f"http://0.0.0.0:{peer.port}/"
        with sw.Engine() as engine:
            assert refusal(engine, url).code == "SW-E1321"
        monkeypatch.setenv("STEPWELL_EGRESS_HTTP", "1")
        with sw.Engine() as engine:
            assert refusal(engine, url).code == "SW-E1320"
        monkeypatch.setenv("STEPWELL_EGRESS_ALLOW", "vllm.internal, 0.0.0.0")
        with sw.Engine() as engine:
            assert engine.request("POST", url).status == 200
        with sw.Engine(egress=sw.Egress()) as engine:
            assert refusal(engine, url).code == "SW-E1321", "an argument wins"
        monkeypatch.setenv("STEPWELL_EGRESS_HTTP", "yes")
        with pytest.raises(sw.InputError, match="STEPWELL_EGRESS_HTTP"):
            sw.Engine()


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_the_environments_proxy_is_used_when_asked_for(
    name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with Peer(answer(b"by the proxy")) as proxy, Peer(answer(b"direct")) as peer:
        monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        with caplog.at_level(logging.INFO, "stepwell"), sw.Engine(egress=sw.Egress(http=True)) as engine:
            assert engine.request("POST", peer.url).body == b"direct"
            with pytest.raises(sw.WorkflowError):  # there is no such host, and no proxy is asked for it
                engine.request("POST", "http://no-such-host.invalid/")
        assert "environment names a proxy" in caplog.text
        assert proxy.requests == []
        for policy in (sw.Egress(http=True, proxy="environment"), sw.Egress(http=True, proxy=proxy.url[:-3])):
            with sw.Engine(egress=policy) as engine:
                assert engine.request("POST", "http://api.example/x").body == b"by the proxy"
                assert engine.request("POST", peer.url).body == b"direct", "the loopback passes no proxy"
                assert refusal(engine, "http://10.0.0.1/").code == "SW-E1320", "a proxy opens nothing"
        assert [request.split(b" ")[1] for request in proxy.requests] == [b"http://api.example/x"] * 2


def test_line_ends_and_nuls_break_out_of_nothing() -> None:
    with Peer(GOOD) as peer, sw.Engine() as engine:
        for headers in ((("x", "a\r\ny: b"),), (("x\r\ny", "b"),), (("x", "a\0b"),), (("x y", "b"),)):
            with pytest.raises(sw.InputError, match="SW-E1301"):
                engine.request("POST", peer.url, headers=headers)
        for method, url in (
            ("GET /x HTTP/1.1\r\nA:", peer.url),
            ("POST", peer.url + "/\r\nx: y"),
            ("POST", "file:///etc"),
        ):
            with pytest.raises(sw.InputError, match="SW-E1301"):
                engine.request(method, url)
        assert peer.connections == 0
        assert json.loads(engine.request("POST", peer.url).body) == {"ok": True}
