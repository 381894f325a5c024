"""Writing results: every row once, in order, atomically, and never over the input."""

import csv
import json
import os
import stat
from datetime import UTC, datetime

import pytest

from stepwell._errors import InputError
from stepwell.triage._read import open_table
from stepwell.triage._types import Outcome
from stepwell.triage._write import COLUMNS, Lines, check_output, to_native, write_results


def outcomes(table) -> list[Outcome]:
    return [
        table.row_errors[i].outcome()
        if i in table.row_errors
        else Outcome("Billing", 0.9312345678, "ok", "", 1, 120, 8, 2.13e-05)
        for i in range(len(table))
    ]


@pytest.fixture
def tickets(tmp_path):
    path = tmp_path / "tickets.csv"
    path.write_bytes('id,text\r\n1,"a, ""b""\nc"\r\n2,\r\n3,x,y\r\n4,caf\u00e9\r\n'.encode())
    return path


def rows_of(path, delimiter=","):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter=delimiter))


def test_csv_has_every_row_once_in_order(tickets, tmp_path):
    table = open_table(tickets)
    path = write_results(tmp_path / "out.csv", table, outcomes(table))
    rows = rows_of(path)
    assert list(rows[0]) == ["id", "text", *COLUMNS]
    assert [row["id"] for row in rows] == ["1", "2", "3", "4"]
    assert [row["status"] for row in rows] == ["ok", "review", "error", "ok"]
    assert rows[0]["text"] == 'a, "b"\nc'
    assert (rows[0]["confidence"], rows[0]["cost_usd"], rows[0]["attempts"]) == ("0.931235", "0.0000213", "1")
    assert (rows[1]["label"], rows[1]["confidence"], rows[1]["reason"]) == ("", "", "empty")
    assert rows[1]["error"] == 'SW-E2224 line 4: no text in "text"'
    assert rows[2]["text"] == "x,y"
    assert path.read_bytes().count(b"\r\n") == 5  # the caller's line ends
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.csv", "tickets.csv"]


@pytest.mark.parametrize("name", ["out.csv", "out.tsv", "out.jsonl", "out.parquet"])
def test_lines_made_while_outcomes_arrive_are_the_same_file(tickets, tmp_path, name):
    table = open_table(tickets)
    whole = outcomes(table)
    expected = write_results(tmp_path / name, table, whole).read_bytes()
    lines = Lines(tmp_path / name, table)
    sofar: list[Outcome | None] = [None] * len(table)
    for index in (1, 0, 3, 2):  # 1 alone is not the next row; 0 brings both; 2 brings the rest
        sofar[index] = whole[index]
        lines.add(sofar)
        lines.add(sofar)
    assert write_results(tmp_path / name, table, whole, lines).read_bytes() == expected


def test_delimiter_and_byte_order_mark_are_kept(tmp_path):
    source = tmp_path / "t.csv"
    source.write_bytes(b"\xef\xbb\xbfid;text\n1;a\n")
    table = open_table(source)
    content = write_results(tmp_path / "o.csv", table, outcomes(table)).read_bytes()
    assert content.startswith(b"\xef\xbb\xbfid;text;label;")
    assert (
        write_results(tmp_path / "o.tsv", table, outcomes(table))
        .read_text(encoding="utf-8-sig")
        .startswith("id\ttext\t")
    )


def test_jsonl_and_its_strange_values(tmp_path):
    source = tmp_path / "t.jsonl"
    source.write_text('{"text": "a", "n": 1, "tags": ["x"]}\nbroken\n{"text": "\\ud800", "n": NaN}\n', encoding="utf-8")
    table = open_table(source)
    lines = write_results(tmp_path / "o.jsonl", table, outcomes(table)).read_text(encoding="utf-8").splitlines()
    first, second, third = (json.loads(line) for line in lines)
    assert (first["tags"], first["label"], first["confidence"], first["cost_usd"]) == (
        ["x"],
        "Billing",
        0.9312345678,
        2.13e-05,
    )
    assert (second["text"], second["status"], second["reason"]) == (None, "error", "not_json")
    assert (third["text"], third["n"]) == ("\ud800", None)
    write_results(tmp_path / "o.csv", table, outcomes(table))
    assert rows_of(tmp_path / "o.csv")[0]["tags"] == '["x"]'


def test_frame_values_can_be_written_everywhere(tmp_path):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    frame = pandas.DataFrame({"text": ["a", None], "when": [datetime(2026, 11, 1, tzinfo=UTC), None], "n": [1.5, None]})
    table = open_table(frame)
    for name in ("o.csv", "o.jsonl", "o.parquet"):
        write_results(tmp_path / name, table, outcomes(table))
    assert rows_of(tmp_path / "o.csv")[1]["n"] == ""
    assert json.loads((tmp_path / "o.jsonl").read_text(encoding="utf-8").splitlines()[1])["when"] is None


@pytest.mark.parametrize("package", ["pyarrow", "polars", "duckdb"])
def test_parquet_with_each_writer(tickets, tmp_path, monkeypatch, package):
    pytest.importorskip(package)
    from stepwell.triage import _frames

    monkeypatch.setattr(_frames, "PARQUET_PACKAGES", (package,))
    table = open_table(tickets)
    back = open_table(write_results(tmp_path / "o.parquet", table, outcomes(table)))
    assert back.columns == ["id", "text", *COLUMNS]
    assert back.row(0)["cost_usd"] == 2.13e-05
    assert back.row(1)["label"] is None
    assert [row[0] for row in back] == ["1", "2", "3", "4"]


def test_colliding_columns_get_a_prefix(tmp_path):
    table = open_table([{"text": "a", "label": "mine", "status": 3, "triage_status": 4}])
    assert to_native(table, outcomes(table))[0] == {
        "text": "a",
        "label": "mine",
        "status": 3,
        "triage_status": 4,
        "triage_label": "Billing",
        "confidence": 0.9312345678,
        "triage_triage_status": "ok",
        "reason": "",
        "attempts": 1,
        "tokens_in": 120,
        "tokens_out": 8,
        "cost_usd": 2.13e-05,
        "error": "",
    }


def test_frames_come_back_as_the_same_kind():
    pandas, polars, pyarrow = (pytest.importorskip(name) for name in ("pandas", "polars", "pyarrow"))
    pytest.importorskip("narwhals")
    columns = {"text": ["a", "b", ""], "label": ["p", "q", "r"]}
    indexed = pandas.DataFrame(columns, index=["z", "z", "y"])
    many = pandas.DataFrame(columns, index=pandas.MultiIndex.from_tuples([(1, 2), (1, 3), (2, 2)]))
    for frame in (pandas.DataFrame(columns), indexed, many, polars.DataFrame(columns), polars.DataFrame(columns).lazy(),
                  pyarrow.table(columns)):  # fmt: skip
        table = open_table(frame)
        result = to_native(table, outcomes(table))
        assert type(result) is type(frame)
        if isinstance(frame, pandas.DataFrame):
            assert result.index.equals(frame.index)
            assert list(frame.columns) == ["text", "label"]  # the caller's own frame is left alone
        eager = result.collect() if isinstance(result, polars.LazyFrame) else result
        columns_back = {name: cells_of(eager[name]) for name in ("label", "triage_label")}
        assert columns_back == {"label": ["p", "q", "r"], "triage_label": ["Billing", "Billing", None]}


def cells_of(column) -> list:
    values = column.to_pylist() if hasattr(column, "to_pylist") else column.to_list()
    return [value if isinstance(value, str) else None for value in values]


def test_all_rows_failed_still_gives_typed_columns():
    polars = pytest.importorskip("polars")
    pytest.importorskip("narwhals")
    table = open_table(polars.DataFrame({"text": ["", ""]}))
    result = to_native(table, outcomes(table))
    assert (result["label"].dtype, result["confidence"].dtype, result["attempts"].dtype) == (
        polars.String,
        polars.Float64,
        polars.Int64,
    )


# -- outputs that are refused before anything is paid ------------------------------------------------------------------


def refused(code, word=""):
    return pytest.raises(InputError, match=f"(?s){code}.*{word}")


def test_output_is_never_the_input(tickets, tmp_path):
    with refused("SW-E2243", "tickets-labelled.csv"):
        check_output(tickets, tickets)
    (tmp_path / "soft.csv").symlink_to(tickets)
    os.link(tickets, tmp_path / "hard.csv")
    for name in ("soft.csv", "hard.csv", "../" + tmp_path.name + "/tickets.csv"):
        with refused("SW-E2243"):
            check_output(tmp_path / name, str(tickets))
    table = open_table(tickets)
    with refused("SW-E2243"):
        write_results(tickets, table, outcomes(table))


def test_output_places_that_cannot_be_written(tickets, tmp_path, monkeypatch):
    with refused("SW-E2241", ".parquet"):
        check_output(tmp_path / "o.xlsx", tickets)
    with refused("SW-E2242", "mkdir -p"):
        check_output(tmp_path / "no" / "o.csv", tickets)
    with refused("SW-E2244"):
        check_output(tmp_path, tickets)

    def no_room(*_args, **_kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("stepwell.triage._write.os.open", no_room)
    with refused("SW-E2242", "permission denied"):
        check_output(tmp_path / "o.csv", tickets)


def test_check_leaves_nothing_behind(tickets, tmp_path):
    assert check_output(tmp_path / "o.csv", tickets) == tmp_path / "o.csv"
    assert [p.name for p in tmp_path.iterdir()] == ["tickets.csv"]


def test_a_failed_write_leaves_the_old_file_whole(tickets, tmp_path, monkeypatch):
    out = tmp_path / "o.csv"
    out.write_text("old results", encoding="utf-8")
    table = open_table(tickets)

    def full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("stepwell.triage._write.os.fsync", full)
    with refused("SW-E2245", "no space left"):
        write_results(out, table, outcomes(table))
    assert out.read_text(encoding="utf-8") == "old results"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["o.csv", "tickets.csv"]


def test_links_and_modes_survive(tickets, tmp_path):
    real = tmp_path / "real.csv"
    real.write_text("", encoding="utf-8")
    real.chmod(0o640)
    link = tmp_path / "link.csv"
    link.symlink_to(real)
    table = open_table(tickets)
    write_results(link, table, outcomes(table))
    assert link.is_symlink()
    assert rows_of(real)[0]["label"] == "Billing"
    assert stat.S_IMODE(real.stat().st_mode) == 0o640


def test_one_result_for_each_row(tickets, tmp_path):
    table = open_table(tickets)
    with pytest.raises(ValueError, match="3 results for 4 rows"):
        write_results(tmp_path / "o.csv", table, outcomes(table)[:3])


def test_twenty_thousand_rows_are_written_whole(tmp_path):
    table = open_table([{"id": str(i), "text": "Hello, I was charged twice for my order."} for i in range(20_000)])
    results = outcomes(table)
    for name, lines in (("o.csv", 20_001), ("o.jsonl", 20_000)):
        write_results(tmp_path / name, table, results)
        assert (tmp_path / name).read_text(encoding="utf-8").count("\n") == lines
