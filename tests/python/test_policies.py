"""Fallback, Cascade, Vote: who is asked, whose answer counts, what it costs, and that a replay sees the same."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

import stepwell as sw
from stepwell.llm import Cascade, Endpoint, Fallback, Vote
from stepwell.testing import replay
from stepwell.testing.llm_server import Faults, LlmServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LABELS = ["Billing", "Technical", "General"]
QUICK = sw.Retry(max_attempts=2, base="1ms", cap="2ms", max_elapsed="20s")
TEXT = "I was charged twice"
# What each model says to every text: label and confidence.
SAYS = {
    "sure": ("Billing", 0.9),
    "unsure": ("Billing", 0.3),
    "other": ("Technical", 0.8),
    "third": ("General", 0.7),
    "stranger": ("Student loans", 0.99),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlmServer]:
    answers = tmp_path_factory.mktemp("answers") / "answers.jsonl"
    lines = [
        {"model": model, "text": TEXT, "content": {"label": label, "confidence": sure}}
        for model, (label, sure) in SAYS.items()
    ]
    answers.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    with LlmServer(answers=answers) as running:
        yield running


@pytest.fixture(scope="module")
def broken() -> Iterator[LlmServer]:
    with LlmServer(faults=Faults(share=1.0, kinds={"500": 1.0}, max_faults_per_call=100)) as running:
        yield running


@pytest.fixture(scope="module")
def silent() -> Iterator[LlmServer]:
    with LlmServer(faults=Faults(share=1.0, kinds={"hang": 1.0}, max_faults_per_call=100)) as running:
        yield running


@pytest.fixture(scope="module")
def refusing() -> Iterator[LlmServer]:
    with LlmServer(faults=Faults(share=1.0, kinds={"refusal": 1.0}, max_faults_per_call=100)) as running:
        yield running


def ask(server: LlmServer, model: Any, **more: Any) -> sw.llm.Classification:
    settings: dict[str, Any] = {"labels": LABELS, "model": model, "base_url": server.url, "retry": QUICK, "repair": 0}
    both = [
        sw.llm.classify_blocking(TEXT, **settings | more),
        asyncio.run(sw.llm.classify(TEXT, **settings | more)),
    ]
    assert both[0] == both[1], "plain and async code see the same"
    return both[0]


def asked(answer: Any) -> list[tuple[str, str, str]]:
    return [(each.name, each.model, each.status) for each in answer.path]


# -- fallback ------------------------------------------------------------------------------------------------------------


def test_fallback_stops_at_the_first_good_answer(server: LlmServer) -> None:
    answer = ask(server, Fallback(["sure", "other"]))
    assert (answer.label, asked(answer)) == ("Billing", [("fallback/1", "sure", "ok")])
    assert answer.path[0].said == "Billing"
    assert answer.tokens_in == answer.path[0].tokens_in > 0


def test_fallback_goes_on_for_each_kind_of_failure(
    server: LlmServer, broken: LlmServer, silent: LlmServer, refusing: LlmServer
) -> None:
    chain = [
        Endpoint("a", base_url=broken.url),
        Endpoint("b", base_url=silent.url, retry=sw.Retry(max_attempts=1)),
        Endpoint("c", base_url=refusing.url),
        "stranger",
        "other",
    ]
    answer = ask(server, Fallback(chain, after="800ms"))
    assert [status for *_, status in asked(answer)] == ["failed", "timeout", "refused", "review", "ok"]
    assert (answer.label, answer.model) == ("Technical", "other")
    assert answer.attempts == sum(each.attempts for each in answer.path) == 2 + 1 + 1 + 1 + 1
    assert "SW-E1307" in answer.path[0].said
    assert "Student loans" not in (answer.label, answer.reason)


def test_fallback_goes_on_only_for_what_it_was_told(server: LlmServer, broken: LlmServer) -> None:
    assert ask(server, Fallback(["stranger", "sure"], on=["failed"])).status == "review"
    with pytest.raises(sw.RunError, match="SW-E2153"):
        sw.llm.classify_blocking(
            TEXT, labels=LABELS, model=Fallback([Endpoint("a", base_url=broken.url), "sure"], on=["review"]),
            base_url=server.url, retry=QUICK,
        )  # fmt: skip


def test_when_nobody_answers_it_says_what_came_of_each(broken: LlmServer) -> None:
    policy = Fallback(["a", Vote(["b", "c"])])
    with pytest.raises(sw.StepFailed, match=r"fallback/1 a: failed.*fallback/2/vote/2 c: failed") as caught:
        sw.llm.classify_blocking(TEXT, labels=LABELS, model=policy, base_url=broken.url, retry=QUICK)
    assert caught.value.code == "SW-E2153"
    assert [each["model"] for each in caught.value.error["path"]] == ["a", "b", "c"]


def test_a_last_answer_outside_of_the_taxonomy_is_no_category(server: LlmServer) -> None:
    answer = ask(server, Fallback(["stranger", "stranger"]))
    assert (answer.label, answer.status) == (None, "review")


# -- cascade -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "label", "models"),
    [
        (Cascade("sure", "other", below=0.6), "Billing", ["sure"]),
        (Cascade("unsure", "other", below=0.6), "Technical", ["unsure", "other"]),
        (Cascade("sure", "other", when=lambda answer: answer.label == "Billing"), "Technical", ["sure", "other"]),
        (Cascade("stranger", "other", below=0.1), "Technical", ["stranger", "other"]),
        (Cascade(["sure", "unsure"], agree=True, then="other"), "Billing", ["sure", "unsure"]),
        (Cascade(["sure", "third"], agree=True, then="other"), "Technical", ["sure", "third", "other"]),
        (Cascade(["sure", "stranger"], agree=True, then="other"), "Technical", ["sure", "stranger", "other"]),
    ],
)
def test_cascade(server: LlmServer, policy: Cascade, label: str, models: list[str]) -> None:
    answer = ask(server, policy)
    assert (answer.label, [each.model for each in answer.path]) == (label, models)
    assert answer.tokens_in == sum(each.tokens_in for each in answer.path)


# -- vote ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "label", "confidence"),
    [
        (Vote(["sure", "other", "unsure"]), "Billing", 2 / 3),
        (Vote(["sure", "other", "third"]), None, 0.0),
        (Vote(["sure", "other", "third"], tie="first"), "Billing", 1 / 3),
        (Vote(["other", "sure", "third"], quorum=2, tie="first"), "Technical", 1 / 3),
        (Vote(["sure", "other", "stranger"], quorum=2), None, 0.0),
        (Vote(["sure", "stranger", "stranger"]), "Billing", 1 / 3),
        (Vote(["sure", "other"], tie=lambda answers: max(answers, key=lambda each: each.confidence)), "Billing", 1 / 2),
        (Vote(["sure", "other"], tie=lambda _: None), None, 0.0),
        (Vote(["stranger", "stranger"]), None, 0.99),
    ],
)
def test_vote(server: LlmServer, policy: Vote, label: str | None, confidence: float) -> None:
    answer = ask(server, policy)
    assert (answer.label, answer.confidence) == (label, pytest.approx(confidence))
    assert answer.status == ("review" if label is None else "ok")
    assert len(answer.path) == len(policy.models)


def test_a_tie_that_chooses_something_else_is_refused(server: LlmServer) -> None:
    with pytest.raises(sw.InputError, match="SW-E2151"):
        ask(server, Vote(["sure", "other"], tie=lambda _: "Refunds"))


# -- inside of runs --------------------------------------------------------------------------------------------------------

NESTED = Fallback(["stranger", Vote(["sure", Cascade("unsure", "sure", below=0.6), "other"], quorum=2)])


def test_names_sums_and_a_replay(server: LlmServer, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"labels": LABELS, "base_url": server.url, "retry": QUICK, "repair": 0}

    @sw.workflow
    async def nested(text: str) -> Any:
        first = await sw.llm.classify(text, model=NESTED, **settings)
        return [first, await sw.llm.classify(text, model=Fallback(["sure", "other"]), **settings)]

    @sw.workflow
    def nested_plain(text: str) -> Any:
        first = sw.llm.classify_blocking(text, model=NESTED, **settings)
        return [first, sw.llm.classify_blocking(text, model=Fallback(["sure", "other"]), **settings)]

    results, names = [], []
    for flow in (nested, nested_plain):
        before = server.count()
        with sw.Engine(tmp_path / "s.db") as engine:
            run = engine.start(flow, TEXT)
            results.append(run.result(20))
            names.append(sorted(entry.name for entry in run.history()))
        assert server.count() == before + 6
    assert results[0] == results[1]
    assert names[0] == names[1] == [
        "llm.classify#2/fallback/1",
        "llm.classify/fallback/1",
        "llm.classify/fallback/2/vote/1",
        "llm.classify/fallback/2/vote/2/cascade/1",
        "llm.classify/fallback/2/vote/2/cascade/2",
        "llm.classify/fallback/2/vote/3",
    ]  # fmt: skip
    assert [each["name"] for each in results[0][0]["path"]][1:] == [
        "fallback/2/vote/1", "fallback/2/vote/2/cascade/1", "fallback/2/vote/2/cascade/2", "fallback/2/vote/3",
    ]  # fmt: skip
    before = server.count()
    report = replay(tmp_path / "s.db", [nested, nested_plain])
    assert (report.ok, report.mismatched, report.other_results) == (2, (), ())
    assert server.count() == before


def test_a_crash_at_every_commit_asks_nobody_twice_for_what_is_recorded(server: LlmServer, stepwell_crash: Any) -> None:
    @sw.workflow
    async def voted(text: str) -> Any:
        found = await sw.llm.classify(text, labels=LABELS, model=NESTED, base_url=server.url, repair=0)
        return [found.label, [each.name for each in found.path]]

    stepwell_crash(voted, TEXT)


def test_branches_of_a_gather_keep_their_names_apart(server: LlmServer) -> None:
    @sw.workflow
    async def both(text: str) -> list[str | None]:
        vote = Vote(["sure", "unsure"])
        asking = (sw.llm.classify(text, labels=LABELS, model=vote, base_url=server.url) for _ in range(2))
        return [each.label for each in await sw.gather(*asking)]

    with sw.Engine() as engine:
        run = engine.start(both, TEXT)
        assert run.result(20) == ["Billing", "Billing"]
        assert sorted(entry.name for entry in run.history()) == [
            f"gather/{branch}/llm.classify/vote/{vote}" for branch in (0, 1) for vote in (1, 2)
        ]


def test_the_local_model_takes_part(server: LlmServer) -> None:
    @sw.workflow
    async def mixed(text: str) -> Any:
        found = await sw.llm.classify(text, labels=LABELS, model=Vote(["local", "sure"]), base_url=server.url)
        return [found.label, found.path[0].model, found.tokens_in == found.path[1].tokens_in]

    with sw.Engine() as engine:
        run = engine.start(mixed, TEXT + " on my invoice")
        assert run.result(20) == ["Billing", "local", True]
        assert {entry.name for entry in run.history()} == {"llm.classify/vote/1", "llm.classify/vote/2"}


# -- chat and extract ----------------------------------------------------------------------------------------------------


def test_chat_and_extract_take_policies(broken: LlmServer) -> None:
    with LlmServer() as server:
        dead = Endpoint("x", base_url=broken.url, retry=QUICK)
        answer = sw.llm.chat_blocking("hello", model=Fallback([dead, "m"]), base_url=server.url)
        assert (answer.text, [each.status for each in answer.path]) == ("You said: hello", ["failed", "ok"])
        vote = Vote(["a", "b", dead], quorum=2, key=lambda chat: chat.text.casefold())
        voted = asyncio.run(sw.llm.chat("hello", model=vote, base_url=server.url))
        assert (voted.text, len(voted.path)) == ("You said: hello", 3)
        assert voted.usage.tokens_in == sum(each.tokens_in for each in voted.path)
        found = sw.llm.extract_blocking("three apples", int, model=Fallback([dead, "m"]), base_url=server.url)
        assert (type(found.value), len(found.path)) == (int, 2)
        undecided = Vote(["a", "b"], quorum=2, key=lambda chat: chat.model)
        with pytest.raises(sw.LlmError, match="SW-E2152"):
            sw.llm.chat_blocking("hello", model=undecided, base_url=server.url)
        with pytest.raises(sw.InputError, match=r"SW-E2151.*without a key"):
            sw.llm.chat_blocking("hello", model=Vote(["a", "b"]), base_url=server.url)
        with pytest.raises(sw.InputError, match="SW-E2151"):
            sw.llm.embed_blocking("hello", model=Fallback(["a", "b"]), base_url=server.url)  # type: ignore[arg-type]


def test_what_refused_and_unusable_answers_used_counts(refusing: LlmServer) -> None:
    with (
        LlmServer(faults=Faults(share=1.0, kinds={"empty": 1.0}, max_faults_per_call=100)) as empty,
        LlmServer() as server,
    ):
        chain = Fallback([Endpoint("a", base_url=refusing.url), Endpoint("b", base_url=empty.url), "m"])
        found = sw.llm.chat_blocking("how many?", returns=int, model=chain, base_url=server.url)
        journal = [entry for each in (empty, server) for entry in each.journal()]
    assert [each.status for each in found.path] == ["refused", "review", "ok"]
    assert all(each.tokens_in > 0 for each in found.path)
    assert sum(each.tokens_in for each in found.path[1:]) == sum(entry["tokens_in"] for entry in journal)
    assert len(journal) == 3, "one was to repair the empty answer"


def test_triage_takes_a_policy(server: LlmServer, tmp_path: Path) -> None:
    rows = [{"id": 1, "text": TEXT}, {"id": 2, "text": "also: " + TEXT}]
    with LlmServer() as models:
        policy = Cascade("test", Endpoint("sure", base_url=server.url), when=lambda _: True)
        (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
        options: dict[str, Any] = {"labels": LABELS, "base_url": models.url, "store": tmp_path / "s.db", "quiet": True}
        before = server.count()
        with pytest.raises(sw.LlmError, match="SW-E2114"):
            sw.triage.triage_table(str(tmp_path / "t.jsonl"), model=policy, **options)
        assert server.count() == before, "a model that the server does not list is found before any call"
        listed = Cascade("test", Endpoint("t", base_url=models.url), when=lambda _: True)
        job = sw.triage.triage_table(str(tmp_path / "t.jsonl"), model=listed, **options)
        assert [outcome.status for outcome in job.outcomes] == ["ok", "ok"]
        assert models.count() == 4
        again = sw.triage.triage_table(str(tmp_path / "t.jsonl"), model=listed, **options)
        assert again.outcomes == job.outcomes
        assert models.count() == 4


# -- what makes no sense -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda: Fallback([]),
        lambda: Fallback(["a"]),
        lambda: Fallback("ab"),
        lambda: Fallback(["a", 3]),
        lambda: Fallback(["a", "b"], on=["sometimes"]),
        lambda: Fallback(["a", "b"], after="soon"),
        lambda: Cascade("a", "b"),
        lambda: Cascade("a", below=0.5),
        lambda: Cascade("a", "b", below=2),
        lambda: Cascade("a", "b", then="c", below=0.5),
        lambda: Cascade(["a", "b"], "c", below=0.5),
        lambda: Cascade("a", "c", agree=True),
        lambda: Vote(["a"]),
        lambda: Vote(["a", "b"], quorum=3),
        lambda: Vote(["a", "b"], quorum=0),
        lambda: Vote(["a", "b"], tie="second"),
        lambda: Vote([f"m{n}" for n in range(101)]),
    ],
)
def test_policies_that_make_no_sense(make: Any) -> None:
    with pytest.raises(sw.InputError, match=r"SW-E2150|SW-E1010"):
        make()


def test_a_bad_model_deep_inside_is_found_before_anything_is_sent(server: LlmServer) -> None:
    before = server.count()
    with pytest.raises(sw.WorkflowError, match="SW-E2103"):
        sw.llm.classify_blocking(TEXT, labels=LABELS, model=Fallback(["no-provider", "openai:x"]))
    assert server.count() == before


def test_a_policy_shows_what_it_is_and_no_key() -> None:
    policy = Fallback(
        [Endpoint("m", base_url="http://h/v1", api_key="top-secret"), Cascade("a", "b", when=len)], after="30s"
    )
    text = repr(policy)
    assert (
        text == "Fallback([Endpoint('m', base_url='http://h/v1'), Cascade('a', strong='b', when=<len>)], after='30s')"
    )
    assert policy == Fallback(policy.models, after="30s")
    assert hash(policy) == hash(Fallback(policy.models, after="30s"))


def test_fallback_does_not_wait_for_a_model_whose_circuit_is_open() -> None:
    down = Faults(share=1, kinds={"500": 1}, max_faults_per_call=1_000)
    quick = sw.Retry(max_attempts=1)
    with LlmServer(faults=down) as bad, LlmServer() as good, sw.Engine() as engine:
        engine.breaker("*", sw.Breaker(window=4, failures=2, cool_down="1h", cool_down_max="1h"))
        first = Endpoint("first", base_url=bad.url, retry=quick)
        second = Endpoint("second", base_url=good.url)

        @sw.workflow
        async def label(text: str) -> list[Any]:
            answer = await sw.llm.classify(text, labels=["Billing", "Technical"], model=Fallback([first, second]))
            return [answer.label, [asked.status for asked in answer.path]]

        for number in range(6):
            assert engine.start(label, f"billing {number}").result(20) == ["Billing", ["failed", "ok"]]
        assert len(bad.journal()) == 2, "the open circuit is not asked again"
        assert len(good.journal()) == 6
