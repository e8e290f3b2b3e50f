-- One row a customer. Amounts are summed as decimals by day and rounded to cents, so the same rows give the same bits.
SELECT
    customer_id,
    strftime(min(purchased_on), '%Y-%m') AS cohort,
    min(purchased_on) AS first_purchase_on,
    max(purchased_on) AS last_purchase_on,
    date_diff('day', max(purchased_on), any_value(cut_off)) AS recency_days,
    date_diff('day', min(purchased_on), any_value(cut_off)) AS tenure_days,
    count(*) AS frequency,
    round(sum(amount), 2) AS monetary_total,
    round(sum(amount) / count(*), 4) AS monetary_mean,
    max(amount) AS monetary_max,
    arg_min(amount, purchased_on) AS first_amount,
    CAST(sum(quantity) AS BIGINT) AS cds_total,
    round(CAST(sum(quantity) AS DOUBLE) / count(*), 4) AS cds_per_purchase,
    round(coalesce(avg(gap_days), date_diff('day', max(purchased_on), any_value(cut_off))), 4) AS gap_mean_days,
    round(coalesce(stddev_pop(gap_days), 0), 4) AS gap_std_days,
    round(coalesce(sum(amount) FILTER (WHERE purchased_on >= cut_off - INTERVAL 90 DAY), 0), 2) AS recent_amount,
    count(*) FILTER (WHERE purchased_on >= cut_off - INTERVAL 90 DAY) AS recent_purchases
FROM purchase_days
CROSS JOIN cut_off
GROUP BY customer_id
ORDER BY customer_id
