-- kind: incremental
-- partition: month
-- One row a household and month. The last month that is there is made again with the new ones.
SELECT
    t.household_id,
    t.month,
    count(DISTINCT t.basket_id) AS visits,
    CAST(sum(t.sales_value) AS DECIMAL(12, 2)) AS spent,
    CAST(sum(t.loyalty_discount + t.coupon_discount + t.coupon_match_discount) AS DECIMAL(12, 2)) AS saved,
    count(DISTINCT t.store_id) AS shops,
    any_value(h.age) AS age
FROM transactions AS t
LEFT JOIN households AS h ON t.household_id = h.household_id
WHERE t.month >= (SELECT coalesce(max(this.month), '') FROM this)
GROUP BY t.household_id, t.month
ORDER BY t.month, t.household_id
