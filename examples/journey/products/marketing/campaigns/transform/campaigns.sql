SELECT
    campaign_id,
    campaign_type AS type,
    CAST(start_date AS DATE) AS starts_on,
    CAST(end_date AS DATE) AS ends_on
FROM campaign_list
ORDER BY campaign_id
