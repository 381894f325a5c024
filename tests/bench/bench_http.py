"""How many model calls the bare transport carries against a mock endpoint; prints one JSON line a case."""

from __future__ import annotations

import subprocess
from pathlib import Path

PROGRAMS = Path(__file__).resolve().parents[2] / "build" / "bench" / "tests" / "cpp"
DELAY_MS_MIN, DELAY_MS_MAX = 100, 300
CASES = ((100, 2_000), (1_000, 20_000), (5_000, 40_000))  # requests in flight, requests in all


def main() -> None:
    """Start the endpoint on a free port, measure each case against it, end it."""
    command = [PROGRAMS / "epoll_server", "0", str(DELAY_MS_MIN), str(DELAY_MS_MAX)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        url = f"http://127.0.0.1:{port}/v1/chat/completions"
        ideal = str((DELAY_MS_MIN + DELAY_MS_MAX) // 2)
        for concurrency, count in CASES:
            subprocess.run([PROGRAMS / "http_bench", url, str(concurrency), str(count), ideal], check=True)
        server.communicate()  # closes its standard input, which ends it


if __name__ == "__main__":
    main()
