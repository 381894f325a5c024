"""One free request before the first paid one: is there a server, does it take the key, does it know the model?"""

from __future__ import annotations

import difflib
import json
from typing import TYPE_CHECKING, Any

from stepwell._errors import LlmError, WorkflowError

if TYPE_CHECKING:
    from stepwell._engine import Engine
    from stepwell.llm._classify import Classifier

_UNAUTHORIZED = (401, 403)
_NOT_FOUND = 404
_OK = 200


def check_model(engine: Engine, classifier: Classifier) -> None:
    """Ask for the list of models; a server without one passes, then the first call tells.

    Raises LlmError SW-E2111 (key refused), SW-E2112 (no server), SW-E2113 (not an API), SW-E2114 (model).
    """
    model = classifier.model
    if not model.adapter.models_path:
        return
    url = model.url_of(model.adapter.models_path)
    try:
        status, body = _get(engine, url, model.headers)
    except WorkflowError as error:
        raise LlmError(
            "SW-E2112", f"no answer from {url}: {error.message}", hint="check the base URL and that the server runs"
        ) from None
    if status in _UNAUTHORIZED:
        raise LlmError(
            "SW-E2111",
            f"the server refused the API key ({status})",
            loc=url,
            hint="check the key's variable and its project",
        )
    if status == _NOT_FOUND:
        return
    if status != _OK:
        raise LlmError("SW-E2113", f"GET {url} answered {status}", hint="try again later, or check the base URL")
    names = _model_names(body)
    if names is None:
        raise LlmError(
            "SW-E2113",
            "the server's answer is not an LLM API's",
            loc=url,
            got=body[:80].decode("utf-8", "replace").replace("\n", " "),
            expected='JSON {"data": [...]}',
            hint="the base URL usually ends in /v1",
        )
    if names and model.name not in names:
        near = difflib.get_close_matches(model.name, names, 3, 0.4)
        raise LlmError(
            "SW-E2114",
            f"the server does not know the model {model.name!r}",
            loc=url,
            expected=", ".join(near or sorted(names)[:5]),
            hint="did you mean " + near[0] + "?" if near else "choose one of the server's models",
        )


def _get(engine: Engine, url: str, headers: tuple[tuple[str, str], ...]) -> tuple[int, bytes]:
    answer = engine.request("GET", url, headers=headers, timeout_ms=15_000)
    return answer.status, answer.body


def _model_names(body: bytes) -> list[str] | None:
    try:
        answer: Any = json.loads(body)
        if "models" in answer:  # Gemini's list
            return [str(entry["name"]).removeprefix("models/") for entry in answer["models"]]
        return [str(entry["id"]) for entry in answer["data"]]
    except (ValueError, TypeError, KeyError):
        return None
