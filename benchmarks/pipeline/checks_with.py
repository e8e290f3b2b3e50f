"""The twenty checks with one tool, in this process: started by `checks.py`, prints what it took as JSON."""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

COLUMNS = ("id", "key", "customer", "amount", "quantity", "day", "mail", "land")
LANDS = ["DE", "AT", "CH", "FR", "IT"]
MAIL, KEY = r"[a-z0-9]+@[a-z.]+", r"K[0-9]{11}-[0-9]+"
FIRST, LAST = "2024-01-01", "2024-12-31"
Failed = Callable[[str, int, int], list[str]]


def with_tulle(file: str, rows: int, threads: int) -> list[str]:
    import numpy as np  # noqa: F401  as with the others, what is imported is not measured
    import pyarrow.compute as pc  # noqa: F401

    from tulle.config import Warehouse
    from tulle.engine.duck import DuckEngine
    from tulle.engine.engine import Relation
    from tulle.quality.check import parse_checks
    from tulle.quality.verdict import evaluate

    began()
    checks = [
        *({"type": "not_null", "columns": [column], "name": f"{column} null"} for column in COLUMNS),
        {"type": "unique", "columns": ["id"], "name": "id unique"},
        {"type": "unique", "columns": ["key"], "name": "key unique"},
        {"type": "accepted_values", "column": "land", "values": LANDS, "name": "land set"},
        {"type": "range", "column": "id", "min": 0, "max": rows, "name": "id range"},
        {"type": "range", "column": "customer", "min": 0, "max": 999_999, "name": "customer range"},
        {"type": "range", "column": "amount", "min": 0, "max": 1000, "name": "amount range"},
        {"type": "range", "column": "quantity", "min": 1, "max": 20, "name": "quantity range"},
        {"type": "range", "column": "day", "min": FIRST, "max": LAST, "name": "day range"},
        {"type": "pattern", "column": "mail", "pattern": MAIL, "name": "mail pattern"},
        {"type": "pattern", "column": "key", "pattern": KEY, "name": "key pattern"},
        {"type": "length", "column": "mail", "min": 5, "max": 60, "name": "mail length"},
        {"type": "row_count", "min": rows, "max": rows, "name": "rows"},
    ]
    text = json.dumps({"checks": [{"data_set": "orders", **check} for check in checks]})
    found, problems = parse_checks(text, "checks")
    assert not problems, problems
    with tempfile.TemporaryDirectory() as spill:
        engine = DuckEngine(Warehouse(threads=threads, memory="2GB"), Path(spill))
        results = evaluate(engine, found, {"orders": Relation("orders", (file,))})
    return [result.name for result in results if not result.passed]


def with_great_expectations(file: str, rows: int, _threads: int) -> list[str]:
    import great_expectations as gx
    import pandas as pd
    from great_expectations.data_context.types.base import ProgressBarsConfig

    e = gx.expectations
    began()
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    asset = context.data_sources.add_pandas("here").add_dataframe_asset("orders")
    batch = asset.add_batch_definition_whole_dataframe("all").get_batch({"dataframe": pd.read_parquet(file)})
    first, last = (pd.Timestamp(day).date() for day in (FIRST, LAST))
    named = {
        **{f"{column} null": e.ExpectColumnValuesToNotBeNull(column=column) for column in COLUMNS},
        "id unique": e.ExpectColumnValuesToBeUnique(column="id"),
        "key unique": e.ExpectColumnValuesToBeUnique(column="key"),
        "land set": e.ExpectColumnValuesToBeInSet(column="land", value_set=LANDS),
        "id range": e.ExpectColumnValuesToBeBetween(column="id", min_value=0, max_value=rows),
        "customer range": e.ExpectColumnValuesToBeBetween(column="customer", min_value=0, max_value=999_999),
        "amount range": e.ExpectColumnValuesToBeBetween(column="amount", min_value=0, max_value=1000),
        "quantity range": e.ExpectColumnValuesToBeBetween(column="quantity", min_value=1, max_value=20),
        "day range": e.ExpectColumnValuesToBeBetween(column="day", min_value=first, max_value=last),
        "mail pattern": e.ExpectColumnValuesToMatchRegex(column="mail", regex=f"^{MAIL}$"),
        "key pattern": e.ExpectColumnValuesToMatchRegex(column="key", regex=f"^{KEY}$"),
        "mail length": e.ExpectColumnValueLengthsToBeBetween(column="mail", min_value=5, max_value=60),
        "rows": e.ExpectTableRowCountToEqual(value=rows),
    }
    for name, expectation in named.items():
        expectation.meta = {"name": name}
    suite = gx.ExpectationSuite(name="orders", expectations=list(named.values()))
    found = batch.validate(suite, result_format="BASIC")
    failed = {one.expectation_config.meta["name"] for one in found.results if not one.success}
    return [name for name in named if name in failed]


def with_pandera(file: str, rows: int, _threads: int) -> list[str]:
    import pandera.polars as pa
    import polars as pl
    from pandera.errors import SchemaErrors

    began()

    def column(kind: object, *checks: pa.Check, unique: bool = False) -> pa.Column:
        return pa.Column(kind, list(checks), nullable=False, unique=unique)

    from datetime import date

    schema = pa.DataFrameSchema(
        {
            "id": column(pl.Int64, pa.Check.in_range(0, rows, name="id range"), unique=True),
            "key": column(pl.String, pa.Check.str_matches(f"^{KEY}$", name="key pattern"), unique=True),
            "customer": column(pl.Int64, pa.Check.in_range(0, 999_999, name="customer range")),
            "amount": column(pl.Float64, pa.Check.in_range(0, 1000, name="amount range")),
            "quantity": column(pl.Int64, pa.Check.in_range(1, 20, name="quantity range")),
            "day": column(
                pl.Date,
                pa.Check.in_range(date.fromisoformat(FIRST), date.fromisoformat(LAST), name="day range"),
            ),
            "mail": column(
                pl.String,
                pa.Check.str_matches(f"^{MAIL}$", name="mail pattern"),
                pa.Check.str_length(5, 60, name="mail length"),
            ),
            "land": column(pl.String, pa.Check.isin(LANDS, name="land set")),
        },
        checks=[pa.Check(lambda data: data.lazyframe.select(pl.len() == rows), name="rows")],
    )
    failed: set[str] = set()
    try:
        schema.validate(pl.read_parquet(file), lazy=True)
    except SchemaErrors as exc:
        for error in exc.schema_errors:
            check = getattr(error.check, "name", None)
            reason = str(error.reason_code)
            about = getattr(error.schema, "name", "")
            failed.add(check or f"{about} {'unique' if 'DUPLICATES' in reason else 'null'}")
    return in_order(failed)


def with_pointblank(file: str, rows: int, _threads: int) -> list[str]:
    from datetime import date

    import pointblank as pb
    import polars as pl

    began()
    steps = pb.Validate(pl.read_parquet(file))
    names = []
    for column in COLUMNS:
        steps = steps.col_vals_not_null(column)
        names.append(f"{column} null")
    steps = steps.rows_distinct("id").rows_distinct("key").col_vals_in_set("land", LANDS)
    steps = steps.col_vals_between("id", 0, rows).col_vals_between("customer", 0, 999_999)
    steps = steps.col_vals_between("amount", 0, 1000).col_vals_between("quantity", 1, 20)
    steps = steps.col_vals_between("day", date.fromisoformat(FIRST), date.fromisoformat(LAST))
    steps = steps.col_vals_regex("mail", f"^{MAIL}$").col_vals_regex("key", f"^{KEY}$")
    steps = steps.col_vals_expr(pl.col("mail").str.len_chars().is_between(5, 60)).row_count_match(rows)
    names += [
        "id unique", "key unique", "land set", "id range", "customer range", "amount range", "quantity range",
        "day range", "mail pattern", "key pattern", "mail length", "rows",
    ]  # fmt: skip
    found = steps.interrogate(collect_extracts=False)
    rows_failed = found.n_failed()
    return [name for position, name in enumerate(names, 1) if rows_failed[position]]


ORDER = [*(f"{c} null" for c in COLUMNS), "id unique", "key unique", "land set", "id range", "customer range", "amount range", "quantity range", "day range", "mail pattern", "key pattern", "mail length", "rows"]  # fmt: skip # noqa: E501
START = [0.0, 0.0]


def in_order(failed: set[str]) -> list[str]:
    """Names in the order of the checks; unknown ones last, so that they are seen."""
    return [name for name in ORDER if name in failed] + sorted(failed - set(ORDER))


def began() -> None:
    """The tool is imported; from here on it counts."""
    START[:] = [time.perf_counter(), time.process_time()]


def main() -> None:
    """Judge and print."""
    tool, file, rows, threads = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    found = {
        "tulle": with_tulle,
        "great_expectations": with_great_expectations,
        "pandera": with_pandera,
        "pointblank": with_pointblank,
    }[tool](file, rows, threads)
    seconds, busy = time.perf_counter() - START[0], time.process_time() - START[1]
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "busy": busy, "megabytes": megabytes, "failed": found}))


if __name__ == "__main__":
    main()
