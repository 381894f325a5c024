#!/usr/bin/env python3
"""House rules that no compiler checks: sizes, layers, banned calls, dead files, the changelog's shape.

    python3 tests/tidy.py [ROOT]

Prints one readable line a finding and ends with 1 if there is any. Standard library only, so that it runs first.
`docs/STYLE.md` says why the rules are what they are; the tables below say where the exceptions live.
"""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tidy_cpp import blank, function_spans, line_at

HEADER_LINES_MAX = 200
SOURCE_LINES_MAX = 600
FUNCTION_LINES_MAX = 70
PYTHON_LINES_MAX = 400
FOLDERS_MAX = 3
BINDING_UNITS_MAX = 5

# Which rooms each room may include from. What is not listed here has no place in the house yet.
LAYERS = {
    "cpp/include/stepwell": {"stepwell"},
    "cpp/src/base": {"stepwell", "base"},
    "cpp/src/engine": {"stepwell", "base", "engine"},
    "cpp/src/loop": {"stepwell", "base", "loop"},
    "cpp/src/store": {"stepwell", "base", "store"},
    "cpp/src/http": {"stepwell", "base", "http"},
    "cpp/src/vault": {"stepwell", "base", "vault"},
    # The twins stand beside the real adapters; two of them see more, see below.
    "cpp/src/sim": {"stepwell", "base", "sim"},
    "cpp/src/runtime": {"stepwell", "base", "engine", "loop", "store", "http", "vault", "runtime"},
    "bindings": {"stepwell", "bindings"},
}
LAYER_EXCEPTIONS = {
    "cpp/src/sim/sim_store.h": {"store"},  # wraps the memory store, whose table several simulated engines share
    "cpp/src/sim/sim_store.cpp": {"store"},
    "cpp/src/sim/sim_world.h": {"runtime", "store"},  # drives the dispatcher that a process runs
    "cpp/src/sim/sim_world.cpp": {"runtime", "store"},
}
# Each third-party header is included in one room, so that replacing a library touches one folder.
THIRD_PARTY = {
    r"uv\.h|uv/": "cpp/src/loop",
    r"curl/": "cpp/src/http",
    r"sqlite3": "cpp/src/store",
    r"zstd|zdict": "cpp/src/store",
    r"xxh": "cpp/src/store",
    r"hiredis/": "cpp/src/store",
    r"sodium": "cpp/src/vault",
    r"nlohmann/": "cpp/src/base",
    r"pybind11/|Python\.h": "bindings",
}
ENGINE_HEADERS_BANNED = {"thread", "mutex", "chrono", "random", "iostream", "condition_variable", "atomic", "future"}


@dataclass(frozen=True)
class Ban:
    """A call that only a few named files may make."""

    pattern: str
    why: str
    allowed: frozenset[str] = frozenset()
    rooms: tuple[str, ...] = ("cpp/", "bindings/")


BANS = (
    Ban(
        r"system_clock\s*::\s*now",
        "only the loop reads the wall clock (Loop::wall_ms)",
        frozenset({"cpp/src/base/log.cpp"}),
    ),
    Ban(r"(?<![\w.>:])(?:std\s*::\s*)?time\s*\(", "only the loop reads the wall clock (Loop::wall_ms)"),
    Ban(r"(?<![\w.>:])(?:std\s*::\s*)?s?rand\s*\(|\brandom_device\b", "use the seeded generator of base/random.h"),
    Ban(
        r"\bstd\s*::\s*j?thread\b|\bpthread_create\b",
        "threads are started by the runtime (loop) and the SQLite store only",
        frozenset({"cpp/src/runtime/runtime.cpp", "cpp/src/store/sqlite_store.cpp"}),
    ),
    Ban(
        r"(?<![\w.>])(?:std\s*::\s*)?(?:f|v|vf)?printf\s*\(|\bstd\s*::\s*(?:cout|cerr|clog)\b|(?<![\w.>])f?puts\s*\(",
        "the core never prints; it lives in someone else's process",
        frozenset({"cpp/src/base/log.cpp", "cpp/src/base/status.cpp"}),
    ),
    Ban(r"(?<![\w.>])(?:std\s*::\s*)?(?:secure_)?getenv\s*\(", "the environment is read by the caller, once"),
    Ban(r"\bgil_scoped_acquire\b|\bPyGILState_Ensure\b", "C++ never calls Python", rooms=("cpp/",)),
    Ban(
        r"\bsleep_(?:for|until)\s*\(|(?<![\w.>])(?:u|nano)?sleep\s*\(",
        "wait for a condition, or use virtual time",
        rooms=("cpp/", "bindings/", "tests/cpp/"),
    ),
)
PYTHON_BANS = (
    Ban(
        r"(?<!\w)(?<!sw\.)sleep\((?!0\))|\bmonkeypatch_sleep\b",
        "tests wait for conditions, never for time (asyncio.sleep(0) and a workflow's own sw.sleep are fine)",
        rooms=("tests/",),
    ),
    Ban(
        r"^\s*(?:import|from)\s+(?:c?pickle|marshal|shelve|dill)\b",
        "payloads are bytes, never pickle",
        rooms=("python/",),
    ),
)
# Spelled in pieces, so that this file does not find itself.
LEFTOVER = re.compile(r"\b(?:FIX" + r"ME|TO" + r"DO|XX" + r"X)\b")
FOREIGN_PATH = re.compile(r"(?<![\w./])/(?:wo" + r"rk|ro" + r"ot)/|(?<![\w.])/tmp/" + r"h\b")
REGISTRY_HOST = re.compile(
    r"\b(?:py" + r"pi\.org|python" + r"hosted\.org|registry\.npm" + r"js|deb\.deb" + r"ian\.org)\b"
)
CHANGE_GROUPS = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
TEXT_SUFFIXES = {"", ".h", ".cpp", ".py", ".pyi", ".md", ".txt", ".toml", ".json", ".cmake", ".sql", ".sh", ".ipynb"}


@dataclass(frozen=True)
class Finding:
    """One broken rule, at a line that an editor can jump to."""

    path: str
    line: int
    rule: str
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.rule}: {self.text}"


def tracked_files(root: Path) -> list[str]:
    """The files git knows or would take; every file when there is no repository."""
    if (root / ".git").exists():
        command = ["git", "-C", str(root), "ls-files", "--cached", "--others", "--exclude-standard"]
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
        return sorted({name for name in listed if (root / name).is_file()})
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


def read_texts(root: Path) -> dict[str, str]:
    """The text files, by path from the root."""
    texts = {}
    for name in tracked_files(root):
        if PurePosixPath(name).suffix in TEXT_SUFFIXES:
            try:
                texts[name] = (root / name).read_text(encoding="utf-8")
            except UnicodeDecodeError:
                continue
    return texts


def is_python(path: str, text: str) -> bool:
    """Whether the 400 line limit holds for this file; scripts without a suffix are known by their first line."""
    return path.endswith((".py", ".pyi")) or ("." not in path and text.startswith("#!") and "python" in text[:40])


def check_sizes(texts: dict[str, str]) -> list[Finding]:
    """Lines a file, folders above it, translation units of the bindings."""
    findings = []
    for path, text in texts.items():
        lines = text.count("\n") + (not text.endswith("\n") and text != "")
        is_source = path.endswith(".cpp")
        bound = HEADER_LINES_MAX if path.endswith(".h") else SOURCE_LINES_MAX if is_source else 0
        bound = PYTHON_LINES_MAX if is_python(path, text) else bound
        if bound and lines > bound:
            findings.append(Finding(path, lines, "size", f"{lines} lines, at most {bound} allowed"))
        if path.count("/") > FOLDERS_MAX:
            findings.append(
                Finding(path, 1, "size", f"{path.count('/')} folders above the file, at most {FOLDERS_MAX} allowed")
            )
    units = [path for path in texts if path.startswith("bindings/") and path.endswith(".cpp")]
    if len(units) > BINDING_UNITS_MAX:
        findings.append(
            Finding(units[-1], 1, "size", f"{len(units)} binding units, at most {BINDING_UNITS_MAX} allowed")
        )
    return findings


def check_functions(texts: dict[str, str]) -> list[Finding]:
    """No C++ function is longer than a screen."""
    return [
        Finding(path, first, "function", f"{last - first + 1} lines, at most {FUNCTION_LINES_MAX} allowed")
        for path, text in texts.items()
        if path.endswith((".h", ".cpp"))
        for first, last in function_spans(text)
        if last - first + 1 > FUNCTION_LINES_MAX
    ]


INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*(?:"(?P<ours>[^"]+)"|<(?P<system>[^>]+)>)', re.MULTILINE)


def check_layers(texts: dict[str, str]) -> list[Finding]:
    """Every include arrow points down, and each library stays in its room."""
    findings = []
    for path, text in texts.items():
        room = str(PurePosixPath(path).parent)
        if not path.startswith(("cpp/", "bindings/")) or not path.endswith((".h", ".cpp")):
            continue
        if room not in LAYERS:
            findings.append(Finding(path, 1, "layer", f"{room} is not a room of the house (tests/tidy.py, LAYERS)"))
            continue
        for found in INCLUDE.finditer(text):
            line = line_at(text, found.start())
            why = refuse_include(path, room, found["ours"], found["system"])
            if why:
                findings.append(Finding(path, line, "layer", why))
    return findings


def refuse_include(path: str, room: str, ours: str | None, system: str | None) -> str:
    """Why this include is not allowed here; empty when it is."""
    name = ours or system or ""
    for pattern, home in THIRD_PARTY.items():
        if re.match(pattern, name):
            return "" if room == home else f"{name} may be included in {home} only"
    if ours is not None:
        target = ours.split("/")[0] if "/" in ours else PurePosixPath(room).name
        allowed = LAYERS[room] | LAYER_EXCEPTIONS.get(path, set())
        return "" if target in allowed else f'{room} must not include "{ours}"; it may see {", ".join(sorted(allowed))}'
    if room == "cpp/include/stepwell" and re.search(r"[./]", name):
        return f"<{name}>: public headers know the standard library only"
    if room == "cpp/src/engine" and name in ENGINE_HEADERS_BANNED:
        return f"<{name}>: the engine has no threads, clock, randomness or output"
    return ""


def check_bans(texts: dict[str, str]) -> list[Finding]:
    """Calls that have one home."""
    findings = []
    for path, text in texts.items():
        is_cpp = path.endswith((".h", ".cpp"))
        if not is_cpp and not path.endswith(".py"):
            continue
        code = blank(text) if is_cpp else re.sub(r"(?m)#[^\n]*", "", text)
        for ban in BANS if is_cpp else PYTHON_BANS:
            if path.startswith(ban.rooms) and path not in ban.allowed and path not in SELF:
                findings += [
                    Finding(path, line_at(code, found.start()), "banned", f"{found.group().strip()}: {ban.why}")
                    for found in re.finditer(ban.pattern, code, re.MULTILINE)
                ]
    return findings


SELF = {"tests/tidy.py", "tests/python/test_tidy.py"}


def check_words(texts: dict[str, str]) -> list[Finding]:
    """Leftover markers, paths of one machine and registry hosts."""
    rules = (
        (LEFTOVER, "leftover", "do it, or file it, but do not leave it here"),
        (FOREIGN_PATH, "path", "an absolute path of one machine"),
        (REGISTRY_HOST, "host", "name packages, not the registry's host"),
    )
    return [
        Finding(path, line_at(text, found.start()), rule, f"{found.group()}: {why}")
        for path, text in texts.items()
        for pattern, rule, why in rules
        for found in pattern.finditer(text)
    ]


def check_dead(texts: dict[str, str]) -> list[Finding]:
    """Sources that no build file names, and private headers that nobody includes."""
    findings = []
    builds = {str(PurePosixPath(path).parent): text for path, text in texts.items() if path.endswith("CMakeLists.txt")}
    included = {found["ours"] for text in texts.values() for found in INCLUDE.finditer(text) if found["ours"]}
    names = {PurePosixPath(name).name for name in included}
    for path in texts:
        if path.endswith(".cpp") and path.startswith(("cpp/", "bindings/", "tests/")):
            spelled = [
                (path.removeprefix(f"{folder}/"), text)
                for folder, text in builds.items()
                if path.startswith(f"{folder}/")
            ]
            spelled += [(path, text) for folder, text in builds.items() if folder == "."]
            if not any(re.search(rf"(?<![\w./]){re.escape(name)}(?!\w)", text) for name, text in spelled):
                findings.append(Finding(path, 1, "dead", "no CMakeLists.txt names this file"))
        if (
            path.endswith(".h")
            and path.startswith(("cpp/", "bindings/", "tests/"))
            and PurePosixPath(path).name not in names
        ):
            findings.append(Finding(path, 1, "dead", "nobody includes this header"))
    for folder, text in builds.items():
        named = re.findall(r"[\w./]+\.cpp\b", text)
        twice = sorted({name for name in named if named.count(name) > 1})
        findings += [Finding(f"{folder}/CMakeLists.txt", 1, "dead", f"{name} is named twice") for name in twice]
    return [finding for finding in findings if finding.path != "cpp/include/stepwell/stepwell.h"]


def check_changelog(texts: dict[str, str]) -> list[Finding]:
    """Keep a Changelog: Unreleased on top, dated versions below, known groups, one line a change."""
    path = "CHANGELOG.md"
    if path not in texts:
        return [Finding(path, 1, "changelog", "missing")]
    findings = []
    versions: list[str] = []
    for number, line in enumerate(texts[path].splitlines(), 1):
        why = ""
        if line.startswith("## "):
            versions.append(line)
            why = (
                ""
                if re.fullmatch(r"## \[(?:Unreleased|\d+\.\d+\.\d+\S*\] - \d{4}-\d\d-\d\d)\]?", line)
                else "not '## [x.y.z] - date'"
            )
        elif line.startswith("### ") and line[4:] not in CHANGE_GROUPS:
            why = f"unknown group; use one of {', '.join(sorted(CHANGE_GROUPS))}"
        elif versions and line and not line.startswith(("#", "- ", "  ", "[")):
            why = "not a '- ' line"
        if why:
            findings.append(Finding(path, number, "changelog", f"{line!r}: {why}"))
    if not versions or versions[0] != "## [Unreleased]":
        findings.append(Finding(path, 1, "changelog", "the first section must be '## [Unreleased]'"))
    return findings


def check_links(root: Path, texts: dict[str, str]) -> list[Finding]:
    """Links between our own pages lead somewhere."""
    return [
        Finding(path, line_at(text, found.start()), "link", f"{found[1]} does not exist")
        for path, text in texts.items()
        if path.endswith(".md")
        for found in re.finditer(r"\]\((?!\w+:|#)([^)#\s]+)(?:#[^)]*)?\)", text)
        if not (root / path).parent.joinpath(found[1]).exists()
    ]


def check_tree(root: Path) -> list[Finding]:
    """Every finding of every rule, in the order of files and lines."""
    texts = read_texts(root)
    checks = (check_sizes, check_functions, check_layers, check_bans, check_words, check_dead, check_changelog)
    findings = [finding for check in checks for finding in check(texts)]
    return sorted(findings + check_links(root, texts), key=lambda finding: (finding.path, finding.line, finding.rule))


def main(arguments: list[str]) -> int:
    """Print the findings; 1 when there are any."""
    root = Path(arguments[0]) if arguments else Path(__file__).resolve().parent.parent
    findings = check_tree(root)
    for finding in findings:
        sys.stdout.write(f"{finding}\n")
    count = len(findings)
    sys.stdout.write(f"tidy: {count or 'no'} finding{'' if count == 1 else 's'}\n")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
