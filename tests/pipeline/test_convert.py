"""The quick and the patient reading of a value agree, and any Arrow table comes into the mesh's types."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tulle.errors import Invalid
from tulle.pipeline.convert import (
    Misfit,
    arrow_type,
    columns_of,
    convert,
    expected,
    in_mesh_types,
    parse,
    parse_json,
)
from tulle.spec.source import SourceColumn

COLUMNS = [
    SourceColumn("c", "string"),
    SourceColumn("c", "integer"),
    SourceColumn("c", "double"),
    SourceColumn("c", "decimal(6,2)"),
    SourceColumn("c", "decimal(38,0)"),
    SourceColumn("c", "boolean"),
    SourceColumn("c", "date"),
    SourceColumn("c", "date", "%Y%m%d"),
    SourceColumn("c", "date", "%d.%m.%y"),
    SourceColumn("c", "timestamp"),
    SourceColumn("c", "timestamp", "%Y-%m-%d %H:%M:%S"),
    SourceColumn("c", "binary"),
]
TEXTS = [
    *[
        "",
        " ",
        "x",
        "0",
        "-1",
        "+7",
        " 42 ",
        "007",
        "1.5",
        "1.",
        ".5",
        "1e2",
        "1e-3",
        "-0",
        "0x1f",
        "1_000",
        "1,5",
    ],
    *[
        "9223372036854775807",
        "9223372036854775808",
        "-9223372036854775808",
        "1234.56",
        "12345.67",
        "1.230",
        "1.235",
    ],
    *[
        "nan",
        "NaN",
        "inf",
        "-Infinity",
        "true",
        "T",
        "no",
        "maybe",
        "1" * 40,
        "9" * 38,
        "9999.99",
        "-9999.999",
    ],
    *["1997-01-01", "1997-02-29", "1996-02-29", "19970101", "19970231", "1997-1-1", "1997011", "199701011"],
    *["01.02.97", "31.04.97", "1997-01-01 10:11:12", "1997-01-01T10:11:12", "1997-01-01T10:11:12Z"],
    *["1997-01-01T10:11:12+02:00", "1997-01-01 10:11", "1997-01-01 25:00:00", "1997-01-01 10:11:12.123456"],
    *[
        "ä",
        "\u00a01",
        "\uff11\uff12",
        "1\n",
        "true\t",
        "-",
        "+",
        ".",
        "e5",
        "0000-01-01",
        "9999-12-31",
        "10000-01-01",
    ],
]


def both(text: str, column: SourceColumn) -> tuple[str, object]:
    """What the two readings say; they must say the same."""
    try:
        slow: tuple[str, object] = ("value", parse(text, column))
    except ValueError:
        slow = ("misfit", None)
    try:
        quick: tuple[str, object] = ("value", convert(pa.array([text], pa.string()), column)[0].as_py())
    except Misfit:
        quick = ("misfit", None)
    assert repr(quick) == repr(slow), (text, column)
    return slow


@pytest.mark.parametrize("column", COLUMNS, ids=lambda c: f"{c.type} {c.format}")
def test_the_quick_and_the_patient_reading_agree(column: SourceColumn) -> None:
    for text in TEXTS:
        both(text, column)


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(COLUMNS),
    st.one_of(
        st.from_regex(r"\A\s?[-+]?[0-9]{0,25}(\.[0-9]{0,4})?(e-?[0-9]{1,2})?\s?\Z"),
        st.dates().map(str),
        st.datetimes().map(str),
        st.dates(min_value=dt.date(1969, 1, 1)).map(lambda d: d.strftime("%Y%m%d")),
        st.text(alphabet="0123456789-+.eE:TZ nat", max_size=12),
    ),
)
def test_they_agree_on_anything(column: SourceColumn, text: str) -> None:
    both(text, column)


@pytest.mark.parametrize(
    ("column", "text", "value"),
    [
        (SourceColumn("c", "integer"), " +7 ", 7),
        (SourceColumn("c", "decimal(6,2)"), "1.230", Decimal("1.23")),
        (SourceColumn("c", "date", "%Y%m%d"), "19970231", None),
        (SourceColumn("c", "date", "%Y%m%d"), "19970228", dt.date(1997, 2, 28)),
        (SourceColumn("c", "timestamp"), "1997-01-01T10:11:12+02:00", dt.datetime(1997, 1, 1, 8, 11, 12)),  # noqa: DTZ001
        (SourceColumn("c", "boolean"), "Yes", True),
        (SourceColumn("c", "string"), " as it is ", " as it is "),
    ],
)
def test_values(column: SourceColumn, text: str, value: object) -> None:
    kind, found = both(text, column)
    assert (kind, found) == (("misfit", None) if value is None else ("value", value))


def test_nulls_and_no_rows() -> None:
    for column in COLUMNS:
        assert (
            convert(pa.array([None, "" if column.type != "string" else None], pa.string()), column).null_count
            == 2
        )
        assert convert(pa.array([], pa.string()), column).type == arrow_type(column.type)
        assert expected(column)


@pytest.mark.parametrize(
    ("kind", "value", "result"),
    [
        ("integer", 3.0, 3),
        ("integer", "3", 3),
        ("integer", 3.5, ValueError),
        ("integer", True, ValueError),
        ("integer", [1], ValueError),
        ("string", 3, "3"),
        ("string", {}, ValueError),
        ("boolean", True, True),
        ("boolean", 1, ValueError),
        ("double", 1, 1.0),
        ("decimal(6,2)", 1.25, Decimal("1.25")),
        ("date", "2020-01-02", dt.date(2020, 1, 2)),
        ("date", None, None),
    ],
)
def test_json_values(kind: str, value: object, result: object) -> None:
    column = SourceColumn("c", kind)
    if result is ValueError:
        with pytest.raises(ValueError):  # noqa: PT011
            parse_json(value, column)
    else:
        assert parse_json(value, column) == result


def test_arrow_tables_come_into_the_meshs_types() -> None:
    table = pa.table(
        {
            "i": pa.array([1], pa.int8()),
            "u": pa.array([1], pa.uint64()),
            "f": pa.array([1], pa.float32()),
            "s": pa.array(["a"], pa.large_string()),
            "d": pa.array(["a"]).dictionary_encode(),
            "n": pa.nulls(1),
            "t": pa.array([dt.datetime(2020, 1, 1, 12, tzinfo=dt.UTC)], pa.timestamp("ns", "Europe/Berlin")),
            "m": pa.array([Decimal("1.50")], pa.decimal128(38, 2)),
            "day": pa.array([dt.date(2020, 1, 1)], pa.date64()),
        }
    )
    made = in_mesh_types(table, "m.py", {"m": "decimal(10,2)"})
    assert {c.name: c.type for c in columns_of(made.schema)} == {
        "i": "integer",
        "u": "integer",
        "f": "double",
        "s": "string",
        "d": "string",
        "n": "string",
        "t": "timestamp",
        "m": "decimal(10,2)",
        "day": "date",
    }
    assert made["t"][0].as_py() == dt.datetime(2020, 1, 1, 12)  # noqa: DTZ001
    assert made.schema.field("i").type == pa.int64()


def test_what_a_data_set_cannot_hold_is_named() -> None:
    table = pa.table([pa.array([[1]]), pa.array([1]), pa.array([2])], names=["l", "a", "A"])
    with pytest.raises(Invalid) as caught:
        in_mesh_types(table, "m.py")
    assert [p.message for p in caught.value.problems] == [
        "column 'l' has type list<item: int64>, which a data set cannot hold",
        "two columns are named 'A'",
    ]
    with pytest.raises(Invalid, match="cannot be kept"):
        in_mesh_types(pa.table({"u": pa.array([2**63], pa.uint64())}), "m.py")
