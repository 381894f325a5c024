"""Other people's LLM test servers, at pinned versions in build/third-party: what they answer judges our providers.

`./dev third-party` fetches them, `./dev setup --test` does so too and goes on without them; a second run fetches nothing.
Standard library only.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / "build" / "third-party"
PYTHON_FOLDER = FOLDER / "python"
AIMOCK = FOLDER / "node" / "node_modules" / "@copilotkit" / "aimock" / "dist" / "cli.js"
INSTALL_SECONDS_MAX = 300

# With everything that they need, so that nothing is resolved; what Stepwell's own environment has comes from there.
_PYTHON_PINS = (
    "annotated-doc==0.0.7",
    "anyio==4.16.0",
    "certifi==2026.10.18",
    "click==8.5.1",
    "fakellm==0.3.5",
    "fastapi==0.165.0",
    "h11==0.16.0",
    "httpcore==1.0.9",
    "httpx==0.28.1",
    "idna==3.20",
    "opentelemetry-api==1.45.2",
    "PyYAML==6.0.3",
    "starlette==1.10.0",
    "stubllm==0.1.5",
    "uvicorn==0.54.0",
)
_NODE_PINS = ("@copilotkit/aimock@1.43.0",)


def _is_current(folder: Path, wanted: str) -> bool:
    mark = folder / "third-party.stamp"
    return mark.exists() and mark.read_text(encoding="utf-8") == wanted


def _install(folder: Path, wanted: str, command: list[str]) -> str:
    """Run an installer into an empty folder; return what went wrong, "" when nothing did."""
    print(f"installing {wanted}", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=INSTALL_SECONDS_MAX,
            check=False,
        )
        said = "" if done.returncode == 0 else (done.stderr or done.stdout).strip()[-400:] or str(done.returncode)
    except (OSError, subprocess.TimeoutExpired) as error:
        said = str(error)
    if said:
        shutil.rmtree(folder, ignore_errors=True)
        return f"{' '.join(command[:4])} failed: {said}"
    (folder / "third-party.stamp").write_text(wanted, encoding="utf-8")
    return ""


def install(python: str | Path = sys.executable) -> list[str]:
    """Fetch what is not there yet; return what went wrong, a line for each server."""
    problems = []
    wanted = " ".join((*_PYTHON_PINS, sys.version.split()[0]))
    if not _is_current(PYTHON_FOLDER, wanted):
        pip = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps"]
        problems.append(_install(PYTHON_FOLDER, wanted, [*pip, "--target", str(PYTHON_FOLDER), *_PYTHON_PINS]))
    node, wanted = FOLDER / "node", " ".join(_NODE_PINS)
    if not _is_current(node, wanted):
        npm = shutil.which("npm")
        if npm is None or shutil.which("node") is None:
            problems.append("aimock needs Node: apt-get install nodejs npm")
        else:
            command = [npm, "install", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", str(node)]
            problems.append(_install(node, wanted, [*command, *_NODE_PINS]))
    return [problem for problem in problems if problem]
