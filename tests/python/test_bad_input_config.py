"""The bad-input catalogue, entries 137 to 146: settings and surroundings. Each test bears the number of its entry."""

from __future__ import annotations

import http.server
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from flows import asks, doubles, made, still_works

import stepwell as sw
from stepwell.llm._classify import Classifier

if TYPE_CHECKING:
    from collections.abc import Iterator

SCRIPT = """
import stepwell as sw
@sw.step
def shout(text: str) -> str:
    return text.upper()
@sw.workflow
def greets(text: str) -> str:
    return shout(text) + sw.now().strftime("%z")
with sw.Engine("s.db") as engine:
    print(ascii(engine.start(greets, "stra\\u00dfe \\u2603", key="one").result(20)))
"""
BARE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[sw.Engine]:
    made.clear()
    with sw.Engine(tmp_path / "s.db") as opened:
        yield opened


def run_script(folder: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=60
    )


# -- options ------------------------------------------------------------------------------------------------------------


def test_137_an_option_that_does_not_exist(engine: sw.Engine) -> None:
    """Refused with the names that exist, before anything is started."""

    @sw.step
    def sends() -> None:
        sw.send(doubles, 1, kye="a")  # type: ignore[call-arg]

    @sw.workflow
    def flow(_: int) -> None:
        sends()

    with pytest.raises(sw.InputError, match="SW-E1021") as error:
        engine.start(doubles, 1, kye="a")  # type: ignore[call-arg]
    assert "kye" in str(error.value)
    assert "key" in str(error.value)
    with pytest.raises(sw.InputError, match="SW-E1023"):
        engine.queue(doubles, concurency=3)  # type: ignore[call-arg]
    with pytest.raises(sw.RunFailed) as failure:
        engine.start(flow, 1).result(20)
    assert failure.value.error["code"] == "SW-E1021"
    with pytest.raises(TypeError, match="durabilty"):
        sw.Engine(durabilty="full")  # type: ignore[call-arg]
    with pytest.raises(sw.InputError, match="SW-E1012"):
        sw.Engine(durability="Full")
    assert not made


@pytest.mark.parametrize("value", ["10", "true", True, 1.5, -1, 0, 10**9, float("nan"), [], b"1"])
def test_138_139_numbers_that_are_none(value: Any, engine: sw.Engine) -> None:
    """Text, True, fractions, zero, less and too much are refused where they are given."""
    makers = {
        "SW-E1014": (
            lambda: sw.Engine(calls_per_host=value),
            lambda: engine.serve(doubles, concurrency=value),
            lambda: engine.map(doubles, [1], concurrency=value),
        ),
        "SW-E1011": (lambda: sw.Retry(max_attempts=value),),
        "SW-E1023": (
            lambda: engine.queue(doubles, concurrency=value),
            lambda: engine.queue(doubles, per_group=value),
            lambda: engine.queue(doubles, rate=sw.Rate(value, "1s")),
            lambda: engine.start(doubles, 1, collapse=sw.Collect(value, "1s")),
        ),
    }
    for code, calls in makers.items():
        for call in calls:
            with pytest.raises(sw.InputError, match=code):
                call()
    still_works(engine)


@pytest.mark.parametrize("value", ["1", "high", True, 1.5, 10**7, -(10**7), float("nan"), []])
def test_138_priorities_that_are_none(value: Any, engine: sw.Engine) -> None:
    """Refused; nothing is started."""
    with pytest.raises(sw.InputError, match="SW-E1018"):
        engine.start(doubles, 1, priority=value)


@pytest.mark.parametrize("value", ["", 7, "x" * 256, "new\nline", "nul\0", "\udc80", b"key", True])
def test_138_keys_and_groups_that_are_none(value: Any, engine: sw.Engine) -> None:
    """Refused, names of queues and signals too; nothing is started."""
    with pytest.raises(sw.InputError, match="SW-E1202"):
        engine.start(doubles, 1, key=value)
    if value not in ("", "new\nline", "nul\0"):
        run = engine.start(asks, "1m")
        for use in (
            lambda: engine.start(doubles, 1, group=value),
            lambda: engine.start(doubles, 1, queue=value),
            lambda: engine.start(doubles, 1, collapse=sw.Singleton(value)),
            lambda: engine.queue(value),
            lambda: run.signal(value),
            lambda: run.signal("answer", key=value),
        ):
            with pytest.raises(sw.InputError, match="SW-E1202"):
                use()
    assert not made


@pytest.mark.parametrize("value", ["5", float("nan"), True, [], "30s"])
def test_139_waits_that_are_none(value: Any, engine: sw.Engine) -> None:
    """Refused; zero and less only look, infinity waits for ever."""
    run = engine.start(doubles, 1)
    with pytest.raises(sw.InputError, match="SW-E1010"):
        run.result(value)
    with pytest.raises(sw.InputError, match="SW-E1010"):
        engine.close(value)
    assert run.result(float("inf")) == 2
    assert run.result(0) == 2
    assert run.result(-1) == 2
    assert run.result(1e300) == 2


# -- where the store is -------------------------------------------------------------------------------------------------


BAD_PATHS = {
    "empty": "",
    "nul": "a\0b",
    "half a character": "\udc80.db",
    "url": "redis://localhost",
    "https": "https://example.com/x.db",
    "number": 7,
    "bytes": b"s.db",
    "too long": "x" * 5000,
    "below a file": "file/s.db",
    "folder": ".",
    "nobody's home": "~nobody-of-that-name/s.db",
    "not makeable": "/proc/no-such/s.db",
    "device": "/dev/null",
    "dangling link": "dangling",
}


@pytest.mark.parametrize("what", BAD_PATHS)
def test_140_paths_that_cannot_be_a_store(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused; no file is touched and nothing is made but a lock file beside the path."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("text")
    (tmp_path / "dangling").symlink_to(tmp_path / "gone" / "away.db")
    with pytest.raises(sw.WorkflowError, match=r"SW-E(1013|1102|1104)"):
        sw.Engine(BAD_PATHS[what])  # type: ignore[arg-type]
    assert (tmp_path / "file").read_text() == "text"
    assert Path("/dev/null").is_char_device()
    assert not list(Path("/dev").glob("null.*")), "a lock, or the mark of a disk error"
    assert {each.name for each in tmp_path.iterdir()} <= {"dangling", "file", "dangling.lock"}


@pytest.mark.parametrize(
    "name", ["new\nline.db", "schön ☃.db", "a b'c\";--.db", "new/folders/s.db", "~/home.db", "?x=1&y#z.db", "%41.db"]
)
def test_140_unusual_paths_that_work(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Line ends, quotes, other scripts, a home folder, folders that do not exist yet."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for _ in range(2):
        with sw.Engine(name) as engine:
            assert engine.start(doubles, 4, key="one").result(20) == 8
    assert Path(name).expanduser().is_file()


def test_141_a_store_in_memory_backed_files(tmp_path: Path) -> None:
    """It works, for as long as the memory lives."""
    shared = Path("/dev/shm")  # noqa: S108 - tmpfs is the subject
    if not os.access(shared, os.W_OK):
        pytest.skip("no tmpfs that can be written")
    path = shared / f"stepwell-{os.getpid()}.db"
    try:
        for _ in range(2):
            with sw.Engine(path) as engine:
                assert engine.start(doubles, 4, key="one").result(20) == 8
    finally:
        for each in shared.glob(f"{path.name}*"):
            each.unlink()


def test_142_a_second_engine_on_one_file(engine: sw.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused under whatever name, in this process and in another; the first one is not disturbed."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "soft.db").symlink_to(tmp_path / "s.db")
    for path in (tmp_path / "s.db", "s.db", "./s.db", "soft.db"):
        with pytest.raises(sw.ConflictError, match="SW-E1101"):
            sw.Engine(path)
    done = run_script(tmp_path, dict(os.environ))
    assert done.returncode == 1
    assert "SW-E1101" in done.stderr
    still_works(engine)


# -- the process's surroundings -----------------------------------------------------------------------------------------


class Listens(http.server.BaseHTTPRequestHandler):
    heard: list[dict[str, str]]

    def do_POST(self) -> None:
        self.heard.append({name.lower(): value for name, value in self.headers.items()})
        self.send_response(400)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None: ...  # noqa: A002 - its name above


@pytest.fixture
def listener() -> Iterator[tuple[str, list[dict[str, str]]]]:
    heard: list[dict[str, str]] = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Each", (Listens,), {"heard": heard}))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1", heard
    server.shutdown()
    thread.join()
    server.server_close()


def asks_once(url: str, key: str = "sk-secret-of-a-test") -> sw.WorkflowError:
    classifier = Classifier(["A", "B"], model="m", base_url=url, api_key=key, retry=sw.Retry(1))

    @sw.workflow
    async def flow(text: str) -> str:
        return (await classifier.classify(text)).label

    with sw.Engine("calls.db") as engine, pytest.raises(sw.RunFailed) as failure:
        engine.start(flow, "hello", timeout="20s").result(30)
    return failure.value


def test_143_proxies_netrc_and_certificates_of_the_environment(
    listener: tuple[str, list[dict[str, str]]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """No proxy is used unless asked for, and no password out of a file joins it; a missing CA bundle is said."""
    url, heard = listener
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login someone password taken\ndefault login x password y\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "gone.pem"))
    with caplog.at_level(logging.WARNING, "stepwell"):
        asks_once(url)
    assert [each["authorization"] for each in heard] == ["Bearer sk-secret-of-a-test"]
    assert "gone.pem" in caplog.text


@pytest.mark.parametrize("proxy", ["::::", "nonsense://x", "http://", "http://127.0.0.1:99999", " "])
def test_143_a_proxy_that_is_none(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine is not opened, whether it is named by argument or variable, or by the environment that is asked for it."""
    with pytest.raises(sw.InputError, match="SW-E1301"):
        sw.Engine(egress=sw.Egress(proxy=proxy))
    monkeypatch.setenv("https_proxy", proxy)
    sw.Engine().close()
    with pytest.raises(sw.InputError, match="SW-E1301"):
        sw.Engine(egress=sw.Egress(proxy="environment"))
    monkeypatch.setenv("STEPWELL_PROXY", proxy)
    with pytest.raises(sw.InputError, match="SW-E1301"):
        sw.Engine()


@pytest.mark.parametrize(
    "env",
    [
        {},
        {"TZ": ""},
        {"TZ": "No/Where"},
        {"TZ": "Asia/Kathmandu"},
        {"LANG": "C"},
        {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
    ids=str,
)
def test_144_an_environment_with_next_to_nothing_in_it(env: dict[str, str], tmp_path: Path) -> None:
    """Text and times are kept the same."""
    for _ in range(2):
        done = run_script(tmp_path, env)
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == "'STRASSE \\u2603+0000'"


def test_144_the_command_line_on_a_terminal_that_knows_ascii_only(tmp_path: Path) -> None:
    """What it cannot show becomes a question mark."""
    for env in ({"PYTHONIOENCODING": "ascii"}, BARE):
        done = subprocess.run(
            [sys.executable, "-m", "stepwell", "demo"],
            cwd=tmp_path,
            env=os.environ | env,
            capture_output=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        assert b"labelled.csv" in done.stdout


def test_145_a_key_is_neither_shown_nor_stored(
    listener: tuple[str, list[dict[str, str]]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Not in errors, logs, reprs, nor in any byte of the store."""
    secret = "sk-" + "fAke0" * 8
    url, heard = listener
    monkeypatch.chdir(tmp_path)
    with caplog.at_level(logging.DEBUG):
        error = asks_once(url, secret)
    assert heard
    classifier = Classifier(["A", "B"], model="m", base_url=url, api_key=secret)
    assert secret not in f"{error} {error!r} {error.error} {caplog.text} {classifier!r}"
    for path in tmp_path.rglob("*"):
        assert path.is_dir() or secret.encode() not in path.read_bytes(), path
