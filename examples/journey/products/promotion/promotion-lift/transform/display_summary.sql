-- One row a place in the shop: how often what was planned there sold at all. Reads every row of the plan.
WITH sold AS (
    SELECT DISTINCT week, store_id, product_id FROM transactions
)

SELECT
    d.display,
    count(p.week) AS planned,
    count(s.week) AS sold,
    CASE WHEN count(p.week) = 0 THEN 0 ELSE round(count(s.week) / count(p.week), 4) END AS share_sold
FROM display_locations AS d
LEFT JOIN promotions AS p ON p.display_location = d.code
LEFT JOIN sold AS s ON p.week = s.week AND p.store_id = s.store_id AND p.product_id = s.product_id
GROUP BY d.display
ORDER BY d.display
