"""Reading ticket tables: every kind of good input, and every kind of bad input people really have."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from stepwell._errors import InputError
from stepwell.triage._codes import CODES
from stepwell.triage._read import open_table

SHARED = Path(__file__).parents[3] / "shared"
DATA = SHARED / "data"


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def refused(code: str, *words: str):
    pattern = ".*".join([re.escape(code), *(re.escape(word) for word in words)])
    return pytest.raises(InputError, match=f"(?s){pattern}")


def reasons(table) -> dict[int, str]:
    return {index: problem.reason for index, problem in sorted(table.row_errors.items())}


# -- files that are fine -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_line_ends_and_byte_order_mark(tmp_path, newline, bom):
    text = newline.join(["id,subject,body", "1,Refund,I want my money", '2,"a, b","caf\u00e9"', ""])
    table = open_table(write(tmp_path, "t.csv", bom + text.encode()))
    assert table.columns == ["id", "subject", "body"]
    assert table.text_columns == ("subject", "body")
    assert table.texts == ["Refund\n\nI want my money", "a, b\n\ncaf\u00e9"]
    assert list(table) == [["1", "Refund", "I want my money"], ["2", "a, b", "caf\u00e9"]]
    assert table.dialect.bom is bool(bom)
    assert not table.row_errors


@pytest.mark.parametrize(("name", "delimiter"), [("t.csv", ";"), ("t.csv", "\t"), ("t.tsv", "\t"), ("t.csv", "|")])
def test_other_delimiters(tmp_path, name, delimiter):
    content = f"id{delimiter}text\n1{delimiter}hello, world\n"
    table = open_table(write(tmp_path, name, content))
    assert (table.columns, table.texts, table.dialect.delimiter) == (["id", "text"], ["hello, world"], delimiter)


def test_quoted_line_breaks_blank_lines_and_line_numbers(tmp_path):
    content = 'id,text\n1,"two\nlines"\n\n2,"say ""hi"""\n3,\n'
    table = open_table(write(tmp_path, "t.csv", content))
    assert table.texts == ["two\nlines", 'say "hi"', ""]
    assert [table.line(i) for i in range(3)] == [2, 5, 6]
    assert table.row_errors[2].line == 6
    assert "line 6" in table.row_errors[2].message


def test_jsonl_columns_are_the_union_of_keys(tmp_path):
    lines = [{"text": "a", "id": 1}, {"id": 2, "text": "b", "extra": [1, 2]}, {"text": "line\u2028separator", "id": 3}]
    content = "\r\n".join(json.dumps(line, ensure_ascii=False) for line in lines) + "\r\n\r\n"
    table = open_table(write(tmp_path, "t.ndjson", content), id_column="id")
    assert table.columns == ["text", "id", "extra"]
    assert table.rows == [["a", 1, None], ["b", 2, [1, 2]], ["line\u2028separator", 3, None]]
    assert table.ids() == ["1", "2", "3"]


@pytest.mark.parametrize("package", ["pyarrow", "polars", "duckdb"])
def test_parquet_with_each_reader(tmp_path, monkeypatch, package):
    pytest.importorskip(package)
    from stepwell.triage import _frames

    monkeypatch.setattr(_frames, "PARQUET_PACKAGES", (package,))
    path = tmp_path / "it's.parquet"
    _frames.write_parquet(path, {"id": [1, 2], "text": ["one", None], "mixed": [1, "x"], "ok": [True, False]})
    table = open_table(path, id_column="id")
    assert (table.kind, table.columns, table.texts) == ("parquet", ["id", "text", "mixed", "ok"], ["one", ""])
    assert table.row(0) == {"id": 1, "text": "one", "mixed": "1", "ok": True}
    assert reasons(table) == {1: "empty"}


def test_parquet_without_a_reader_names_the_line_to_type(tmp_path, monkeypatch):
    from stepwell.triage import _frames

    monkeypatch.setattr(_frames, "PARQUET_PACKAGES", ("no_such_package",))
    with refused("SW-E2215", "pip install pyarrow"):
        open_table(write(tmp_path, "t.parquet", b"PAR1"))


def test_damaged_parquet(tmp_path):
    pytest.importorskip("pyarrow")
    with refused("SW-E2216", "t.parquet"):
        open_table(write(tmp_path, "t.parquet", b"PAR1 cut off"))


def test_pandas_polars_and_arrow_frames():
    pytest.importorskip("narwhals")
    columns = {"id": [1, 2, 3], "text": ["one", None, "three"], "queue": ["a", "b", None]}
    made = []
    if "pandas" in sys.modules or pytest.importorskip("pandas"):
        import pandas as pd

        made += [pd.DataFrame(columns), pd.DataFrame(columns, index=[9, 9, 7])]
        made.append(pd.DataFrame(columns).convert_dtypes())
    import polars as pl
    import pyarrow as pa

    made += [pl.DataFrame(columns), pl.DataFrame(columns).lazy(), pa.table(columns)]
    for frame in made:
        table = open_table(frame, gold="queue", id_column="id")
        assert (table.kind, table.texts, table.ids()) == ("frame", ["one", "", "three"], ["1", "2", "3"]), type(frame)
        assert table.golds() == ["a", "b", None]
        assert reasons(table) == {1: "empty"}


def test_lists_of_strings_and_of_dicts():
    assert open_table(["one", "two", ""]).texts == ["one", "two", ""]
    table = open_table([{"message": "hi", "n": 1}, {"message": "ho"}])
    assert (table.kind, table.columns, table.texts) == ("records", ["message", "n"], ["hi", "ho"])


@pytest.mark.parametrize("source", [42, None, [1, 2], ["a", {"text": "b"}], object()])
def test_not_a_table(source):
    with refused("SW-E2217"):
        open_table(source)


# -- which column is the text ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("columns", "chosen"),
    [
        (["id", "Subject", "Body"], ("Subject", "Body")),
        (["title", "description", "queue"], ("title", "description")),
        (["text", "category"], ("text",)),
        (["id", "Consumer complaint narrative"], ("Consumer complaint narrative",)),
        (["nr", "issue_text"], ("issue_text",)),
        (["whatever"], ("whatever",)),
    ],
)
def test_text_is_guessed(tmp_path, columns, chosen):
    table = open_table(write(tmp_path, "t.csv", ",".join(columns) + "\n" + ",".join("x" * len(columns)) + "\n"))
    assert table.text_columns == chosen


def test_gold_and_id_are_never_guessed_as_text(tmp_path):
    path = write(tmp_path, "t.csv", "text,message\na,b\n")
    assert open_table(path, gold="text").text_columns == ("message",)
    with refused("SW-E2212", "--text"):
        open_table(write(tmp_path, "u.csv", "a,b\n1,2\n"))


def test_unknown_columns_get_a_suggestion(tmp_path):
    path = write(tmp_path, "t.csv", "id,Subject,body,queue\n1,a,b,c\n")
    with refused("SW-E2211", "id, Subject, body, queue", 'did you mean "Subject"?'):
        open_table(path, text_columns=["subject"])
    with refused("SW-E2211", 'did you mean "queue"?'):
        open_table(path, gold="quue")
    with refused("SW-E2211", "no column", "for id"):
        open_table(path, id_column="ticket_number")


def test_text_twice_and_gold_as_text(tmp_path):
    path = write(tmp_path, "t.csv", "id,subject,body\n1,a,b\n")
    with refused("SW-E2213", "body"):
        open_table(path, text_columns=["body", "subject", "body"])
    with refused("SW-E2214"):
        open_table(path, text_columns=["body"], gold="body")
    assert open_table(path, text_columns="subject,body").text_columns == ("subject", "body")


# -- files that are refused as a whole ---------------------------------------------------------------------------------


def test_missing_folder_unknown_and_empty(tmp_path):
    write(tmp_path, "tickets.csv", "text\na\n")
    with refused("SW-E2201", "did you mean tickets.csv?"):
        open_table(tmp_path / "tikets.csv")
    with refused("SW-E2201", "does not exist"):
        open_table(tmp_path / "nowhere" / "t.csv")
    with refused("SW-E2202", "tickets.csv"):
        open_table(tmp_path)
    (tmp_path / "folder.csv").mkdir()
    with refused("SW-E2202"):
        open_table(tmp_path / "folder.csv")
    with refused("SW-E2204", "CSV UTF-8"):
        open_table(tmp_path / "t.xlsx")
    with refused("SW-E2204", ".csv, .tsv"):
        open_table(tmp_path / "tickets")
    for name in ("empty.csv", "empty.jsonl"):
        with refused("SW-E2205"):
            open_table(write(tmp_path, name, "" if name == "empty.jsonl" else "\n \n"))
    with refused("SW-E2206", "no rows"):
        open_table(write(tmp_path, "header.csv", "id,text\r\n"))
    with refused("SW-E2206"):
        open_table([])


def test_latin_1_is_refused_with_its_place(tmp_path):
    content = "id,subject,body\n1,ok,fine\n2,Caf\u00e9,closed\n".encode("latin-1")
    with refused("SW-E2207", 'line 3, byte 6, column "subject"', "0xe9", "UTF-8", "iconv -f WINDOWS-1252"):
        open_table(write(tmp_path, "t.csv", content))
    with refused("SW-E2207", "line 2, byte 11"):
        open_table(write(tmp_path, "t.jsonl", b'{"text": "a"}\n{"text": "\xe9"}\n'))


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"PAR1....", "a Parquet file"),
        (b"PK\x03\x04....", "spreadsheet"),
        (b"\x1f\x8b....", "gzip"),
        ("\ufeffid,text\n1,a\n".encode("utf-16-le"), "UTF-16"),
        ("id,text\n1,a\n".encode("utf-16-le"), "NUL bytes"),
    ],
)
def test_content_of_another_kind(tmp_path, content, what):
    with refused("SW-E2208", what):
        open_table(write(tmp_path, "t.csv", content))


def test_duplicate_columns(tmp_path):
    with refused("SW-E2209", '"text"', "line 1", "columns 1, 3"):
        open_table(write(tmp_path, "t.csv", "text,id,text\na,1,b\n"))


def test_quote_that_is_never_closed(tmp_path):
    content = 'id,text\n1,"fine"\n2,"opens and never closes\n3,swallowed\n4,swallowed\n'
    with refused("SW-E2210", "line 3", "2 more lines"):
        open_table(write(tmp_path, "t.csv", content))


# -- rows that are marked while the rest goes on -----------------------------------------------------------------------


def test_ragged_rows_are_marked_and_keep_their_cells(tmp_path):
    table = open_table(write(tmp_path, "t.csv", "id,text\n1,ok\n2\n3,one, two, three\n4,ok\n"))
    assert reasons(table) == {1: "ragged", 2: "ragged"}
    assert table.row_errors[2].message == "line 4: 4 cells where the header has 2"
    assert (table.row_errors[1].code, table.row_errors[1].line) == ("SW-E2221", 3)
    assert table.rows[2] == ["3", "one, two, three"]
    assert len(table) == 4


def test_malformed_quotes_mark_their_row_only(tmp_path):
    table = open_table(write(tmp_path, "t.csv", 'id,text\n1,"ok"\n2,"bad" tail\n3,"ok, too"\n'))
    assert reasons(table) == {1: "malformed"}
    assert table.row_errors[1].line == 3
    assert table.texts[2] == "ok, too"


def test_empty_texts_go_to_review_without_a_call(tmp_path):
    table = open_table(write(tmp_path, "t.csv", "id,text\n1,\n2,  \n3,x\n"))
    assert reasons(table) == {0: "empty", 1: "empty"}
    outcome = table.row_errors[0].outcome()
    assert (outcome.status, outcome.reason, outcome.attempts, outcome.cost_usd) == ("review", "empty", 0, 0.0)
    assert outcome.error.startswith("SW-E2224 line 2")


def test_nul_surrogates_and_huge_cells(tmp_path):
    rows = b"id,text\n1,a\x00b\n2," + b"x" * 20_000_000 + b"\n3,ok\n"
    table = open_table(write(tmp_path, "t.csv", rows))
    assert reasons(table) == {0: "not_text", 1: "too_long"}
    assert "20,000,000 characters" in table.row_errors[1].message
    table = open_table(write(tmp_path, "t.jsonl", '{"text": "\\ud800"}\n{"text": "\\ud83d\\ude00"}\n'))
    assert reasons(table) == {0: "not_text"}


def test_jsonl_lines_that_are_wrong(tmp_path):
    deep = "[" * 100_000
    content = '{"text": "a"}\n{"text": \n[1]\n"b"\nnull\n' + deep + '\n{"text": "c"}\n'
    table = open_table(write(tmp_path, "t.jsonl", content))
    assert reasons(table) == {1: "not_json", 2: "not_object", 3: "not_object", 4: "not_object", 5: "not_json"}
    assert "line 2: not JSON" in table.row_errors[1].message
    assert "character 10" in table.row_errors[1].message
    assert table.row_errors[2].message == "line 3: a list where an object is needed"
    assert table.texts == ["a", "", "", "", "", "", "c"]
    with refused("SW-E2206", "jq -c"):
        open_table(write(tmp_path, "array.jsonl", '[{"text": "a"}]'))


def test_values_that_are_not_strings(tmp_path):
    lines = [
        '{"text": 12}',
        '{"text": 5.0}',
        '{"text": true}',
        '{"text": null}',
        '{"text": ["a"]}',
        '{"text": {"a": 1}}',
    ]
    table = open_table(write(tmp_path, "t.jsonl", "\n".join(lines)))
    assert table.texts == ["12", "5", "true", "", "", ""]
    assert reasons(table) == {3: "empty", 4: "not_text", 5: "not_text"}
    assert 'column "text" holds list, not text' in table.row_errors[4].message


def test_duplicate_and_missing_ids(tmp_path):
    table = open_table(write(tmp_path, "t.csv", "id,text\n7,a\n8,b\n7,c\n,d\n"), id_column="id")
    assert reasons(table) == {2: "duplicate_id", 3: "missing_id"}
    assert table.row_errors[2].message == 'line 4: id "7" was already used in row 1'


# -- promises about all of it ------------------------------------------------------------------------------------------


def test_every_code_in_the_sources_is_explained():
    folder = Path(sys.modules[open_table.__module__].__file__).parent
    used = set()
    for path in folder.glob("_*.py"):
        if path.name != "_codes.py":
            used |= set(re.findall(r"SW-E22[0-4]\d", path.read_text(encoding="utf-8")))
    known = {code for code in used if code in CODES}
    assert used - known == set()
    assert all(len(entry) == 3 and all(entry) for entry in CODES.values())


def test_fingerprint_follows_the_content(tmp_path):
    one = open_table(write(tmp_path, "a.csv", "text\na\nb\n")).fingerprint
    assert one == open_table(write(tmp_path, "b.csv", "text\na\nb\n")).fingerprint
    assert one != open_table(write(tmp_path, "c.csv", "text\na\nc\n")).fingerprint
    assert open_table(["a", "b"]).fingerprint != open_table(["a", "c"]).fingerprint


def test_import_is_light():
    code = (
        "import sys; before = set(sys.modules)\n"
        "import stepwell.triage._read, stepwell.triage._write, stepwell.triage._report, stepwell.triage._progress\n"
        "import stepwell.triage._html, stepwell.triage._labels, stepwell.triage._codes, stepwell.triage._frames\n"
        "heavy = {'pandas', 'polars', 'pyarrow', 'narwhals', 'IPython', 'duckdb', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": ":".join(sys.path)})


def test_twenty_thousand_rows_are_read_whole(tmp_path):
    row = '{},"Refund, please","Hello, I was charged twice for my order. Please help me, thanks.",Billing\n'
    path = write(tmp_path, "t.csv", "id,subject,body,queue\n" + "".join(row.format(i) for i in range(20_000)))
    table = open_table(path, gold="queue", id_column="id")
    assert (len(table), table.row_errors) == (20_000, {})


@pytest.mark.skipif(not DATA.is_dir(), reason="the shared ticket files are not here")
@pytest.mark.parametrize(
    ("name", "rows", "text", "gold"),
    [
        ("banking77_train", 10_003, "text", "category"),
        ("bitext_customer_support_4514", 4_514, "text", "category"),
        ("cfpb_500_with_7_llms", 500, "narrative", "product"),
        ("clinc150_train_10shot", 1_500, "text", "intent"),
        ("hint3_train", 1_398, "text", "intent"),
        ("insurance_train", 68, "text", "label"),
        ("it_tickets_endava_train_3200", 3_200, "text", "queue"),
    ],
)
def test_shared_files(name, rows, text, gold):
    table = open_table(DATA / f"{name}.csv", gold=gold)
    assert (len(table), table.text_columns, table.row_errors) == (rows, (text,), {})
    assert None not in table.golds()


@pytest.mark.skipif(not (SHARED / "conformance" / "csv").is_dir(), reason="the shared CSV cases are not here")
def test_csv_cases(tmp_path):
    import base64

    cases = json.loads((SHARED / "conformance" / "csv" / "cases.json").read_text(encoding="utf-8"))
    for case in cases:
        path = write(tmp_path, case["name"] + ".csv", base64.b64decode(case["csv_b64"]))
        if case["json"] is None or isinstance(case["json"], dict):
            continue  # malformed on purpose; the expected rows of the other describe another file
        table = open_table(path, text_columns=[next(iter(case["json"][0]))])
        assert [table.row(i) for i in range(len(table))] == case["json"], case["name"]
