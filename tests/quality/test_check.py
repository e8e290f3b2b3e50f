"""Checks read from files: values out of right ones, placed problems out of wrong ones, all at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tulle.errors import Broken, NotFound
from tulle.quality.check import Check, check_names, declared_checks, read_checks
from tulle.quality.kind import COLUMN, KINDS, Finding, Kind, kind_named, register
from tulle.spec.product import Column, DataSet


def read(folder: Path, **files: str) -> tuple[list[str], list[str]]:
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        stem, _, suffix = name.rpartition("_")
        (folder / f"{stem}.{suffix}").write_text(text)
    checks, problems = read_checks(folder, "checks")
    return [f"{c.data_set}: {c.name} [{c.kind}, {c.severity}]" for c in checks], [str(p) for p in problems]


def test_no_folder_no_checks(tmp_path: Path) -> None:
    assert read_checks(tmp_path / "none", "checks") == ((), ())


def test_every_kind_is_read(tmp_path: Path) -> None:
    text = """
checks:
- {data_set: x, type: not_null, columns: [a, b]}
- {data_set: x, type: unique, columns: [a, b]}
- {data_set: x, type: accepted_values, column: a, values: [u, v, 1, true]}
- {data_set: x, type: range, column: n, min: 0, max: 2.5}
- {data_set: x, type: references, column: a, to: {data_set: y, column: k}}
- {data_set: x, type: row_count, min: 1000, severity: warn}
- {data_set: x, type: freshness, column: day, max_age: 20d, as_of: 1998-07-01}
- {data_set: x, type: sql, name: no twins, description: why, sql: SELECT * FROM x JOIN y USING (a)}
"""
    names, problems = read(
        tmp_path / "checks", all_yaml=text, only_sql="-- data_set: x\n-- severity: warn\nFROM x"
    )
    assert problems == []
    assert names == [
        "x: a, b is never null [not_null, error]",
        "x: a, b is unique [unique, error]",
        "x: a has only accepted values [accepted_values, error]",
        "x: n is at least 0 and at most 2.5 [range, error]",
        "x: a is known in y.k [references, error]",
        "x: the number of rows is at least 1000 [row_count, warn]",
        "x: day is at most 20d old [freshness, error]",
        "x: no twins [sql, error]",
        "x: only [sql, warn]",
    ]
    checks, _ = read_checks(tmp_path / "checks", "checks")
    assert dict(checks[4].others) == {"y": ("k",)}
    assert dict(checks[7].others) == {"y": ()}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("checks: 1", "checks/c.yaml:1:9: 'checks' is the number 1, expected a list"),
        ("chekcs: []", "checks/c.yaml:1:1: unknown property 'chekcs'"),
        ("checks: [{type: unique}]", "'data_set' is missing"),
        ("checks: [{data_set: x, type: uniq}]", "did you mean 'unique'?"),
        ("checks: [{data_set: x, type: unique}]", "'columns' is missing"),
        ("checks: [{data_set: x, type: unique, columns: a}]", "expected a list"),
        ("checks: [{data_set: x, type: unique, columns: [a], colunm: b}]", "unknown property 'colunm'"),
        ("checks: [{data_set: x, type: range, column: a}]", "needs 'min', 'max' or both"),
        ("checks: [{data_set: x, type: row_count}]", "needs 'min', 'max' or both"),
        (
            "checks: [{data_set: x, type: range, column: a, min: 3, max: 2}]",
            "'min' is 3, which is more than 'max', 2",
        ),
        (
            "checks: [{data_set: x, type: range, column: a, min: 3, max: '2'}]",
            "both be numbers or both be dates",
        ),
        ("checks: [{data_set: x, type: freshness, column: a, max_age: soon}]", "expected an age like 20d"),
        ("checks: [{data_set: x, type: freshness, column: a, max_age: 1d, as_of: 1998-02-31}]", "is no day"),
        ("checks: [{data_set: x, type: row_count, min: 1, severity: fatal}]", "severity"),
        ("checks: [{data_set: x, type: references, column: a, to: {data_set: y}}]", "'column' is missing"),
        (
            "checks: [{data_set: x, type: sql, sql: DROP TABLE x}]",
            "checks/c.yaml:1: expected one SELECT, found DROP",
        ),
        (
            "checks:\n- data_set: x\n  type: sql\n  sql: |\n    SELECT 1\n    FROM glob('x')",
            "checks/c.yaml:6:6",
        ),
        ("checks: [", "checks/c.yaml:2:1: not YAML"),
        (
            "checks:\n- {data_set: x, type: unique, columns: [a]}\n- {data_set: x, type: unique, columns: [a]}",
            "checks/c.yaml:3:3: data set 'x' has two checks 'a is unique' (the first is at checks/c.yaml:2:3)",
        ),
    ],
)
def test_a_wrong_check_is_placed(tmp_path: Path, text: str, problem: str) -> None:
    _, problems = read(tmp_path / "checks", c_yaml=text)
    assert problems
    assert problem in problems[0], problems


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("SELECT 1", "checks/c.sql:1: the check does not say which data set it is about"),
        ("-- data_set: x\n-- severity: bad\nFROM x", "'severity' is 'bad'"),
        ("-- data_set: x\nSELECT *\nFROM glob('x')", "checks/c.sql:3:6: the table function 'glob'"),
    ],
)
def test_a_wrong_sql_file_is_placed(tmp_path: Path, text: str, problem: str) -> None:
    _, problems = read(tmp_path / "checks", c_sql=text)
    assert problem in problems[0]


def test_all_files_are_read_though_one_is_wrong(tmp_path: Path) -> None:
    names, problems = read(
        tmp_path / "checks",
        a_yaml="checks: [{data_set: x, type: uniq}, {data_set: x, type: range}]",
        b_yaml="checks: [{data_set: x, type: row_count, min: 1}, {data_set: x, type: range, column: a}]",
        c_txt="not a check",
    )
    assert names == ["x: the number of rows is at least 1 [row_count, error]"]
    assert len(problems) == 2


def test_unknown_names_are_told_with_the_nearest(tmp_path: Path) -> None:
    text = """checks:
- {data_set: purchase, type: row_count, min: 1}
- {data_set: purchases, type: unique, columns: [custmer_id]}
- {data_set: purchases, type: references, column: customer_id, to: {data_set: customers, column: nr}}
- {data_set: open, type: unique, columns: [whatever]}
"""
    (tmp_path / "c.yaml").write_text(text)
    checks, _ = read_checks(tmp_path, "checks")
    known = {"purchases": ["customer_id", "amount"], "customers": ["number"], "open": None}
    problems = [str(p).removeprefix("checks/c.yaml:") for p in check_names(checks, known)]
    assert problems == [
        "2:3: check 'the number of rows is at least 1': unknown data set 'purchase' (did you mean 'purchases'?)",
        "3:3: check 'custmer_id is unique': data set 'purchases' has no column 'custmer_id' "  # noqa: ISC004
        "(did you mean 'customer_id'?)",
        "4:3: check 'customer_id is known in customers.nr': data set 'customers' has no column 'nr' "  # noqa: ISC004
        "(known: number)",
    ]


def test_declared_columns_are_checks_too() -> None:
    columns = (
        Column("id", "string", key=True),
        Column("day", "date", required=True, key=True),
        Column("note", "string"),
    )
    checks = declared_checks(DataSet("x", "x", "", columns=columns))
    assert [(c.name, c.kind, c.columns) for c in checks] == [
        ("id is part of the key", "not_null", ("id",)),
        ("day is required", "not_null", ("day",)),
        ("id, day is the key", "unique", ("id", "day")),
    ]
    assert declared_checks(DataSet("x", "x", "")) == ()


def test_a_kind_of_somebody_else_is_like_ours(tmp_path: Path) -> None:
    register(
        Kind(
            "no_blanks",
            {"column": COLUMN},
            ("column",),
            title=lambda s: f"{s['column']} has no blanks around it",
            columns=lambda s: (s["column"],),
            measure=lambda s: f"count(*) FILTER (WHERE {s['column']} <> trim({s['column']}))",
            judge=lambda _s, n, _now: Finding(n, f"{n} with blanks"),
        )
    )
    try:
        names, problems = read(
            tmp_path / "checks", c_yaml="checks: [{data_set: x, type: no_blanks, column: a}]"
        )
        assert (names, problems) == (["x: a has no blanks around it [no_blanks, error]"], [])
        _, problems = read(tmp_path / "checks", c_yaml="checks: [{data_set: x, type: no_blanks}]")
        assert "'column' is missing" in problems[0]
        with pytest.raises(Broken, match="registered twice"):
            register(KINDS["no_blanks"])
    finally:
        del KINDS["no_blanks"]
    with pytest.raises(NotFound) as caught:
        kind_named("uniqe")
    assert caught.value.hint == "did you mean 'unique'?"


@pytest.mark.parametrize(
    ("allow", "total", "rows"),
    [("32.3%", 1000, 323), ("2.3 %", 3000, 69), ("0.1%", 999, 0), ("5", 1, 5), ("", 9, 0)],
)
def test_a_share_of_the_rows_is_exact(allow: str, total: int, rows: int) -> None:
    assert Check("n", "not_null", "d", allow=allow).allowed(total) == rows
