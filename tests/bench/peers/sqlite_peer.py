"""The floor of everything durable from Python: one row a commit with the standard library's sqlite3, WAL and FULL.

sqlite_peer.py FOLDER COUNT    Prints one JSON line.
"""

from __future__ import annotations

import json
import sqlite3
import sys
import time
from pathlib import Path

PAYLOAD = json.dumps({"action": "send_email", "address": "user@example.com", "note": "x" * 150})

folder, count = Path(sys.argv[1]), int(sys.argv[2])
database = sqlite3.connect(folder / "bare.db", isolation_level=None)
database.execute("pragma journal_mode=wal")
database.execute("pragma synchronous=full")
database.execute("create table step (id integer primary key, run text, name text, result text)")
began = time.perf_counter()
for number in range(count):
    database.execute("begin immediate")
    database.execute("insert into step values (?, 'r_1', 'step', ?)", (number, PAYLOAD))
    database.execute("commit")
seconds = time.perf_counter() - began
database.close()
print(json.dumps({"commits_per_s": count / seconds}))
