"""What stands around a question to a model: redaction, a policy in the model's place, a cache, and what-if.

`governed` puts it around `classify`, `chat`, `extract` and `embed`; where none of it is asked for, they are called as they
are.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
from collections.abc import Awaitable, Callable, Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple, ParamSpec, TypeVar, cast

from stepwell._errors import InputError, LlmError, RunCancelled, RunError, StepFailed, WorkflowError
from stepwell._types import Retry, duration_ms
from stepwell._workflow import current_activation, current_scope
from stepwell.llm._cache import Keeper, current_keeper
from stepwell.llm._call import has_next
from stepwell.llm._policies import Asked, AskedStatus, Endpoint, Heard, Policy, Wanted, endpoint_of, said_by
from stepwell.llm._usage import Usage

if TYPE_CHECKING:
    from stepwell._whatif import Change

P = ParamSpec("P")
T = TypeVar("T")
AsyncOne = Callable[[Endpoint, int], Awaitable[Any]]
One = Callable[[Endpoint, int], Any]
_CLASSIFY = "llm.classify"
# Caps of the run and of budgets are no answer of a model: nobody else is asked instead.
_TIMEOUT, _CALLS_UP, _BUDGETS = "SW-E1303", "SW-E2154", "SW-E218"
# What the reading of an answer may say of it (the codes of `chat`).
_REFUSED, _UNUSABLE, _FAILED = {"SW-E2107", "SW-E2115"}, {"SW-E2116", "SW-E2117", "SW-E2118"}, {"SW-E2122"}

#: Set while recorded runs are looked at anew: see `stepwell.whatif`.
current_change: ContextVar[Change | None] = ContextVar("stepwell_change", default=None)


def _is_plain(kwargs: dict[str, Any]) -> bool:
    return (
        isinstance(kwargs.get("model"), str)
        and kwargs.get("cache") is None
        and kwargs.get("redact") is None
        and current_change.get() is None
    )


def governed(name: str, *, policies: bool = True) -> Callable[[Callable[P, Awaitable[T]]], Callable[P, Awaitable[T]]]:
    """Let an async function, whose first argument is what is sent, take policies as `model`, `cache` and `redact`."""

    def decorate(fn: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
        @functools.wraps(fn)
        async def asked(*args: Any, **kwargs: Any) -> Any:
            if _is_plain(kwargs):
                return await fn(*args, **kwargs)
            change = current_change.get()
            if change is not None and change.is_for(name):
                return await change.ask(functools.partial(asked, *args), kwargs)
            call = _Call.of(args, kwargs, policies=policies)

            async def one(leaf: Endpoint, within_ms: int) -> Any:
                with _keeping(call.cache) as keeper:
                    answer = await fn(*call.args, **call.settings(leaf, within_ms))
                    return answer if keeper is None else await keeper.akept(answer)

            if not isinstance(call.model, Policy):
                return call.uncovered(await one(endpoint_of(call.model), 0))
            return call.uncovered(_finished(name, await _run(call.model, name, 0, one, "")))

        return cast("Callable[P, Awaitable[T]]", asked)

    return decorate


def governed_blocking(name: str, *, policies: bool = True) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Let a plain function take the same."""

    def decorate(fn: Callable[P, T]) -> Callable[P, T]:
        @functools.wraps(fn)
        def asked(*args: Any, **kwargs: Any) -> Any:
            if _is_plain(kwargs):
                return fn(*args, **kwargs)
            change = current_change.get()
            if change is not None and change.is_for(name):
                return change.ask_blocking(functools.partial(asked, *args), kwargs)
            call = _Call.of(args, kwargs, policies=policies)

            def one(leaf: Endpoint, within_ms: int) -> Any:
                with _keeping(call.cache) as keeper:
                    answer = fn(*call.args, **call.settings(leaf, within_ms))
                    return answer if keeper is None else keeper.kept(answer)

            if not isinstance(call.model, Policy):
                return call.uncovered(one(endpoint_of(call.model), 0))
            return call.uncovered(_finished(name, _run_blocking(call.model, name, 0, one, "")))

        return cast("Callable[P, T]", asked)

    return decorate


@contextlib.contextmanager
def _keeping(cache: Any) -> Iterator[Keeper | None]:
    if cache is None:
        yield None
        return
    keeper = Keeper(cache)
    token = current_keeper.set(keeper)
    try:
        yield keeper
    finally:
        current_keeper.reset(token)
        keeper.release()


class _Call(NamedTuple):
    """One governed call: what is sent, redacted already, and how."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    model: Any
    cache: Any
    redaction: Any

    @classmethod
    def of(cls, args: tuple[Any, ...], kwargs: dict[str, Any], *, policies: bool) -> _Call:
        """Take the arguments apart. Raises InputError SW-E2151 for a policy where there can be none."""
        rest = {name: value for name, value in kwargs.items() if name not in ("model", "cache", "redact")}
        model, redact, redaction = kwargs.get("model"), kwargs.get("redact"), None
        if not isinstance(model, (str, Endpoint, Policy)) or (isinstance(model, Policy) and not policies):
            more = " or a policy" if policies else "; vectors of several models do not compare"
            expected = f"provider:model, an Endpoint{more}"
            raise InputError("SW-E2151", "not a usable model here", got=repr(model)[:200], expected=expected)
        if redact is not None:
            redaction = redact.begin()
            args = (redaction.cover(args[0]), *args[1:])
            for name in ("system", "instructions"):
                if rest.get(name):
                    rest[name] = redaction.cover(rest[name])
        return cls(args, rest, model, kwargs.get("cache"), redaction)

    def settings(self, leaf: Endpoint, within_ms: int) -> dict[str, Any]:
        """Return what one model is called with."""
        own = {name: getattr(leaf, name) for name in ("base_url", "api_key", "retry", "timeout")}
        made = self.kwargs | {name: value for name, value in own.items() if value is not None} | {"model": leaf.model}
        if within_ms:
            from stepwell.llm._models import DEFAULT_RETRY

            patience = duration_ms(made.get("timeout") or "60s", "timeout")
            retry: Retry = made.get("retry") or DEFAULT_RETRY
            elapsed = min(within_ms, duration_ms(retry.max_elapsed, "Retry.max_elapsed"))
            made["timeout"] = f"{min(within_ms, patience)}ms"
            made["retry"] = dataclasses.replace(retry, max_elapsed=f"{elapsed}ms")
        return made

    def uncovered(self, answer: Any) -> Any:
        """Say what was covered, and put it back where that was asked for."""
        return answer if self.redaction is None else self.redaction.uncover(answer)


# -- driving a plan ------------------------------------------------------------------------------------------------------


async def _run(policy: Policy, name: str, within_ms: int, one: AsyncOne, prefix: str) -> Heard:
    activation = current_activation.get()
    base = "" if activation is None else activation.identify(name)
    plan, path = policy.plan(), list[Asked]()
    count = 0
    try:
        wanted = next(plan)
        while True:
            places = [f"{policy.kind}/{count + number}" for number in range(1, len(wanted) + 1)]
            count += len(wanted)
            asking = [
                _hear(each, name, within_ms, one, prefix + place) for each, place in zip(wanted, places, strict=True)
            ]
            if activation is None:
                heard = list(await asyncio.gather(*asking))
            else:
                heard = await _branches(activation, [f"{base}/{place}" for place in places], asking)
            path += [each for every in heard for each in every.path]
            wanted = plan.send(heard)
    except StopIteration as end:
        return dataclasses.replace(cast("Heard", end.value), path=tuple(path))


async def _branches(activation: Any, scopes: list[str], asking: list[Any]) -> list[Heard]:
    """Await what is asked, each in its scope, whose name its call will bear. All end before the first failure is raised."""
    run_branch = activation.branches(len(asking), wakes_after=len(asking))
    tasks = [asyncio.ensure_future(run_branch(scope, each)) for scope, each in zip(scopes, asking, strict=True)]
    try:
        heard = await asyncio.gather(*tasks, return_exceptions=True)
    except asyncio.CancelledError:
        for task in tasks:
            task.cancel()
        raise
    for each in heard:
        if isinstance(each, BaseException):
            raise each
    return cast("list[Heard]", heard)


async def _hear(wanted: Wanted, name: str, within_ms: int, one: AsyncOne, place: str) -> Heard:
    within_ms = min(filter(None, (wanted.within_ms, within_ms)), default=0)
    token = has_next.set(has_next.get() or wanted.has_next)
    try:
        if isinstance(wanted.model, Policy):
            return await _run(wanted.model, name, within_ms, one, place + "/")
        return _heard(await one(endpoint_of(wanted.model), within_ms), wanted, place)
    except WorkflowError as error:
        return _heard_error(error, wanted, place)
    finally:
        has_next.reset(token)


def _run_blocking(policy: Policy, name: str, within_ms: int, one: One, prefix: str) -> Heard:
    activation = current_activation.get()
    base = "" if activation is None else activation.identify(name)
    plan, path = policy.plan(), list[Asked]()
    count = 0
    try:
        wanted = next(plan)
        while True:
            heard = []
            for each in wanted:
                count += 1
                place = f"{policy.kind}/{count}"
                token = current_scope.set("" if activation is None else f"{base}/{place}")
                try:
                    heard.append(_hear_blocking(each, name, within_ms, one, prefix + place))
                finally:
                    current_scope.reset(token)
            path += [each for every in heard for each in every.path]
            wanted = plan.send(heard)
    except StopIteration as end:
        return dataclasses.replace(cast("Heard", end.value), path=tuple(path))


def _hear_blocking(wanted: Wanted, name: str, within_ms: int, one: One, place: str) -> Heard:
    within_ms = min(filter(None, (wanted.within_ms, within_ms)), default=0)
    token = has_next.set(has_next.get() or wanted.has_next)
    try:
        if isinstance(wanted.model, Policy):
            return _run_blocking(wanted.model, name, within_ms, one, place + "/")
        return _heard(one(endpoint_of(wanted.model), within_ms), wanted, place)
    except WorkflowError as error:
        return _heard_error(error, wanted, place)
    finally:
        has_next.reset(token)


# -- what was heard ------------------------------------------------------------------------------------------------------


def _heard(answer: Any, wanted: Wanted, place: str) -> Heard:
    status: AskedStatus = "ok"
    if getattr(answer, "status", "ok") == "review":
        status = "refused" if answer.is_refusal else "review"
    elif getattr(answer, "finish_reason", "") in ("refusal", "content_filter"):
        status = "refused"
    used = usage_in(answer)
    asked = Asked(
        place, _name_of(wanted), status, said_by(answer), used.tokens_in, used.tokens_out, used.cost_usd,
        getattr(answer, "attempts", 1), getattr(answer, "cached", False),
    )  # fmt: skip
    return Heard(status, answer, path=(asked,))


def usage_in(answer: Any) -> Usage:
    """Return what an answer of any kind says to have used."""
    found = getattr(answer, "usage", None)
    return found if isinstance(found, Usage) else Usage(answer.tokens_in, answer.tokens_out, answer.cost_usd)


def _heard_error(error: WorkflowError, wanted: Wanted, place: str) -> Heard:
    """Return what an error says of the model; raise one that speaks of us: a bad setting, a cap, a cancelled run."""
    status: AskedStatus
    if isinstance(error, RunError) and not isinstance(error, RunCancelled):
        code = str(error.error.get("code", error.code))
        if code == _CALLS_UP or code.startswith(_BUDGETS):
            raise error
        status = "timeout" if code == _TIMEOUT else "failed"
    elif isinstance(error, LlmError) and error.code in _REFUSED | _UNUSABLE | _FAILED:
        status = "refused" if error.code in _REFUSED else "review" if error.code in _UNUSABLE else "failed"
    else:
        raise error
    used = error.usage if isinstance(error, LlmError) and isinstance(error.usage, Usage) else Usage(cost_usd=0.0)
    attempts = int(error.error.get("attempts", 1)) if isinstance(error, RunError) else 1
    said = f"{error.code} {error.message}"[:200]
    if isinstance(error, RunError) and "message" in error.error:
        said = f"{code} {error.error['message']}"[:200]
    asked = Asked(place, _name_of(wanted), status, said, used.tokens_in, used.tokens_out, used.cost_usd, attempts)
    return Heard(status, error=error, path=(asked,))


def _name_of(wanted: Wanted) -> str:
    return wanted.model.model if isinstance(wanted.model, Endpoint) else str(wanted.model)


def _finished(name: str, heard: Heard) -> Any:
    """Return the answer that counts, with the sums of all that were asked and the path, or raise why there is none."""
    path = heard.path
    attempts, cached = sum(each.attempts for each in path), all(each.cached for each in path)
    costs = [each.cost_usd for each in path]
    tokens_in, tokens_out = sum(each.tokens_in for each in path), sum(each.tokens_out for each in path)
    known = sum(cost for cost in costs if cost is not None)
    answer = heard.answer
    if answer is None and name == _CLASSIFY and heard.status == "review" and heard.error is not None:
        from stepwell.llm._classify import Classification

        answer = Classification(None, 0.0, "review", heard.error.message, 0, 0, 0.0, path[0].model)
    if answer is None:
        raise _nobody(heard)
    more: dict[str, Any] = {"path": path, "attempts": attempts, "cached": cached}
    if hasattr(answer, "tokens_in"):
        more |= {"tokens_in": tokens_in, "tokens_out": tokens_out, "cost_usd": known}
    else:
        cost = None if None in costs else known
        more["usage"] = dataclasses.replace(answer.usage, tokens_in=tokens_in, tokens_out=tokens_out, cost_usd=cost)
    return dataclasses.replace(answer, **more)


def _nobody(heard: Heard) -> WorkflowError:
    assert heard.error is not None  # noqa: S101 - an answer or an error
    if not isinstance(heard.error, RunError):
        return heard.error
    said = "; ".join(f"{each.name} {each.model}: {each.status}, {each.said}" for each in heard.path)
    error = heard.error.error | {"path": [dataclasses.asdict(each) for each in heard.path]}
    message = f"no model of the policy gave an answer: {said}"[:2_000]
    return StepFailed("SW-E2153", message, error=error, run_id=heard.error.run_id)
