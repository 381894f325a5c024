"""The cache: what is a hit, what is never kept, what survives, how a run sees it; and the caps on a run's calls."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

import stepwell as sw
from stepwell.llm import Cache, _cache
from stepwell.testing import replay
from stepwell.testing.llm_server import Faults, LlmServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LABELS = ["Billing", "Technical", "General"]
QUICK = sw.Retry(max_attempts=2, base="1ms", cap="2ms", max_elapsed="20s")


@pytest.fixture
def server() -> Iterator[LlmServer]:
    with LlmServer() as running:
        yield running


@pytest.fixture(autouse=True)
def own_shelf(monkeypatch: pytest.MonkeyPatch) -> None:
    """What this process has cached outside of engines is forgotten."""
    monkeypatch.setattr(_cache, "_shared", [])


def flow_of(server: LlmServer, cache: Any, **more: Any) -> sw.Workflow[..., Any]:
    @sw.workflow(name="cached")
    async def cached(text: str) -> Any:
        settings: dict[str, Any] = {
            "labels": LABELS,
            "model": "m",
            "base_url": server.url,
            "cache": cache,
            "retry": QUICK,
        }
        found = await sw.llm.classify(text, **settings | more)
        return [found.label, found.cached, found.tokens_in, found.attempts]

    return cached


def test_a_hit_costs_nothing_is_recorded_and_survives(server: LlmServer, tmp_path: Path) -> None:
    flow = flow_of(server, Cache())
    with sw.Engine(tmp_path / "s.db") as engine:
        label, cached, tokens, attempts = engine.start(flow, "billing").result(20)
        assert (label, cached, attempts) == ("Billing", False, 1)
        assert tokens > 0
        assert engine.start(flow, "billing").result(20) == ["Billing", True, 0, 0]
    with sw.Engine(tmp_path / "s.db") as engine:
        run = engine.start(flow, "billing")
        assert run.result(20) == ["Billing", True, 0, 0]
        [entry] = run.history()
        assert (entry.name, entry.attempt, str(entry.kind)) == ("llm.classify", 0, "succeeded")
    assert server.count() == 1
    report = replay(tmp_path / "s.db", [flow])
    assert (report.ok, report.mismatched, report.other_results) == (3, (), ())


def test_what_was_recorded_counts_and_not_what_is_cached_now(server: LlmServer, tmp_path: Path) -> None:
    """A run that made the call is no hit in a replay, though the answer is in the cache by then."""
    flow = flow_of(server, Cache())
    with sw.Engine(tmp_path / "s.db") as engine:
        before = engine.start(flow, "billing", key="a").result(20)
        again = engine.replay(engine.find(flow, "a"))  # type: ignore[arg-type]
        assert again.result(20)[1] is True
        assert before[1] is False
    assert replay(tmp_path / "s.db", [flow]).other_results == ()


def test_plain_code_and_steps_share_it_too(server: LlmServer) -> None:
    settings: dict[str, Any] = {"model": "m", "base_url": server.url, "cache": Cache()}

    @sw.step
    def inside(text: str) -> bool:
        return sw.llm.chat_blocking(text, **settings).cached

    @sw.workflow
    def plain(text: str) -> list[bool]:
        return [sw.llm.chat_blocking(text, **settings).cached, inside(text)]

    with sw.Engine() as engine:
        assert engine.start(plain, "hello").result(20) == [False, True]
    assert [sw.llm.chat_blocking("hello", **settings).cached for _ in range(2)] == [False, True]
    assert asyncio.run(sw.llm.chat("hello", **settings)).usage == sw.llm.Usage(cost_usd=0.0)
    assert server.count() == 2


def test_every_kind_of_call(server: LlmServer) -> None:
    settings: dict[str, Any] = {"model": "m", "base_url": server.url, "cache": Cache()}
    for _ in range(2):
        found = sw.llm.extract_blocking("three apples", int, **settings)
        vectors = sw.llm.embed_blocking(["one", "two"], **settings)
    assert (found.cached, vectors.cached, len(vectors.vectors)) == (True, True, 2)
    assert server.count() == 2


@pytest.mark.parametrize(
    ("first", "second", "is_hit"),
    [
        ({}, {}, True),
        ({"user": "u1"}, {"user": "u2"}, True),
        ({"seed": 1}, {"seed": 2}, False),
        ({"temperature": 0.0}, {"temperature": 1.0}, False),
        ({"model": "m"}, {"model": "n"}, False),
        ({"tenant": "a"}, {"tenant": "b"}, True),
        ({"system": "a"}, {"system": "b"}, False),
    ],
)
def test_what_makes_two_questions_the_same(server: LlmServer, first: Any, second: Any, is_hit: bool) -> None:  # noqa: FBT001
    settings: dict[str, Any] = {"model": "m", "base_url": server.url, "cache": Cache()}
    sw.llm.chat_blocking("hello", **settings | first)
    assert sw.llm.chat_blocking("hello", **settings | second).cached is is_hit


def test_another_server_is_another_question_and_a_key_of_ones_own(server: LlmServer) -> None:
    loose = Cache(key=lambda body: body["messages"][-1]["content"].strip().casefold())
    with LlmServer() as other:
        answers = [
            sw.llm.chat_blocking(text, model="m", base_url=url, cache=loose).cached
            for text, url in (("Hello", server.url), (" hello ", server.url), ("hello", other.url))
        ]
    assert answers == [False, True, False]


@pytest.mark.parametrize("kind", ["wrong_label", "refusal", "empty"])
def test_what_is_no_good_answer_is_never_kept(kind: str) -> None:
    with LlmServer(faults=Faults(share=1.0, kinds={kind: 1.0}, max_faults_per_call=100)) as server:
        for _ in range(2):
            settings: dict[str, Any] = {"labels": LABELS, "model": "m", "base_url": server.url, "repair": 0}
            found = sw.llm.classify_blocking("hello", cache=Cache(), **settings)
            assert (found.status, found.cached) == ("review", False)
        assert server.count() == 2


def test_a_repaired_answer_and_a_failed_call_are_not_kept() -> None:
    with LlmServer(faults=Faults(share=1.0, kinds={"empty": 1.0}, max_faults_per_call=1)) as server:
        settings: dict[str, Any] = {"labels": LABELS, "model": "m", "base_url": server.url, "cache": Cache()}
        sw.llm.classify_blocking("billing", **settings)
        assert len(_cache.shelf_of(None)) == 0
    with LlmServer(faults=Faults(share=1.0, kinds={"500": 1.0}, max_faults_per_call=100)) as broken:
        with pytest.raises(sw.RunError):
            sw.llm.chat_blocking("hello", model="m", base_url=broken.url, cache=Cache(), retry=QUICK)
        assert len(_cache.shelf_of(None)) == 0


def test_answers_get_too_old(server: LlmServer) -> None:
    from stepwell.testing import Engine

    hour, week = flow_of(server, Cache(ttl="1h")), flow_of(server, Cache(ttl="7d"))
    with Engine() as engine:
        assert engine.start(hour, "billing").result(20)[1] is False
        assert engine.start(hour, "billing").result(20)[1] is True
        engine.clock.advance("2h")
    with Engine() as engine:
        engine.start(hour, "billing").result(20)
        engine.clock.advance("59m")
        assert engine.start(hour, "billing").result(20)[1] is True
        engine.clock.advance("2m")
        with Engine() as unrelated:
            assert unrelated.start(week, "billing").result(20)[1] is False
    with Engine() as engine:
        engine.start(hour, "billing").result(20)
        engine.clock.advance("61m")

        @sw.workflow(name="cached")
        async def both(text: str) -> list[bool]:
            settings: dict[str, Any] = {"labels": LABELS, "model": "m", "base_url": server.url}
            old = await sw.llm.classify(text, cache=Cache(ttl="7d"), **settings)
            new = await sw.llm.classify(text, cache=Cache(ttl="1h"), **settings)
            return [old.cached, new.cached]


def test_the_oldest_go_when_there_are_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_cache, "ENTRIES_MAX", 3)
    with sw.Engine(tmp_path / "s.db") as engine:
        shelf = _cache.shelf_of(engine._worker)
        for number in range(6):
            shelf.put(f"k{number}", b"answer", 1000 + number)
        shelf.put("big", b"x" * (_cache._ENTRY_BYTES_MAX + 1), 2000)
        assert len(shelf) == 3
        kept = engine._core.documents(_cache.KIND, "")
        assert sorted(row[0] for row in kept) == ["k3", "k4", "k5"]
    with sw.Engine(tmp_path / "s.db") as engine:
        assert len(_cache.shelf_of(engine._worker)) == 3


def test_the_same_question_at_the_same_time_is_asked_once() -> None:
    with LlmServer(latency="100ms") as server:
        flow = flow_of(server, Cache())
        with sw.Engine() as engine:
            results = engine.map(flow, ["billing"] * 20 + ["technical"] * 20, concurrency=40).results()
        assert server.count() == 2
        assert sum(result[1] for result in results) == 38


def test_who_asked_first_may_fail() -> None:
    with LlmServer(faults=Faults(share=1.0, kinds={"500": 1.0}, max_faults_per_call=100)) as server:
        flow = flow_of(server, Cache(), retry=sw.Retry(max_attempts=1))
        with sw.Engine() as engine:
            batch = engine.map(flow, ["billing"] * 5, concurrency=5)
            assert [item.error is not None for item in batch] == [True] * 5


def test_with_a_policy_each_model_has_its_own_answer(server: LlmServer) -> None:
    vote = sw.llm.Vote(["a", "b"])
    settings: dict[str, Any] = {"labels": LABELS, "model": vote, "base_url": server.url, "cache": Cache()}
    first, second = (sw.llm.classify_blocking("billing", **settings) for _ in range(2))
    assert (first.cached, second.cached, second.tokens_in) == (False, True, 0)
    assert [each.cached for each in second.path] == [True, True]
    assert server.count() == 2


@pytest.mark.parametrize("make", [lambda: Cache(ttl="never"), lambda: Cache(key="text")])  # type: ignore[arg-type]
def test_settings_that_make_no_sense(make: Any) -> None:
    with pytest.raises(sw.InputError, match=r"SW-E2155|SW-E1010"):
        make()


def test_a_key_without_a_json_form(server: LlmServer) -> None:
    with pytest.raises(sw.InputError, match="SW-E2155"):
        sw.llm.chat_blocking("hello", model="m", base_url=server.url, cache=Cache(key=lambda _: {1, 2}))
    assert server.count() == 0


# -- caps ----------------------------------------------------------------------------------------------------------------


def test_the_call_beyond_the_cap_is_not_sent(server: LlmServer, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"labels": LABELS, "model": "m", "base_url": server.url}

    @sw.workflow(max_calls=3)
    async def loops(texts: list[str]) -> Any:
        found = []
        for text in texts:
            try:
                found.append((await sw.llm.classify(text, **settings)).label)
            except sw.StepFailed as error:
                found.append(error.code)
        return found

    @sw.workflow(max_calls=3)
    def loops_plain(texts: list[str]) -> Any:
        return [sw.llm.classify_blocking(text, **settings).label for text in texts]

    with sw.Engine(tmp_path / "s.db") as engine:
        expected = ["Billing"] * 3 + ["SW-E2154"] * 2
        assert engine.start(loops, ["billing"] * 5).result(20) == expected
        assert server.count() == 3
        with pytest.raises(sw.RunFailed, match="has made 3 calls"):
            engine.start(loops_plain, ["billing"] * 4).result(20)
        assert engine.start(loops_plain, ["billing"] * 3).result(20) == ["Billing"] * 3
    assert server.count() == 9
    assert replay(tmp_path / "s.db", [loops, loops_plain]).ok == 3


def test_a_cap_for_the_whole_engine_and_one_that_goes_before_it(server: LlmServer) -> None:
    async def ask(count: int) -> int:
        asking = (sw.llm.chat(f"hello {n}", model="m", base_url=server.url) for n in range(count))
        return len(await sw.gather(*asking))

    small = sw.workflow(name="small")(ask)
    large = sw.workflow(name="large", max_calls=4)(ask)
    with sw.Engine(calls_per_run=2) as engine:
        assert engine.start(small, 2).result(20) == 2
        with pytest.raises(sw.RunFailed, match="has made 2 calls"):
            engine.start(small, 3).result(20)
        assert engine.start(large, 4).result(20) == 4
        with pytest.raises(sw.RunFailed, match="has made 4 calls"):
            engine.start(large, 5).result(20)
    assert server.count() == 2 + 2 + 4 + 4


def test_the_cap_counts_over_restarts(server: LlmServer, stepwell_crash: Any) -> None:
    """Wherever it crashes: what is recorded counts, so that no restart gives a run more."""

    @sw.workflow(max_calls=4)
    async def branches(text: str) -> Any:
        async def branch(number: int) -> list[Any]:
            labels = []
            for again in range(2):
                try:
                    found = await sw.llm.classify(
                        f"{text} {number} {again}", labels=LABELS, model="m", base_url=server.url
                    )
                    labels.append(found.label)
                except sw.StepFailed as error:
                    labels.append(error.code)
            return labels

        return sorted(label for labels in await sw.gather(*map(branch, range(3))) for label in labels)

    stepwell_crash(branches, "billing")


def test_a_cache_and_the_local_model_are_no_calls(server: LlmServer) -> None:
    @sw.workflow(max_calls=2)
    async def flow(text: str) -> Any:
        settings: dict[str, Any] = {"labels": LABELS, "base_url": server.url}
        for _ in range(3):
            await sw.llm.classify(text, model="local", **settings)
            await sw.llm.classify(text, model="m", cache=Cache(), **settings)
        return (await sw.llm.classify(text + "!", model="m", **settings)).label

    with sw.Engine() as engine:
        run = engine.start(flow, "billing")
        assert run.result(20) == "Billing"
        assert engine.replay(run, from_step="llm.classify#7").result(20) == "Billing"
    assert server.count() == 3


@pytest.mark.parametrize("most", [0, -1, True, "10", 1.0])
def test_caps_that_make_no_sense(most: Any) -> None:
    with pytest.raises(sw.InputError, match="SW-E2156"):
        sw.workflow(max_calls=most)(lambda _: None)
    with pytest.raises(sw.InputError, match="SW-E2156"):
        sw.Engine(calls_per_run=most)


# -- estimates -----------------------------------------------------------------------------------------------------------

TEXTS = [f"I was charged twice for order {n}, please look into it" for n in range(100)]
HERE = {"base_url": "http://127.0.0.1:9/v1"}


def test_an_estimate_holds_what_comes_of_it(server: LlmServer) -> None:
    made = sw.llm.estimate(TEXTS, labels=LABELS, model="openai:gpt-4o-mini", base_url=server.url)
    answers = [
        sw.llm.classify_blocking(text, labels=LABELS, model="openai:gpt-4o-mini", base_url=server.url) for text in TEXTS
    ]
    assert made.calls == (100, 100, 100)
    assert made.tokens_in.low <= sum(each.tokens_in for each in answers) <= made.tokens_in.high
    assert made.tokens_out.low <= sum(each.tokens_out for each in answers) <= made.tokens_out.high
    assert made.usd is not None
    assert made.usd.low <= sum(each.cost_usd for each in answers) <= made.usd.high
    assert made.seconds is None
    assert "usd" in str(made)


def test_estimates_of_policies_limits_and_unknown_prices() -> None:
    model = sw.llm.Cascade("openai:gpt-4o-mini", "openai:gpt-4o", below=0.5)
    made = sw.llm.estimate(TEXTS, labels=LABELS, model=model, escalated=0.1, **HERE)  # type: ignore[arg-type]
    assert made.calls == pytest.approx((100, 110, 200))
    chain = sw.llm.Fallback(["openai:a", "openai:b", "local"])
    made = sw.llm.estimate(
        TEXTS, labels=LABELS, model=chain, requests_per_minute=60, tokens_per_minute=10**9, concurrency=50, **HERE
    )  # type: ignore[arg-type]
    assert made.calls == pytest.approx((100, 120, 200))
    assert (made.usd, made.seconds) == (None, pytest.approx(120))
    vote = sw.llm.estimate(
        TEXTS, labels=LABELS, model=sw.llm.Vote(["openai:a"] * 3), concurrency=30, latency_s=2, **HERE
    )  # type: ignore[arg-type]
    assert (vote.calls.likely, vote.seconds) == (300, pytest.approx(20))
    free = sw.llm.estimate(TEXTS, labels=LABELS, model="local")
    assert (free.calls, free.usd) == ((0, 0, 0), (0, 0, 0))


@pytest.mark.parametrize(
    "more", [{"escalated": 1.5}, {"concurrency": 0}, {"tokens_per_minute": -1}, {"latency_s": "1s"}]
)
def test_estimates_that_make_no_sense(more: Any) -> None:
    with pytest.raises(sw.InputError, match="SW-E2158"):
        sw.llm.estimate(TEXTS, labels=LABELS, model="local", **more)


def test_codes_are_explained() -> None:
    from stepwell._codes import explain

    assert all(json.dumps(explain(f"SW-E{number}")) for number in range(2150, 2160))
