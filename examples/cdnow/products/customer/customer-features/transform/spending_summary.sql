-- One row a customer, exact to the cent.
WITH spent AS (
    SELECT
        purchases.customer_id,
        coalesce(sum(amount) FILTER (WHERE quarter(purchased_on) = 1), 0) AS q1,
        coalesce(sum(amount) FILTER (WHERE quarter(purchased_on) = 2), 0) AS q2,
        coalesce(sum(amount) FILTER (WHERE quarter(purchased_on) = 3), 0) AS q3,
        sum(amount) AS total
    FROM purchases
    CROSS JOIN cut_off
    WHERE purchased_on < cut_off
    GROUP BY purchases.customer_id
)

SELECT
    customer_id,
    CAST(q1 AS DECIMAL(12, 2)) AS spent_1997_q1,
    CAST(q2 AS DECIMAL(12, 2)) AS spent_1997_q2,
    CAST(q3 AS DECIMAL(12, 2)) AS spent_1997_q3,
    CAST(total AS DECIMAL(12, 2)) AS spent_total,
    rank() OVER (ORDER BY total DESC) AS spending_rank
FROM spent
ORDER BY customer_id
