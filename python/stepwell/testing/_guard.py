"""Finds what makes a replay differ: clocks and randomness read in the body of a workflow, outside of its steps."""

from __future__ import annotations

import os
import random
import sysconfig
import threading
import time
import uuid
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from stepwell._workflow import current_activation

if TYPE_CHECKING:
    from types import FrameType

_OURS = str(Path(__file__).resolve().parents[1])
_OTHERS = tuple(sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib", "purelib", "platlib"))
#: Built-in functions, by identity, and what to write instead.
_BUILT_IN = {
    id(function): (f"{function.__module__}.{function.__name__}()", instead)
    for functions, instead in (
        ((time.time, time.time_ns, time.monotonic, time.perf_counter, time.localtime, time.gmtime), "sw.now()"),
        ((os.urandom,), "sw.random()"),
    )
    for function in functions
}
_METHODS = {"now": "sw.now()", "utcnow": "sw.now()", "today": "sw.now()"}
_PYTHON = {uuid.uuid4.__code__: ("uuid.uuid4()", "sw.uuid()"), uuid.uuid1.__code__: ("uuid.uuid1()", "sw.uuid()")}


def _is_users(frame: FrameType | None) -> bool:
    path = frame.f_code.co_filename if frame is not None else "<"
    return not path.startswith(("<frozen", _OURS, *_OTHERS))


def _built_in(function: Any) -> tuple[str, str] | None:
    found = _BUILT_IN.get(id(function))
    owner, name = getattr(function, "__self__", None), getattr(function, "__name__", "")
    if found is None and isinstance(owner, type) and issubclass(owner, date) and name in _METHODS:
        return f"{'datetime' if issubclass(owner, datetime) else 'date'}.{name}()", _METHODS[name]
    if found is None and isinstance(owner, random.Random) and name in ("random", "getrandbits"):
        return f"random.{name}()", "sw.random()"
    return found


class Guard:
    """While it is entered, threads that begin watch what the bodies of workflows call. `found`: a line for each place."""

    def __init__(self) -> None:
        self.found: dict[str, None] = {}

    def _profile(self, frame: FrameType, event: str, argument: Any) -> None:
        if event == "c_call":
            found, caller = _built_in(argument), frame
        elif event == "call" and frame.f_back is not None:
            code, caller = frame.f_code, frame.f_back
            found = _PYTHON.get(code)
            if code.co_filename == random.__file__ and not code.co_name.startswith("_"):
                found = (f"random.{code.co_name}()", "sw.random()")
        else:
            return
        if found is None or current_activation.get() is None or not _is_users(caller):
            return
        place = f"{caller.f_code.co_filename}:{caller.f_lineno}"
        self.found[f"{found[0]} in the body of a workflow ({place}); a replay sees another value: use {found[1]}"] = (
            None
        )

    def __enter__(self) -> Self:
        """Begin to watch."""
        self._before = threading.getprofile()
        threading.setprofile(self._profile)
        return self

    def __exit__(self, *_: object) -> None:
        """Watch no new threads any more."""
        threading.setprofile(self._before)
