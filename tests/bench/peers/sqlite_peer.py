"""The floor of everything durable from Python: one row a commit with the standard library's sqlite3, WAL and FULL.

sqlite_peer.py FOLDER SECONDS    Prints one JSON line.
"""

from __future__ import annotations

import json
import sqlite3
import sys
import time
from pathlib import Path

PAYLOAD = json.dumps({"action": "send_email", "address": "user@example.com", "note": "x" * 150})

folder, seconds = Path(sys.argv[1]), float(sys.argv[2])
database = sqlite3.connect(folder / "bare.db", isolation_level=None)
database.execute("pragma journal_mode=wal")
database.execute("pragma synchronous=full")
database.execute("create table step (id integer primary key, run text, name text, result text)")
began, number = time.perf_counter(), 0
while time.perf_counter() - began < seconds:
    number += 1
    database.execute("begin immediate")
    database.execute("insert into step values (?, 'r_1', 'step', ?)", (number, PAYLOAD))
    database.execute("commit")
took = time.perf_counter() - began
database.close()
print(json.dumps({"commits_per_s": number / took}))
