"""Milliseconds that an import costs a fresh interpreter, beyond the interpreter's own start; the median of several.

    import_peers.py TIMES MODULE [MODULE ...]

Prints one JSON line, one measure a module. Run it with the interpreter whose packages are meant.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time


def milliseconds(code: str, times: int) -> float:
    took = []
    for _ in range(times):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True, stdin=subprocess.DEVNULL)
        took.append((time.perf_counter() - began) * 1000)
    return statistics.median(took)


times, modules = int(sys.argv[1]), sys.argv[2:]
for module in modules:
    milliseconds(f"import {module}", 1)  # compiles what is not compiled yet
bare = milliseconds("pass", times)
print(
    json.dumps({f"{module.partition('.')[0]}_ms": milliseconds(f"import {module}", times) - bare for module in modules})
)
