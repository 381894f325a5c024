r"""What people must not be known by is replaced before a call: e-mail addresses, phone and card numbers, keys, and so on.

    await sw.llm.classify(text, labels=LABELS, model=..., redact=sw.llm.Redact())
    sw.llm.Redact(patterns=[*sw.llm.Redact.BUILT_IN, ("ORDER", r"ORD-\d{6}")], restore=True)

Every value becomes a token (<EMAIL_1>), the same value the same token throughout a call, so that the text keeps its sense.
What is sent and cached of the call is the replaced text; the run's own input is not touched. Patterns find what looks like
something: they prefer a number too many to a number too few, and know no names; a hook may (a model of your own, say).

Each built-in pattern looks at a bounded number of characters from each place, so that the work grows as the text does.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from stepwell._errors import InputError

#: What a hook returns of a text: kind, begin and end of each value.
Spans = Iterable[tuple[str, int, int]]
_KIND = re.compile(r"[A-Z][A-Z0-9_]{0,30}")
_TOKEN = re.compile(r"<[A-Z][A-Z0-9_]{0,30}_[0-9]{1,9}>")
_PATTERNS_MAX = 100

# Length of an account number by country (the IBAN registry).
_IBAN_LENGTHS = """
    15:NO 16:BE 18:DK,FI,FO,GL,NL,SD 19:MK,SI 20:AT,BA,EE,KZ,LT,LU,MN,XK 21:CH,HR,LI,LV 22:BG,BH,CR,DE,GB,GE,IE,ME,RS,VA
    23:AE,GI,IL,IQ,OM,SO,TL 24:AD,CZ,ES,MD,PK,RO,SA,SE,SK,TN,VG 25:LY,PT,ST 26:IS,TR 27:BI,DJ,FR,GR,IT,MC,MR,SM
    28:AL,AZ,BY,CY,DO,GT,HN,HU,LB,NI,PL,SV 29:BR,EG,PS,QA,UA 30:JO,KW 31:MT,SC 32:LC 33:RU
"""
_IBAN_CHARS = {
    country: int(length)
    for length, _, countries in (each.partition(":") for each in _IBAN_LENGTHS.split())
    for country in countries.split(",")
}
_SEPARATORS = " -./()"


_DOUBLED = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)


def _card(text: str) -> int:
    """Return how much of groups of digits is a card's number: 13 to 19 of them (Luhn). 0: none of it."""
    ends = [at + 1 for at, char in enumerate(text) if char.isdigit()]
    for count in range(min(len(ends), 19), 12, -1):
        end = ends[count - 1]
        if end < len(text) and text[end].isdigit():
            continue
        digits = [int(text[at - 1]) for at in ends[count - 1 :: -1]]
        total = sum(digits[::2]) + sum(_DOUBLED[digit] for digit in digits[1::2])
        if total % 10 == 0 and total:
            return end
    return 0


def _iban(text: str) -> int:
    """Return how much of a run of letters and digits is an account number (its country's length, mod 97)."""
    wanted = _IBAN_CHARS.get(text[:2].upper(), 0)
    ends = [at + 1 for at, char in enumerate(text) if char != " "]
    if not wanted or len(ends) < wanted:
        return 0
    end = ends[wanted - 1]
    if end < len(text) and text[end] != " ":
        return 0
    number = text[:end].replace(" ", "").upper()
    value = int("".join(str(int(char, 36)) for char in number[4:] + number[:4]))
    return end if value % 97 == 1 else 0


def _ip(text: str) -> int:
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return 0
    return len(text) if found.version == 4 or any(char.isalnum() for char in text) else 0


_DATE = re.compile(r"(?:\d{4}[-./]\d{1,2}[-./]\d{1,2}|\d{1,2}[-./]\d{1,2}[-./](?:\d{4}|\d\d))(?!\d)")


def _phone(text: str) -> int:
    """Return how much of a run of digits and separators is a number to call: 7 to 15 digits, grouped or with a prefix."""
    text = text.rstrip(_SEPARATORS)
    digits = sum(char.isdigit() for char in text)
    is_grouped = digits < len(text)
    if not 7 <= digits <= 15 or _DATE.match(text):
        return 0
    return len(text) if is_grouped or text.startswith("00") or 10 <= digits <= 11 else 0


_KEY = (
    r"(?<![\w\-])(?:(?:sk|pk|rk|gsk|xai|ghp|gho|ghu|ghs|ghr|github_pat|glpat|xox[abeprs]|npm|hf|SG|whsec|key|token|api)"
    r"[\-_.](?=[A-Za-z_.\-]{0,64}\d)[A-Za-z0-9_.\-]{16,}+|AKIA[0-9A-Z]{16}|AIza[A-Za-z0-9_\-]{30,}+"
    r"|eyJ[A-Za-z0-9_\-]{10,}+\.[A-Za-z0-9_\-]{10,}+\.[A-Za-z0-9_\-]{10,}+|(?i:bearer) [A-Za-z0-9_.~+/=\-]{16,}+)"
)
_IP = (
    r"(?<![\w.:])(?:(?:\d{1,3}\.){3}\d{1,3}(?!\.?\w)"
    r"|(?=[0-9A-Fa-f]{0,4}:)[0-9A-Fa-f:]{3,39}(?:\.\d{1,3}){0,3}(?![\w:]))"
)
# In the order in which they claim a text: a key may hold what looks like a phone number, and not the other way round. Every
# repetition is bounded, or takes all it can and gives nothing back (+ after it): each place costs so many steps at most.
_BUILT_IN: dict[str, tuple[str, Callable[[str], int] | None]] = {
    "KEY": (_KEY, None),
    "EMAIL": (r"(?<![\w.+\-])[\w.+\-%]{1,64}@(?:[\w\-]{1,63}\.){1,8}[^\W\d_][\w\-]{1,62}", None),
    "IBAN": (r"(?<![A-Za-z0-9])[A-Za-z]{2}\d{2}(?: ?[A-Za-z0-9]){11,30}", _iban),
    "CARD": (r"(?<!\d)\d{4}[ \-]?\d{4,6}[ \-]?\d{4,5}(?:[ \-]?\d{1,4}){0,2}(?!\d)", _card),
    "SSN": (r"(?<![\d\-])(?!000|666|9\d\d)\d{3}([ \-])(?!00)\d{2}\1(?!0000)\d{4}(?![\d\-])", None),
    "IP": (_IP, _ip),
    "PHONE": (r"(?<![\w.])(?:\+|\(\+?)?\d[\d ()./\-]{5,22}(?<=\d)(?![\w])", _phone),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Redact:
    """What is replaced before a call. Frozen and stateless: one for the whole program is fine.

    `patterns`: built-in kinds (KEY, EMAIL, IBAN, CARD, SSN, IP, PHONE; all by default) and pairs of a kind and a regular
    expression; the first ones claim a text first. `hook`: a function of the text that returns (kind, begin, end) of what else
    is to be replaced; it claims before all patterns. `restore`: put the values back into the answer's text and value.
    """

    BUILT_IN: ClassVar[tuple[str, ...]] = tuple(_BUILT_IN)

    patterns: Sequence[str | tuple[str, str]] = tuple(_BUILT_IN)
    hook: Callable[[str], Spans] | None = None
    restore: bool = False
    _compiled: tuple[tuple[str, re.Pattern[str], Callable[[str], int] | None], ...] = field(
        default=(), init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        """Compile. Raises InputError SW-E2157."""
        given = (self.patterns,) if isinstance(self.patterns, str) else tuple(self.patterns)
        if len(given) > _PATTERNS_MAX:
            raise InputError("SW-E2157", "too many patterns", got=len(given), expected=f"at most {_PATTERNS_MAX}")
        object.__setattr__(self, "patterns", given)
        object.__setattr__(self, "_compiled", tuple(map(_compiled, given)))

    def begin(self) -> Redaction:
        """Return what replaces the texts of one call, and knows its tokens."""
        return Redaction(self)

    def __call__(self, text: str) -> tuple[str, dict[str, int]]:
        """Return a text with its values replaced, and how many were, by kind."""
        redaction = self.begin()
        return redaction.cover(text), redaction.counts

    def spans(self, text: str) -> list[tuple[int, int, str]]:
        """Return begin, end and kind of what is replaced, in order, without overlaps."""
        found = sorted(_checked_span(text, each) for each in self.hook(text)) if self.hook is not None else []
        taken = _without_overlaps([], found)
        for kind, pattern, judge in self._compiled:
            taken = _without_overlaps(taken, _matches(text, kind, pattern, judge))
        return taken


class Redaction:
    """The tokens of one call."""

    def __init__(self, redact: Redact) -> None:
        self._redact = redact
        self._tokens: dict[tuple[str, str], str] = {}
        self._values: dict[str, str] = {}
        self._numbers: dict[str, int] = {}
        #: How many values were replaced, by kind; the same value counts each time.
        self.counts: dict[str, int] = {}

    def cover(self, what: Any) -> Any:
        """Replace what is found in a text, in the contents of messages, in each of several texts."""
        if isinstance(what, str):
            return self._covered(what)
        if isinstance(what, (list, tuple)):
            return type(what)(self._message(each) if isinstance(each, dict) else self.cover(each) for each in what)
        return what

    def _message(self, message: dict[str, Any]) -> dict[str, Any]:
        """Cover what a message says: text, the text of parts, arguments of tools; names, ids and pictures stay."""
        made = dict(message)
        for name in ("content", "text", "arguments", "input", "output"):
            if name in made:
                made[name] = self._deep(made[name])
        if isinstance(made.get("function"), dict):
            made["function"] = self._message(made["function"])
        if isinstance(made.get("tool_calls"), list):
            made["tool_calls"] = [
                self._message(each) if isinstance(each, dict) else each for each in made["tool_calls"]
            ]
        return made

    def _deep(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._covered(value)
        if isinstance(value, list):
            return [self._message(each) if isinstance(each, dict) else self._deep(each) for each in value]
        if isinstance(value, dict):
            return {name: self._deep(each) for name, each in value.items()}
        return value

    def _covered(self, text: str) -> str:
        spans = self._redact.spans(text)
        if not spans:
            return text
        written = set(_TOKEN.findall(text))  # a token that the text holds by itself means something else
        parts: list[str] = []
        at = 0
        for begin, end, kind in spans:
            parts += (text[at:begin], self._token(kind, text[begin:end], written))
            at = end
        return "".join((*parts, text[at:]))

    def _token(self, kind: str, value: str, written: set[str]) -> str:
        self.counts[kind] = self.counts.get(kind, 0) + 1
        token = self._tokens.get((kind, value))
        while token is None or token in written:
            number = self._numbers[kind] = self._numbers.get(kind, 0) + 1
            token = f"<{kind}_{number}>"
        self._tokens[kind, value] = token
        self._values[token] = value
        return token

    def restored(self, value: Any) -> Any:
        """Put the values back into a text, or into the texts of lists, dicts, dataclasses and pydantic models."""
        if isinstance(value, str):
            return _TOKEN.sub(lambda found: self._values.get(found[0], found[0]), value)
        if isinstance(value, (list, tuple)):
            found = [self.restored(each) for each in value]
            return type(value)(*found) if hasattr(value, "_fields") else type(value)(found)
        if isinstance(value, dict):
            return {self.restored(name): self.restored(each) for name, each in value.items()}
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            members = [each.name for each in dataclasses.fields(value) if each.init]
            return dataclasses.replace(value, **{name: self.restored(getattr(value, name)) for name in members})
        if hasattr(value, "model_copy"):
            members = list(type(value).model_fields)
            return value.model_copy(update={name: self.restored(getattr(value, name)) for name in members})
        return value

    def uncover(self, answer: Any) -> Any:
        """Return an answer with its counts, and with the values put back if that was asked for."""
        more: dict[str, Any] = {"redacted": dict(self.counts)}
        if self._redact.restore:
            names = [name for name in ("text", "value", "tool_calls") if hasattr(answer, name)]
            more |= {name: self.restored(getattr(answer, name)) for name in names}
        return dataclasses.replace(answer, **more)


def _compiled(given: Any) -> tuple[str, re.Pattern[str], Callable[[str], int] | None]:
    if isinstance(given, str):
        if given.upper() not in _BUILT_IN:
            expected = f"some of {', '.join(_BUILT_IN)}, or a pair of a kind and a regular expression"
            raise InputError("SW-E2157", "no such pattern", got=repr(given)[:80], expected=expected)
        pattern, judge = _BUILT_IN[given.upper()]
        return given.upper(), re.compile(pattern), judge
    try:
        kind, expression = given
        compiled = re.compile(expression)
    except (TypeError, ValueError, re.error) as error:
        raise InputError("SW-E2157", f"not a usable pattern: {error}", got=repr(given)[:200]) from None
    if not isinstance(kind, str) or not _KIND.fullmatch(kind):
        raise InputError(
            "SW-E2157", "not a usable kind", got=repr(kind)[:80], expected="capitals, digits and _, as in ORDER_ID"
        )
    return kind, compiled, None


def _checked_span(text: str, span: Any) -> tuple[int, int, str]:
    try:
        kind, begin, end = span
        is_good = bool(_KIND.fullmatch(kind)) and 0 <= begin < end <= len(text)
    except (TypeError, ValueError):
        is_good = False
    if not is_good:
        raise InputError(
            "SW-E2157",
            "the hook of a Redact found something unusable",
            got=repr(span)[:120],
            expected="(kind, begin, end)",
        )
    return begin, end, kind


def _matches(
    text: str, kind: str, pattern: re.Pattern[str], judge: Callable[[str], int] | None
) -> list[tuple[int, int, str]]:
    """Return what a pattern finds and its judge, if it has one, takes; after a refusal it looks from the next place on."""
    found, at = [], 0
    while (match := pattern.search(text, at)) is not None:
        begin = match.start()
        taken = match.end() - begin if judge is None else judge(match[0])
        if taken:
            found.append((begin, begin + taken, kind))
        at = begin + max(taken, 1)
    return found


def _without_overlaps(
    taken: list[tuple[int, int, str]], more: list[tuple[int, int, str]]
) -> list[tuple[int, int, str]]:
    """Merge two lists that are in order; what was taken stays, what overlaps it does not come in."""
    merged: list[tuple[int, int, str]] = []
    at = 0
    for span in more:
        while at < len(taken) and taken[at][1] <= span[0]:
            merged.append(taken[at])
            at += 1
        is_free = at == len(taken) or span[1] <= taken[at][0]
        if is_free and (not merged or merged[-1][1] <= span[0]):
            merged.append(span)
    return merged + taken[at:]
