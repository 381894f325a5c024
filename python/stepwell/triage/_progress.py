"""Progress for people: a live line on a terminal, sparse lines in a log, one quiet line in a notebook.

A renderer never ends a job: when its stream is closed or full it falls silent. Nothing is imported for a notebook;
IPython is used only where it already runs.
"""

from __future__ import annotations

import math
import os
import sys
import time
from dataclasses import dataclass
from html import escape
from typing import IO, TYPE_CHECKING, Any, Protocol

from ._terminal import bar, cells, cut, money, short

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

TERMINAL_INTERVAL_S = 0.1
LOG_INTERVAL_S = 5.0
LOG_WAITING_INTERVAL_S = 60.0  # a batch may take a day
LOG_SHARE = 0.1
NOTEBOOK_INTERVAL_S = 0.5
BAR_COLUMNS_MIN, BAR_COLUMNS_MAX = 10, 30
WHOLE_RATE_MIN = 10


@dataclass(slots=True, frozen=True)
class Progress:
    """A moment of a job. `finished` counts the `resumed` rows too, recorded by an earlier start at no cost now.

    `rate` is rows a second in this start, `eta_s` the seconds still to go, None while nobody can know. `down_s`: the provider
    fails, and is asked again in so many seconds; the rows wait for it and lose nothing. `batches`: so many of the
    provider's batches are waited for, and the last look at one was `looked_s` seconds ago.
    """

    finished: int
    total: int
    rate: float = 0.0
    eta_s: float | None = None
    cost_usd: float = 0.0
    tokens_in: int = 0
    tokens_out: int = 0
    retries: int = 0
    review: int = 0
    dead: int = 0
    elapsed_s: float = 0.0
    resumed: int = 0
    cost_usd_max: float | None = None
    down_s: float | None = None
    batches: int = 0
    looked_s: float | None = None

    @property
    def share(self) -> float:
        """Finished rows as a part of all rows; an empty job is finished."""
        return self.finished / self.total if self.total else 1.0


class Renderer(Protocol):
    """What the job feeds: `update` as often as it likes, `close` once; afterwards further updates do nothing."""

    def update(self, progress: Progress) -> None: ...

    def close(self, progress: Progress | None = None) -> None: ...


def choose_renderer(
    stream: IO[str] | None = None,
    *,
    name: str = "triage",
    quiet: bool = False,
    environ: Mapping[str, str] | None = None,
) -> Renderer:
    """The renderer that fits where the words go (standard error when no stream is given).

    A notebook is only assumed for the standard streams; a file or pipe that was passed in gets log lines.
    """
    out = sys.stderr if stream is None else stream
    env = os.environ if environ is None else environ
    if quiet or out is None:  # under pythonw there is no standard error
        return Silent()
    if stream is None or stream in (sys.stdout, sys.stderr):
        display = _notebook_display()
        if display is not None:
            return NotebookLine(display, name=name)
    try:
        is_terminal = out.isatty()
    except (AttributeError, ValueError):
        is_terminal = False
    if is_terminal and env.get("TERM") != "dumb" and not env.get("CI"):
        return TerminalLine(out, name=name, color="NO_COLOR" not in env or not env["NO_COLOR"])
    return LogLines(out, name=name)


class Silent:
    """Shows nothing."""

    def update(self, progress: Progress) -> None:
        """Does nothing."""

    def close(self, progress: Progress | None = None) -> None:
        """Does nothing."""


class _Line:
    """What all renderers share: a clock, the last progress, and silence after a broken stream."""

    def __init__(self, name: str, clock: Callable[[], float]) -> None:
        self._name = name
        self._clock = clock
        self._last: Progress | None = None
        self._shown_at: float | None = None
        self._is_closed = False

    def _write(self, stream: IO[str], text: str) -> None:
        try:
            try:
                stream.write(text)
            except UnicodeEncodeError:
                stream.write(text.replace("█", "#").replace("░", ".").encode("ascii", "replace").decode())
            stream.flush()
        except (OSError, ValueError):
            self._is_closed = True


class TerminalLine(_Line):
    """One line that is rewritten in place, as wide as the terminal at that moment."""

    def __init__(
        self,
        stream: IO[str],
        *,
        name: str = "triage",
        color: bool = True,
        width: Callable[[], int] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(name, clock)
        self._stream = stream
        self._has_color = color
        self._width = width or self._terminal_width
        self._printed = 0

    def update(self, progress: Progress) -> None:
        """Rewrites the line, at most ten times a second."""
        if self._is_closed:
            return
        if self._last is None and progress.resumed:
            self._write(self._stream, resumed_line(self._name, progress) + "\n")
        self._last = progress
        now = self._clock()
        if (
            self._shown_at is not None
            and now - self._shown_at < TERMINAL_INTERVAL_S
            and progress.finished < progress.total
        ):
            return
        self._shown_at = now
        self._show(progress)

    def close(self, progress: Progress | None = None) -> None:
        """Shows the end state and moves to a new line, so that what follows does not overwrite it."""
        last = progress or self._last
        if self._is_closed:
            return
        if last is not None:
            self._show(last)
            self._write(self._stream, "\n")
        self._is_closed = True

    def _show(self, progress: Progress) -> None:
        # One column stays free: writing the last one makes some terminals break the line.
        line = live_line(self._name, progress, self._width() - 1)
        used = cells(line)
        text = _colored(line, progress) if self._has_color else line
        self._write(self._stream, "\r" + text + " " * max(0, self._printed - used))
        self._printed = used

    def _terminal_width(self) -> int:
        try:
            columns = os.get_terminal_size(self._stream.fileno()).columns
        except (OSError, ValueError, AttributeError):
            columns = 0
        return columns if columns > 0 else 80


class LogLines(_Line):
    """Whole lines for files and pipes: one at the start, one after 5 s or a tenth of the rows, one at the end."""

    def __init__(self, stream: IO[str], *, name: str = "triage", clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(name, clock)
        self._stream = stream
        self._shown_share = 0.0

    def update(self, progress: Progress) -> None:
        """Writes a line when enough time or enough rows have passed since the last one."""
        if self._is_closed:
            return
        is_first = self._last is None
        self._last = progress
        now = self._clock()
        if is_first:
            text = resumed_line(self._name, progress) if progress.resumed else f"{self._name}: {progress.total:,} rows"
            self._write(self._stream, text + "\n")
        elif self._is_due(progress, now):
            self._write(self._stream, live_line(self._name, progress, 200, with_bar=False) + "\n")
        else:
            return
        self._shown_at, self._shown_share = now, progress.share

    def close(self, progress: Progress | None = None) -> None:
        """Writes the last line."""
        last = progress or self._last
        if last is not None and not self._is_closed:
            self._write(self._stream, final_line(self._name, last) + "\n")
        self._is_closed = True

    def _is_due(self, progress: Progress, now: float) -> bool:
        """Both have a floor: a fast job does not write ten lines in a tenth of a second."""
        if progress.finished >= progress.total:
            return False  # the closing line says it
        waited = now - (self._shown_at or 0.0)
        interval = LOG_WAITING_INTERVAL_S if progress.batches else LOG_INTERVAL_S
        return waited >= interval or (progress.share - self._shown_share >= LOG_SHARE and waited >= 1.0)


class NotebookLine(_Line):
    """One output, replaced at most twice a second; what stays in the saved notebook is one static line."""

    def __init__(
        self, display: Callable[..., Any], *, name: str = "triage", clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(name, clock)
        self._display = display
        self._output: Any = None

    def update(self, progress: Progress) -> None:
        """Replaces the output, at most twice a second."""
        if self._is_closed:
            return
        self._last = progress
        now = self._clock()
        if self._shown_at is None or now - self._shown_at >= NOTEBOOK_INTERVAL_S:
            self._shown_at = now
            self._show(progress, is_final=False)

    def close(self, progress: Progress | None = None) -> None:
        """Leaves the end state."""
        last = progress or self._last
        if last is not None and not self._is_closed:
            self._show(last, is_final=True)
        self._is_closed = True

    def _show(self, progress: Progress, *, is_final: bool) -> None:
        text = final_line(self._name, progress) if is_final else live_line(self._name, progress, 120, with_bar=False)
        bundle = {"text/plain": text, "text/html": notebook_html(text, progress)}
        try:
            if self._output is None:
                self._output = self._display(bundle, raw=True, display_id=True)
            else:
                self._output.update(bundle, raw=True)
        except Exception:  # noqa: BLE001 - a front end that went away must not stop the job it watches
            self._is_closed = True


# -- the words ---------------------------------------------------------------------------------------------------------


def live_line(name: str, progress: Progress, width: int, *, with_bar: bool = True) -> str:
    """The state in one line of at most `width` columns; what matters least is left out first."""
    p = progress
    head = f"{name}  {p.finished:,}/{p.total:,}  {_whole_percent(p)}%"
    speed = f"{p.rate:,.0f} it/s" if p.rate >= WHOLE_RATE_MIN else f"{p.rate:.1f} it/s"
    eta = f"ETA {duration(p.eta_s)}" if p.eta_s is not None and p.finished < p.total else ""
    cost = money(p.cost_usd) + (f"/{money(p.cost_usd_max)} cap" if p.cost_usd_max is not None else "")
    tokens = f"in {short(p.tokens_in)} out {short(p.tokens_out)}" if p.tokens_in or p.tokens_out else ""
    waiting = f"waiting for {p.batches:,} batch{'' if p.batches == 1 else 'es'}" if p.batches else ""
    if waiting and p.looked_s is not None:
        waiting += f", looked {duration(p.looked_s)} ago"
    # Shown in this order, kept in the order of the numbers: trouble and time are worth more than token counts.
    parts = [
        (0, "" if p.down_s is None else f"provider down, again in {duration(p.down_s)}"),
        (1, waiting),
        (2, speed),
        (1, eta),
        (3, cost),
        (7, tokens),
        (6, f"retry {p.retries:,}" if p.retries else ""),
        (5, f"review {p.review:,}" if p.review else ""),
        (4, f"dead {p.dead:,}" if p.dead else ""),
    ]
    parts = [(rank, text) for rank, text in parts if text]
    while parts and len(head) + sum(len(text) + 2 for _, text in parts) > width:
        parts.remove(max(parts))
    line = "  ".join([head, *(text for _, text in parts)])
    room = min(BAR_COLUMNS_MAX, width - cells(line) - 2)
    if with_bar and room >= BAR_COLUMNS_MIN:
        filled = bar(p.share, room).rstrip("▏▎▍▌▋▊▉")
        line = line.replace(head, f"{head}  {filled}{'░' * (room - len(filled))}", 1)
    return cut(line, width)


def final_line(name: str, progress: Progress) -> str:
    """The state when nothing more will come; says when rows are missing, because the same command finishes them."""
    p = progress
    words = (
        f"{name}: {p.finished:,}/{p.total:,} rows in {duration(p.elapsed_s)}, {p.rate:,.1f} it/s, {money(p.cost_usd)}, "
        f"review {p.review:,}, dead {p.dead:,}, retries {p.retries:,}"
    )
    return words if p.finished >= p.total else f"{words}; {p.total - p.finished:,} left, the same command continues"


def resumed_line(name: str, progress: Progress) -> str:
    """What an earlier start already paid for."""
    return f"{name}: resumed: {progress.resumed:,} of {progress.total:,} were recorded before"


def notebook_html(text: str, progress: Progress) -> str:
    """A line with a thin bar below; inherits the notebook's colours, light or dark."""
    resumed = (
        f" &#183; resumed: {progress.resumed:,} of {progress.total:,} were recorded before" if progress.resumed else ""
    )
    tone = "#cc3d4e" if progress.dead else "#3159d8"
    return (
        '<div style="font:13px/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;max-width:900px">'
        f'<div>{escape(text)}<span style="opacity:.65">{resumed}</span></div>'
        '<div style="height:5px;border-radius:3px;background:rgba(128,140,155,.28);overflow:hidden;margin-top:4px">'
        f'<div style="height:100%;width:{min(progress.share, 1) * 100:.1f}%;background:{tone}"></div></div></div>'
    )


def duration(seconds: float | None) -> str:
    """Seconds as 0:49, 12:05 or 3:20:00."""
    if seconds is None or not math.isfinite(seconds):
        return "?"
    whole = max(0, round(seconds))
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"


def _whole_percent(progress: Progress) -> int:
    """Rounded down: 100 is said when it is all."""
    return int(progress.share * 100)


def _colored(line: str, progress: Progress) -> str:
    if progress.dead:
        line = line.replace(f"dead {progress.dead:,}", f"\x1b[31mdead {progress.dead:,}\x1b[0m")
    if progress.review:
        line = line.replace(f"review {progress.review:,}", f"\x1b[33mreview {progress.review:,}\x1b[0m")
    filled = line.count("█")
    return line.replace("█" * filled, "\x1b[32m" + "█" * filled + "\x1b[0m", 1) if filled else line


def _notebook_display() -> Callable[..., Any] | None:
    """IPython's display function when this process is a notebook kernel; a plain IPython prompt is a terminal."""
    ipython = sys.modules.get("IPython")
    shell = getattr(ipython, "get_ipython", lambda: None)() if ipython is not None else None
    if shell is None or getattr(shell, "kernel", None) is None:
        return None
    display = sys.modules.get("IPython.display")
    return getattr(display, "display", None)
