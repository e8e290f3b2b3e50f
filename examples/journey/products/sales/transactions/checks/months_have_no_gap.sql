-- data_set: transactions
-- A month that was left out would be missed by all who sum up; the next one must not hide it.
SELECT month, next_month
FROM (
    SELECT month, lead(month) OVER (ORDER BY month) AS next_month
    FROM (SELECT DISTINCT month FROM transactions)
)
WHERE next_month <> strftime(CAST(month || '-01' AS DATE) + INTERVAL 1 MONTH, '%Y-%m')
