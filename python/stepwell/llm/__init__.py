"""LLM calls as recorded steps, over any OpenAI-compatible URL, or `model="local"` without a key.

    answer = await sw.llm.classify(ticket.text, labels=["Billing", "Technical"], model="openai:gpt-4o-mini")

Inside a run the core makes the call off the GIL, judges and retries it, and records the response before Python sees it.
A label outside the taxonomy never becomes a category: the answer's status is then "review".
"""

from __future__ import annotations

from stepwell.llm._chat import Chat, chat, chat_blocking
from stepwell.llm._classify import Classification, Classifier, classify, classify_blocking
from stepwell.llm._providers import Usage, resolve_model

__all__ = [
    "Chat",
    "Classification",
    "Classifier",
    "Usage",
    "chat",
    "chat_blocking",
    "classify",
    "classify_blocking",
    "resolve_model",
]
