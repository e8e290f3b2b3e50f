-- kind: incremental
-- partition: month
-- Lines of receipts, typed and named. Months come whole: those that are there are not made again, and a month
-- that is made replaces itself.
SELECT
    basket_id,
    product_id,
    household_id,
    store_id,
    transaction_timestamp AS sold_at,
    CAST(shop_time(transaction_timestamp) AS DATE) AS sold_on,
    strftime(shop_time(transaction_timestamp), '%Y-%m') AS month,
    week,
    quantity,
    sales_value,
    retail_disc AS loyalty_discount,
    coupon_disc AS coupon_discount,
    coupon_match_disc AS coupon_match_discount
FROM tills
WHERE strftime(shop_time(transaction_timestamp), '%Y-%m') NOT IN (SELECT DISTINCT this.month FROM this)
ORDER BY sold_at, basket_id, product_id
