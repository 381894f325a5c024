"""Embeddings of the LLM test server: texts that share words point the same way."""

from __future__ import annotations

import base64
import hashlib
import math
import re
import struct
from typing import TYPE_CHECKING, Any

from stepwell.testing._llm_forms import TOKEN_CHARS, RefusedError, limit_of, text_of

if TYPE_CHECKING:
    from collections.abc import Sequence

DIMENSIONS = 16
_DIMENSIONS_MAX = 8192
_TEXTS_MAX = 2048
_WORD = re.compile(r"\w+")


def embed(text: str, dimensions: int = DIMENSIONS) -> list[float]:
    """Return the vector of a text, of length 1: each of its words adds to one of the dimensions."""
    vector = [0.0] * dimensions
    for word in _WORD.findall(text.lower()) or [""]:
        number = int.from_bytes(hashlib.blake2b(word.encode("utf-8", "replace"), digest_size=4).digest(), "big")
        vector[number % dimensions] += 1.0
    length = math.sqrt(sum(each * each for each in vector))
    return [round(each / length, 6) for each in vector]


def openai_embeddings(request: dict[str, Any], model: str) -> tuple[dict[str, Any], int, str]:
    """Return the answer of POST .../embeddings, its tokens and the first text. Raises RefusedError."""
    given = request.get("input")
    inputs: list[Any] = given if isinstance(given, list) and given and not isinstance(given[0], int) else [given]
    if not inputs or len(inputs) > _TEXTS_MAX or not all(each and isinstance(each, (str, list)) for each in inputs):
        raise RefusedError(400, f"'$.input' is invalid: 1 to {_TEXTS_MAX} texts are expected, none of them empty.")
    size = min(limit_of(request.get("dimensions"), "dimensions") or DIMENSIONS, _DIMENSIONS_MAX)
    texts = [each if isinstance(each, str) else " ".join(map(str, each)) for each in inputs]
    tokens = sum(len(text) // TOKEN_CHARS + 1 for text in texts)
    is_base64 = request.get("encoding_format") == "base64"
    data = [
        {"object": "embedding", "index": at, "embedding": _packed(vector) if is_base64 else vector}
        for at, vector in enumerate(embed(text, size) for text in texts)
    ]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data, "model": model, "usage": usage}, tokens, texts[0]


def gemini_embeddings(request: dict[str, Any], *, is_batch: bool) -> tuple[dict[str, Any], int, str]:
    """Return the answer of :embedContent or :batchEmbedContents, its tokens and the first text. Raises RefusedError."""
    asked: Sequence[Any] = request.get("requests") or () if is_batch else [request]
    texts = [text_of((each.get("content") or {}).get("parts")) for each in asked]
    if not all(texts) or not texts:
        raise RefusedError(400, "* EmbedContentRequest.content: contents is not specified")
    sizes = [limit_of(each.get("outputDimensionality"), "outputDimensionality") or DIMENSIONS for each in asked]
    vectors = [{"values": embed(text, min(size, _DIMENSIONS_MAX))} for text, size in zip(texts, sizes, strict=True)]
    tokens = sum(len(text) // TOKEN_CHARS + 1 for text in texts)
    return ({"embeddings": vectors} if is_batch else {"embedding": vectors[0]}), tokens, texts[0]


def _packed(vector: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
