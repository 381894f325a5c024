"""Models by name: `provider:model`, where each provider lives, the key that it wants, the wire form that it speaks."""

from __future__ import annotations

import functools
import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, quote, urlsplit

from stepwell._errors import InputError, LlmError
from stepwell._types import Retry
from stepwell.llm._anthropic import ANTHROPIC
from stepwell.llm._gemini import GEMINI
from stepwell.llm._openai_chat import AZURE_CHAT, COMPATIBLE_CHAT, OPENAI_CHAT
from stepwell.llm._openai_responses import OPENAI_RESPONSES

if TYPE_CHECKING:
    from stepwell.llm._adapter import Adapter
    from stepwell.llm._policies import AnyModel

#: Patient enough for rate limits of a minute, bounded in attempts and time.
DEFAULT_RETRY = Retry(max_attempts=8, base="500ms", cap="30s", max_elapsed="10m")


@dataclass(frozen=True, slots=True)
class _Provider:
    base_url: str
    key_variable: str
    adapter: Adapter = COMPATIBLE_CHAT


_PROVIDERS = {
    "openai": _Provider("https://api.openai.com/v1", "OPENAI_API_KEY", OPENAI_CHAT),
    "openai-responses": _Provider("https://api.openai.com/v1", "OPENAI_API_KEY", OPENAI_RESPONSES),
    "azure": _Provider("", "AZURE_OPENAI_API_KEY", AZURE_CHAT),
    "anthropic": _Provider("https://api.anthropic.com/v1", "ANTHROPIC_API_KEY", ANTHROPIC),
    "gemini": _Provider("https://generativelanguage.googleapis.com/v1beta", "GEMINI_API_KEY", GEMINI),
    "groq": _Provider("https://api.groq.com/openai/v1", "GROQ_API_KEY"),
    "mistral": _Provider("https://api.mistral.ai/v1", "MISTRAL_API_KEY"),
    "deepseek": _Provider("https://api.deepseek.com/v1", "DEEPSEEK_API_KEY"),
    "openrouter": _Provider("https://openrouter.ai/api/v1", "OPENROUTER_API_KEY"),
    "together": _Provider("https://api.together.xyz/v1", "TOGETHER_API_KEY"),
    # Servers that people run themselves, where they listen unless told otherwise.
    "vllm": _Provider("http://127.0.0.1:8000/v1", "VLLM_API_KEY"),
    "ollama": _Provider("http://127.0.0.1:11434/v1", "OLLAMA_API_KEY"),
    "llamacpp": _Provider("http://127.0.0.1:8080/v1", "LLAMA_API_KEY"),
}
_OWN_SERVER = _Provider("", "OPENAI_API_KEY")
_AZURE_ENDPOINT, _AZURE_VERSION, _AZURE_VERSION_DEFAULT = "AZURE_OPENAI_ENDPOINT", "OPENAI_API_VERSION", "2024-10-21"
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}
_LOOKS_LIKE_KEY = re.compile(r"(?:(?:sk|gsk|key|xai|pk)-?_?[A-Za-z0-9_-]{16,}|AIza[A-Za-z0-9_-]{30,})")
_KEY_CHARS_MAX = 4_096


@dataclass(frozen=True, slots=True)
class Model:
    """A model that can be called: where, with which headers, in which form, under which names.

    `base`: the URL that the adapter's paths follow. `query`: what stands behind each path.
    """

    provider: str
    name: str
    base: str
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    adapter: Adapter = field(repr=False)
    query: str = ""

    @property
    def url(self) -> str:
        """Where a question goes."""
        return self.url_of(self.adapter.path(self.name))

    @property
    def stream_url(self) -> str:
        """Where a question goes whose answer shall come in pieces."""
        return self.url_of(self.adapter.path(self.name, stream=True))

    def url_of(self, path: str) -> str:
        """Return the URL of another of the provider's paths."""
        return self.base + path + self.query

    def __repr__(self) -> str:
        """Name provider and model; never the key."""
        return f"<model {self.provider}:{self.name}>"


def resolve_model(
    model: AnyModel, base_url: str | None = None, api_key: str | None = None, *, api_version: str | None = None
) -> Model:
    """Find provider, URL, key and wire form of `provider:model`; with a `base_url`, a name alone is an OpenAI-compatible one.

    Raises LlmError SW-E2101 without a key, InputError SW-E2102 for an unusable URL, SW-E2103 for an unknown provider and
    SW-E2104 when a key stands where a model name should. A server on this machine needs no key. `api_version` is Azure's.
    """
    known, name = _provider_and_name(model, base_url)
    provider = _PROVIDERS.get(known, _OWN_SERVER)
    query = ""
    if known == "azure":
        base, query = _azure_place(base_url, name, api_version)
    else:
        base = _checked_url(base_url or provider.base_url)
    key = (api_key or os.environ.get(provider.key_variable, "")).strip()
    if _LOOKS_LIKE_KEY.search(base):
        raise InputError(
            "SW-E2104",
            "the base URL holds what looks like an API key",
            hint=f"put the key into {provider.key_variable}",
        )
    _check_key(key, known, provider.key_variable, base)
    return Model(known or "openai-compatible", name, base, provider.adapter.headers(key), provider.adapter, query)


def provider_of(model: AnyModel, base_url: str | None = None) -> str:
    """Return the name of a model's provider. Raises InputError SW-E2103 and SW-E2104."""
    return _provider_and_name(model, base_url)[0] or "openai-compatible"


def _provider_and_name(model: AnyModel, base_url: str | None) -> tuple[str, str]:
    if not isinstance(model, str):
        raise InputError(
            "SW-E2103", "a model is named by text", got=repr(model)[:80], expected='e.g. "openai:gpt-4o-mini"'
        )
    if _LOOKS_LIKE_KEY.fullmatch(model.split(":", 1)[-1]):
        raise InputError(
            "SW-E2104",
            "the model name looks like an API key",
            got=f"{model[:3]}... ({len(model)} characters)",
            expected='a model such as "openai:gpt-4o-mini"',
            hint="put the key into the provider's variable, e.g. OPENAI_API_KEY, and revoke it if this was logged",
        )
    prefix, _, rest = model.partition(":")
    is_known = prefix in _PROVIDERS and rest != prefix and ":" in model
    if base_url is None and not is_known:
        raise InputError(
            "SW-E2103",
            "unknown provider" if ":" in model else "a model name needs its provider",
            got=repr(model)[:200],
            expected="provider:model with one of " + ", ".join(sorted(_PROVIDERS)) + ', or "local"',
            hint="for another OpenAI-compatible server give its base_url",
        )
    known, name = (prefix, rest) if is_known else ("", model)
    if not name or len(name) > 200 or not name.isprintable() or any(char.isspace() for char in name):
        raise InputError(
            "SW-E2103",
            "the model name is empty" if not name else "not a model name",
            got=repr(model)[:200],
            expected='e.g. "openai:gpt-4o-mini"',
        )
    return known, name


def _check_key(key: str, provider: str, variable: str, base: str) -> None:
    if not key and urlsplit(base).hostname not in _LOOPBACK:
        raise LlmError(
            "SW-E2101",
            f"no API key for provider {provider or 'at this URL'!r}",
            loc=f"looked in the variable {variable}",
            hint=f'export {variable}=...; model="local" needs no key',
        )
    if len(key) > _KEY_CHARS_MAX or any(ord(char) < 33 or ord(char) > 126 for char in key):
        raise LlmError(
            "SW-E2105", f"the API key in {variable} has spaces or unprintable characters", hint="copy it again"
        )


@functools.lru_cache(maxsize=256)
def _checked_url(url: str, *, query_allowed: bool = False) -> str:
    try:
        parts = urlsplit(url)
        bad = parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc or parts.port == 0
    except ValueError:
        bad = True
    if bad or any(char.isspace() for char in url) or (not query_allowed and ("?" in url or "#" in url)):
        raise InputError(
            "SW-E2102",
            "not a usable base URL",
            got=_LOOKS_LIKE_KEY.sub("***", re.sub(r"//[^/]*@", "//***@", url.partition("?")[0]))[:120],
            expected="http(s)://host[:port]/path, without user name, password or query",
        )
    url = url.rstrip("/")
    for path in ("/chat/completions", "/responses", "/messages"):
        url = url.removesuffix(path)
    return url


def _azure_place(base_url: str | None, deployment: str, api_version: str | None) -> tuple[str, str]:
    """Return base and query of an Azure deployment: its endpoint, or the target URI that the portal shows."""
    given = base_url or os.environ.get(_AZURE_ENDPOINT, "").strip()
    if not given:
        raise LlmError(
            "SW-E2101",
            "no endpoint for provider 'azure'",
            loc=f"looked for base_url and in the variable {_AZURE_ENDPOINT}",
            hint=f"export {_AZURE_ENDPOINT}=https://NAME.openai.azure.com",
        )
    url = _checked_url(given, query_allowed=True).partition("#")[0]
    url, _, query = url.partition("?")
    if url.rstrip("/").endswith("/openai/v1"):  # the API without versions: the body names the deployment
        return url.rstrip("/"), ""
    named = parse_qs(query).get("api-version", [""])[0]
    version = api_version or named or os.environ.get(_AZURE_VERSION, "").strip() or _AZURE_VERSION_DEFAULT
    if not re.fullmatch(r"\d{4}-\d\d-\d\d(?:-preview)?", version):
        raise InputError(
            "SW-E2102", "not an API version of Azure", got=version[:80], expected=f"e.g. {_AZURE_VERSION_DEFAULT}"
        )
    endpoint = url.partition("/openai")[0].rstrip("/")
    return f"{endpoint}/openai/deployments/{quote(deployment, safe='')}", f"?api-version={version}"
