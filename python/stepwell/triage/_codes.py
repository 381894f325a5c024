"""The error codes of ticket tables, labels, results and their columns, for `stepwell explain CODE`."""

from __future__ import annotations

CODES: dict[str, tuple[str, str, str]] = {
    # Whole-table problems: nothing is started and nothing is spent.
    "SW-E2201": (
        "no such file",
        "The path of the ticket table does not exist.",
        "Check the spelling and the folder you are in; the message lists files with similar names.",
    ),
    "SW-E2202": (
        "a folder, not a file",
        "The path of the ticket table is a folder.",
        "Name one file in it. The message lists the tables found there.",
    ),
    "SW-E2203": (
        "file cannot be read",
        "The operating system refused to open or read the file.",
        "Check the permissions of the file and of its folder, and that no other program has locked it.",
    ),
    "SW-E2204": (
        "unknown kind of table",
        "The kind of a table is taken from the end of its name, and this one is not known.",
        'Use .csv, .tsv, .jsonl, .ndjson, .parquet or .pq. Save a spreadsheet as "CSV UTF-8" first.',
    ),
    "SW-E2205": (
        "empty file",
        "The file holds no header and no rows.",
        "Check the export that wrote it; a table starts with a line of column names.",
    ),
    "SW-E2206": (
        "no rows",
        "The table has column names but not one row below them.",
        "Check the filter of the export that wrote it.",
    ),
    "SW-E2207": (
        "not UTF-8",
        "The file holds bytes that are not UTF-8; letters would be guessed. Often a spreadsheet wrote Windows-1252.",
        'Convert it once: iconv -f WINDOWS-1252 -t UTF-8 old.csv > new.csv, or save as "CSV UTF-8".',
    ),
    "SW-E2208": (
        "content does not fit the name",
        "The first bytes show another format (Parquet, a spreadsheet, gzip, UTF-16).",
        "Rename the file to what it is, unpack it, or save it as UTF-8 CSV.",
    ),
    "SW-E2209": (
        "duplicate column names",
        "Two columns have the same name, so a name would not say which is meant.",
        "Rename one of them in the first line of the file.",
    ),
    "SW-E2210": (
        "quote never closed",
        "A quoted CSV field runs to the end of the file and would swallow every row after it.",
        'Close the quote in the named row; inside a quoted field a quote is written twice ("").',
    ),
    "SW-E2211": (
        "unknown column",
        "The table has no column of this name. Names are compared exactly.",
        "Use one of the listed names.",
    ),
    "SW-E2212": (
        "no text column found",
        "None of the columns has a name that usually holds the text of a ticket.",
        'Say which: --text subject,body, or text=["subject", "body"].',
    ),
    "SW-E2213": (
        "text column named twice",
        "The same column is given twice as text, so it would be paid for twice.",
        "Name each text column once.",
    ),
    "SW-E2214": (
        "the answer is in the question",
        "The gold column is also a text column: the model would be shown the answer.",
        "Name another text column or another gold column.",
    ),
    "SW-E2215": (
        "no Parquet reader installed",
        "Parquet files are read and written by pyarrow, polars or duckdb; none is here.",
        "pip install pyarrow (or polars, or duckdb), or use CSV or JSONL.",
    ),
    "SW-E2216": (
        "Parquet file cannot be read",
        "The installed Parquet reader refused the file: it is cut off or damaged.",
        "Write the file again; a file that was being written when it was copied has no footer.",
    ),
    "SW-E2217": (
        "not a table",
        "The object is neither a path nor a frame, a list of records or a list of texts.",
        "Give a path, a pandas, polars or pyarrow table, a list of dicts, or a list of strings.",
    ),
    "SW-E2218": (
        "narwhals is not installed",
        "Frames of every kind are read through the small package narwhals.",
        "pip install narwhals",
    ),
    # One row's problems: the row is marked, the rest goes on.
    "SW-E2221": (
        "ragged row",
        "The row has more or fewer cells than the header, often an unquoted comma or line break.",
        "Quote the field. In the output surplus cells are kept in the last column.",
    ),
    "SW-E2222": (
        "line is not JSON",
        "A line of a JSONL file does not parse.",
        "Every line is one JSON object; see the position.",
    ),
    "SW-E2223": (
        "line is not an object",
        "A line of a JSONL file is valid JSON but a list, a string or a number.",
        'Write {"text": ...} on every line.',
    ),
    "SW-E2224": (
        "empty text",
        "The text columns of the row are empty. It goes to review and no call is made.",
        "Nothing to fix unless the text was lost on the way.",
    ),
    "SW-E2225": (
        "text too long",
        "The text has more than 1,000,000 characters; usually an attachment or a broken quote.",
        "Shorten it, or look for a missing quote above the row.",
    ),
    "SW-E2226": (
        "characters that are not text",
        "The text holds NUL characters or half a surrogate pair.",
        "Clean the export; such characters are damage, not language.",
    ),
    "SW-E2227": (
        "duplicate id",
        "An earlier row has the same id. The first one is used.",
        "Make ids unique, or leave out the id column.",
    ),
    "SW-E2228": ("missing id", "The id column of the row is empty.", "Give the row an id, or leave out the id column."),
    "SW-E2229": (
        "text is not text",
        "A text column holds a list or an object.",
        "Turn it into a string when the table is written.",
    ),
    "SW-E2230": (
        "malformed quoting",
        "Characters follow a closing quote, so the field's end is a guess.",
        'Inside a quoted field write a quote twice ("").',
    ),
    # Labels.
    "SW-E2231": (
        "fewer than two labels",
        "There is nothing to decide with less than two labels.",
        'Give at least two: --labels "Billing,Technical,General".',
    ),
    "SW-E2232": (
        "too many labels",
        "More than 1,000 labels were given.",
        "Classify in two stages (area, then label), or check that the right column or file was used.",
    ),
    "SW-E2233": (
        "duplicate label",
        "Two labels are the same, or differ only in case or outer blanks.",
        "Remove one of them.",
    ),
    "SW-E2234": ("empty label", "A label is empty or blank; often a doubled or trailing comma.", "Remove it."),
    "SW-E2235": (
        "control character in a label",
        "A label holds a line break, a tab or another control character.",
        "Write the label on one line, without tabs.",
    ),
    "SW-E2236": (
        "label too long",
        "A label has more than 200 characters.",
        "Labels are names; put explanations into the descriptions or the prompt.",
    ),
    "SW-E2237": (
        "label file cannot be used",
        "The file named with @ is missing, unreadable or not UTF-8.",
        "Name an existing text file with one label on each line.",
    ),
    # Results.
    "SW-E2241": (
        "unknown kind of output",
        "The kind of the output is taken from the end of its name, and this one is not known.",
        "Use .csv, .tsv, .jsonl, .ndjson, .parquet or .pq.",
    ),
    "SW-E2242": (
        "output folder cannot be written",
        "The folder of the output does not exist or refuses new files.",
        "Create it (mkdir -p) or choose another; checked before the first call so that no paid result is lost.",
    ),
    "SW-E2243": (
        "output is another file of the job",
        "The output, or the report, is the same file as the input, the output or the store, perhaps through a link.",
        "Choose another name; nothing is ever overwritten by that.",
    ),
    "SW-E2244": ("output is a folder", "The output names an existing folder.", "Name a file in it."),
    "SW-E2246": (
        "unknown mode",
        "A triage calls the model row by row (live), or through the provider's batch API (batch); there is no third way.",
        'Give mode="live" or mode="batch"; on the command line --mode live or --mode batch.',
    ),
    "SW-E2245": (
        "results could not be written",
        "Writing failed at the end, for example because the disk is full.",
        "Make room and run the same command again: finished rows are recorded and are not paid for twice.",
    ),
}
