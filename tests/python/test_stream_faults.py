"""Streams that go wrong, in every wire form, through an engine with a budget.

What must hold: the outcome is the whole answer or a coded error; a reader has every token once, and is told when what it has
read is void; what the server charged is settled once.
"""

from __future__ import annotations

import json
import threading
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from stream_peer import HEAD, PATIENCE_S, Peer, StreamServer

import stepwell as sw
from stepwell.testing._llm_anthropic import AnthropicForm
from stepwell.testing._llm_forms import Ask, Said, Usage
from stepwell.testing._llm_gemini import GeminiForm
from stepwell.testing._llm_openai import ChatForm
from stepwell.testing._llm_responses import ResponsesForm
from stepwell.testing.llm_server import Faults, LlmServer

if TYPE_CHECKING:
    from stepwell.testing._llm_forms import Form

#: Prefix of the model and path of the base URL; "compatible" is a URL without a provider's name.
BASES = {
    "compatible": ("", "/v1"),
    "openai": ("openai:", "/v1"),
    "openai-responses": ("openai-responses:", "/v1"),
    "azure": ("azure:", ""),
    "anthropic": ("anthropic:", "/v1"),
    "gemini": ("gemini:", "/v1beta"),
}
WIRES: dict[str, Form] = {
    "compatible": ChatForm(),
    "openai": ChatForm(),
    "openai-responses": ResponsesForm(),
    "azure": ChatForm(),
    "anthropic": AnthropicForm(),
    "gemini": GeminiForm(),
}
forms = pytest.mark.parametrize("form", BASES)
QUESTION = "Grüße 🎈 an 請求🧾, und noch viel mehr davon"
TEXT = f"You said: {QUESTION}"
PRICE = (60.0, 240.0)
# Faults of a first attempt, and whether there is a second one.
HEALED = {
    "stream_cut": True,
    "stream_reset": True,
    "stream_error": True,
    "malformed": True,
    "stream_no_end": True,
    "stream_silent": True,
    "html": True,
    "trickle": True,
    "split_utf8": False,
    "stream_comments": False,
    "stream_no_data": False,
}
# Those of every attempt, with the code that is left in the end.
HOPELESS = {
    "stream_cut": "SW-E1311",
    "stream_reset": "SW-E1306",
    "stream_error": "SW-E1312",
    "malformed": "SW-E1308",
    "stream_no_end": "SW-E1311",
    "stream_silent": "SW-E1303",
    "html": "SW-E1308",
}


@sw.workflow
async def asks_for_a_stream(where: dict[str, Any]) -> dict[str, Any]:
    stream = sw.llm.stream(
        where.get("text", QUESTION), model=where["model"], base_url=where["base_url"], api_key="right-key",
        idle=where.get("idle", "20s"), timeout=where.get("timeout", "60s"),
        retry=sw.Retry(max_attempts=where.get("attempts", 3), base="1ms", cap="1ms"),
    )  # fmt: skip
    seen = [[str(piece), piece.generation, piece.offset, piece.restarted] async for piece in stream]
    chat = await stream.result()
    usage = [chat.usage.tokens_in, chat.usage.tokens_out]
    return {"seen": seen, "text": chat.text, "attempts": chat.attempts, "usage": usage}


def place_of(form: str, origin: str, **more: Any) -> dict[str, Any]:
    prefix, path = BASES[form]
    return {"model": f"{prefix}test", "base_url": origin + path, **more}


def read_whole(pieces: list[list[Any]]) -> str:
    """Return what is left of pieces, each of which must follow the one before it, or say that it does not."""
    text, generation = b"", 0
    for piece, its_generation, offset, restarted in pieces:
        if restarted:
            assert (piece, offset) == ("", 0)
            assert its_generation > generation > 0
            text = b""
        else:
            assert its_generation == generation or not generation, "another answer, and nobody said so"
            assert offset == len(text), "a token is missing, or came twice"
            assert piece
        generation = its_generation
        text += piece.encode()
    return text.decode()


def rows(pieces: list[sw.Piece]) -> list[list[Any]]:
    return [[str(piece), piece.generation, piece.offset, piece.restarted] for piece in pieces]


def paid(tokens: list[int]) -> Decimal:
    """What usage costs by PRICE, which is in dollars for a million tokens."""
    return (Decimal(60) * tokens[0] + Decimal(240) * tokens[1]) / 1_000_000


def is_settled(account: sw.BudgetAccount) -> bool:
    return account.reserved_usd == account.in_doubt_usd == 0 and account.waiting == 0


@forms
@pytest.mark.parametrize("kind", HEALED)
def test_a_fault_of_one_attempt_is_healed(form: str, kind: str) -> None:
    faults = Faults(share=1.0, kinds={kind: 1.0}, max_faults_per_call=1)
    idle = "500ms" if kind in ("stream_silent", "trickle") else "20s"
    with LlmServer(require_key="right-key", faults=faults) as server, sw.Engine() as engine:
        budget = sw.Budget(usd=5, name="b", price=PRICE)
        run = engine.start(asks_for_a_stream, place_of(form, server.origin, idle=idle), budget=budget)
        outside = list(engine.stream_blocking(run))
        found = run.result(PATIENCE_S)
        assert found["text"] == read_whole(found["seen"]) == read_whole(rows(outside)) == TEXT
        assert not any(piece.restarted for piece in outside), "the second answer begins as the first one"
        assert found["attempts"] == (2 if HEALED[kind] else 1)
        journal = server.journal()
        assert [entry["answer"] for entry in journal] == [kind, "ok"][: found["attempts"]]
        assert sum(entry["charged"] for entry in journal) == 1, "the second attempt carries the key of the first"
        account = engine.budget("b")
        assert is_settled(account)
        assert (account.calls, account.odd_calls) == (1, 0)
        assert account.spent_usd == paid(found["usage"])
        assert account.spent_tokens == sum(found["usage"])
        (charged,) = [entry for entry in journal if entry["charged"]]
        assert found["usage"] == [charged["tokens_in"], charged["tokens_out"]]


@forms
@pytest.mark.parametrize("kind", HOPELESS)
def test_a_fault_of_every_attempt_has_its_code(form: str, kind: str) -> None:
    faults = Faults(share=1.0, kinds={kind: 1.0}, max_faults_per_call=100)
    idle = "400ms" if kind == "stream_silent" else "20s"
    with LlmServer(require_key="right-key", faults=faults) as server, sw.Engine() as engine:
        budget = sw.Budget(usd=5, name="b", price=PRICE)
        where = place_of(form, server.origin, idle=idle, attempts=2)
        run = engine.start(asks_for_a_stream, where, budget=budget)
        with pytest.raises(sw.RunFailed) as failed:
            run.result(PATIENCE_S)
        assert failed.value.code == HOPELESS[kind]
        assert len(server.journal()) == 2
        outside: list[sw.Piece] = []
        with pytest.raises(sw.StepFailed) as reader:
            outside.extend(engine.stream_blocking(run))
        assert reader.value.code == HOPELESS[kind]
        got = read_whole(rows(outside))
        assert TEXT.startswith(got)
        account = engine.budget("b")
        assert account.reserved_usd == account.waiting == 0
        assert account.in_doubt_usd > 0
        assert account.calls == 0
        at_most = account.spent_usd + account.in_doubt_usd
        charged = [[entry["tokens_in"], entry["tokens_out"]] for entry in server.journal() if entry["charged"]]
        assert at_most >= sum(map(paid, charged)), "what the provider may have charged counts"


@forms
def test_an_endless_answer_is_given_up_and_what_it_said_is_void(form: str) -> None:
    faults = Faults(share=1.0, kinds={"stream_endless": 1.0}, max_faults_per_call=1)
    with LlmServer(require_key="right-key", faults=faults) as server, sw.Engine() as engine:
        budget = sw.Budget(usd=5, name="b", price=PRICE)
        run = engine.start(asks_for_a_stream, place_of(form, server.origin, timeout="300ms"), budget=budget)
        try:
            found = run.result(PATIENCE_S)
        except sw.RunFailed as error:
            assert error.code == "SW-E1304", "on a fast machine the bound on bytes comes first"  # noqa: PT017
        else:
            assert found["text"] == read_whole(found["seen"]) == TEXT
            assert any(piece[3] for piece in found["seen"]), "the workflow was told"
            assert read_whole(rows(list(engine.stream_blocking(run)))) == TEXT
            assert is_settled(engine.budget("b"))
            assert engine.budget("b").spent_usd == paid(found["usage"])


# -- another answer --------------------------------------------------------------------------------------------------------

NIGHTS = {
    1: "It was a dark night, and so on",
    2: "It was a bright day, and so on",
    3: "It was",
    4: "Nothing of the kind",
}
ENDS = {
    "cut": lambda _: b"",
    "error": lambda wire: wire.error_event("busy"),
    "no JSON": lambda _: b"data: {'a': x}\n\n",
}


@forms
@pytest.mark.parametrize("end", ENDS)
def test_no_token_of_an_answer_that_was_thrown_away_is_left(form: str, end: str) -> None:
    wire = WIRES[form]
    has_seen = threading.Event()

    def answer(peer: Peer, number: int) -> None:
        said = Said("m1", "test", NIGHTS[number], Usage(3, 5))
        events = wire.events(said, Ask("test", "", 0, stream=True, include_usage=True))
        peer.raw(HEAD.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))  # as it does
        if number == 4:
            for event in events:
                peer.chunk(event.data)
            peer.raw(b"0\r\n\r\n")
            return
        tokens = [at for at, event in enumerate(events) if event.is_token]
        # All but the last token: Gemini's holds the end.
        for event in events[: tokens[-1]]:
            peer.chunk(event.data)
        if number == 1:
            has_seen.wait(PATIENCE_S)
        if tail := ENDS[end](wire):
            peer.chunk(tail)
        peer.raw(b"0\r\n\r\n")

    with StreamServer(answer) as server, sw.Engine() as engine:
        where = place_of(form, server.url.removesuffix("/v1"), attempts=4)
        run = engine.start(asks_for_a_stream, where, budget=sw.Budget(usd=5, name="b", price=PRICE))
        outside = []
        for piece in engine.stream_blocking(run):
            outside.append(piece)
            has_seen.set()
        found = run.result(PATIENCE_S)
        assert (
            len({peer.head.lower().partition(b"idempotency-key:")[2].split(b"\r")[0] for peer in server.requests}) == 1
        )
        account = engine.budget("b")
    assert (found["text"], found["attempts"]) == (NIGHTS[4], 4)
    assert read_whole(found["seen"]) == read_whole(rows(outside)) == NIGHTS[4]
    assert found["seen"][0][0].startswith("It")
    assert outside[0].startswith("It")
    assert any(piece.restarted for piece in outside)
    assert is_settled(account)
    assert account.spent_usd == paid(found["usage"]) == paid([3, 5])


# -- defects ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "attempts"), [("server_error", 2), ("invalid_prompt", 1)])
def test_an_error_event_of_openai_responses_was_taken_for_a_cut(kind: str, attempts: int) -> None:
    """It is the error itself, {"type": "error", "code": ...}; it was lost, and tried again whatever it said."""

    def answer(peer: Peer, _: int) -> None:
        peer.raw(HEAD.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))
        event = {"type": "error", "code": kind, "message": "not so", "param": None, "sequence_number": 1}
        peer.chunk(b"event: error\ndata: " + json.dumps(event).encode() + b"\n\n")
        peer.raw(b"0\r\n\r\n")

    with StreamServer(answer) as server, sw.Engine() as engine:
        where = place_of("openai-responses", server.url.removesuffix("/v1"), attempts=2)
        with pytest.raises(sw.RunFailed, match="error in the stream: not so") as failed:
            engine.start(asks_for_a_stream, where).result(PATIENCE_S)
        assert (failed.value.code, len(server.requests)) == ("SW-E1312", attempts)


@forms
def test_a_stream_that_counts_against_a_budget_is_sent_with_a_bound(form: str) -> None:
    """Gemini's streams were sent without one, and reserved for 1,024 tokens whatever bound the caller gave."""

    def answer(peer: Peer, _: int) -> None:
        peer.raw(b"HTTP/1.1 400 no\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")

    with StreamServer(answer) as server, sw.Engine() as engine:
        where = place_of(form, server.url.removesuffix("/v1"))
        run = engine.start(asks_for_a_stream, where, budget=sw.Budget(usd=5, name="b", price=PRICE))
        with pytest.raises(sw.RunFailed):
            run.result(PATIENCE_S)
        body = server.requests[0].body
    bounds = {**body, **body.get("generationConfig", {})}
    named = ("max_tokens", "max_completion_tokens", "max_output_tokens", "maxOutputTokens")
    assert next(bounds[name] for name in named if name in bounds) > 0
