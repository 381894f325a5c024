"""LLM calls as recorded steps: OpenAI, Azure, Anthropic, Gemini, any OpenAI-compatible URL, or `model="local"` without a key.

    answer = await sw.llm.classify(ticket.text, labels=["Billing", "Technical"], model="openai:gpt-4o-mini")

Inside a run the core makes the call off the GIL, judges and retries it, and records the response before Python sees it.
A label outside the taxonomy never becomes a category: the answer's status is then "review". `docs/guide/llm.md` tells more.
"""

from __future__ import annotations

from stepwell.llm._adapter import FinishReason, Message
from stepwell.llm._batch_mode import classify_batch, classify_batch_blocking
from stepwell.llm._cache import Cache
from stepwell.llm._chat import Chat, chat, chat_blocking
from stepwell.llm._classify import Classification, Classifier, classify, classify_blocking
from stepwell.llm._embed import Embeddings, embed, embed_blocking
from stepwell.llm._estimate import Estimate, Range, estimate
from stepwell.llm._extract import Extraction, extract, extract_blocking
from stepwell.llm._models import Model, resolve_model
from stepwell.llm._policies import Asked, Cascade, Endpoint, Fallback, Policy, Vote
from stepwell.llm._prompt import Prompt, untrusted
from stepwell.llm._raw import raw, raw_blocking
from stepwell.llm._redact import Redact
from stepwell.llm._stream import BlockingStream, Stream, sse_lines, stream, stream_blocking
from stepwell.llm._tools import Tool, ToolCall
from stepwell.llm._usage import Usage

__all__ = [
    "Asked",
    "BlockingStream",
    "Cache",
    "Cascade",
    "Chat",
    "Classification",
    "Classifier",
    "Embeddings",
    "Endpoint",
    "Estimate",
    "Extraction",
    "Fallback",
    "FinishReason",
    "Message",
    "Model",
    "Policy",
    "Prompt",
    "Range",
    "Redact",
    "Stream",
    "Tool",
    "ToolCall",
    "Usage",
    "Vote",
    "chat",
    "chat_blocking",
    "classify",
    "classify_batch",
    "classify_batch_blocking",
    "classify_blocking",
    "embed",
    "embed_blocking",
    "estimate",
    "extract",
    "extract_blocking",
    "raw",
    "raw_blocking",
    "resolve_model",
    "sse_lines",
    "stream",
    "stream_blocking",
    "untrusted",
]
