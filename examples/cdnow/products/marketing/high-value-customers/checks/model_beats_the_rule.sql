-- data_set: model_report
-- Every measure is better than its baseline: ranking by money spent so far, or the average as everybody's probability.
SELECT metric, value, baseline
FROM model_report
WHERE CASE better WHEN 'lower' THEN value >= baseline ELSE value <= baseline END
