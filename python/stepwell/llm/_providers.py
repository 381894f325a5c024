"""Models by name: `provider:model`, the key that each provider wants, and what a call costs."""

from __future__ import annotations

import functools
import os
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from stepwell._errors import InputError, LlmError
from stepwell._types import Retry

# Base URLs of providers that speak OpenAI's chat completions, and the variable that holds the key.
_PROVIDERS = {
    "openai": ("https://api.openai.com/v1", "OPENAI_API_KEY"),
    "groq": ("https://api.groq.com/openai/v1", "GROQ_API_KEY"),
    "mistral": ("https://api.mistral.ai/v1", "MISTRAL_API_KEY"),
    "deepseek": ("https://api.deepseek.com/v1", "DEEPSEEK_API_KEY"),
    "openrouter": ("https://openrouter.ai/api/v1", "OPENROUTER_API_KEY"),
    "together": ("https://api.together.xyz/v1", "TOGETHER_API_KEY"),
}
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}
_LOOKS_LIKE_KEY = re.compile(r"(sk|gsk|key|xai|pk)-?_?[A-Za-z0-9_-]{16,}")

#: Patient enough for rate limits of a minute, bounded in attempts and time.
DEFAULT_RETRY = Retry(max_attempts=8, base="500ms", cap="30s", max_elapsed="10m")


@dataclass(frozen=True, slots=True)
class Usage:
    """What a call used: tokens as the provider counted them, US dollars by the price list (None: price unknown)."""

    tokens_in: int = 0
    tokens_out: int = 0
    cost_usd: float | None = None


@dataclass(frozen=True, slots=True)
class Model:
    """A model that can be called: where, with which headers, under which names."""

    provider: str
    name: str
    url: str
    headers: tuple[tuple[str, str], ...]

    def __repr__(self) -> str:
        """Name provider and model; never the key."""
        return f"<model {self.provider}:{self.name}>"


def resolve_model(model: str, base_url: str | None = None, api_key: str | None = None) -> Model:
    """Find provider, URL and key of `provider:model`.

    Raises LlmError SW-E2101 without a key, InputError SW-E2102 for an unusable URL, SW-E2103 for an unknown provider and
    SW-E2104 when a key stands where a model name should. A server on this machine needs no key.
    """
    if _LOOKS_LIKE_KEY.fullmatch(model.split(":", 1)[-1]):
        raise InputError(
            "SW-E2104",
            "the model name looks like an API key",
            got=f"{model[:3]}... ({len(model)} characters)",
            expected='a model such as "openai:gpt-4o-mini"',
            hint="put the key into the provider's variable, e.g. OPENAI_API_KEY, and revoke it if this was logged",
        )
    provider, _, name = model.rpartition(":") if base_url is None or ":" in model else ("", "", model)
    if base_url is None and provider not in _PROVIDERS:
        raise InputError(
            "SW-E2103",
            "unknown provider" if provider else "a model name needs its provider",
            got=repr(model),
            expected="provider:model with one of " + ", ".join(sorted(_PROVIDERS)) + ', or "local"',
            hint="for another OpenAI-compatible server give its base_url",
        )
    if not name:
        raise InputError("SW-E2103", "the model name is empty", got=repr(model), expected='e.g. "openai:gpt-4o-mini"')
    url, variable = _PROVIDERS.get(provider, ("", "OPENAI_API_KEY"))
    url = _checked_url(base_url or url)
    key = api_key or os.environ.get(variable, "").strip()
    if _LOOKS_LIKE_KEY.search(url):
        raise InputError(
            "SW-E2104", "the base URL holds what looks like an API key", hint=f"put the key into {variable}"
        )
    if not key and urlsplit(url).hostname not in _LOOPBACK:
        raise LlmError(
            "SW-E2101",
            f"no API key for provider {provider or 'at this URL'!r}",
            loc=f"looked in the variable {variable}",
            hint=f'export {variable}=...; model="local" needs no key',
        )
    if any(ord(char) < 33 or ord(char) > 126 for char in key):
        raise LlmError(
            "SW-E2105", f"the API key in {variable} has spaces or unprintable characters", hint="copy it again"
        )
    headers = [("content-type", "application/json")]
    if key:
        headers.append(("authorization", f"Bearer {key}"))
    return Model(provider or "openai-compatible", name, url + "/chat/completions", tuple(headers))


def _checked_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        bad = parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc or parts.port == 0
    except ValueError:
        bad = True
    if bad or any(char.isspace() for char in url):
        raise InputError(
            "SW-E2102",
            "not a usable base URL",
            got=re.sub(r"//[^@/]*@", "//***@", url)[:120],
            expected="http(s)://host[:port]/path, without user name or password",
        )
    url = url.rstrip("/")
    return url.removesuffix("/chat/completions")


@functools.lru_cache(maxsize=256)
def _price_of(provider: str, name: str) -> tuple[float, float] | None:
    """Return dollars for one input and one output token, by genai-prices; None when it does not know the model."""
    try:
        from genai_prices import Usage as PriceUsage
        from genai_prices import calc_price

        provider_id = None if provider == "openai-compatible" else provider
        # A thousand tokens stay below every tier of long prompts.
        price = calc_price(PriceUsage(input_tokens=1000, output_tokens=1000), name, provider_id=provider_id)
        return float(price.input_price) / 1000, float(price.output_price) / 1000
    except (ImportError, LookupError, ValueError):
        return None


def usage_of(answer: dict[str, Any], model: Model) -> Usage:
    """Read tokens from a chat completion and price them. Nonsense counts as nothing, never as negative money."""
    usage = answer.get("usage") or {}
    tokens_in = _count(usage.get("prompt_tokens"))
    tokens_out = _count(usage.get("completion_tokens"))
    price = _price_of(model.provider, model.name)
    cost = None if price is None else tokens_in * price[0] + tokens_out * price[1]
    return Usage(tokens_in, tokens_out, cost)


def _count(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0


def call_request(model: Model, body: bytes, retry: Retry, timeout_ms: int, pointer: str) -> tuple[Any, ...]:
    """Return a call in the core's form. A completion may be repeated: the worst is to pay twice, so it is declared so."""
    request = ("POST", model.url, model.headers, body, 10_000, timeout_ms)
    return (request, retry.to_core(), True, True, pointer)
