"""The limits of the LLM test server: buckets, headers, and what a client sees that keeps to them or does not."""

from __future__ import annotations

import datetime
import math
import time
from typing import Any

import pytest
from llm_wire import FORMS, ask, send

from stepwell.testing._limits import Bucket, Limits, go_duration
from stepwell.testing.llm_server import Faults, LlmServer


def test_a_bucket_refills_all_the_time() -> None:
    bucket = Bucket(60, burst_s=10)
    bucket.refill(100.0)
    assert (bucket.capacity, bucket.level) == (10, 10)
    bucket.level -= 10
    assert bucket.wait(1) == pytest.approx(1.0)
    bucket.refill(100.5)
    assert bucket.wait(1) == pytest.approx(0.5)
    bucket.refill(101.0)
    assert bucket.wait(1) == 0
    bucket.refill(1000.0)
    assert bucket.level == 10, "it holds no more than its burst"


def test_more_than_the_burst_passes_a_full_bucket_on_credit() -> None:
    limits = Limits(0, 6000, burst_s=1, clock_rate=1)  # 100 a second, holds 100
    assert limits.admit("k", "m", 1000, now=0.0).wait_s == 0
    assert limits.admit("k", "m", 1, now=0.0).wait_s == pytest.approx(9.01)
    assert limits.admit("k", "m", 1, now=9.02).wait_s == 0
    assert math.isinf(limits.admit("k", "m", 6001, now=100.0).wait_s)


@pytest.mark.parametrize("clock_rate", [1, 20])
def test_who_waits_as_told_is_never_refused(clock_rate: float) -> None:
    limits = Limits(500, 90_000, burst_s=1, clock_rate=clock_rate)
    now, refused, tokens = 50.0, 0, (10, 400, 90, 1600)
    for number in range(2000):
        verdict = limits.admit("k", "m", tokens[number % 4], now)
        if verdict.wait_s:
            refused += 1
            now += math.ceil(verdict.wait_s * 1000) / 1000
            assert limits.admit("k", "m", tokens[number % 4], now).wait_s == 0
    ideal = 2000 / 4 * sum(tokens) / 90_000 * 60 / clock_rate
    assert refused > 1000
    assert now - 50 == pytest.approx(ideal, rel=0.02)


def test_each_key_and_model_has_its_own() -> None:
    limits = Limits(60, 0, burst_s=1, clock_rate=1)
    assert [limits.admit(key, model, 1, 0.0).wait_s for key in "ab" for model in "xy"] == [0, 0, 0, 0]
    assert limits.admit("a", "x", 1, 0.0).wait_s == pytest.approx(1)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0ms"), (0.0115, "12ms"), (1.5, "1.5s"), (60, "1m0s"), (360, "6m0s"), (3661.25, "1h1m1.25s")],
)
def test_durations_as_openai_writes_them(seconds: float, text: str) -> None:
    assert go_duration(seconds) == text


def test_headers_of_openai_and_azure() -> None:
    with LlmServer(requests_per_minute=60, tokens_per_minute=6000, burst="60s") as server:
        for form in ("chat", "azure", "responses"):
            headers = ask(server, form, "a" * 36, max_tokens=90, model=form).headers
            assert headers["x-ratelimit-limit-requests"] == "60"
            assert headers["x-ratelimit-limit-tokens"] == "6000"
            assert headers["x-ratelimit-remaining-requests"] == "59"
            assert headers["x-ratelimit-remaining-tokens"] == "5900"
            assert headers["x-ratelimit-reset-requests"] in ("999ms", "1s")
        answer = send(server, "/v1/embeddings", {"model": "e", "input": "a"})
        assert answer.headers["x-ratelimit-remaining-requests"] == "59"


def test_headers_of_anthropic() -> None:
    with LlmServer(requests_per_minute=60, tokens_per_minute=6000, burst="60s") as server:
        before = datetime.datetime.now(datetime.UTC)
        headers = ask(server, "anthropic", "a" * 36, max_tokens=5990 - 10).headers
        assert headers["anthropic-ratelimit-requests-limit"] == "60"
        assert headers["anthropic-ratelimit-tokens-remaining"] == "10"
        reset = datetime.datetime.fromisoformat(headers["anthropic-ratelimit-tokens-reset"])
        assert (reset - before).total_seconds() > 59
        refused = ask(server, "anthropic", "b", max_tokens=3000)
        assert refused.status == 429
        assert refused.json["error"]["type"] == "rate_limit_error"
        assert refused.headers["retry-after"] in map(str, range(1, 31)), "whole seconds, rounded up"


def test_a_429_of_each_form_says_how_long() -> None:
    with LlmServer(requests_per_minute=1) as server:
        for form in FORMS:
            assert ask(server, form, "first", model=form).status == 200
            answer = ask(server, form, "second", model=form)
            assert answer.status == 429
            if form == "gemini":
                info = next(each for each in answer.json["error"]["details"] if each["@type"].endswith("RetryInfo"))
                assert 0 < float(info["retryDelay"].removesuffix("s")) <= 60
            else:
                assert answer.headers["retry-after"] in map(str, range(1, 61))
            if form in ("chat", "azure", "responses"):
                assert 0 < int(answer.headers["retry-after-ms"]) <= 60_000
        counts = server.counts()
        assert (counts["requests"], counts["admitted"], counts["refused"]) == (10, 5, 5)
        assert [each["answer"] for each in server.journal()] == ["ok", "rate_limited"] * 5


def test_what_never_fits_is_refused_without_a_time() -> None:
    with LlmServer(tokens_per_minute=1000) as server:
        answer = ask(server, "chat", "a", max_tokens=2000)
        assert answer.status == 429
        assert answer.json["error"]["code"] == "rate_limit_exceeded"
        assert "Request too large" in answer.json["error"]["message"]
        assert "retry-after" not in answer.headers


def test_a_quicker_clock() -> None:
    """500 a minute at 20 times the time: even who asks again at once needs as long as 10,000 a minute take."""
    with LlmServer(requests_per_minute=500, clock_rate=20) as server:
        began, done, refused = time.monotonic(), 0, 0
        while done < 60 and refused < 50_000:
            answer = ask(server, "chat", f"text {done}")
            if answer.status == 200:
                assert answer.headers["x-ratelimit-limit-requests"] == "10000"
                done += 1
                continue
            refused += 1
            wait = float(answer.headers["retry-after"])
            assert 0 < wait <= 0.007
            assert wait == int(answer.headers["retry-after-ms"]) / 1000
        assert time.monotonic() - began >= (60 - 9) * 60 / 10_000
        counts = server.counts()
        assert (counts["admitted"], counts["refused"]) == (60, refused)
        assert counts["last_time"] - counts["first_time"] >= (60 - 10) * 60 / 10_000
        assert counts["tokens_admitted"] >= 60 * 500


def test_a_refused_request_is_no_attempt_and_costs_nothing() -> None:
    with LlmServer(
        requests_per_minute=60, faults=Faults(share=1.0, kinds={"503": 1.0}, max_faults_per_call=1)
    ) as server:
        answers = [ask(server, "chat", "same").status for _ in range(3)]
        assert answers == [503, 429, 429]
        entries = server.journal()
        assert [each["attempt"] for each in entries] == [1, 0, 0]
        assert not any(each["charged"] for each in entries)


@pytest.mark.parametrize(
    "settings",
    [{"requests_per_minute": -1}, {"tokens_per_minute": float("nan")}, {"clock_rate": 0}, {"token_rate": -5}],
)
def test_settings_that_make_no_sense(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected a number"):
        LlmServer(**settings)
    with pytest.raises(RuntimeError, match="did not start"):
        LlmServer(burst="soon")
