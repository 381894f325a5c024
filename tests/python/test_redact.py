"""What is replaced before a call, what is not, and that the work grows as the text does, whatever it holds."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

import stepwell as sw
from stepwell.llm import Redact, _redact
from stepwell.testing.llm_server import LlmServer

if TYPE_CHECKING:
    from pathlib import Path

LABELS = ["Billing", "Technical", "General"]


@pytest.mark.parametrize(
    ("text", "covered"),
    [
        ("mail ada.lovelace+x@mail.example.co.uk now", "mail <EMAIL_1> now"),
        ("<Ada@Example.com>, ada@example.com; Ada@Example.com.", "<<EMAIL_1>>, <EMAIL_2>; <EMAIL_1>."),
        ("grüße@müller-straße.de", "<EMAIL_1>"),
        (
            "call +49 (30) 123456-78 or (212) 555-0187 or 0044 20 7946 0018.",
            "call <PHONE_1> or <PHONE_2> or <PHONE_3>.",
        ),
        ("4155550187 or 08001234567", "<PHONE_1> or <PHONE_2>"),
        ("card 4111 1111 1111 1111 exp 12/27", "card <CARD_1> exp 12/27"),
        ("3782-822463-10005, 6011000990139424", "<CARD_1>, <CARD_2>"),
        ("no 12 4111111111111111", "no 12 <CARD_1>"),
        ("IBAN DE89 3704 0044 0532 0130 00 please", "IBAN <IBAN_1> please"),
        ("gb82WEST12345698765432, NO9386011117947", "<IBAN_1>, <IBAN_2>"),
        ("from 192.168.17.254 and 2001:db8::ff00:42:8329 and ::ffff:10.0.0.1", "from <IP_1> and <IP_2> and <IP_3>"),
        ("ssn 078-05-1120", "ssn <SSN_1>"),
        ("use sk-proj-a1B2c3D4e5F6g7H8i9 or AKIAIOSFODNN7EXAMPLE", "use <KEY_1> or <KEY_2>"),
        ("Authorization: Bearer abc.DEF-123_456789~+/=", "Authorization: <KEY_1>"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmN", "<KEY_1>"),
        ("ghp_16C7e42F292c6912E7710c838347Ae178B4a", "<KEY_1>"),
    ],
)
def test_what_is_replaced(text: str, covered: str) -> None:
    assert Redact()(text)[0] == covered


@pytest.mark.parametrize(
    "text",
    [
        "",
        "I was charged twice for order 123456 on 2026-11-21 at 10:30:45, in all 1,234.50 EUR",
        "on 21.11.2026 10:30 and 11/21/26",
        "4111 1111 1111 1112 fails the check",
        "DE88 is not 22 long; 0000000000000000",
        "version 1.2.3.4.5 and 300.1.1.1, std::vector, 12:30:45, ::",
        "666-12-3456",
        "api-reference-documentation and token_based_authentication",
        "user@localhost at @home",
        "ticket r_153ce59c2e5bb67",
    ],
)
def test_what_is_not(text: str) -> None:
    found, counts = Redact(patterns=[kind for kind in Redact.BUILT_IN if kind != "PHONE"])(text)
    assert (found, counts) == (text, {})
    if not any(char.isdigit() for char in text[10:]) or "order" in text or "on 21" in text:
        assert Redact()(text)[0] == text


def test_the_same_value_has_the_same_token_and_counts_each_time() -> None:
    covered, counts = Redact()("a@b.example c@d.example a@b.example 10.0.0.1")
    assert covered == "<EMAIL_1> <EMAIL_2> <EMAIL_1> <IP_1>"
    assert counts == {"EMAIL": 3, "IP": 1}


def test_patterns_and_hook_of_ones_own() -> None:
    def names(text: str) -> list[tuple[str, int, int]]:
        return [("NAME", found.start(), found.end()) for found in re.finditer("Ada|Grace", text)]

    redact = Redact(patterns=[("ORDER", r"ORD-\d{6}"), "email"], hook=names)
    covered, counts = redact("Grace wrote to Ada <Ada@x.example> about ORD-123456, call 4155550187")
    assert covered == "<NAME_1> wrote to <NAME_2> <<NAME_2>@x.example> about <ORDER_1>, call 4155550187"
    assert counts == {"NAME": 3, "ORDER": 1}
    assert Redact(patterns=[])("a@b.example")[0] == "a@b.example"


def test_a_token_that_the_text_holds_by_itself_stays_what_it_is() -> None:
    redaction = Redact(restore=True).begin()
    covered = redaction.cover("<EMAIL_1> is what you wrote to a@b.example")
    assert covered == "<EMAIL_1> is what you wrote to <EMAIL_2>"
    assert redaction.restored(covered) == "<EMAIL_1> is what you wrote to a@b.example"


@pytest.mark.parametrize(
    "options",
    [
        {"patterns": ["shoe size"]},
        {"patterns": [("order", "x")]},
        {"patterns": [("ORDER", "(")]},
        {"patterns": [3]},
        {"patterns": ["email"] * 101},
    ],
)
def test_settings_that_make_no_sense(options: dict[str, Any]) -> None:
    with pytest.raises(sw.InputError, match="SW-E2157"):
        Redact(**options)


@pytest.mark.parametrize("span", [("NAME", 0, 99), ("NAME", 3, 3), ("name", 0, 1), ("NAME", -1, 1), None])
def test_a_hook_that_finds_nonsense(span: Any) -> None:
    with pytest.raises(sw.InputError, match="SW-E2157"):
        Redact(hook=lambda _: [span])("Ada")


# -- work ----------------------------------------------------------------------------------------------------------------

UNITS = [
    "a", "1", " ", "1 ", "1-", "a.", "a@", "@", "a@a.", "DE89 ", "A1", ":", "a:", "1.", "::1 ", "sk-", "sk-a", "sk-1",
    "eyJ", "eyJaaaaaaaaaa.", "eyJaaaaaaaaaa-", "Bearer ", "+1", "(1", "1/", "AIza", "<EMAIL_1>", "4111 1111 1111 1112 ",
    "078-05-", "%", "\u00e9@", "bearer-", "key_a.", "x-1@",
]  # fmt: skip


class Counting:
    """Texts whose judges count what they look at."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.chars = 0
        self.asked: Counter[str] = Counter()
        judged = {kind: (pattern, self._counted(kind, judge)) for kind, (pattern, judge) in _redact._BUILT_IN.items()}
        monkeypatch.setattr(_redact, "_BUILT_IN", judged)

    def _counted(self, kind: str, judge: Any) -> Any:
        if judge is None:
            return None

        def counted(text: str) -> int:
            self.chars += len(text)
            self.asked[kind] += 1
            return int(judge(text))

        return counted


@pytest.mark.parametrize("unit", UNITS)
def test_the_work_grows_as_the_text_does(unit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pattern that backtracks over the whole text would not end within this test's bound at a MiB."""
    counting = Counting(monkeypatch)
    looked = []
    for length in (1 << 12, 1 << 14, 1 << 20):
        text = (unit * (length // len(unit) + 1))[:length]
        counting.chars = 0
        redaction = Redact().begin()
        covered = redaction.cover(text)
        looked.append(counting.chars / length)
        assert redaction.restored(covered) == text
    assert max(looked) <= 64, f"judges looked at {looked} characters for each one of the text"


def repetitions(pattern: str) -> list[tuple[str, int]]:
    """Return kind and bound of each repetition in a pattern, those in others multiplied with them."""
    from re import _parser  # type: ignore[attr-defined]

    found: list[tuple[str, int]] = []

    def walk(tree: Any, times: int) -> None:
        for kind, inside in tree:
            if str(kind) in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
                most = times * int(inside[1])
                found.append((str(kind), most))
                walk(inside[2], most)
            elif str(kind) == "SUBPATTERN":
                walk(inside[3], times)
            elif str(kind) == "BRANCH":
                for branch in inside[1]:
                    walk(branch, times)
            elif str(kind) in ("ASSERT", "ASSERT_NOT"):
                walk(inside[1], times)

    walk(_parser.parse(pattern), 1)
    return found


def test_every_repetition_of_the_built_in_patterns_is_bounded_or_gives_nothing_back() -> None:
    assert repetitions(r"(?:a{2,3}b*)+c") != [], "the walk sees them"
    assert max(most for _, most in repetitions(r"(?:a{2,3}b*)+c")) > 1_000_000
    for kind, (pattern, _) in _redact._BUILT_IN.items():
        found = repetitions(pattern)
        assert found, kind
        assert [each for each in found if each[0] != "POSSESSIVE_REPEAT" and each[1] > 512] == [], kind


# -- in calls ------------------------------------------------------------------------------------------------------------

SECRET = "ada@lovelace.example"
TEXT = f"billing: write to {SECRET} or call +49 30 1234567"


def test_what_is_sent_holds_none_of_it(tmp_path: Path) -> None:
    @sw.workflow
    async def flow(text: str) -> Any:
        found = await sw.llm.classify(text, labels=LABELS, model="m", base_url=server.url, redact=Redact())
        said = await sw.llm.chat(
            [{"role": "user", "content": [{"type": "text", "text": text}]}, {"role": "user", "content": text}],
            model="m", system=f"We are {SECRET}.", base_url=server.url, redact=Redact(),
        )  # fmt: skip
        return [found.label, found.redacted, said.text, said.redacted]

    journal = tmp_path / "journal.jsonl"
    with LlmServer(journal=journal) as server, sw.Engine(tmp_path / "s.db") as engine:
        run = engine.start(flow, TEXT)
        label, counts, said, more = run.result(20)
        assert (label, counts) == ("Billing", {"EMAIL": 1, "PHONE": 1})
        assert said == "You said: billing: write to <EMAIL_1> or call <PHONE_1>"
        assert more == {"EMAIL": 3, "PHONE": 2}
        recorded = json.dumps([entry.value for entry in run.history()])
        assert SECRET not in recorded
        assert "<EMAIL_1>" in recorded
    sent = journal.read_text(encoding="utf-8")
    assert "<EMAIL_1>" in sent
    assert SECRET not in sent
    assert "1234567" not in sent


@dataclass
class Contact:
    mail: str
    others: list[str]


def test_the_answer_has_the_values_again_when_that_is_asked_for() -> None:
    answers = {
        "model": "m",
        "text": "<EMAIL_1>",
        "content": {"mail": "<EMAIL_1>", "others": ["<PHONE_1>", "<EMAIL_7>"]},
    }
    with LlmServer() as server:
        said = sw.llm.chat_blocking(TEXT, model="m", base_url=server.url, redact=Redact(restore=True))
        assert said.text == said.value == f"You said: {TEXT}"
    redaction = Redact(restore=True).begin()
    redaction.cover(TEXT)
    assert redaction.restored(Contact(**answers["content"])) == Contact(SECRET, ["+49 30 1234567", "<EMAIL_7>"])  # type: ignore[arg-type]


def test_with_a_policy_every_model_gets_the_same_text(tmp_path: Path) -> None:
    journal = tmp_path / "journal.jsonl"
    with LlmServer(journal=journal) as server:
        vote = sw.llm.Vote(["a", "b", "c"])
        answer = asyncio.run(sw.llm.classify(TEXT, labels=LABELS, model=vote, base_url=server.url, redact=Redact()))
        assert (answer.label, answer.redacted) == ("Billing", {"EMAIL": 1, "PHONE": 1})
        assert server.count() == 3
    assert SECRET not in journal.read_text(encoding="utf-8")


def test_triage_redacts(tmp_path: Path) -> None:
    journal, table = tmp_path / "journal.jsonl", tmp_path / "t.csv"
    table.write_text(f"id,text\n1,{TEXT}\n2,technical\n", encoding="utf-8")
    with LlmServer(journal=journal) as server:
        job = sw.triage.triage_table(
            str(table), labels=LABELS, model="m", base_url=server.url, store=None, quiet=True, redact=Redact()
        )
    assert [outcome.label for outcome in job.outcomes] == ["Billing", "Technical"]
    assert SECRET not in journal.read_text(encoding="utf-8")
    assert TEXT in table.read_text(encoding="utf-8")
