"""The peers, fetched on demand into build/bench at pinned versions; a second run fetches nothing."""

from __future__ import annotations

import functools
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
CACHE = HERE.parent.parent / "build" / "bench"
INSTALL_SECONDS_MAX = 600


class MissingError(Exception):
    """A peer or a tool that an arm needs is not there; the text says how to get it."""


def shell(*command: str | Path, cwd: Path = HERE) -> None:
    """Run an installer; what it says is shown only if it fails."""
    words = [str(word) for word in command]
    try:
        subprocess.run(
            words,
            cwd=cwd,
            check=True,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=INSTALL_SECONDS_MAX,
        )
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", "") or str(error)
        raise MissingError(f"{' '.join(words[:4])} failed: {said[-600:]}") from error


def is_current(mark: Path, wanted: str) -> bool:
    """Whether exactly this was installed before."""
    return mark.exists() and mark.read_text(encoding="utf-8") == wanted


@functools.cache
def peer_python() -> Path:
    """The interpreter of the Python peers."""
    venv, pins = CACHE / "venv", HERE / "requirements.txt"
    wanted, mark = pins.read_text(encoding="utf-8") + sys.version, venv / "peers.stamp"
    python = venv / "bin" / "python"
    if not is_current(mark, wanted) or not python.exists():
        print("installing the Python peers into build/bench/venv", flush=True)
        shell(sys.executable, "-m", "venv", "--clear", venv)
        shell(python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "-r", pins)
        mark.write_text(wanted, encoding="utf-8")
    return python


def peer_folder(folder: Path, *pins: str) -> Path:
    """A folder with a package and what it needs, for a peer that does not fit into the environment of the others."""
    mark, wanted = folder / "peers.stamp", " ".join(pins)
    if not is_current(mark, wanted):
        print(f"installing {wanted} into build/bench/{folder.name}", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        shell(peer_python(), "-m", "pip", "install", "-q", "--disable-pip-version-check", "--target", folder, *pins)
        mark.write_text(wanted, encoding="utf-8")
    return folder


@functools.cache
def old_aiohttp() -> Path:
    """The folder of the aiohttp that Debian 12 ships, which the goals of the HTTP figures were once set against."""
    return peer_folder(CACHE / "aiohttp-3.8", "aiohttp==3.8.4")


@functools.cache
def instructor() -> Path:
    """The folder of instructor, which wants an older jiter and with it an older openai than the other peers."""
    return peer_folder(CACHE / "instructor", "instructor==1.17.0", "openai==3.3.0")


@functools.cache
def node_folder() -> Path:
    """The folder that holds node_modules of the Node peers."""
    folder, pins = CACHE / "node", HERE / "package.json"
    wanted, mark = pins.read_text(encoding="utf-8"), CACHE / "node" / "peers.stamp"
    if not is_current(mark, wanted) or not (folder / "node_modules").is_dir():
        print("installing the Node peers into build/bench/node", flush=True)
        npm = shutil.which("npm")
        if npm is None:
            raise MissingError("npm is needed: apt-get install npm")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        shutil.copy(pins, folder)
        shell(npm, "install", "--ignore-scripts", "--no-audit", "--no-fund", cwd=folder)
        mark.write_text(wanted, encoding="utf-8")
    return folder


def node() -> str:
    """The Node interpreter."""
    return tool("node", "nodejs")


def tool(name: str, package: str) -> str:
    """A program from a Debian package."""
    found = shutil.which(name)
    if found is None:
        raise MissingError(f"{name} is needed: apt-get install {package}")
    return found


@functools.cache
def our_server(name: str) -> str:
    """A server that arms call, compiled when its source changed: a file and a header, no library."""
    source = HERE.parent / "cpp" / "bench" / f"{name}.cpp"
    changed = max(file.stat().st_mtime for file in (source, source.with_name("loopback_server.h")))
    program = CACHE / name
    if not program.exists() or program.stat().st_mtime < changed:
        CACHE.mkdir(parents=True, exist_ok=True)
        shell(tool("c++", "g++"), "-std=c++20", "-O2", "-o", program, source)
    return str(program)
