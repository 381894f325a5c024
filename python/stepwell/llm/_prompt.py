r"""Prompt templates, and text of strangers inside of them.

ASK = sw.llm.Prompt("Summarise for {{ team }}:\n{{ ticket.text | untrusted }}")
await sw.llm.chat(ASK(team="Billing", ticket=ticket), model=...)
"""

from __future__ import annotations

import re
from typing import Any

from stepwell._errors import InputError

_TEMPLATE_CHARS_MAX = 100_000
_PROMPT_CHARS_MAX = 4_000_000
_TAG = "untrusted_text"
#: What stands around text that is nobody's instruction.
FENCE_BEFORE, FENCE_AFTER = f"<{_TAG}>\n", f"\n</{_TAG}>"
# Controls but tab and line feed, zero-width and bidirectional characters, invisible tags, and halves of characters.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0e\ufeff\uffa0\ufff9-\ufffb\U000e0000-\U000e0fff]"
)
_HIDDEN_LATIN1 = bytes([*range(9), *range(11, 32), *range(0x7F, 0xA0), 0xAD])
_LONE = re.compile("[\ud800-\udfff]")
# The fence's own words, however they are dressed up: other brackets, other widths, spaces.
_FENCE_INSIDE = re.compile(r"[<\uff1c\u2039\u27e8\u3008\ufe64\u02c2]\s*(/?)\s*(?=untrusted\W?_?text)", re.IGNORECASE)


def clean(text: str) -> str:
    """Return text without what nobody sees: control, zero-width and bidirectional characters, invisible tags.

    A lone surrogate becomes U+FFFD. Tabs and line feeds stay, a carriage return before a line feed goes.
    """
    cleaned = _clean_latin1(text)
    if cleaned is not None:
        return cleaned
    text = _HIDDEN.sub("", text)
    return text if _has_utf8(text) else _LONE.sub("\ufffd", text)


def _clean_latin1(text: str) -> str | None:
    """Do the same for a text of Latin-1: most are, and bytes are looked through many times faster. None for another text."""
    try:
        given = text.encode("latin-1")
    except UnicodeEncodeError:
        return None
    kept = given.translate(None, _HIDDEN_LATIN1)
    return text if len(kept) == len(given) else kept.decode("latin-1")


def _has_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def untrusted(text: object) -> str:
    """Return text of strangers, cleaned and fenced: a model is to read it, never to obey it.

    The fence is always the same, and the text cannot close it: its words inside of the text are escaped.
    """
    return FENCE_BEFORE + escaped(str(text)) + FENCE_AFTER


def escaped(text: str) -> str:
    """Return what stands inside the fence."""
    cleaned = _clean_latin1(text)
    if cleaned is not None and "<" not in cleaned:  # the other brackets are not of Latin-1
        return cleaned
    text = clean(text) if cleaned is None else cleaned
    return _FENCE_INSIDE.sub(r"&lt;\1", text) if "ntrusted" in text.lower() else text


class Prompt:
    """A prompt with holes, `{{ name }}`, in the syntax of Jinja2, which runs it in its sandbox.

    A hole that nothing fills is an error before anything is sent. `{{ text | untrusted }}` cleans and fences text of
    strangers. Raises InputError SW-E2119 for a template that does not parse.
    """

    def __init__(self, template: str) -> None:
        import jinja2
        import jinja2.meta
        import jinja2.sandbox

        if not isinstance(template, str) or len(template) > _TEMPLATE_CHARS_MAX:
            raise InputError(
                "SW-E2119",
                "not a usable prompt",
                got=type(template).__name__ if not isinstance(template, str) else f"{len(template)} characters",
                expected=f"text of at most {_TEMPLATE_CHARS_MAX} characters",
            )
        environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
            undefined=jinja2.StrictUndefined, autoescape=False, keep_trailing_newline=True
        )
        environment.filters["untrusted"] = untrusted
        try:
            self._template = environment.from_string(template)
            self.variables = frozenset(jinja2.meta.find_undeclared_variables(environment.parse(template)))
        except jinja2.TemplateError as error:
            line = getattr(error, "lineno", None)
            raise InputError(
                "SW-E2119",
                f"the prompt does not parse: {error}",
                loc=f"line {line}" if line else "",
                hint="holes are written {{ name }}; write {{ '{{' }} for braces",
            ) from None
        self.template = template

    def __call__(self, **values: Any) -> str:
        """Return the prompt with its holes filled. Raises InputError SW-E2119 for a hole that nothing fills."""
        import jinja2

        parts, length = [], 0
        try:
            for part in self._template.generate(**values):
                length += len(part)
                if length > _PROMPT_CHARS_MAX:
                    raise InputError(
                        "SW-E2119", "the prompt is too long", expected=f"at most {_PROMPT_CHARS_MAX} characters"
                    )
                parts.append(part)
        except InputError:
            raise
        except jinja2.UndefinedError as error:
            missing = sorted(self.variables - values.keys())
            raise InputError(
                "SW-E2119",
                f"the prompt lacks a value: {error}",
                got=", ".join(sorted(values)) or "no values",
                expected=", ".join(sorted(self.variables)),
                hint=f"give {missing[0]}=..." if missing else "",
            ) from None
        except Exception as error:  # noqa: BLE001 - the values' own code runs in a template
            # Values run their own code in a template (an attribute, __str__), and the sandbox refuses what is unsafe.
            raise InputError(
                "SW-E2119", f"the prompt cannot be filled: {type(error).__name__}: {str(error)[:300]}"
            ) from None
        return "".join(parts)

    def __repr__(self) -> str:
        """Show the beginning of the template."""
        return f"Prompt({self.template[:60]!r})"
