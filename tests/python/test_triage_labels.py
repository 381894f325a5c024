"""Labels as people give them, and every way in which they are wrong."""

import pytest

from stepwell._errors import InputError
from stepwell.triage._labels import parse_labels


def test_labels(tmp_path):
    assert parse_labels("Billing, Technical,General") == ["Billing", "Technical", "General"]
    assert parse_labels(("a", "b")) == ["a", "b"]
    path = tmp_path / "labels.txt"
    path.write_text("\ufeffBilling\n# a comment\n\nGeneral question, other\n", encoding="utf-8", newline="\r\n")
    assert parse_labels(f"@{path}") == ["Billing", "General question, other"]
    assert len(parse_labels([f"label {i}" for i in range(1000)])) == 1000


@pytest.mark.parametrize(
    ("labels", "code"),
    [
        ("", "SW-E2231"),
        ("Billing", "SW-E2231"),
        ([], "SW-E2231"),
        ([f"label {i}" for i in range(1001)], "SW-E2232"),
        ("Billing,General,billing ", "SW-E2233"),
        ("Billing,,General", "SW-E2234"),
        (["a", " "], "SW-E2234"),
        (["a", 3], "SW-E2234"),
        (["a", "b\nc"], "SW-E2235"),
        (["a", "b\x00"], "SW-E2235"),
        (["a", "x" * 201], "SW-E2236"),
        ("@no/such/file.txt", "SW-E2237"),
    ],
)
def test_bad_labels(labels, code):
    with pytest.raises(InputError, match=code):
        parse_labels(labels)
