"""The codes of LLM calls, policies, caches, redaction, estimates and what-if: title, cause, fix; see _codes.py."""

from __future__ import annotations

CODES: dict[str, tuple[str, str, str]] = {
    "SW-E2101": (
        "no API key",
        "The provider wants a key and none was found.",
        'Set its variable, or use model="local".',
    ),
    "SW-E2102": ("bad base URL", "The base URL is not usable.", "Write http(s)://host[:port]/v1."),
    "SW-E2103": (
        "unknown model name",
        "Models are named provider:model.",
        "Write e.g. openai:gpt-4o-mini, or give base_url.",
    ),
    "SW-E2104": (
        "key in the wrong place",
        "Something that looks like a key stands where a name should.",
        "Move it to its variable and revoke it.",
    ),
    "SW-E2105": ("malformed key", "The key holds spaces or unprintable characters.", "Copy it again."),
    "SW-E2106": ("bad taxonomy", "Labels must be 2 to 1,000 distinct, non-empty names.", "Correct the list."),
    "SW-E2107": ("refusal", "The model refused to answer.", "Look at the prompt; refusals are not retried."),
    "SW-E2110": (
        "local model missing",
        "The package with the local model is not installed.",
        "pip install 'stepwell[local]'",
    ),
    "SW-E2111": ("key refused", "The server answered 401 or 403 to a free request.", "Check the key and its project."),
    "SW-E2112": ("no server", "Nothing answered at the base URL.", "Check the URL and that the server runs."),
    "SW-E2113": (
        "not an LLM API",
        "The server answered, but not as an OpenAI-compatible API.",
        "The base URL usually ends in /v1.",
    ),
    "SW-E2114": ("model not found", "The server does not list the model.", "Choose one that it lists."),
    "SW-E2115": (
        "content filter",
        "The provider's filter stopped the answer, so that there is no value in it.",
        "Look at the prompt and the text; a filter is a result and is not retried.",
    ),
    "SW-E2116": (
        "answer cut off",
        "The answer reached its limit of tokens before the value that was asked for was whole.",
        "Raise max_tokens, or ask for less at once.",
    ),
    "SW-E2117": (
        "answer does not fit",
        "The model's answer is not of the type that was asked for, after the repair round if there was one.",
        "Make the type simpler, describe its fields, or choose a model that keeps to schemas.",
    ),
    "SW-E2118": (
        "unusable tool call",
        "The model asked for a tool that it was not given, for too many, or with arguments that do not fit its schema.",
        "Describe the tool and its arguments better. Nothing was carried out.",
    ),
    "SW-E2119": (
        "bad prompt",
        "A prompt template does not parse, or lacks a value. Nothing was sent.",
        "Give each hole of the template its value.",
    ),
    "SW-E2120": (
        "bad question",
        "Messages, tools, type or settings of a model call cannot be used. Nothing was sent.",
        "The message says what was expected.",
    ),
    "SW-E2121": (
        "no embeddings",
        "The answer does not hold one vector of finite numbers for each text.",
        "Check that the model is one for embeddings.",
    ),
    "SW-E2122": (
        "provider failed",
        "The provider answered 200, and its answer says that it failed or is not an answer.",
        "Ask again later; check the base URL.",
    ),
    "SW-E2150": (
        "policy makes no sense",
        "A Fallback, Cascade or Vote was given models or conditions that it cannot work with.",
        "Read what the message expects; docs/guide/policies.md has an example of each.",
    ),
    "SW-E2151": (
        "policy does not fit",
        "The policy asks something of an answer that this kind of answer does not have: a confidence, a label to compare.",
        "Give Cascade a when=, Cascade or Vote a key=; embeddings take one model.",
    ),
    "SW-E2152": (
        "vote undecided",
        "No answer had the votes that the quorum asks for, or two had as many.",
        'Say who decides: tie="first" or a function; or ask an odd number of models.',
    ),
    "SW-E2153": (
        "no model answered",
        "Every model that the policy could ask failed, timed out or refused.",
        "The message and error['path'] say what came of each.",
    ),
    "SW-E2154": (
        "too many calls",
        "The run has made as many LLM calls as max_calls, or calls_per_run of the engine, allows. Nothing was sent.",
        "Look for a loop; raise the cap if so many are meant.",
    ),
    "SW-E2155": ("bad cache key", "Cache.key is no function, or what it returned has no JSON form.", "Return text."),
    "SW-E2156": ("bad call cap", "A cap on a run's calls is a whole number from 1 on.", "Give one, or None."),
    "SW-E2157": (
        "bad redaction",
        "A pattern cannot be compiled, a kind is no name, or the hook returned no usable span.",
        "Kinds are capitals, digits and _; a hook returns (kind, begin, end).",
    ),
    "SW-E2158": ("bad estimate", "A share is not from 0 to 1, or a limit is not positive.", "Correct the number."),
    "SW-E2159": (
        "what-if makes no sense",
        "There is no run, step or model to look at, or the answers of the file are those of other settings.",
        "Read what the message expects; docs/guide/whatif.md has an example.",
    ),
}
