"""Rows put aside, as pages show them: counted by reason, a page at a time, and no value that names a person."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.catalog.conftest import SALES, Browser, World

from tulle.catalog.rejected import ROWS_A_PAGE, in_words
from tulle.pipeline.sources.fitting import REJECTED

PAGE = "/products/sales/data-sets/till_rows/rejected"
HOSTILE = "<script>alert(1)</script>"
Row = tuple[str, str, object, str]


def put_aside(world: World, rows: Sequence[Row], data_set: str = "till_rows") -> None:
    """As a run does it: reason, place, row, run."""
    columns = [
        [reason for reason, *_ in rows],
        [place for _, place, *_ in rows],
        [row if isinstance(row, str) else json.dumps(row) for *_, row, _ in rows],
        [run for *_, run in rows],
        [datetime(2026, 1, 1)] * len(rows),  # noqa: DTZ001  as it is kept
    ]
    file = world.settings.folder / "rows.parquet"
    pq.write_table(
        pa.table([pa.array(c, f.type) for c, f in zip(columns, REJECTED, strict=True)], REJECTED), file
    )
    keep(world, file, data_set)


def keep(world: World, file: Path, data_set: str = "till_rows") -> None:
    repository = world.lake.repository("sales")
    repository.put("main", f"{data_set}__rejected/part-0000.parquet", file.read_bytes())
    repository.commit("main", "rows put aside")


def declared(world: World) -> None:
    """The product declares what it reads."""
    said = SALES.replace(
        "  - name: till\n",
        "  - name: till_rows\n    type: data-set\n    properties:\n      description: as it came\n"
        "      columns: [{name: id, type: integer}, {name: email, type: string, pii: direct}, {name: amount, type: string}]\n"
        "  - name: till\n",
    )
    world.write("products/shop/sales/product.yaml", said)
    world.apply()


def test_a_runs_own_rows_are_counted_and_told_without_their_values(world: World, browser: Browser) -> None:
    world.write(
        "products/shop/sales/product.yaml",
        SALES.replace(
            "path: data/sales.csv",
            "path: data/sales.csv\n        on_bad_rows: quarantine\n        load: full",
        ),
    )
    world.apply()
    rows = "id,customer,email,amount\n1,ann,ann@x.org,1\nx,bob,bob@x.org,2\ny,cyd,cyd@x.org,3\n4,dan,dan@x.org,much\n"
    world.write("products/shop/sales/data/sales.csv", rows)
    run = world.run("sales")
    assert run.status == "succeeded"
    html = browser.get(PAGE)
    assert "@x.org" not in html
    assert "id is no integer" in html
    assert "amount is no decimal(10,2)" in html
    assert "data/sales.csv:3" in html
    assert "declare it in product.yaml" in html  # nothing of till_rows is declared, and somebody is named
    assert run.id in html
    listed = browser.get("/rejected")
    assert f'href="{PAGE}"' in listed
    assert "3 rows, 2 reasons" in listed
    assert f'href="{PAGE}"' in browser.get("/products/sales/data-sets/till_rows")


def test_values_are_shown_where_the_product_says_that_they_may(world: World, browser: Browser) -> None:
    declared(world)
    row = {"id": "x", "email": "secret@x.org", "amount": "12.75", "more": "undeclared-value"}
    put_aside(world, [("column 'id' is 'x', expected a whole number", "sales.csv:2", row, "r1")])
    html = browser.get(PAGE)
    assert "12.75" in html
    assert "secret" not in html
    assert "undeclared-value" not in html  # declared nowhere, and the product names people
    assert html.count("••••") >= 2


@pytest.mark.parametrize(
    "reason",
    [
        "column 'id' is 'secret@x.org, expected secret@x.org', expected a whole number",
        "column 'id' is ''; column 'secret@x.org' is '', expected a whole number",
        "secret@x.org",
        "3 values, expected secret@x.org",
        "column 'email' is 'secret@x.org', which is no integer as before",
    ],
)
def test_no_reason_can_tell_a_value(world: World, browser: Browser, reason: str) -> None:
    declared(world)
    put_aside(world, [(reason, "sales.csv:2", {"id": "z", "email": "secret@x.org"}, "r1")])
    html = browser.get(PAGE)
    assert "secret@x.org" not in html
    assert "1 row<" in html


def test_a_row_of_too_many_values_shows_none_of_them(world: World, browser: Browser) -> None:
    declared(world)
    row = {"id": "1", "email": "2", "amount": "secret@x.org", "…": ["1", "2", "secret@x.org", "4"]}
    put_aside(world, [("4 values, expected 3", "sales.csv:2", row, "r1")])
    html = browser.get(PAGE)
    assert "secret" not in html
    assert "4 values, expected 3" in html


def test_rows_are_paged_and_chosen_by_reason_and_run(world: World, browser: Browser) -> None:
    declared(world)
    many = [
        (
            f"column '{'id' if n % 2 else 'amount'}' is 'x', expected y",
            f"f.csv:{n:05d}",
            {"id": f"n{n}", "amount": 1},
            f"run-{n % 3}",
        )
        for n in range(3 * ROWS_A_PAGE)
    ]
    put_aside(world, many)
    assert browser.get(PAGE).count("<td>f.csv:") == ROWS_A_PAGE
    assert "page 3 of 3" in browser.get(f"{PAGE}?page=99")
    some = browser.get(f"{PAGE}?reason=id&run=run-1")
    assert "1 to 25 of 25" in some
    assert "n1<" in some
    assert "n0<" not in some
    assert "No row has both" in browser.get(f"{PAGE}?reason=nope")
    assert "No row has both" in browser.get(f"{PAGE}?run=%27%20OR%201%3D1--")


def test_what_a_source_sent_is_text_and_never_markup(world: World, browser: Browser) -> None:
    rows = [(f"column '{HOSTILE}' is '1', expected y", HOSTILE, {HOSTILE: HOSTILE}, HOSTILE)]
    put_aside(world, [*rows, ("not json", "f", "[[[", "r"), ("null", "f", "null", "r")])
    html = browser.get(PAGE)
    assert "<script>alert" not in html
    assert "&lt;script&gt;alert" in html
    assert "for another reason" in html


def test_a_file_of_somebody_else_is_refused_kindly(world: World, browser: Browser) -> None:
    file = world.settings.folder / "other.parquet"
    pq.write_table(pa.table({"x": [1]}), file)
    keep(world, file)
    assert "somebody else wrote it" in browser.get(PAGE, status=422)


def test_nothing_put_aside_says_how_it_would_be(browser: Browser) -> None:
    assert "on_bad_rows: quarantine" in browser.get(PAGE)
    assert "on_bad_rows: quarantine" in browser.get("/rejected")
    assert "it has sales, till_rows" in browser.get("/products/sales/data-sets/nope/rejected", status=404)


def test_reasons_in_words() -> None:
    types = {"a": "integer", "b": "date"}
    assert in_words("a", types) == "a is no integer"
    assert in_words("a, b", types) == "a is no integer; b is no date"
    assert in_words("a, z", types) == "a, z: a value that does not fit"
    assert in_words("5 values, expected 3", types) == "5 values, expected 3"
