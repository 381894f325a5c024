"""Stepwell: durable AI workflows in one `pip install`.

import stepwell as sw

Importing starts nothing and loads next to nothing: names are found when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stepwell import llm, store
    from stepwell._approvals.case import ApprovalRequest, ApprovalStatus, AuditEntry, Decision
    from stepwell._approvals.flows import approval, approval_blocking
    from stepwell._approvals.inbox import Approval
    from stepwell._batch import Batch, BatchItem, BatchProgress
    from stepwell._budgets.accounts import BudgetAccount, BudgetChange
    from stepwell._budgets.policy import Budget
    from stepwell._egress import Egress
    from stepwell._engine import Engine
    from stepwell._errors import (
        ApprovalRejected,
        ApprovalTimeout,
        BusyError,
        ClosedError,
        ConflictError,
        FencedError,
        InputError,
        LlmError,
        NotFoundError,
        RunCancelled,
        RunError,
        RunFailed,
        StepFailed,
        StoreError,
        WaitTimeout,
        WorkflowError,
    )
    from stepwell._history import HistoryEntry, HistoryKind
    from stepwell._limits import Breaker, Bucket, Circuit, Limit
    from stepwell._queues import Collect, Debounce, Queue, QueueInfo, Rate, Singleton
    from stepwell._retention import Retention
    from stepwell._run import Run
    from stepwell._schedules.plans import Applied, Schedule, Scheduled, Tick
    from stepwell._sla import Breach
    from stepwell._types import Retry, RunStatus
    from stepwell._waits import (
        child,
        child_blocking,
        first,
        map,  # noqa: A004 - the name everybody knows
        now,
        patched,
        random,
        send,
        sleep,
        sleep_blocking,
        sleep_until,
        sleep_until_blocking,
        step_key,
        uuid,
        wait_for_signal,
        wait_for_signal_blocking,
    )
    from stepwell._whatif import whatif
    from stepwell._workflow import Step, Workflow, gather, step, workflow
    from stepwell.triage import triage

_WHERE = {
    "Approval": "_approvals.inbox",
    "ApprovalRejected": "_errors",
    "ApprovalRequest": "_approvals.case",
    "ApprovalStatus": "_approvals.case",
    "ApprovalTimeout": "_errors",
    "AuditEntry": "_approvals.case",
    "Applied": "_schedules.plans",
    "Batch": "_batch",
    "BatchItem": "_batch",
    "BatchProgress": "_batch",
    "Breach": "_sla",
    "Breaker": "_limits",
    "Bucket": "_limits",
    "Budget": "_budgets.policy",
    "BudgetAccount": "_budgets.accounts",
    "BudgetChange": "_budgets.accounts",
    "BusyError": "_errors",
    "Circuit": "_limits",
    "ClosedError": "_errors",
    "Collect": "_queues",
    "ConflictError": "_errors",
    "Debounce": "_queues",
    "Decision": "_approvals.case",
    "Egress": "_egress",
    "Engine": "_engine",
    "FencedError": "_errors",
    "HistoryEntry": "_history",
    "HistoryKind": "_history",
    "InputError": "_errors",
    "Limit": "_limits",
    "LlmError": "_errors",
    "NotFoundError": "_errors",
    "Queue": "_queues",
    "QueueInfo": "_queues",
    "Rate": "_queues",
    "Retention": "_retention",
    "Retry": "_types",
    "Run": "_run",
    "RunCancelled": "_errors",
    "RunError": "_errors",
    "RunFailed": "_errors",
    "RunStatus": "_types",
    "Schedule": "_schedules.plans",
    "Scheduled": "_schedules.plans",
    "Singleton": "_queues",
    "Step": "_workflow",
    "StepFailed": "_errors",
    "StoreError": "_errors",
    "Tick": "_schedules.plans",
    "WaitTimeout": "_errors",
    "Workflow": "_workflow",
    "WorkflowError": "_errors",
    "approval": "_approvals.flows",
    "approval_blocking": "_approvals.flows",
    "child": "_waits",
    "child_blocking": "_waits",
    "first": "_waits",
    "gather": "_workflow",
    "llm": "",
    "map": "_waits",
    "now": "_waits",
    "patched": "_waits",
    "random": "_waits",
    "send": "_waits",
    "sleep": "_waits",
    "sleep_blocking": "_waits",
    "sleep_until": "_waits",
    "sleep_until_blocking": "_waits",
    "step": "_workflow",
    "step_key": "_waits",
    "store": "",
    "triage": "",
    "uuid": "_waits",
    "wait_for_signal": "_waits",
    "wait_for_signal_blocking": "_waits",
    "whatif": "_whatif",
    "workflow": "_workflow",
}

__all__ = [
    "Applied",
    "Approval",
    "ApprovalRejected",
    "ApprovalRequest",
    "ApprovalStatus",
    "ApprovalTimeout",
    "AuditEntry",
    "Batch",
    "BatchItem",
    "BatchProgress",
    "Breach",
    "Breaker",
    "Bucket",
    "Budget",
    "BudgetAccount",
    "BudgetChange",
    "BusyError",
    "Circuit",
    "ClosedError",
    "Collect",
    "ConflictError",
    "Debounce",
    "Decision",
    "Egress",
    "Engine",
    "FencedError",
    "HistoryEntry",
    "HistoryKind",
    "InputError",
    "Limit",
    "LlmError",
    "NotFoundError",
    "Queue",
    "QueueInfo",
    "Rate",
    "Retention",
    "Retry",
    "Run",
    "RunCancelled",
    "RunError",
    "RunFailed",
    "RunStatus",
    "Schedule",
    "Scheduled",
    "Singleton",
    "Step",
    "StepFailed",
    "StoreError",
    "Tick",
    "WaitTimeout",
    "Workflow",
    "WorkflowError",
    "approval",
    "approval_blocking",
    "child",
    "child_blocking",
    "first",
    "gather",
    "llm",
    "map",
    "now",
    "patched",
    "random",
    "send",
    "sleep",
    "sleep_blocking",
    "sleep_until",
    "sleep_until_blocking",
    "step",
    "step_key",
    "store",
    "triage",
    "uuid",
    "wait_for_signal",
    "wait_for_signal_blocking",
    "whatif",
    "workflow",
]


def __getattr__(name: str) -> Any:
    """Find a public name where it lives, once."""
    if name == "__version__":
        value: Any = import_module("stepwell._core").__version__
    elif name in _WHERE:
        module = _WHERE[name]
        value = getattr(import_module(f"stepwell.{module}"), name) if module else import_module(f"stepwell.{name}")
    else:
        raise AttributeError(f"module 'stepwell' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names."""
    return [*__all__, "__version__"]
