"""Progress on terminals, in logs and in notebooks, with a clock of our own."""

import io
import sys
import types
from dataclasses import replace

import pytest

from stepwell.triage._progress import (
    LogLines,
    NotebookLine,
    Progress,
    Silent,
    TerminalLine,
    choose_renderer,
    duration,
    final_line,
    live_line,
    notebook_html,
)
from stepwell.triage._terminal import cells

MIDDLE = Progress(
    finished=4_212,
    total=10_000,
    rate=118.4,
    eta_s=49,
    cost_usd=1.93,
    tokens_in=2_134_000,
    tokens_out=84_321,
    retries=31,
    review=12,
    dead=3,
    elapsed_s=35.6,
    cost_usd_max=5.0,
)
DONE = replace(MIDDLE, finished=10_000, eta_s=0, elapsed_s=84.4)


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_the_line():
    assert live_line("triage", MIDDLE, 200, with_bar=False) == (
        "triage  4,212/10,000  42%  118 it/s  ETA 0:49  $1.93/$5.00 cap  in 2.1M out 84.3k  retry 31  review 12  dead 3"
    )


@pytest.mark.parametrize("width", [1, 5, 20, 30, 40, 60, 79, 80, 100, 120, 200, 400])
def test_the_line_fits_any_width(width):
    for progress in (MIDDLE, DONE, Progress(0, 0), Progress(0, 5), Progress(1, 3, rate=0.04, eta_s=float("inf"))):
        for with_bar in (True, False):
            assert cells(live_line("triage", progress, width, with_bar=with_bar)) <= width


def test_what_matters_least_goes_first():
    assert "in 2.1M" not in live_line("triage", MIDDLE, 90)
    narrow = live_line("triage", MIDDLE, 46)
    assert "ETA 0:49" in narrow
    assert "retry" not in narrow
    assert "█" in live_line("triage", MIDDLE, 140)


def test_hundred_percent_is_said_only_at_the_end():
    assert "99%" in live_line("t", Progress(9_999, 10_000), 80)
    assert "100%" in live_line("t", Progress(10_000, 10_000), 80)


def test_terminal_rewrites_one_line_and_erases_what_was_longer():
    clock, stream = Clock(), Terminal()
    line = TerminalLine(stream, color=False, width=lambda: 60, clock=clock)
    line.update(MIDDLE)
    first = stream.getvalue()
    assert first.startswith("\r")
    assert "\n" not in first
    clock.now += 0.05
    line.update(replace(MIDDLE, finished=4_213))
    assert stream.getvalue() == first  # not more than ten a second
    clock.now += 1
    line.update(Progress(5, 10))
    written = stream.getvalue().split("\r")[-1]
    assert cells(written) >= cells(first) - 1
    line.close(DONE)
    assert stream.getvalue().endswith("\n")
    assert "10,000/10,000" in stream.getvalue()
    line.close()
    line.update(MIDDLE)
    assert stream.getvalue().count("\n") == 1


def test_colors_only_where_wanted():
    for environ, expected in (({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True)):
        stream = Terminal()
        renderer = choose_renderer(stream, environ=environ)
        renderer.update(replace(MIDDLE))
        renderer.close()
        assert ("\x1b[" in stream.getvalue()) is expected


def test_resume_is_shown():
    resumed = Progress(finished=1_204, total=5_000, resumed=1_204)
    expected = "triage: resumed: 1,204 of 5,000 were recorded before\n"
    for renderer in (TerminalLine(Terminal(), width=lambda: 80), LogLines(io.StringIO())):
        renderer.update(resumed)
        assert renderer._stream.getvalue().startswith(expected)
    assert "resumed: 1,204 of 5,000" in notebook_html("x", resumed)


def test_log_lines_are_sparse():
    clock, stream = Clock(), io.StringIO()
    log = LogLines(stream, clock=clock)
    for i in range(0, 10_001, 10):  # a thousand updates in ten seconds
        log.update(replace(MIDDLE, finished=i))
        clock.now += 0.01
    log.close(DONE)
    lines = stream.getvalue().splitlines()
    assert lines[0] == "triage: 10,000 rows"
    assert 8 <= len(lines) <= 12
    assert lines[-1] == "triage: 10,000/10,000 rows in 1:24, 118.4 it/s, $1.93, review 12, dead 3, retries 31"
    assert "\r" not in stream.getvalue()


def test_slow_jobs_still_say_something_every_five_seconds():
    clock, stream = Clock(), io.StringIO()
    log = LogLines(stream, clock=clock)
    for _ in range(21):
        log.update(Progress(1, 10_000))
        clock.now += 1
    assert len(stream.getvalue().splitlines()) == 5


def test_fast_jobs_write_two_lines():
    clock, stream = Clock(), io.StringIO()
    log = LogLines(stream, clock=clock)
    for i in range(101):
        log.update(Progress(i, 100))
        clock.now += 0.001
    log.close()
    assert len(stream.getvalue().splitlines()) == 2


def test_an_interrupted_job_says_how_to_go_on():
    assert final_line("triage", MIDDLE).endswith("5,788 left, the same command continues")


def test_a_stream_that_breaks_never_ends_the_job():
    class Broken(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

    closed = io.StringIO()
    closed.close()
    for stream in (Broken(), closed):
        for renderer in (TerminalLine(stream, width=lambda: 80), LogLines(stream)):
            renderer.update(MIDDLE)
            renderer.update(DONE)
            renderer.close()


def test_a_terminal_that_knows_only_ascii():
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    line = TerminalLine(stream, color=False, width=lambda: 160)
    line.update(MIDDLE)
    line.close()
    assert b"####" in raw.getvalue()


def test_choose():
    assert isinstance(choose_renderer(io.StringIO()), LogLines)
    assert isinstance(choose_renderer(Terminal(), environ={}), TerminalLine)
    assert isinstance(choose_renderer(Terminal(), environ={"TERM": "dumb"}), LogLines)
    assert isinstance(choose_renderer(Terminal(), environ={"CI": "true"}), LogLines)
    assert isinstance(choose_renderer(Terminal(), quiet=True), Silent)
    closed = io.StringIO()
    closed.close()
    assert isinstance(choose_renderer(closed), LogLines)


class Output:
    def __init__(self):
        self.shown = []

    def display(self, bundle, *, raw, display_id):
        assert raw
        assert display_id
        self.shown.append(bundle)
        return self

    def update(self, bundle, *, raw):
        assert raw
        self.shown.append(bundle)


def fake_ipython(monkeypatch, kernel):
    output = Output()
    ipython, display = types.ModuleType("IPython"), types.ModuleType("IPython.display")
    ipython.get_ipython = lambda: types.SimpleNamespace(kernel=kernel)
    display.display = output.display
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    return output


def test_notebooks_are_recognised_only_by_their_kernel(monkeypatch):
    fake_ipython(monkeypatch, kernel=object())
    assert isinstance(choose_renderer(), NotebookLine)
    assert isinstance(choose_renderer(io.StringIO()), LogLines)
    fake_ipython(monkeypatch, kernel=None)
    assert isinstance(choose_renderer(Terminal(), environ={}), TerminalLine)


def test_notebook_line_is_slow_and_leaves_one_static_line():
    clock, output = Clock(), Output()
    line = NotebookLine(output.display, clock=clock)
    for i in range(100):  # ten seconds
        line.update(replace(MIDDLE, finished=i))
        clock.now += 0.1
    line.close(DONE)
    assert 18 <= len(output.shown) <= 22
    last = output.shown[-1]
    assert last["text/plain"].startswith("triage: 10,000/10,000 rows in 1:24")
    assert "<script" not in last["text/html"]
    assert "width:100.0%" in last["text/html"]


def test_a_front_end_that_went_away_is_left_alone():
    def display(*_args, **_kwargs):
        raise RuntimeError("no comm")

    line = NotebookLine(display)
    line.update(MIDDLE)
    line.close(DONE)


def test_durations():
    assert [duration(v) for v in (None, 0, 49.4, 725, 12_000, float("nan"))] == [
        "?",
        "0:00",
        "0:49",
        "12:05",
        "3:20:00",
        "?",
    ]
