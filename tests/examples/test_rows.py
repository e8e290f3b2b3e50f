"""What the example's models compute, against the same figures worked out from the text file in plain Python."""

from __future__ import annotations

import gzip
import statistics
from collections import defaultdict
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from tests.examples.conftest import EXAMPLE, Built

from tulle.engine.engine import Relation

CUT_OFF = date(1997, 10, 1)
FEATURES = "customer-features"
Days = dict[str, dict[date, Decimal]]


@pytest.fixture(scope="module")
def days() -> Days:
    """Dollars by customer and day, straight from the file."""
    text = gzip.decompress((EXAMPLE / "products/sales/purchases/data/cdnow_master.txt.gz").read_bytes())
    spent: Days = defaultdict(lambda: defaultdict(Decimal))
    for line in text.decode("ascii").splitlines()[1:]:
        customer, day, _, amount = line.split()
        spent[customer][datetime.strptime(day, "%Y%m%d").date()] += Decimal(amount)  # noqa: DTZ007
    return spent


def test_every_check_of_the_example_holds(built: Built) -> None:
    assert len(built.verdicts) > 40
    assert [(v.data_set, v.name, v.message) for v in built.verdicts if not v.passed] == []


def test_no_purchase_and_no_dollar_is_lost(built: Built, days: Days) -> None:
    purchases = built.table("purchases", "purchases")
    assert purchases.num_rows == 69_659
    assert sum(purchases["amount"].to_pylist()) == sum(sum(d.values()) for d in days.values())
    assert sum(purchases["is_free"].to_pylist()) == 80


def test_features_are_the_ones_worked_out_by_hand(built: Built, days: Days) -> None:
    rows = built.table(FEATURES, "customer_features").to_pylist()
    assert {row["customer_id"] for row in rows} == set(days)
    for row in rows:
        before = {day: spent for day, spent in days[row["customer_id"]].items() if day < CUT_OFF}
        gaps = [(b - a).days for a, b in zip(sorted(before), sorted(before)[1:], strict=False)]
        recency = (CUT_OFF - max(before)).days
        assert row["recency_days"] == recency
        assert row["tenure_days"] == (CUT_OFF - min(before)).days
        assert row["frequency"] == len(before)
        assert row["cohort"] == f"{min(before):%Y-%m}"
        assert row["monetary_total"] == float(sum(before.values()))
        assert row["monetary_max"] == float(max(before.values()))
        assert row["first_amount"] == float(before[min(before)])
        assert row["gap_mean_days"] == pytest.approx(statistics.fmean(gaps) if gaps else recency, abs=1e-4)
        assert row["gap_std_days"] == pytest.approx(statistics.pstdev(gaps) if gaps else 0, abs=1e-4)
        late = [spent for day, spent in before.items() if (CUT_OFF - day).days <= 90]
        assert (row["recent_purchases"], row["recent_amount"]) == (len(late), float(sum(late)))


def test_features_know_nothing_of_what_comes_after_the_cut_off(built: Built, tmp_path: Path) -> None:
    everything = built.relations[FEATURES]
    earlier = tmp_path / "purchases.parquet"
    query = "SELECT * FROM purchases WHERE purchased_on < DATE '1997-10-01'"
    written = built.engine.write(query, [everything["purchases"]], earlier)
    assert 0 < written.rows < 69_659
    known = {**everything, "purchases": Relation("purchases", (str(earlier),))}
    for name in ("purchase_days", "customer_features", "spending_summary"):
        job = built.code[FEATURES].job(name)
        target = tmp_path / f"{name}.parquet"
        inputs = [known[i] for i in job.inputs]
        types = {
            c.name: c.type
            for d in built.code[FEATURES].product.data_sets
            if d.name == name
            for c in d.columns
        }
        built.engine.write(job.text, inputs, target, types=types)
        known[name] = Relation(name, (str(target),))
    for name in ("customer_features", "spending_summary"):
        again = built.engine.query(f"SELECT * FROM {name} ORDER BY customer_id", [known[name]])
        assert again.equals(built.table(FEATURES, name))


def test_labels_are_the_tenth_that_spends_most_later(built: Built, days: Days) -> None:
    rows = built.table("high-value-customers", "customer_labels").to_pylist()
    later = {c: sum(s for day, s in d.items() if day >= CUT_OFF) for c, d in days.items()}
    assert {row["customer_id"]: row["spent_after"] for row in rows} == {c: float(s) for c, s in later.items()}
    chosen = {row["customer_id"] for row in rows if row["is_high_value"]}
    lowest = min(later[customer] for customer in chosen)
    assert chosen == {customer for customer, spent in later.items() if spent >= lowest}
    assert len(chosen) == 2_358


def test_the_same_rows_give_the_same_files(built: Built, tmp_path: Path) -> None:
    for product, code in built.code.items():
        for job in code.jobs:
            if job.kind != "sql":
                continue
            types = {c.name: c.type for d in code.product.data_sets if d.name == job.name for c in d.columns}
            inputs = [built.relations[product][name] for name in job.inputs]
            target = tmp_path / product / f"{job.name}.parquet"
            built.engine.write(job.text, inputs, target, types=types)
            first = built.folder / product / job.name / "part-0000.parquet"
            assert target.read_bytes() == first.read_bytes(), job.name
