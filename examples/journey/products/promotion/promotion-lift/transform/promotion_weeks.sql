-- kind: incremental
-- partition: week
-- The last week that is there is made again: months end within weeks, so it was not whole.
WITH sales AS (
    SELECT t.week, t.store_id, t.product_id, t.sales_value
    FROM transactions AS t
    WHERE t.week >= (SELECT coalesce(max(this.week), 0) FROM this)
        AND t.store_id IN (SELECT DISTINCT d.store_id FROM promotions AS d)
),

plan AS (
    SELECT
        d.week,
        d.store_id,
        d.product_id,
        bool_or(d.display_location <> '0') AS on_display,
        bool_or(d.mailer_location <> '0') AS in_mailer
    FROM promotions AS d
    WHERE d.week >= (SELECT coalesce(max(this.week), 0) FROM this)
    GROUP BY d.week, d.store_id, d.product_id
)

SELECT
    s.week,
    coalesce(a.department, '(unknown)') AS department,
    promotion_kind(coalesce(p.on_display, false), coalesce(p.in_mailer, false)) AS promotion,
    count(*) AS lines,
    count(DISTINCT s.product_id) AS articles,
    CAST(sum(s.sales_value) AS DECIMAL(14, 2)) AS sales
FROM sales AS s
LEFT JOIN plan AS p ON s.week = p.week AND s.store_id = p.store_id AND s.product_id = p.product_id
LEFT JOIN articles AS a ON s.product_id = a.product_id
GROUP BY ALL
ORDER BY s.week, department, promotion
