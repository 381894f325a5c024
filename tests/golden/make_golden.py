"""Write a store that holds a run in each state, as this version writes it, and beside it what it holds.

    python tests/golden/make_golden.py [FOLDER]

The files are `store-vN.db` and `store-vN.json`, N being the schema's version. Released ones are never written anew: a
later Stepwell must open them and drive what is unfinished to its end (tests/python/test_golden_stores.py).
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import golden_flows as flows

import stepwell as sw

HERE = Path(__file__).resolve().parent
CRASHES = 11  # more than the engine puts up with; the last one buries the run


def end_some(store: Path) -> None:
    """The runs that have ended, and those that lie aside."""
    with sw.Engine(store, workflows=flows.FLOWS) as engine:
        for who in ("Ada", "Ben"):
            engine.start(flows.ends_well, who, key=f"well {who}").result(20)
        for flow, value in ((flows.ends_badly, "Carl"), (flows.is_undone, 5)):
            with contextlib.suppress(sw.RunFailed):
                engine.start(flow, value, key=f"{flow.name} 1").result(20)
        engine.start(flows.is_long, flows.LONG, key="long").result(20)
        asking = [engine.start(flows.asks, f"question {i}", key=f"ask {i}") for i in range(3)]
        asking.append(engine.start(flows.has_a_child, "from above", key="parent"))
        engine.start(flows.naps, "1500ms", key="nap")
        engine.start(flows.ends_well, "Dora", key="delayed", delay="1s")
        engine.start(flows.ends_well, "Eve", key="budgeted", budget=sw.Budget(usd=5, name="golden")).result(20)
        engine.budget("golden").raise_to(usd=7, by="ann", why="it is gold")
        for run in asking:
            wait_for(run, sw.RunStatus.WAITING)
        asking[1].pause()
        wait_for(asking[1], sw.RunStatus.PAUSED)
        asking[2].cancel()


def wait_for(run: sw.Run[Any], status: sw.RunStatus) -> None:
    """Look again until it is so; the test that calls this has a timeout."""
    while run.status() != status:
        pass


def crash(store: Path) -> None:
    """A run that kills its process each time it is taken up, until it is given up."""
    with sw.Engine(store, workflows=[flows.kills_its_process]) as engine, contextlib.suppress(sw.RunFailed):
        engine.start(flows.kills_its_process, "x", key="deadly").result(20)


def interrupt(store: Path) -> None:
    """End the process with one run leased, a signal that it has not taken, and one queued behind it."""
    engine = sw.Engine(store)
    engine.serve(flows.is_interrupted, concurrency=1)
    running = engine.start(flows.is_interrupted, "one", key="held")
    engine.start(flows.is_interrupted, "two", key="queued")
    running.signal("late", "hello", key="k1")
    Path(os.environ["GOLDEN_STOP"]).touch()
    running.result()


def describe(store: Path) -> dict[str, Any]:
    """What the file holds, by key; read without an engine, so that nothing of it changes."""
    with contextlib.closing(sqlite3.connect(store)) as db:
        version = db.execute("PRAGMA user_version").fetchone()[0]
        runs = db.execute(
            "SELECT key, workflow, status FROM run_list WHERE key IS NOT NULL ORDER BY created, key"
        ).fetchall()
        children = db.execute("SELECT count(*) FROM runs WHERE parent IS NOT NULL").fetchone()[0]
        messages = db.execute("SELECT count(*) FROM messages").fetchone()[0]
    listed = {key: {"workflow": workflow, "status": status} for key, workflow, status in runs}
    return {"schema": version, "stepwell": sw.__version__, "children": children, "messages": messages, "runs": listed}


#: In a traceback, as JSON.
FOLDER = re.compile(rb'File \\"[^"\\]*/')


def settle(store: Path) -> None:
    """Put the log of a killed process into the file, so that one file is all; where it was made is nobody's business."""
    with contextlib.closing(sqlite3.connect(store)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        for table, column, key in (("events", "payload", "run, seq"), ("finished", "result", "run")):
            rows = db.execute(f"SELECT {column}, {key} FROM {table} WHERE typeof({column}) = 'blob'").fetchall()  # noqa: S608
            for payload, *found in rows:
                named = FOLDER.sub(rb'File \\"', payload)
                if named != payload:
                    where = " AND ".join(f"{name} = ?" for name in key.split(", "))
                    db.execute(f"UPDATE {table} SET {column} = ? WHERE {where}", (named, *found))  # noqa: S608
        db.commit()
        db.execute("PRAGMA journal_mode=DELETE")
        db.execute("VACUUM")


def make(folder: Path) -> Path:
    """Write the two files and return the store's."""
    with tempfile.TemporaryDirectory() as scratch:
        store = Path(scratch) / "golden.db"
        environment = {**os.environ, "GOLDEN_STOP": str(Path(scratch) / "stop")}
        for act, times in (("crash", CRASHES), ("end_some", 1), ("interrupt", 1)):
            for _ in range(times):
                subprocess.run([sys.executable, __file__, act, str(store)], env=environment, check=False)
        settle(store)
        known = describe(store)
        target = folder / f"store-v{known['schema']}.db"
        target.write_bytes(store.read_bytes())
        target.with_suffix(".json").write_text(json.dumps(known, indent=2) + "\n")
    return target


if __name__ == "__main__":
    if len(sys.argv) == 3:  # a part, in a process that may be killed
        {"crash": crash, "end_some": end_some, "interrupt": interrupt}[sys.argv[1]](Path(sys.argv[2]))
    else:
        print(make(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE))
