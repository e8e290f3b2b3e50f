-- kind: incremental
-- partition: month
-- What transactions has, with one discount for coupons: who gave it concerns nobody but accounting.
SELECT
    basket_id,
    product_id,
    household_id,
    store_id,
    sold_at,
    sold_on,
    month,
    week,
    quantity,
    sales_value,
    loyalty_discount,
    CAST(coupon_discount + coupon_match_discount AS DECIMAL(10, 2)) AS coupon_discount
FROM transactions
WHERE month NOT IN (SELECT DISTINCT this.month FROM this)
ORDER BY sold_at, basket_id, product_id
