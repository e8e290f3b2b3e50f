SELECT household_id, coupon_upc, campaign_id, CAST(redemption_date AS DATE) AS redeemed_on
FROM redemption_list
ORDER BY redeemed_on, household_id, coupon_upc, campaign_id
