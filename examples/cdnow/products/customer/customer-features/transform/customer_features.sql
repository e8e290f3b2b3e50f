-- One row a customer. Dollars are summed as decimals and only then become floating-point numbers, which models take;
-- what cannot be exact is rounded. So the same purchases give the same features to the last bit.
SELECT
    customer_id,
    strftime(min(purchased_on), '%Y-%m') AS cohort,
    min(purchased_on) AS first_purchase_on,
    max(purchased_on) AS last_purchase_on,
    date_diff('day', max(purchased_on), any_value(cut_off)) AS recency_days,
    date_diff('day', min(purchased_on), any_value(cut_off)) AS tenure_days,
    count(*) AS frequency,
    CAST(sum(amount) AS DOUBLE) AS monetary_total,
    round(CAST(sum(amount) AS DOUBLE) / count(*), 4) AS monetary_mean,
    CAST(max(amount) AS DOUBLE) AS monetary_max,
    CAST(arg_min(amount, purchased_on) AS DOUBLE) AS first_amount,
    CAST(sum(quantity) AS BIGINT) AS cds_total,
    round(CAST(sum(quantity) AS DOUBLE) / count(*), 4) AS cds_per_purchase,
    round(coalesce(avg(gap_days), date_diff('day', max(purchased_on), any_value(cut_off))), 4) AS gap_mean_days,
    round(coalesce(stddev_pop(gap_days), 0), 4) AS gap_std_days,
    CAST(coalesce(sum(amount) FILTER (WHERE purchased_on >= cut_off - INTERVAL 90 DAY), 0) AS DOUBLE) AS recent_amount,
    count(*) FILTER (WHERE purchased_on >= cut_off - INTERVAL 90 DAY) AS recent_purchases
FROM purchase_days
CROSS JOIN cut_off
GROUP BY customer_id
ORDER BY customer_id
