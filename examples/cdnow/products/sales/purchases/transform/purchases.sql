-- One row a purchase.
--
-- The source has no order number. Lines that agree in everything (255 of 69,659) are kept: nothing tells a mistake
-- from a second order of the same day. Purchases for nothing (80) are kept as well and marked, as they are visits of
-- a customer though no revenue.
WITH numbered AS (
    SELECT
        customer_id,
        date AS purchased_on,
        number_of_cds AS quantity,
        dollar_value AS amount,
        row_number() OVER (
            PARTITION BY customer_id
            ORDER BY date, number_of_cds, dollar_value
        ) AS purchase_number
    FROM purchases_raw
)

SELECT
    customer_id || '-' || lpad(CAST(purchase_number AS VARCHAR), 3, '0') AS purchase_id,
    customer_id,
    purchase_number,
    purchased_on,
    quantity,
    amount,
    CAST(round(amount / quantity, 2) AS DECIMAL(10, 2)) AS price_per_cd,
    amount = 0 AS is_free
FROM numbered
ORDER BY customer_id, purchase_number
