-- What each customer spent after the last day the features know of, and who is in the top decile.
-- A customer who never came back spent nothing and counts as well.
WITH known AS (
    SELECT
        customer_id,
        last_purchase_on + CAST(recency_days AS INTEGER) AS cut_off
    FROM customer_features
),

spent AS (
    SELECT
        known.customer_id,
        CAST(coalesce(sum(purchases.amount), 0) AS DOUBLE) AS spent_after
    FROM known
    LEFT JOIN purchases
        ON known.customer_id = purchases.customer_id AND purchases.purchased_on >= known.cut_off
    GROUP BY known.customer_id
)

SELECT
    customer_id,
    spent_after,
    CAST(spent_after >= quantile_disc(spent_after, 0.9) OVER () AS INTEGER) AS is_high_value,
    md5_number_lower(customer_id) % 5 = 0 AS is_hold_out
FROM spent
ORDER BY customer_id
