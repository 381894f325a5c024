"""Which workflows a workflow may start, read from its code.

A run that waits for its children lies in the store. After a restart nothing runs its code until a child has ended, so the
engine that serves the parent must serve the children from the beginning.
"""

from __future__ import annotations

import inspect
from types import CodeType, ModuleType
from typing import TYPE_CHECKING, Any

from stepwell._errors import InputError
from stepwell._types import run_name
from stepwell._workflow import Step, Workflow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stepwell._activation import Activation

_FUNCTIONS_MAX = 10_000
_DEPTH_MAX = 100
_ROW_PARENT = 12


def reached(flow: Workflow[..., Any]) -> list[Workflow[..., Any]]:
    """Return the workflows that `flow` names: in its body, in its steps, in functions that these name. Itself, if it does.

    What is looked up at run time only (in a dict, by a string) cannot be seen: serve such a workflow by name.
    """
    found: list[Workflow[..., Any]] = []
    seen: set[int] = set()
    line: list[Any] = [flow.fn]
    while line and len(seen) < _FUNCTIONS_MAX:
        fn = line.pop()
        for value in _named_by(fn):
            if id(value) in seen:
                continue
            seen.add(id(value))
            if isinstance(value, Workflow):
                found.append(value)
                line.append(value.fn)
            elif isinstance(value, Step):
                line.extend(each.fn for each in (value, value.undo) if each is not None)
            elif inspect.isfunction(value) and value.__module__ == fn.__module__:
                line.append(value)
    return found


def _named_by(fn: Callable[..., Any]) -> Iterator[Any]:
    """Give what the names in a function's code stand for now: globals, captured variables, members of modules."""
    code = getattr(fn, "__code__", None)
    if code is None:
        return
    for cell in getattr(fn, "__closure__", None) or ():
        try:
            yield cell.cell_contents
        except ValueError:  # not bound yet
            continue
    space = fn.__globals__
    names = {name for each in _codes(code) for name in each.co_names}
    for name in names:
        value = space.get(name)
        if isinstance(value, ModuleType) and not value.__name__.startswith("stepwell"):
            yield from (vars(value)[member] for member in names if isinstance(vars(value).get(member), Workflow))
        elif value is not None:
            yield value


def _codes(code: CodeType) -> Iterator[CodeType]:
    """Give a function's code and that of the functions inside of it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def check_depth(activation: Activation, flow: Workflow[..., Any]) -> None:
    """Raise InputError SW-E2044 when a run that starts a child of a recursive workflow has too many ancestors.

    Only the ancestors of recursive ones are looked at: where the code holds no cycle, its depth is that of the code.
    """
    if not flow.is_recursive:
        return
    run, depth = activation.run, 0
    while run and depth <= _DEPTH_MAX:
        rows = activation.worker.core.find(run=run)
        run = rows[0][_ROW_PARENT] if rows else 0
        depth += 1
    if depth > _DEPTH_MAX:
        raise InputError(
            "SW-E2044",
            f"workflow {flow.name!r} has started itself again and again",
            got=f"{_DEPTH_MAX} runs, each a child of the one before",
            expected=f"at most {_DEPTH_MAX}",
            hint="let the recursion end; for work without end, sw.send the next run instead of waiting for it",
            run_id=run_name(activation.run),
        )
