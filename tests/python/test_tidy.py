"""tests/tidy.py finds what it is there to find, and nothing in a tidy tree. Each case plants one violation."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CHANGELOG = "# Changelog\n\n## [Unreleased]\n\n### Added\n\n- A thing.\n"
BUILD = "add_library(core src/base/a.cpp src/engine/a.cpp src/loop/a.cpp src/http/a.cpp src/sim/a.cpp)\n"


def run_tidy(root: Path) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, ROOT / "tests" / "tidy.py", root], capture_output=True, text=True, check=False, timeout=50
    )
    return done.returncode, done.stdout + done.stderr


def plant(root: Path, files: dict[str, str]) -> None:
    tree = {"CHANGELOG.md": CHANGELOG, "cpp/CMakeLists.txt": BUILD} | files
    for name, text in tree.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def lines(count: int, text: str = "int x;\n") -> str:
    return text * count


def function(count: int) -> str:
    return "int f() {\n" + lines(count - 2, "  g();\n") + "}\n"


def test_this_tree_is_tidy() -> None:
    code, output = run_tidy(ROOT)
    assert code == 0, output


def test_a_tidy_tree_has_no_finding(tmp_path: Path) -> None:
    plant(
        tmp_path,
        {
            "cpp/src/base/a.cpp": '#include <vector>\n#include <nlohmann/json.hpp>\n#include "stepwell/status.h"\n'
            + function(70),
            "cpp/src/loop/a.cpp": '#include <uv.h>\n// printf( and getenv( in a comment\nconst char* k = "time(0)";\n',
            "cpp/src/sim/a.cpp": "int rendezvous(int deadtime);\nint y = rendezvous(snprintf(0, 0, 0));\n",
            "python/stepwell/a.py": lines(400, "x = 1\n"),
            "tests/python/test_a.py": "await asyncio.sleep(0)\n",
        },
    )
    assert run_tidy(tmp_path) == (0, "tidy: no findings\n")


VIOLATIONS = [
    pytest.param({"cpp/include/stepwell/a.h": lines(201)}, "a.h:201: size: 201 lines, at most 200", id="long header"),
    pytest.param({"cpp/src/base/a.cpp": lines(601)}, "a.cpp:601: size: 601 lines, at most 600", id="long source"),
    pytest.param({"python/stepwell/a.py": lines(401, "x = 1\n")}, "at most 400", id="long module"),
    pytest.param({"tool": "#!/usr/bin/env python3\n" + lines(400, "x = 1\n")}, "tool:401: size", id="long script"),
    pytest.param({"cpp/src/base/a/b.h": '#include "b.h"\n'}, "4 folders above", id="deep"),
    pytest.param({f"bindings/{n}.cpp": "int x;\n" for n in "abcdef"}, "6 binding units, at most 5", id="bindings"),
    pytest.param({"cpp/src/base/a.cpp": function(71)}, "a.cpp:1: function: 71 lines", id="long function"),
    pytest.param(
        {
            "cpp/src/base/a.cpp": "namespace n {\nclass A {\n public:\n  A() : b_{1}, c_(2) {\n"
            + lines(80)
            + "  }\n};\n}\n"
        },
        "a.cpp:4: function: 82 lines",
        id="long constructor with initialisers",
    ),
    pytest.param(
        {"cpp/src/base/a.cpp": "const char kBrace = '{';\nconst char* k = \"{{\";\n" + function(72)},
        "a.cpp:3: function: 72 lines",
        id="braces in literals",
    ),
    pytest.param({"cpp/src/engine/a.cpp": '#include "loop/uv_loop.h"\n'}, "cpp/src/engine must not include", id="up"),
    pytest.param({"cpp/src/http/a.cpp": '#include "store/memory.h"\n'}, "cpp/src/http must not include", id="across"),
    pytest.param({"cpp/src/engine/a.cpp": "#include <chrono>\n"}, "<chrono>: the engine has no", id="engine clock"),
    pytest.param({"cpp/include/stepwell/a.h": "#include <uv.h>\n"}, "uv.h may be included in cpp/src/loop", id="uv"),
    pytest.param(
        {"cpp/include/stepwell/a.h": "#include <sys/types.h>\n"}, "public headers know the", id="public posix"
    ),
    pytest.param(
        {"cpp/src/loop/a.cpp": "#include <curl/curl.h>\n"}, "curl/curl.h may be included in cpp/src/http", id="curl"
    ),
    pytest.param({"cpp/src/base/a.cpp": "#include <sqlite3.h>\n"}, "sqlite3.h may be included in", id="sqlite"),
    pytest.param(
        {"cpp/src/loop/a.cpp": "#include <nlohmann/json.hpp>\n"}, "may be included in cpp/src/base", id="json"
    ),
    pytest.param({"cpp/src/base/a.cpp": "#include <pybind11/pybind11.h>\n"}, "in bindings only", id="pybind11"),
    pytest.param({"cpp/src/attic/a.h": '#include "a.h"\n'}, "cpp/src/attic is not a room", id="new room"),
    pytest.param(
        {"cpp/src/base/a.cpp": "auto t = std::chrono::system_clock::now();\n"}, "only the loop reads", id="clock"
    ),
    pytest.param({"cpp/src/base/a.cpp": "auto t = std::time(nullptr);\n"}, "std::time(: only the loop", id="time"),
    pytest.param({"cpp/src/base/a.cpp": "int r = rand();\n"}, "use the seeded generator", id="rand"),
    pytest.param({"cpp/src/base/a.cpp": "std::thread t;\n"}, "threads are started by", id="thread"),
    pytest.param({"cpp/src/base/a.cpp": 'std::fprintf(stderr, "x");\n'}, "the core never prints", id="print"),
    pytest.param({"cpp/src/http/a.cpp": 'auto* p = getenv("HOME");\n'}, "read by the caller, once", id="getenv"),
    pytest.param({"cpp/src/base/a.cpp": "py::gil_scoped_acquire gil;\n"}, "C++ never calls Python", id="gil"),
    pytest.param(
        {"tests/cpp/a.h": '#include "a.h"\nvoid f() { sleep_for(1s); }\n'}, "wait for a condition", id="C++ sleep"
    ),
    pytest.param({"tests/python/test_a.py": "time.sleep(1)\n"}, "tests wait for conditions", id="Python sleep"),
    pytest.param({"python/stepwell/a.py": "import pickle\n"}, "never pickle", id="pickle"),
    pytest.param({"docs/a.md": "\nTO" + "DO: write\n"}, "docs/a.md:2: leftover", id="leftover"),
    pytest.param({"docs/a.md": "see /ro" + "ot/x\n"}, "docs/a.md:1: path", id="path"),
    pytest.param({"docs/a.md": "from py" + "pi.org\n"}, "docs/a.md:1: host", id="registry host"),
    pytest.param({"docs/a.md": "[b](b.md)\n"}, "b.md does not exist", id="link"),
    pytest.param({"cpp/src/base/b.cpp": "int x;\n"}, "no CMakeLists.txt names this file", id="dead source"),
    pytest.param({"cpp/CMakeLists.txt": BUILD + BUILD}, "src/base/a.cpp is named twice", id="named twice"),
    pytest.param({"cpp/src/base/b.h": "int x;\n"}, "nobody includes this header", id="dead header"),
    pytest.param({"CHANGELOG.md": "# Changelog\n\n## [0.1.0] - 2026-01-01\n"}, "the first section", id="no Unreleased"),
    pytest.param({"CHANGELOG.md": CHANGELOG + "\n## 0.1\n"}, "not '## [x.y.z] - date'", id="undated"),
    pytest.param({"CHANGELOG.md": CHANGELOG + "\n### Improved\n"}, "unknown group", id="unknown group"),
    pytest.param({"CHANGELOG.md": CHANGELOG + "loose words\n"}, "not a '- ' line", id="loose line"),
]


@pytest.mark.parametrize(("files", "finding"), VIOLATIONS)
def test_a_planted_violation_is_found(tmp_path: Path, files: dict[str, str], finding: str) -> None:
    plant(tmp_path, files)
    code, output = run_tidy(tmp_path)
    assert code == 1
    assert finding in output


def test_ignored_files_are_not_read(tmp_path: Path) -> None:
    plant(tmp_path, {".gitignore": "/build/\n", "build/cpp/a.cpp": lines(700)})
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    assert run_tidy(tmp_path)[0] == 0
