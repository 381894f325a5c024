"""SIGKILL in the middle of a stream: the reader that reconnects gets every token once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from stream_peer import HEAD, PATIENCE_S, Peer, StreamServer
from streams_program import story

import stepwell as sw
from stepwell import store as upkeep

PROGRAM = Path(__file__).with_name("streams_program.py")
TOKENS = [f"token-{number:04} " if number % 7 else f"Wörter-{number:04}🧾 " for number in range(400)]
TEXT = "".join(TOKENS)


def read_and_kill(store: Path, url: str, tokens: int) -> str:
    """Run the program until it has shown so many tokens, then kill it; return the place after the last one."""
    enough = len("".join(TOKENS[:tokens]).encode())  # how many pieces that is depends on the machine
    with subprocess.Popen([sys.executable, str(PROGRAM), str(store), url], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        place = "1:0"
        while int(place.partition(":")[2]) < enough:
            place = child.stdout.readline().strip()
            assert place, "it ended by itself"
        child.kill()
    return place


def rest_of(engine: sw.Engine, place: str | None) -> str:
    """Read the story from a place to its end; nothing of it begins anew."""
    run = engine.find(story, "story")
    assert run is not None
    pieces = list(engine.stream_blocking(run, after=place))
    assert not any(piece.restarted for piece in pieces)
    assert run.result(timeout=PATIENCE_S) == TEXT
    return "".join(pieces)


@pytest.mark.timeout(300)
def test_the_reader_that_reconnects_gets_every_token_once(tmp_path: Path) -> None:
    store = tmp_path / "s.db"
    calls = 0

    def answer(peer: Peer, number: int) -> None:
        nonlocal calls
        calls = number
        peer.raw(HEAD)
        # Each life is let come a little further before it is killed.
        for at, token in enumerate(TOKENS):
            peer.say(token)
            if number <= 3 and at >= number * 100:
                peer.hang_up_seen()
                return
        peer.end()

    got = ""
    place: str | None = None
    with StreamServer(answer) as server:
        for life in range(1, 4):
            place_shown = read_and_kill(store, server.url, life * 100 - 50)
            # The reader of the next life begins where this one's reader had read to.
            with sw.Engine(store) as engine:  # serves no workflow: it only reads what was kept
                run = engine.find(story, "story")
                assert run is not None
                for piece in engine.stream_blocking(run, after=place):
                    assert not piece.restarted
                    got += piece
                    place = piece.id
                    if place == place_shown or piece.end >= int(place_shown.partition(":")[2]):
                        break
            assert TEXT.startswith(got), f"life {life}"
            assert got, f"life {life} showed nothing"
        with sw.Engine(store, workflows=[story]) as engine:
            got += rest_of(engine, place)
    assert got == TEXT, "every token once"
    assert calls >= 4, "each life made the call again"
    assert "".join(engine_text(store)) == TEXT


def engine_text(store: Path) -> list[str]:
    """Read it all again, from yet another life."""
    with sw.Engine(store) as engine:
        run = engine.find(story, "story")
        assert run is not None
        return list(engine.stream_blocking(run))


@pytest.mark.timeout(300)
def test_another_answer_after_a_kill_is_never_mixed_with_the_first(tmp_path: Path) -> None:
    store = tmp_path / "s.db"

    def answer(peer: Peer, number: int) -> None:
        peer.raw(HEAD)
        peer.say("It was ", "a dark night" if number == 1 else "a bright day")
        if number == 1:
            peer.hang_up_seen()
        else:
            peer.end()

    with StreamServer(answer) as server:
        places: list[str] = []
        with subprocess.Popen(
            [sys.executable, str(PROGRAM), str(store), server.url], stdout=subprocess.PIPE, text=True
        ) as child:
            assert child.stdout is not None
            while not places or places[-1] != "1:19":
                places.append(child.stdout.readline().strip())
            child.kill()
        with sw.Engine(store, workflows=[story]) as engine:
            run = engine.find(story, "story")
            assert run is not None
            pieces = list(engine.stream_blocking(run, after="1:7"))
            at = next(index for index, piece in enumerate(pieces) if piece.restarted)
            assert "".join(pieces[:at]) in ("", "a dark night")
            assert "".join(pieces[at:]) == "It was a bright day"
            assert pieces[at + 1].id.startswith("2:")
            assert run.result(timeout=PATIENCE_S) == "It was a bright day"


@pytest.mark.timeout(300)
def test_a_killed_stream_goes_on_in_the_store_that_it_was_imported_into(tmp_path: Path) -> None:
    old, lines, new = tmp_path / "old.db", tmp_path / "runs.jsonl", tmp_path / "new.db"

    def answer(peer: Peer, number: int) -> None:
        peer.raw(HEAD)
        for at, token in enumerate(TOKENS):
            peer.say(token)
            if number == 1 and at >= 150:
                peer.hang_up_seen()
                return
        peer.end()

    got = ""
    with StreamServer(answer) as server:
        place = read_and_kill(old, server.url, 75)
        with sw.Engine(old) as engine:  # serves no workflow: it only reads what was kept
            run = engine.find(story, "story")
            assert run is not None
            for piece in engine.stream_blocking(run):
                got += piece
                if piece.end >= int(place.partition(":")[2]):
                    place = piece.id
                    break
        assert got
        assert TEXT.startswith(got)
        assert upkeep.export(old, lines) == 1
        assert upkeep.import_runs(new, lines) == upkeep.Added(1, 0)
        assert upkeep.import_runs(new, lines) == upkeep.Added(0, 1), "the very same, text and all"
        assert upkeep.verify(new) == []
        with sw.Engine(new) as engine:
            run = engine.find(story, "story")
            assert run is not None
            assert next(engine.stream_blocking(run)).startswith(got), "it is there before the run goes on"
        with sw.Engine(new, workflows=[story]) as engine:
            got += rest_of(engine, place)
    assert got == TEXT, "every token once"
    assert "".join(engine_text(new)) == TEXT


@pytest.mark.timeout(300)
def test_another_answer_in_the_new_store_is_another_generation(tmp_path: Path) -> None:
    old, lines, new = tmp_path / "old.db", tmp_path / "runs.jsonl", tmp_path / "new.db"
    nights = {1: ["a dark night", ", and a cold one"], 2: ["a bright day"], 3: ["no night at all"]}

    def answer(peer: Peer, number: int) -> None:
        peer.raw(HEAD)
        peer.say("It was ", *nights[number])
        if number == 2:
            peer.hang_up_seen()
        elif number == 3:
            peer.end()  # the first one is cut off

    with StreamServer(answer) as server:
        command = [sys.executable, str(PROGRAM), str(old), server.url]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            while child.stdout.readline().strip() != "2:19":
                pass
            child.kill()
        upkeep.export(old, lines)
        upkeep.import_runs(new, lines)
        with sw.Engine(new, workflows=[story]) as engine:
            run = engine.find(story, "story")
            assert run is not None
            pieces = list(engine.stream_blocking(run, after="2:7"))
            assert run.result(timeout=PATIENCE_S) == "It was no night at all"
    at = next(index for index, piece in enumerate(pieces) if piece.restarted)
    assert "".join(pieces[:at]) in ("", "a bright day")
    assert {piece.generation for piece in pieces[at:]} == {3}
    assert "".join(pieces[at:]) == "It was no night at all"
