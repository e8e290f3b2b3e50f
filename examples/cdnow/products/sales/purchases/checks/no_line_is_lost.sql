-- data_set: purchases
-- As many purchases as lines came in.
SELECT raw_lines, purchases
FROM (SELECT count(*) AS raw_lines FROM purchases_raw)
CROSS JOIN (SELECT count(*) AS purchases FROM purchases)
WHERE raw_lines <> purchases
