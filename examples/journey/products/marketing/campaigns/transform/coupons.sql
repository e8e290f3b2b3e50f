-- The list has 4,872 rows twice; a coupon is good for an article or it is not.
SELECT DISTINCT coupon_upc, campaign_id, product_id
FROM coupon_list
ORDER BY coupon_upc, campaign_id, product_id
