-- data_set: model_report
-- The model ranks customers better than their spending so far does, and its probabilities beat the average.
SELECT metric, value, baseline
FROM model_report
WHERE CASE WHEN metric IN ('log_loss', 'brier_score') THEN value >= baseline ELSE value <= baseline END
