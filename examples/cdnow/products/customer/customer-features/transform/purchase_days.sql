-- One row a customer and day of purchase before the cut-off. Several orders of a day are one visit.
SELECT
    purchases.customer_id,
    purchases.purchased_on,
    CAST(sum(purchases.quantity) AS BIGINT) AS quantity,
    CAST(sum(purchases.amount) AS DECIMAL(12, 2)) AS amount,
    date_diff(
        'day',
        lag(purchases.purchased_on) OVER (PARTITION BY purchases.customer_id ORDER BY purchases.purchased_on),
        purchases.purchased_on
    ) AS gap_days
FROM purchases
CROSS JOIN cut_off
WHERE purchases.purchased_on < cut_off.cut_off
GROUP BY purchases.customer_id, purchases.purchased_on
ORDER BY purchases.customer_id, purchases.purchased_on
