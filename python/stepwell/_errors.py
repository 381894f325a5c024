"""The error tree. Catch wide (`WorkflowError`) or narrow.

    WorkflowError                    everything Stepwell raises; has .code ("SW-E2101"), .hint, .run_id
    |-- InputError                   what you passed in is wrong; repeating it cannot help
    |-- NotFoundError                no such run, key or file
    |-- ConflictError                the key is taken by another payload, the file by another engine
    |-- BusyError                    a bounded queue is full; try again later
    |-- WaitTimeout (TimeoutError)   a wait ended; the run goes on
    |   `-- ApprovalTimeout          nobody decided by the deadline, and there is no default
    |-- ApprovalRejected             a question that was not of yes or no was rejected
    |-- ClosedError                  the engine is closed, or this is a forked child
    |-- StoreError                   disk trouble; nothing acknowledged is lost
    |-- FencedError                  another engine drives the run now
    |-- LlmError                     a model call cannot be made (key, package, model name)
    `-- RunError                     a run or a step ended without a value; has .error
        |-- RunFailed
        |-- RunCancelled
        `-- StepFailed               raised inside a workflow, after the last attempt

`stepwell explain CODE` tells more about each code, offline.
"""

from __future__ import annotations

from typing import Any

# What was seen may be large; its beginning tells what it is.
_SHOWN_CHARS_MAX = 1_200


class WorkflowError(Exception):
    """Base of all errors. `code` never changes its meaning; `hint` says how to fix it."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        hint: str = "",
        got: object = None,
        expected: object = None,
        loc: str = "",
        run_id: str = "",
    ) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message
        self.hint = hint
        self.got = got
        self.expected = expected
        self.loc = loc
        self.run_id = run_id

    def __str__(self) -> str:
        """Return the message with the lines that help: place, seen, expected, fix."""
        lines = [f"{self.code} {self.message}"]
        for label, value in (("at", self.loc), ("run", self.run_id), ("got", self.got), ("expected", self.expected)):
            if value not in (None, ""):
                lines.append(f"  {label:<9} {str(value)[:_SHOWN_CHARS_MAX]}")
        if self.hint:
            lines.append(f"  {'fix':<9} {self.hint}")
        return "\n".join(lines)


class InputError(WorkflowError):
    """What was passed in is wrong; repeating it cannot help."""


class NotFoundError(WorkflowError):
    """There is no such run, key or file."""


class ConflictError(WorkflowError):
    """The key is taken by another payload, or the file by another engine."""


class BusyError(WorkflowError):
    """A bounded queue is full; nothing was accepted; try again later."""


class WaitTimeout(WorkflowError, TimeoutError):
    """A wait ended before the run did. The run goes on."""


class ApprovalTimeout(WaitTimeout):
    """Nobody decided by the approval's deadline, and it has no default. Raised inside the workflow."""


class ApprovalRejected(WorkflowError):
    """The people who were asked rejected a question that is not of yes or no. Raised inside the workflow."""


class ClosedError(WorkflowError):
    """The engine is closed, or this process was forked from the one that opened it."""


class StoreError(WorkflowError):
    """The store could not read or write. Nothing that was acknowledged is lost."""


class FencedError(WorkflowError):
    """This engine lost the run's lease; its write was refused."""


class LlmError(WorkflowError):
    """A model call cannot be made as asked, or its answer cannot be used: then `usage` says what it used all the same."""

    usage: Any = None


class RunError(WorkflowError):
    """A run or a step ended without a value. `error` is what was recorded: type, message, traceback."""

    def __init__(self, code: str, message: str, *, error: dict[str, Any] | None = None, **more: Any) -> None:
        super().__init__(code, message, **more)
        self.error = error or {}


class RunFailed(RunError):
    """The run raised, or was given up."""


class RunCancelled(RunError):
    """Somebody cancelled the run."""


class StepFailed(RunError):
    """A step failed for good. Raised inside the workflow, live and on replay alike."""


def failure_of(failure: tuple[int, str, str]) -> WorkflowError:
    """Build the exception for a failure that came inside a batch: the core's StatusKind, the code, the message."""
    kinds: dict[int, type[WorkflowError]] = {
        1: InputError,
        2: NotFoundError,
        3: ConflictError,
        4: BusyError,
        5: WaitTimeout,
        9: ClosedError,
    }
    return kinds.get(failure[0], StoreError)(failure[1], failure[2])


def closed_error() -> ClosedError:
    """What callers get of a closed engine."""
    return ClosedError("SW-E1001", "the engine is closed")
