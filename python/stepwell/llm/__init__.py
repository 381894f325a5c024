"""LLM calls as recorded steps: OpenAI, Azure, Anthropic, Gemini, any OpenAI-compatible URL, or `model="local"` without a key.

    answer = await sw.llm.classify(ticket.text, labels=["Billing", "Technical"], model="openai:gpt-4o-mini")

Inside a run the core makes the call off the GIL, judges and retries it, and records the response before Python sees it.
A label outside the taxonomy never becomes a category: the answer's status is then "review". `docs/guide/llm.md` tells more.
"""

from __future__ import annotations

from stepwell.llm._adapter import FinishReason, Message
from stepwell.llm._chat import Chat, chat, chat_blocking
from stepwell.llm._classify import Classification, Classifier, classify, classify_blocking
from stepwell.llm._embed import Embeddings, embed, embed_blocking
from stepwell.llm._extract import Extraction, extract, extract_blocking
from stepwell.llm._models import Model, resolve_model
from stepwell.llm._prompt import Prompt, untrusted
from stepwell.llm._raw import raw, raw_blocking
from stepwell.llm._stream import BlockingStream, Stream, sse_lines, stream, stream_blocking
from stepwell.llm._tools import Tool, ToolCall
from stepwell.llm._usage import Usage

__all__ = [
    "BlockingStream",
    "Chat",
    "Classification",
    "Classifier",
    "Embeddings",
    "Extraction",
    "FinishReason",
    "Message",
    "Model",
    "Prompt",
    "Stream",
    "Tool",
    "ToolCall",
    "Usage",
    "chat",
    "chat_blocking",
    "classify",
    "classify_blocking",
    "embed",
    "embed_blocking",
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
