"""The scripted HTTP server: answers, faults on the wire, keys, the journal; and a workflow that meets all of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import urllib.error
import urllib.request
from typing import Any

import pytest

import stepwell as sw
from stepwell.testing import Answer, Engine, HttpFaults, HttpServer, crash_everywhere
from stepwell.testing.http_server import KINDS

BROKEN = (OSError, urllib.error.URLError, ValueError)


def post(server: HttpServer, path: str, value: object = None, key: str = "") -> Any:
    headers = {"content-type": "application/json"} | ({"Idempotency-Key": key} if key else {})
    request = urllib.request.Request(server.url + path, json.dumps(value).encode(), headers, method="POST")  # noqa: S310 - ours
    with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310
        return json.loads(answer.read())


def test_answers_come_as_scripted_and_the_last_one_repeats() -> None:
    with HttpServer({"POST /a": [{"n": 1}, {"n": 2}], "POST /b/*": Answer(201, [1], {"X-Left": "3"})}) as server:
        assert [post(server, "/a")["n"] for _ in range(4)] == [1, 2, 2, 2]
        assert post(server, "/b/7?x=1", {"in": 1}) == [1]
        with pytest.raises(urllib.error.HTTPError, match="404"):
            post(server, "/c")
        server.answer("POST /c", Answer(503))
        with pytest.raises(urllib.error.HTTPError, match="503"):
            post(server, "/c")
        server.answer("POST /c", "at last")
        assert post(server, "/c") == "at last"
        (entry,) = server.journal("POST /b/*")
        assert (entry["body"], entry["answer"], entry["carried_out"]) == ({"in": 1}, "ok", True)
        assert server.count() == 8
        assert server.carried_out() == 6
        assert server.carried_out("POST /c") == 1


def test_a_known_key_is_not_carried_out_twice() -> None:
    with HttpServer({"POST /charges": [{"id": 1}, {"id": 2}]}) as server:
        assert [post(server, "/charges", {"eur": 5}, key)["id"] for key in ("a", "a", "b", "a")] == [1, 1, 2, 1]
        assert server.carried_out("POST /charges") == 2
        assert [each["answer"] for each in server.journal()] == ["ok", "repeated", "ok", "repeated"]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("hang", "slow")])
def test_each_fault_spoils_once_and_a_retry_with_the_key_takes_effect_once(kind: str) -> None:
    faults = HttpFaults(share=1.0, kinds={kind: 1.0}, max_faults_per_call=1)
    with HttpServer({"POST /charges": {"id": 1}}, faults=faults) as server:
        with pytest.raises(BROKEN):
            post(server, "/charges", 1, "k")
        assert post(server, "/charges", 1, "k") == {"id": 1}
        assert server.carried_out() == 1
        first = server.journal()[0]
        assert first["answer"] == kind
        assert first["carried_out"] == (kind in ("lost", "truncated", "empty"))


def test_the_seed_decides_and_slow_answers_are_whole() -> None:
    def answers(seed: int) -> list[str]:
        faults = HttpFaults(share=0.5, kinds={"slow": 1.0, "500": 1.0})
        with HttpServer({"POST /x": [1]}, faults=faults, seed=seed) as server:
            for number in range(12):
                with contextlib.suppress(urllib.error.HTTPError):
                    assert post(server, "/x", number) == 1
            return [each["answer"] for each in server.journal()]

    first = answers(1)
    assert set(first) == {"ok", "slow", "500"}
    assert answers(1) == first
    assert answers(2) != first


def test_bad_settings_are_refused() -> None:
    for script in ({"charges": 1}, {"POST charges": 1}, {"POST /a": Answer(99)}):
        with pytest.raises(ValueError, match="expected"):
            HttpServer(script)
    with pytest.raises(ValueError, match="unknown kinds"):
        HttpFaults(0.1, {"refusal": 1.0})
    with pytest.raises(ValueError, match="not a latency"):
        HttpServer(latency="soon")


# -- with workflows ----------------------------------------------------------------------------------------------------------


def flow_for(server: HttpServer, *, with_key: bool) -> Any:
    @sw.step(retry=sw.Retry(max_attempts=8, base="1m", max_elapsed="10d"))
    async def charge(eur: int) -> int:
        key = sw.step_key() if with_key else ""
        answer = await asyncio.to_thread(post, server, "/charges", {"eur": eur}, key)
        return int(answer["id"])

    @sw.workflow
    async def pays(eur: int) -> int:
        return await charge(eur)

    return pays


def test_a_workflow_that_sends_keys_pays_once_through_all_faults() -> None:
    kinds = {kind: 1.0 for kind in KINDS if kind != "hang"}
    with HttpServer({"POST /charges": {"id": 3}}, faults=HttpFaults(0.7, kinds), seed=5) as server, Engine() as engine:
        pays = flow_for(server, with_key=True)
        assert engine.map(pays, range(20)).results() == [3] * 20
        assert server.carried_out() == 20
        assert server.count() > 30


def test_crashes_show_in_the_journal_of_the_server() -> None:
    for with_key in (True, False):
        with HttpServer({"POST /charges": {"id": 3}}) as server:
            report = crash_everywhere(flow_for(server, with_key=with_key), 5)
            ends = len(report.crashes)  # each in a store of its own: one charge, if the key is used
            assert (server.carried_out() == ends) == with_key
