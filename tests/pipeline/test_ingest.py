"""Files in, typed rows out; and for each way a file can be wrong, an error that says where and what to do."""

from __future__ import annotations

import datetime as dt
import gzip
import json
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tulle.errors import Denied, Invalid, Place
from tulle.pipeline.ingest import content_digest, ingest, source_files
from tulle.spec.product import InputPort
from tulle.spec.source import Source, SourceColumn

COLUMNS = (
    SourceColumn("id", "integer"),
    SourceColumn("day", "date", "%Y%m%d"),
    SourceColumn("amount", "decimal(10,2)"),
    SourceColumn("note", "string"),
)
GOOD = 'id,day,amount,note\n1,19970101,1.50,a\n2,19970102,,\n3,,3,"x,\ny"\n'


class Case:
    """A product folder with files and a port to read them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, name: str, data: str | bytes) -> Path:
        file = self.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        data = data.encode() if isinstance(data, str) else data
        file.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return file

    def port(self, path: str, **source: Any) -> InputPort:
        source.setdefault("columns", COLUMNS)
        source.setdefault("format", "csv")
        made = Source(path, place=Place("product.yaml", 9, 9), **source)
        return InputPort("log", "Log", "", data_set="rows", source=made)

    def read(self, path: str, **source: Any) -> list[dict[str, Any]]:
        port = self.port(path, **source)
        assert port.source is not None
        target = self.folder / "out" / "part.parquet"
        target.unlink(missing_ok=True)
        try:
            written = ingest(source_files(port, self.folder, "p"), port.source, target)
        except Invalid:
            assert not target.exists()
            raise
        table = pq.read_table(target)
        assert written.rows == table.num_rows
        assert [c.name for c in written.columns] == table.column_names
        return table.to_pylist()

    def refused(self, path: str, **source: Any) -> tuple[str, list[str]]:
        with pytest.raises(Invalid) as caught:
            self.read(path, **source)
        assert caught.value.hint or caught.value.problems
        return caught.value.message, [str(problem) for problem in caught.value.problems]


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


ROWS = [
    {"id": 1, "day": dt.date(1997, 1, 1), "amount": Decimal("1.50"), "note": "a"},
    {"id": 2, "day": dt.date(1997, 1, 2), "amount": None, "note": None},
    {"id": 3, "day": None, "amount": Decimal("3.00"), "note": "x,\ny"},
]


@pytest.mark.parametrize(
    ("name", "data", "source"),
    [
        ("a.csv", GOOD, {}),
        ("a.csv.gz", GOOD, {}),
        ("a.csv", "\ufeff" + GOOD, {}),
        ("a.csv", GOOD.replace("\n", "\r\n").replace("x,\r\n", "x,\n"), {}),
        ("a.csv", GOOD.partition("\n")[2], {"header": False}),
        ("a.csv", GOOD.replace(",", ";").replace("x;", "x,"), {"delimiter": ";"}),
        ("a.csv", GOOD.encode("utf-16"), {"encoding": "utf-16"}),
        ("a.csv", 'note,amount,id , day\na,1.50,1,19970101\n,,2,19970102\n\n"x,\ny",3,3,\n', {}),
        ("a.csv", GOOD.replace('"x,\ny"', "'x,\ny'"), {"quote": "'"}),
    ],
)
def test_csv(case: Case, name: str, data: str | bytes, source: dict[str, Any]) -> None:
    case.write(name, data)
    assert case.read(name, **source) == ROWS


def test_an_empty_text_in_quotes_is_no_null(case: Case) -> None:
    case.write("a.csv", 'a,b\n"",\n')
    assert case.read("a.csv", columns=()) == [{"a": "", "b": None}]


def test_latin_1(case: Case) -> None:
    case.write("a.csv", "name\nMüller\n".encode("latin-1"))
    assert case.read("a.csv", columns=(SourceColumn("name"),), encoding="latin-1") == [{"name": "Müller"}]
    message, problems = case.refused("a.csv", columns=(SourceColumn("name"),))
    assert "1 problem" in message
    assert problems == [
        "p/a.csv:2:2: byte 0xfc at position 2 is not UTF-8; if the file is in Latin-1, set encoding: latin-1"
    ]


@pytest.mark.parametrize("name", ["log.txt", "log.txt.gz"])
def test_whitespace(case: Case, name: str) -> None:
    case.write(name, " 00001 19970101  1   11.77\n\n\t00002   19970112  12  77.00  \r\n")
    columns = (SourceColumn("c"), SourceColumn("day", "date", "%Y%m%d"), SourceColumn("n", "integer"))
    columns = (*columns, SourceColumn("amount", "decimal(10,2)"))
    assert case.read(name, format="whitespace", header=False, columns=columns) == [
        {"c": "00001", "day": dt.date(1997, 1, 1), "n": 1, "amount": Decimal("11.77")},
        {"c": "00002", "day": dt.date(1997, 1, 12), "n": 12, "amount": Decimal("77.00")},
    ]
    with_header = gzip.decompress((case.folder / name).read_bytes()) if name.endswith("gz") else None
    case.write(name, b"c day\tn amount\n" + (with_header or (case.folder / name).read_bytes()))
    assert len(case.read(name, format="whitespace", columns=columns)) == 2


def test_a_delimiter_of_several_characters(case: Case) -> None:
    case.write("a.csv", "a||b\n1||2\n")
    assert case.read("a.csv", delimiter="||", columns=()) == [{"a": "1", "b": "2"}]


def test_globs_are_read_in_order_into_one_file(case: Case) -> None:
    case.write("in/b.csv", "a\n2\n")
    case.write("in/a.csv", "a\n1\n")
    case.write("in/c.txt", "a\n3\n")
    assert case.read("in/*.csv", columns=()) == [{"a": "1"}, {"a": "2"}]
    message, _ = case.refused("in/*.parquet")
    assert message == "input port 'Log': no file fits 'in/*.parquet'"


def test_the_digest_is_that_of_the_bytes(case: Case) -> None:
    files = [case.write("a.csv", "a\n1\n")]
    port = case.port("a.csv")
    first = content_digest(source_files(port, case.folder, "p"))
    files[0].touch()
    assert content_digest(source_files(port, case.folder, "p")) == first
    case.write("a.csv", "a\n2\n")
    assert content_digest(source_files(port, case.folder, "p")) != first


# ── what can be wrong ────────────────────────────────────────────────────────────────────────────────────


def test_a_missing_file(case: Case) -> None:
    case.write("data/purchases.csv", GOOD)
    message, problems = case.refused("data/purchase.csv")
    assert message == "input port 'Log': there is no file 'data/purchase.csv'"
    assert problems[0].startswith("product.yaml:9:9: there is no file")
    assert "did you mean 'data/purchases.csv'?" in problems[0]
    assert "a folder, not a file" in case.refused("data")[0]


@pytest.mark.parametrize("format_", ["csv", "whitespace", "json"])
@pytest.mark.parametrize("data", ["", "\n\n", " \n"])
def test_an_empty_file(case: Case, format_: str, data: str) -> None:
    case.write("a.x", data)
    message, problems = case.refused("a.x", format=format_)
    if (format_, data) == ("csv", " \n"):
        assert "splits into 1 value" in message
    else:
        assert message in {"p/a.x is empty", "p/a.x has no rows"}
        assert problems[0].startswith("p/a.x:1: ")


def test_a_header_alone(case: Case) -> None:
    case.write("a.csv", "id,day,amount,note\n")
    assert case.refused("a.csv")[0] == "p/a.csv has a header, but no rows"


@pytest.mark.parametrize(
    ("data", "source", "hint"),
    [
        (GOOD.replace(",", ";"), {}, "it would with delimiter: ';'"),
        (GOOD.replace(",", "\t"), {}, 'it would with delimiter: a tab ("\\t")'),
        (GOOD.replace(",", "|"), {}, "it would with delimiter: '|'"),
        (GOOD, {"delimiter": ";"}, "it would with delimiter: ','"),
        (GOOD, {"format": "whitespace"}, "it would with format: csv and delimiter: ','"),
        ("1   19970101  1.5 x\n", {"header": False}, "it would with format: whitespace"),
        ("no idea\n", {}, "check 'delimiter', 'header' and 'columns'"),
    ],
)
def test_a_wrong_delimiter_is_guessed(case: Case, data: str, source: dict[str, Any], hint: str) -> None:
    case.write("a.csv", data)
    message, problems = case.refused("a.csv", **source)
    assert "splits into" in message
    assert "4 columns are declared" in message
    assert hint in problems[0]
    assert problems[0].startswith("p/a.csv:1: ")


def test_rows_that_do_not_parse(case: Case) -> None:
    bad = [
        "id,day,amount,note",
        "1,19970101,1.50,a",
        "x,19970231,1.555,b",
        "2,19970101",
        '3,19970101,1,"two',
        'lines"',
        "",
        "4,19970101,1,c,d",
        "9999999999999999999,,,",
    ]
    case.write("a.csv", "\n".join(bad) + "\n")
    message, problems = case.refused("a.csv")
    assert message == "p/a.csv does not parse: 6 problems"
    assert problems == [
        "p/a.csv:3: column 'id' is 'x', expected a whole number of at most 64 bits",
        "p/a.csv:3: column 'day' is '19970231', expected a date written as %Y%m%d, like 19980630",
        "p/a.csv:3: column 'amount' is '1.555', expected a number with at most 8 digits before and 2 after the point",
        "p/a.csv:4: 2 values, expected 4",
        "p/a.csv:8: 5 values, expected 4",
        "p/a.csv:9: column 'id' is '9999999999999999999', expected a whole number of at most 64 bits",
    ]


def test_whitespace_rows_that_do_not_parse(case: Case) -> None:
    case.write("a.txt", "a 1\n\n b   2 \nc x\nd 4 5\ne\n")
    columns = (SourceColumn("c"), SourceColumn("n", "integer"))
    _, problems = case.refused("a.txt", format="whitespace", header=False, columns=columns)
    assert problems == [
        "p/a.txt:4: column 'n' is 'x', expected a whole number of at most 64 bits",
        "p/a.txt:5: 3 values, expected 2",
        "p/a.txt:6: 1 value, expected 2",
    ]


def test_twenty_problems_are_shown_and_all_are_counted(case: Case) -> None:
    case.write("a.csv", "n\n" + "x\n" * 5000)
    message, problems = case.refused("a.csv", columns=(SourceColumn("n", "integer"),))
    assert message == "p/a.csv does not parse: 5,000 problems; the first 20 are shown"
    assert len(problems) == 20


def test_the_line_is_right_far_into_a_large_file(case: Case) -> None:
    lines = [f"{i},some text to fill the block,{i}.25" for i in range(200_000)]
    lines[170_000] = "170000,oops,"
    lines[180_000] = "180000,oops,1.2.3"
    case.write("a.csv", "i,t,x\n" + "\n".join(lines))
    columns = (SourceColumn("i", "integer"), SourceColumn("t"), SourceColumn("x", "double"))
    _, problems = case.refused("a.csv", columns=columns)
    assert problems == ["p/a.csv:180002: column 'x' is '1.2.3', expected a number"]


def test_schema_drift_names_every_column(case: Case) -> None:
    case.write("a.csv", "id,Day,amount,extra,note\n1,2,3,4,5\n")
    message, problems = case.refused("a.csv")
    assert message == "p/a.csv: the header is not as declared"
    assert problems == [
        "p/a.csv:1: column 'day' is missing (did you mean 'Day'?)",
        "p/a.csv:1: column 'Day' is new: it is not declared",
        "p/a.csv:1: column 'extra' is new: it is not declared",
    ]
    case.write("a.csv", "id,id,amount,note\n1,2,3,4\n")
    assert case.refused("a.csv")[0] == "p/a.csv: two columns have the same name"


def test_a_file_without_the_header_it_should_have(case: Case) -> None:
    case.write("a.csv", "1,19970101,1.5,a\n")
    with pytest.raises(Invalid) as caught:
        case.read("a.csv")
    assert "needs 'header: false'" in str(caught.value.hint)
    assert "columns are not declared" in case.refused("a.csv", header=False, columns=())[0]


def test_a_quote_that_is_never_closed(case: Case) -> None:
    case.write("a.csv", 'a,b\n1,"x\n2,y\n3,z\n')
    columns = (SourceColumn("a"), SourceColumn("b"))
    _, problems = case.refused("a.csv", columns=columns)
    assert problems == [
        "p/a.csv:2: a quote is opened and never closed (a quote that is never closed swallows what follows)"
    ]
    case.write("a.csv", 'a,b\n1,5" pipe\n2,y\n')  # an odd quote inside a value is just a character
    assert case.read("a.csv", columns=columns)[0] == {"a": "1", "b": '5" pipe'}


@pytest.mark.parametrize("format_", ["csv", "json"])
def test_a_damaged_archive(case: Case, format_: str) -> None:
    packed = gzip.compress("\n".join(f"{i},{i * 7919}" for i in range(20_000)).encode())
    (case.folder / "a.csv.gz").write_bytes(packed[: len(packed) // 2])
    columns = (SourceColumn("a"), SourceColumn("b"))
    message, _ = case.refused("a.csv.gz", header=False, columns=columns, format=format_)
    assert "p/a.csv.gz" in message
    (case.folder / "a.csv.gz").write_bytes(b"this is no archive")
    _, problems = case.refused("a.csv.gz", header=False, columns=columns, format=format_)
    assert "damaged" in problems[0]


def test_a_file_nobody_may_read(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    case.write("a.csv", GOOD)

    def refuse(*_: Any, **__: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tulle.pipeline.ingest.read_delimited", refuse)
    assert case.refused("a.csv")[0] == "p/a.csv cannot be read: Permission denied"


# ── json and parquet ─────────────────────────────────────────────────────────────────────────────────────

OBJECTS = [
    {"id": 1, "day": "19970101", "amount": 1.5, "note": "a"},
    {"id": 2, "day": "19970102"},
    {"id": "3", "day": None, "amount": "3", "note": "x,\ny"},
]


@pytest.mark.parametrize(
    "data",
    [
        "\n".join(map(json.dumps, OBJECTS)),
        "\ufeff" + "\n\n".join(map(json.dumps, OBJECTS)),
        json.dumps(OBJECTS),
        json.dumps(OBJECTS, indent=2),
    ],
)
@pytest.mark.parametrize("name", ["a.json", "a.json.gz"])
def test_json(case: Case, data: str, name: str) -> None:
    case.write(name, data)
    assert case.read(name, format="json") == ROWS


@pytest.mark.parametrize("number", [2**53 + 1, 10**400])
def test_whole_numbers_of_json_that_are_no_double_stay_as_they_are(case: Case, number: int) -> None:
    case.write("a.json", f'[{{"a":{number}}},{{"a":0.5}}]')
    assert case.read("a.json", format="json", columns=()) == [{"a": str(number)}, {"a": "0.5"}]


def test_json_without_declared_columns(case: Case) -> None:
    case.write("a.json", '{"a":1,"b":1.5,"c":"x","d":[1,2],"e":true}\n{"a":null,"b":2,"z":1}\n')
    assert case.read("a.json", format="json", columns=()) == [
        {"a": 1, "b": 1.5, "c": "x", "d": "[1, 2]", "e": True, "z": None},
        {"a": None, "b": 2.0, "c": None, "d": None, "e": None, "z": 1},
    ]


@pytest.mark.parametrize(
    ("data", "problems"),
    [
        (
            '{"id":1,"day":"x","amount":1,"note":2}\nnonsense\n[1]\n{"id":1.5,"day":null,"amount":{},"note":true}',
            [
                "p/a.json:1: column 'day' is \"x\", expected a date written as %Y%m%d, like 19980630",
                "p/a.json:2: not JSON: invalid character (byte 4)",
                "p/a.json:3: not a JSON object {…}",
                "p/a.json:4: column 'id' is 1.5, expected a whole number of at most 64 bits",
                "p/a.json:4: column 'amount' is {}, expected a number with at most 8 digits before",
            ],
        ),
        (
            '[\n{"id":1,"day":null,"amount":1,"note":2},\n{"id":"x"},\n3\n]',
            [
                "p/a.json:3: column 'id' is \"x\", expected a whole number of at most 64 bits",
                "p/a.json:4: not a JSON object {…}",
            ],
        ),
        (
            '[\n{"id":1,"day":null,"amount":1,"note":2}\n{"id":2}]',
            ["p/a.json:3: not JSON: expected ',' or ']' after an element"],
        ),
        ('[\n{"id":1,"day":null,"amount":1,"note":2},\n', ["p/a.json:3: not JSON: Expecting value"]),
        (
            '{"id":1,"day":null,"amount":1}\n{"id":1,"nota":1}',
            [
                "p/a.json: column 'note' is missing (did you mean 'nota'?)",
                "p/a.json:2: column 'nota' is new: it is not declared",
            ],
        ),
        ("[" * 100_000, ["p/a.json:1: not JSON"]),
    ],
)
def test_json_that_does_not_fit(case: Case, data: str, problems: list[str]) -> None:
    case.write("a.json", data)
    _, found = case.refused("a.json", format="json")
    assert len(found) == len(problems), found
    for got, wanted in zip(found, problems, strict=True):
        assert got.startswith(wanted)


def test_parquet(case: Case) -> None:
    table = pa.table(
        {
            "day": ["19970101", None],
            "id": pa.array([1, 2], pa.int32()),
            "amount": [1.5, None],
            "note": ["a", "b"],
        }
    )
    pq.write_table(table, case.folder / "a.parquet")
    assert case.read("a.parquet", format="parquet")[0] == ROWS[0]
    assert case.read("a.parquet", format="parquet", columns=())[0]["day"] == "19970101"

    _, problems = case.refused("a.parquet", format="parquet", columns=(*COLUMNS[:2], SourceColumn("amuont")))
    assert [p.partition("p/a.parquet: ")[2] for p in problems] == [
        "column 'amuont' is missing (did you mean 'amount'?)",
        "column 'amount' is new: it is not declared",
        "column 'note' is new: it is not declared",
    ]
    wrong = (*COLUMNS[:3], SourceColumn("note", "integer"))
    _, problems = case.refused("a.parquet", format="parquet", columns=wrong)
    assert problems == [
        "p/a.parquet: column 'note' is string in the file, expected a whole number of at most 64 bits (in rows 1 to 2)"
    ]


def test_no_parquet_at_all(case: Case) -> None:
    case.write("a.parquet", "id,day")
    assert case.refused("a.parquet", format="parquet")[0] == "p/a.parquet is not a Parquet file"


def test_files_of_a_glob_must_agree(case: Case) -> None:
    case.write("a.csv", "a\n1\n")
    case.write("b.csv", "b\n1\n")
    assert "differ" in case.refused("*.csv", columns=())[0]


def test_seventy_thousand_rows_take_no_time(case: Case) -> None:
    text = "".join(
        f" {i % 23570:05d} 1997{1 + i % 12:02d}{1 + i % 28:02d}  {i % 9}  {i % 90}.{i % 100:02d}\n"
        for i in range(70_000)
    )
    case.write("a.txt.gz", text)
    columns = (
        *(
            SourceColumn(n, t, f)
            for n, t, f in [("c", "string", ""), ("d", "date", "%Y%m%d"), ("n", "integer", "")]
        ),
        SourceColumn("a", "decimal(10,2)"),
    )
    start = time.process_time()
    assert len(case.read("a.txt.gz", format="whitespace", header=False, columns=columns)) == 70_000
    assert (
        time.process_time() - start < 5
    )  # seconds; far above what it takes, so that a busy machine does not fail it


def test_a_source_reads_its_products_folder_and_the_named_ones_only(case: Case) -> None:
    outside = case.folder.parent / "outside"
    (outside / ".tulle").mkdir(parents=True)
    for file in (outside / "rows.csv", outside / ".tulle" / "token"):
        file.write_text("a\n1\n")
    (case.folder / "link.csv").symlink_to(outside / "rows.csv")
    (case.folder / "token.csv").symlink_to(outside / ".tulle" / "token")

    def read(path: str, *data_folders: str) -> int:
        source = Source(path, "csv", columns=(SourceColumn("a"),))
        port = InputPort("in", "In", "", data_set="raw", source=source)
        return len(source_files(port, case.folder, "p", data_folders))

    for path in (
        "link.csv",
        "../outside/rows.csv",
        str(outside / "rows.csv"),
        "../outside/*.csv",
        "token.csv",
    ):
        with pytest.raises(Denied) as refused:
            read(path)
        assert "data_folders" in (refused.value.hint or "")
        assert path in refused.value.message
    assert read("link.csv", str(outside)) == read(str(outside / "rows.csv"), str(outside)) == 1
    with pytest.raises(Denied):
        read("token.csv", str(outside))
