"""Which models are asked, in which order, and whose answer counts: plain objects in the place of a model's name.

    Fallback(["deepseek:deepseek-chat", "gemini:gemini-2.0-flash"], after="30s")
    Cascade("openai:gpt-4o-mini", "anthropic:claude-sonnet-4-5", below=0.6)
    Vote(["openai:gpt-4o-mini", "gemini:gemini-2.0-flash", "groq:llama-3.3-70b"], quorum=2, tie="review")

They nest. What each does is a generator: it yields the models to ask side by side, is sent what was heard of each, and
returns what counts. It asks nobody itself (`_asking` does), so that async and plain code share it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Literal, NamedTuple

from stepwell import _codec
from stepwell._errors import InputError, WorkflowError
from stepwell._types import Duration, Retry, duration_ms

MODELS_MAX = 100
_SAID_CHARS_MAX = 200

#: What came of asking one model: an answer; one that cannot be used (a label outside the taxonomy, say); a refusal or a
#: content filter's stop; no whole answer in time; a call that failed for good.
AskedStatus = Literal["ok", "review", "refused", "timeout", "failed"]
ON_DEFAULT: tuple[AskedStatus, ...] = ("failed", "timeout", "refused", "review")


@dataclass(frozen=True, slots=True)
class Asked:
    """One model that a policy asked. `name`: where it stood ("vote/2", "fallback/1/cascade/2"); `said`: label, text or error.

    `cost_usd`: None when the price is unknown; `cached`: the answer came out of a cache and cost nothing.
    """

    name: str
    model: str
    status: AskedStatus
    said: str
    tokens_in: int = 0
    tokens_out: int = 0
    cost_usd: float | None = 0.0
    attempts: int = 0
    cached: bool = False


@dataclass(frozen=True, slots=True)
class Heard:
    """What was heard of one model, or of a policy in a policy: an answer or an error, and everybody who was asked for it."""

    status: AskedStatus
    answer: Any = None
    error: WorkflowError | None = None
    path: tuple[Asked, ...] = ()


@dataclass(frozen=True)
class Endpoint:
    """A model with settings of its own where the call's would not fit: another server, key, patience."""

    model: str
    base_url: str | None = None
    api_key: str | None = field(default=None, repr=False)
    retry: Retry | None = None
    timeout: Duration | None = None

    def __repr__(self) -> str:
        """Name what is set; never the key."""
        return _shown(self, hidden=("api_key",))


class Wanted(NamedTuple):
    """A model that a policy wants asked, with at most `within_ms` for an attempt (0: as the call says).

    `has_next`: it is not waited for while its provider is down, because another one will be asked.
    """

    model: AnyModel
    within_ms: int = 0
    has_next: bool = False


Plan = Generator[list[Wanted], list[Heard], Heard]


class Policy:
    """What the policies have in common."""

    kind: ClassVar[str]

    def plan(self) -> Plan:
        """Yield the models to ask, be sent what was heard of each, return what counts."""
        raise NotImplementedError

    def parts(self) -> tuple[AnyModel, ...]:
        """Return its models, policies among them."""
        raise NotImplementedError

    def __repr__(self) -> str:
        """Show what it was made of."""
        return _shown(self)


AnyModel = str | Endpoint | Policy


def leaves(model: AnyModel) -> Iterator[Endpoint]:
    """Give every model that may be asked."""
    if isinstance(model, Policy):
        for part in model.parts():
            yield from leaves(part)
    else:
        yield endpoint_of(model)


def endpoint_of(model: str | Endpoint) -> Endpoint:
    """Return a model's name as one with settings."""
    return model if isinstance(model, Endpoint) else Endpoint(model)


# -- the policies --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class Fallback(Policy):
    """Ask one model after the other until one answers well; the last one's answer counts as it is.

    `on`: what sends it on to the next: "failed" (for good, after its retries, or at once when its circuit is open),
    "timeout", "refused", "review" (an answer that cannot be used). `after`: how long an attempt of each but the last model
    may take, and until when it is retried.
    """

    kind = "fallback"
    models: Sequence[AnyModel]
    on: Sequence[AskedStatus] = ON_DEFAULT
    after: Duration | None = None

    def __post_init__(self) -> None:
        """Refuse what could never be asked."""
        object.__setattr__(self, "models", _checked(self.models, "Fallback", 2))
        on = (self.on,) if isinstance(self.on, str) else tuple(self.on)
        if not on or set(on) - set(ON_DEFAULT):
            raise InputError(
                "SW-E2150",
                "Fallback goes on for no such reason",
                got=repr(self.on)[:80],
                expected=f"some of {ON_DEFAULT}",
            )
        object.__setattr__(self, "on", on)
        if self.after is not None:
            duration_ms(self.after, "after")

    def parts(self) -> tuple[AnyModel, ...]:
        """Return its models."""
        return tuple(self.models)

    def plan(self) -> Plan:
        """Ask one after the other."""
        within_ms = 0 if self.after is None else duration_ms(self.after, "after")
        last = len(self.models) - 1
        for at, model in enumerate(self.models):
            [heard] = yield [Wanted(model, within_ms if at < last else 0, has_next=at < last and "failed" in self.on)]
            if heard.status not in self.on:
                break
        return heard


@dataclass(frozen=True, repr=False)
class Cascade(Policy):
    """Ask a cheap model, and a strong one when that is not good enough; the strong one's answer then counts as it is.

    When it is not: it gave no usable answer, or `when(answer)` is true, or its confidence is `below` a number. Or
    `Cascade([a, b], agree=True, then=strong)`: when several do not say the same; `key` makes the answers of chat and extract
    comparable.
    """

    kind = "cascade"
    cheap: AnyModel | Sequence[AnyModel]
    strong: AnyModel | None = None
    when: Callable[[Any], bool] | None = None
    below: float | None = None
    agree: bool = False
    then: AnyModel | None = None
    key: Callable[[Any], Any] | None = None

    def __post_init__(self) -> None:
        """Refuse what could never be asked, or would never escalate."""
        is_one = isinstance(self.cheap, (str, Endpoint, Policy))
        cheap = (self.cheap,) if is_one else tuple(self.cheap)  # type: ignore[arg-type]
        strong = self.strong if self.then is None else self.then
        if (self.strong is None) == (self.then is None) or strong is None:
            raise InputError("SW-E2150", "Cascade wants one strong model", hint="Cascade(cheap, strong, below=0.6)")
        _checked((*cheap, strong), "Cascade", 2)
        if self.agree == (len(cheap) == 1) or (self.agree and (self.when or self.below is not None)):
            raise InputError(
                "SW-E2150", "Cascade: agree=True takes several cheap models and no other condition",
                got=f"{len(cheap)} models, agree={self.agree}", hint="Cascade([a, b], agree=True, then=strong)",
            )  # fmt: skip
        if not self.agree and self.when is None and self.below is None:
            raise InputError(
                "SW-E2150", "Cascade never escalates", expected="when=, below= or agree=True", hint="or use Fallback"
            )
        if self.below is not None and not (type(self.below) in (int, float) and 0 < self.below <= 1):
            raise InputError(
                "SW-E2150", "below is no confidence", got=repr(self.below)[:80], expected="a number from 0 to 1"
            )
        object.__setattr__(self, "cheap", self.cheap if is_one else cheap)

    @property
    def _cheap(self) -> tuple[AnyModel, ...]:
        return (self.cheap,) if isinstance(self.cheap, (str, Endpoint, Policy)) else tuple(self.cheap)

    def parts(self) -> tuple[AnyModel, ...]:
        """Return its models, the strong one last."""
        strong = self.strong if self.then is None else self.then
        assert strong is not None  # noqa: S101 - checked when it was made
        return (*self._cheap, strong)

    def plan(self) -> Plan:
        """Ask the cheap, look, and ask the strong one if need be."""
        heard = yield [Wanted(model) for model in self._cheap]
        if all(each.status == "ok" for each in heard):
            answer = heard[0].answer
            if self.agree:
                is_enough = len({ballot(each.answer, self.key) for each in heard}) == 1
            else:
                is_unsure = self.below is not None and confidence(answer) < self.below
                is_enough = not is_unsure and not (self.when is not None and self.when(answer))
            if is_enough:
                return heard[0]
        [strong] = yield [Wanted(self.parts()[-1])]
        return strong


@dataclass(frozen=True, repr=False)
class Vote(Policy):
    """Ask all models, side by side in async code; what most of them say counts. No usable answer is no vote.

    `quorum`: how many must say the same. `tie` decides when they are fewer, or when two answers have as many: "review"
    (nobody does: status "review" for a classification, LlmError SW-E2152 for others), "first" (of the answers with most votes
    that of the model named first), or a function of the usable answers, in the models' order, that returns one of them or
    None.
    `key` makes the answers of chat and extract comparable. A classification's confidence is its share of all the models.
    """

    kind = "vote"
    models: Sequence[AnyModel]
    quorum: int = 1
    tie: Literal["review", "first"] | Callable[[list[Any]], Any] = "review"
    key: Callable[[Any], Any] | None = None

    def __post_init__(self) -> None:
        """Refuse what could never be decided."""
        object.__setattr__(self, "models", _checked(self.models, "Vote", 2))
        if type(self.quorum) is not int or not 1 <= self.quorum <= len(self.models):
            raise InputError(
                "SW-E2150", "quorum is out of range", got=repr(self.quorum)[:80], expected=f"1 to {len(self.models)}"
            )
        if self.tie not in ("review", "first") and not callable(self.tie):
            raise InputError(
                "SW-E2150",
                "no such way to break a tie",
                got=repr(self.tie)[:80],
                expected='"review", "first" or a function',
            )

    def parts(self) -> tuple[AnyModel, ...]:
        """Return its models."""
        return tuple(self.models)

    def plan(self) -> Plan:
        """Ask all, count."""
        heard = yield [Wanted(model) for model in self.models]
        usable = [each for each in heard if each.status == "ok"]
        if not usable:
            return heard[-1]
        ballots = [ballot(each.answer, self.key) for each in usable]
        counts = Counter(ballots)
        most = max(counts.values())
        leading = [each for each, said in zip(usable, ballots, strict=True) if counts[said] == most]
        is_tied = len({ballot(each.answer, self.key) for each in leading}) > 1
        if (is_tied or most < self.quorum) and self.tie != "first":
            chosen = None if self.tie == "review" else _chosen(self.tie, usable)
            if chosen is None:
                return Heard("review", error=_undecided(counts, len(heard)))
            return with_confidence(chosen, counts[ballot(chosen.answer, self.key)] / len(heard))
        return with_confidence(leading[0], most / len(heard))


# -- answers, whatever their kind ----------------------------------------------------------------------------------------


def confidence(answer: Any) -> float:
    """Return how sure an answer is. Raises InputError SW-E2151 for one that does not say."""
    found = getattr(answer, "confidence", None)
    if found is None:
        raise InputError(
            "SW-E2151", f"a {type(answer).__name__} says no confidence", expected="when=, with a function of the answer"
        )
    return float(found)


def with_confidence(heard: Heard, share: float) -> Heard:
    """Return a classification with the share of the votes that it got; other answers say no confidence."""
    import dataclasses

    if not hasattr(heard.answer, "confidence"):
        return heard
    return dataclasses.replace(heard, answer=dataclasses.replace(heard.answer, confidence=share))


def ballot(answer: Any, key: Callable[[Any], Any] | None) -> Any:
    """Return what is compared: the label, or what `key` makes of an answer, as JSON unless it is text."""
    if key is None:
        if not hasattr(answer, "label"):
            raise InputError(
                "SW-E2151", f"answers of the kind {type(answer).__name__} are not compared without a key",
                expected="key=, a function of the answer", hint="key=lambda answer: answer.value.queue",
            )  # fmt: skip
        return answer.label
    found = key(answer)
    return found if isinstance(found, str) else _codec.encode(found, "key of an answer")


def said_by(answer: Any) -> str:
    """Return the beginning of what an answer says."""
    for name in ("label", "reason", "text", "value"):
        found = getattr(answer, name, None)
        if found:
            return (found if isinstance(found, str) else repr(found))[:_SAID_CHARS_MAX]
    return ""


def _chosen(tie: Callable[[list[Any]], Any], usable: list[Heard]) -> Heard | None:
    found = tie([each.answer for each in usable])
    if found is None:
        return None
    for each in usable:
        if each.answer is found or each.answer == found:
            return each
    raise InputError(
        "SW-E2151", "tie returned none of the answers", got=repr(found)[:200], expected="one of them, or None"
    )


def _undecided(counts: Counter[Any], asked: int) -> WorkflowError:
    from stepwell._errors import LlmError

    votes = ", ".join(f"{count} for {str(said)[:60]}" for said, count in counts.most_common(10))
    return LlmError(
        "SW-E2152", f"the vote was not decided: {votes}, of {asked} asked", hint='tie="first", or a function'
    )


# -- making and showing --------------------------------------------------------------------------------------------------


def _checked(models: Sequence[AnyModel], what: str, least: int) -> tuple[AnyModel, ...]:
    found = () if isinstance(models, str) else tuple(models)
    if not least <= len(found) <= MODELS_MAX or not all(isinstance(each, (str, Endpoint, Policy)) for each in found):
        raise InputError(
            "SW-E2150",
            f"{what} wants models",
            got=repr(models)[:200],
            expected=f"{least} to {MODELS_MAX} names, Endpoints or policies",
        )
    return found


def _shown(made: Any, hidden: tuple[str, ...] = ()) -> str:
    """Show the members that were set. Functions by their names: an address would differ from process to process."""
    parts: list[str] = []
    for each in fields(made):
        value = getattr(made, each.name)
        if each.name in hidden or (value == each.default and type(value) is type(each.default)):
            continue
        is_function = callable(value) and not isinstance(value, (Policy, Endpoint))
        text = f"<{getattr(value, '__name__', type(value).__name__).strip('<>')}>" if is_function else repr(value)
        if isinstance(value, tuple):
            text = "[" + ", ".join(map(repr, value)) + "]"
        parts.append(text if not parts else f"{each.name}={text}")
    return f"{type(made).__name__}({', '.join(parts)})"
