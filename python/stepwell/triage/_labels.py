"""Labels as people give them, checked before anything is sent."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING

from stepwell._errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

LABELS_MAX = 1_000
LABEL_CHARS_MAX = 200


def parse_labels(labels: str | Sequence[str]) -> list[str]:
    """The labels in the order given, stripped of outer blanks.

    Takes `"Billing,Technical"`, a sequence of names, or `"@labels.txt"` with one label on each line (empty lines and
    lines that start with `#` are skipped). Raises `InputError` (SW-E2231 to SW-E2237).
    """
    if isinstance(labels, str):
        names = _read_file(labels[1:]) if labels.startswith("@") else labels.split(",")
        if not labels.strip():
            names = []
    else:
        names = list(labels)
    result: list[str] = []
    seen: dict[str, str] = {}
    for position, name in enumerate(names, 1):
        label = _checked(name, position)
        key = label.casefold()
        if key in seen:
            raise InputError(
                "SW-E2233",
                f'label "{label}" is given twice',
                got=f'"{seen[key]}" and "{label}"',
                expected="labels that differ in more than case",
                hint="remove one of them",
                loc=f"label {position}",
            )
        seen[key] = label
        result.append(label)
    if len(result) <= 1:
        got = f"{len(result)} label" + ("s" if not result else f' "{result[0]}"')
        raise InputError(
            "SW-E2231",
            "at least two labels are needed",
            got=got,
            expected="two or more",
            hint='for example --labels "Billing,Technical,General"',
        )
    if len(result) > LABELS_MAX:
        raise InputError(
            "SW-E2232",
            "too many labels",
            got=f"{len(result):,}",
            expected=f"at most {LABELS_MAX:,}",
            hint="classify in two stages, or check that the right file or column was used",
        )
    return result


def _checked(name: object, position: int) -> str:
    loc = f"label {position}"
    if not isinstance(name, str) or not name.strip():
        got = f'"{name}"' if isinstance(name, str) else type(name).__name__
        raise InputError(
            "SW-E2234",
            "a label is empty",
            got=got,
            expected="a name",
            loc=loc,
            hint="look for a doubled or trailing comma",
        )
    label = name.strip()
    # Category C covers control, format-like surrogate and private characters; joiners (Cf) are part of real scripts.
    bad = next((c for c in label if unicodedata.category(c) in ("Cc", "Cs") or c in "\u2028\u2029"), None)
    if bad is not None:
        raise InputError(
            "SW-E2235",
            "a label holds a control character",
            got=f"U+{ord(bad):04X} in {label[:60]!a}",
            expected="printable characters on one line",
            loc=loc,
            hint="remove line breaks and tabs",
        )
    if len(label) > LABEL_CHARS_MAX:
        raise InputError(
            "SW-E2236",
            "a label is too long",
            got=f'{len(label):,} characters ("{label[:40]}...")',
            expected=f"at most {LABEL_CHARS_MAX}",
            loc=loc,
            hint="labels are names, not descriptions",
        )
    return label


def _read_file(path: str) -> list[str]:
    try:
        with Path(path).expanduser().open(encoding="utf-8-sig") as file:
            lines = file.read().split("\n")
    except (OSError, UnicodeDecodeError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise InputError(
            "SW-E2237",
            f'the label file "{path}" cannot be read',
            got=why,
            expected="a UTF-8 text file with one label on each line",
        ) from error
    stripped = [line.strip() for line in lines]
    return [line for line in stripped if line and not line.startswith("#")]
