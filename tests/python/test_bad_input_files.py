"""The bad-input catalogue, entries 147 to 150 and 165: the command line, files, a backup. Tests bear their numbers."""

from __future__ import annotations

import contextlib
import csv
import os
import pty
import random
import shutil
import signal
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest
from flows import made, make

import stepwell as sw
from stepwell.__main__ import main

TICKETS = Path(str(files("stepwell") / "demo" / "tickets.csv"))
LABELS = "Billing,Technical,Account,Shipping,General"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with tickets."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(TICKETS, tmp_path / "t.csv")
    return tmp_path


def triage(*options: str, file: str = "t.csv", out: str = "out.csv") -> list[str]:
    return ["triage", file, "--labels", LABELS, "--text-columns", "subject,body", "--out", out, *options]


def command(*words: str, **options: object) -> subprocess.CompletedProcess[bytes]:
    """Run the command line as a process, without an open standard input."""
    settings = {
        "stdin": subprocess.DEVNULL,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "timeout": 60,
    } | options
    return subprocess.run([sys.executable, "-m", "stepwell", *words], check=False, **settings)  # type: ignore[call-overload, no-any-return]


def is_whole(path: Path) -> bool:
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return len(rows) == 240 and all(row["label"] for row in rows)


# -- words ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["nosuch"],
        ["triage"],
        ["triage", "t.csv"],
        ["triage", "t.csv", "--labels"],
        ["triage", "--nosuch"],
        ["explain"],
        ["explain", "--", "-x"],
        ["explain", "--", ""],
        triage("--concurrency", "many"),
        triage("--concurrency", "0"),
        triage("--concurrency", "-1"),
        triage("--durability", "none"),
        triage("--model", "nosuch"),
        triage(file="-"),
        triage(file="missing.csv"),
        triage(out="-"),
        triage(out=""),
        triage(out="/"),
        triage(out="no/such/folder/out.csv"),
        triage(out="x" * 5000 + ".csv"),
        triage("--store", ""),
        triage("--store", "t.csv"),
        triage("--store", "x" * 5000),
        triage("--report", "no/such/folder/page.html"),
        triage("--report", "."),
        ["triage", "t.csv", "--labels", "@missing", "--out", "out.csv"],
        ["triage", "t.csv", "--labels", "one", "--out", "out.csv"],
    ],
    ids=lambda words: " ".join(words[-2:])[:40] or "nothing",
)
def test_147_words_that_are_no_command(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Usage or a coded error, exit code 1 or 2, no file made."""
    try:
        code = main(words)
    except SystemExit as end:  # argparse
        code = end.code
    said = capsys.readouterr()
    assert code in (1, 2)
    assert "Traceback" not in said.err
    assert "usage:" in said.err + said.out or "SW-E" in said.err
    assert not Path("out.csv").exists()


@pytest.mark.parametrize(
    "words",
    [
        ["explain", "x" * 10**6],
        triage("--model", "m" * 10**6),
        triage("--labels", "a," * 500_000),
        triage(file="f" * 10**6),
    ],
    ids=["code", "model", "labels", "file"],
)
def test_147_an_argument_of_a_million_characters(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A coded error that shows the beginning of it."""
    assert main(words) in (1, 2)
    said = capsys.readouterr().err
    assert "SW-E" in said
    assert len(said) < 10_000


# -- where the output goes ---------------------------------------------------------------------------------------------


def test_147_a_reader_that_has_gone() -> None:
    """The job is done all the same, without a traceback."""
    reads, writes = os.pipe()
    os.close(reads)
    try:
        done = command(*triage(), stdout=writes)
        said = command("explain", "SW-E1001", stdout=writes)
    finally:
        os.close(writes)
    assert b"Traceback" not in done.stderr + said.stderr
    assert b"Exception ignored" not in done.stderr + said.stderr
    assert is_whole(Path("out.csv"))


def test_147_no_standard_output_at_all() -> None:
    """The job is done; no file of ours is given a standard descriptor's number."""
    for closing in (">&-", ">&- 2>&-", "<&- >&- 2>&-"):
        Path("out.csv").unlink(missing_ok=True)
        line = f'exec "$0" -m stepwell "$@" {closing}'
        done = subprocess.run(
            ["sh", "-c", line, sys.executable, *triage()], capture_output=True, check=False, timeout=60
        )
        assert done.returncode == 0, done.stderr
        assert is_whole(Path("out.csv"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_147_an_output_that_is_full() -> None:
    """The job is done, and what could not be shown is said."""
    with Path("/dev/full").open("w") as full:
        for words in (["explain", "SW-E1001"], ["version"], triage()):
            done = command(*words, stdout=full)
            assert done.returncode == 1
            assert b"SW-E1040" in done.stderr
            assert b"Traceback" not in done.stderr
    assert is_whole(Path("out.csv"))


@pytest.mark.kill
@pytest.mark.parametrize("seed", range(6))
def test_147_ctrl_c_at_any_moment_leaves_whole_files(seed: int) -> None:
    """The output is there as a whole or not at all, and the same command again ends the job."""
    draw = random.Random(seed)
    child = subprocess.Popen(
        [sys.executable, "-m", "stepwell", *triage()],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(draw.uniform(0.25, 1.2))
    if child.poll() is None:
        child.send_signal(signal.SIGINT)
    said = child.communicate(timeout=30)[1]
    assert child.returncode in (0, 130, -signal.SIGINT), said
    if Path("out.csv").exists():
        assert is_whole(Path("out.csv"))
    assert command(*triage()).returncode == 0
    assert is_whole(Path("out.csv"))
    assert not [each.name for each in Path().iterdir() if each.name.endswith(".part")]


# -- files that are the same -------------------------------------------------------------------------------------------


def test_149_nothing_of_the_job_is_written_over(capsys: pytest.CaptureFixture[str]) -> None:
    """Input, results, report and store must be different files, by links too."""
    before = Path("t.csv").read_bytes()
    Path("link.csv").symlink_to("t.csv")
    os.link("t.csv", "hard.csv")
    for words in (
        triage(out="t.csv"),
        triage(out="./t.csv"),
        triage(out="link.csv"),
        triage(out="hard.csv"),
        triage("--report", "t.csv"),
        triage("--report", "hard.csv"),
        triage("--report", "out.csv"),
        triage("--report", "jobs.db", "--store", "jobs.db"),
    ):
        assert main(words) == 2, words
        assert "SW-E2243" in capsys.readouterr().err
    assert Path("t.csv").read_bytes() == before
    assert not Path("out.csv").exists()
    assert main(triage("--quiet")) == 0


def test_149_a_disk_that_is_full_at_the_end(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page cannot be written, the results are, and what was done is not done again."""
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full")
    Path("page.html").symlink_to("/dev/full")
    assert main(triage("--report", "page.html")) in (1, 2)
    said = capsys.readouterr().err
    assert "SW-E2245" in said
    assert is_whole(Path("out.csv"))
    assert main(triage()) == 0


# -- terminals ---------------------------------------------------------------------------------------------------------


def test_150_nobody_is_asked_and_nothing_is_drawn_without_a_terminal() -> None:
    """No prompt, no control characters."""
    done = command("demo")
    assert done.returncode == 0, done.stderr
    assert b"\x1b" not in done.stdout + done.stderr
    assert b"\r" not in done.stdout + done.stderr


def test_150_a_terminal_that_goes_away() -> None:
    """The process ends; the same command again ends the job."""
    outer, inner = pty.openpty()
    child = subprocess.Popen([sys.executable, "-m", "stepwell", *triage()], stdin=inner, stdout=inner, stderr=inner)
    os.close(inner)
    os.read(outer, 10)
    os.close(outer)
    child.wait(60)
    assert child.returncode in (0, 1)
    assert command(*triage()).returncode == 0
    assert is_whole(Path("out.csv"))


# -- a backup ----------------------------------------------------------------------------------------------------------


@sw.step
async def pays(amount: int) -> str:
    made.append(sw.step_key())
    return f"{amount} paid"


@sw.workflow
async def payment(amount: int) -> str:
    await make(str(amount))
    return await pays(amount)


def test_165_keys_of_new_work_after_an_old_backup_are_new() -> None:
    """What was sent out after the backup was made has keys that no later work is given, whatever it is called."""
    made.clear()
    with sw.Engine("s.db") as engine:
        engine.start(payment, 1, key="first").result(20)
    shutil.copy("s.db", "backup.db")
    with sw.Engine("s.db") as engine:
        lost = [engine.start(payment, amount, key=f"p-{amount}") for amount in range(100)]
        assert all(run.result(20) for run in lost)
    keys_before = {key for key in made if key.startswith("r_")}
    for each in Path().glob("s.db*"):
        each.unlink()
    shutil.copy("backup.db", "s.db")
    with sw.Engine("s.db") as engine:
        assert engine.find(payment, "p-1") is None
        assert engine.start(payment, 1, key="first").is_new is False
        again = [engine.start(payment, amount, key=f"q-{amount}") for amount in range(100)]
        assert all(run.result(20) for run in again)
    keys_after = {key for key in made if key.startswith("r_")} - keys_before
    assert len(keys_before) == 101
    assert len(keys_after) == 100
    assert not {run._run for run in lost} & {run._run for run in again}
