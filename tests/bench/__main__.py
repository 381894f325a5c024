"""The command line: run arms in rounds, print the figures, write them down.

./dev bench                          everything
./dev bench runs http64.vs_wrk       these groups and figures, and what they need
./dev bench celery.queue             one arm; `--list` names all
./dev bench --quick --json FILE      a short look; the medians and every round go to FILE
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

from .figures import FIGURES, TABLES, Figure, chosen_arms
from .harness import ARMS, HERE, Bench, Results, run_rounds

MODULES_OF_ARMS = ("peer_arms", "ours", "llm_arms")


def parse(words: list[str]) -> argparse.Namespace:
    """The command line's words."""
    parser = argparse.ArgumentParser(prog="./dev bench", description="ratios against peers, measured in one run")
    parser.add_argument("names", nargs="*", metavar="NAME", help="figures, groups of figures, or arms; default: all")
    parser.add_argument("--rounds", type=int, help="interleaved rounds whose median counts (3; quick: 1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write figures, medians and rounds to FILE")
    parser.add_argument("--quick", action="store_true", help="one round with a fifth of the work: a look, not a result")
    parser.add_argument("--list", action="store_true", help="name the figures and the arms")
    return parser.parse_args(words)


def load_arms() -> None:
    """Import the modules that register arms, in the order in which their arms run."""
    for name in MODULES_OF_ARMS:
        if (HERE / f"{name}.py").exists():
            importlib.import_module(f".{name}", __package__)


def value_of(figure: Figure, results: Results) -> float | None:
    """The figure's number, if all it needs was measured."""
    return results.ratio(figure.ours, figure.peer) if figure.peer else results.median(figure.ours)


def shown(number: float | None) -> str:
    """A number in a table."""
    if number is None:
        return "-"
    return f"{number:,.0f}" if abs(number) >= 100 else f"{number:.3g}"


def figure_rows(results: Results) -> list[tuple[str, ...]]:
    """One row a figure whose arms were run."""
    rows: list[tuple[str, ...]] = []
    for figure in FIGURES:
        value = value_of(figure, results)
        if value is None:
            continue
        goal = "" if figure.goal is None else f"{'<=' if figure.is_lower_better else '>='} {shown(figure.goal)}"
        verdict = {True: "ok", False: "below", None: ""}[figure.is_met(value)]
        peer = figure.peer.partition(".")[0] if figure.peer else ""
        numbers = (shown(results.median(figure.ours)), f"{peer} {shown(results.median(figure.peer))}" if peer else "")
        rows.append((figure.name, *numbers, shown(value) if peer else "", goal, verdict))
    return rows


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Columns, the first flush left."""
    widths = [max(len(row[index]) for row in [head, *rows]) for index in range(len(head))]
    lines = []
    for row in [head, *rows]:
        cells = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join([row[0].ljust(widths[0]), *cells]).rstrip())
    return "\n".join(lines)


def report(results: Results, rounds: int, seconds: float) -> dict[str, Any]:
    """What --json writes: the figures by their stable names first, then all they were made of."""
    figures = {figure.name: value for figure in FIGURES if (value := value_of(figure, results)) is not None}
    named = {figure.name: figure for figure in FIGURES}
    return {
        "figures": figures,
        "goals": {name: named[name].goal for name in figures},
        "met": {name: named[name].is_met(value) for name, value in figures.items()},
        "medians": results.medians(),
        "rounds": results.rounds,
        "failures": results.failures,
        "machine": {"cores": os.cpu_count(), "system": platform.platform(), "python": platform.python_version()},
        "seconds": round(seconds, 1),
        "round_count": rounds,
    }


def main(words: list[str]) -> int:
    """Run; 1 if an arm failed. A goal that is missed is shown, and is no failure: machines differ."""
    options = parse(words)
    load_arms()
    if options.list:
        print(
            "\n".join(
                ["figures:", *(f"  {figure.name}" for figure in FIGURES), "arms:", *(f"  {name}" for name in ARMS)]
            )
        )
        return 0
    try:
        arms = chosen_arms(options.names, list(ARMS))
    except ValueError as unknown:
        print(f"bench: there is no figure, group or arm {unknown}; --list names them", file=sys.stderr)
        return 2
    rounds = options.rounds or (1 if options.quick else 3)
    began = time.monotonic()
    bench = Bench(quick=options.quick)
    with bench.stack:
        results = run_rounds(bench, arms, rounds, lambda line: print(line, flush=True))
    seconds = time.monotonic() - began
    medians: list[tuple[str, ...]] = [
        (name, measure, shown(value))
        for name, measures in results.medians().items()
        for measure, value in measures.items()
        if not measure.startswith("child_")
    ]
    print(f"\n{table(('arm', 'measure', 'median'), medians)}")
    rows = figure_rows(results)
    if rows:
        print(f"\n{table(('figure', 'ours', 'peer', 'ratio', 'goal', ''), rows)}")
    for title, names, columns in TABLES:
        found = [name for name in names if name in results.rounds]
        cells = [(name, *(shown(results.median(f"{name}:{key}")) for key in columns.values())) for name in found]
        if cells:
            print(f"\n{table((title, *columns), cells)}")
    loads = [each["foreign_cores"] for measured in results.rounds.values() for each in measured if each]
    print(
        f"\n{rounds} rounds, {seconds:.0f} s; other load while measuring: {max(loads, default=0.0):.1f} cores at most"
    )
    for name, problem in results.failures.items():
        print(f"failed: {name}: {problem}", file=sys.stderr)
    if options.json:
        written = json.dumps(report(results, rounds, seconds), indent=2)
        options.json.write_text(written + "\n", encoding="utf-8")
    return 1 if results.failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
