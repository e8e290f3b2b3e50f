"""How each campaign did: who redeemed, and how spending moved beside that of the households it did not reach.

The interval comes from 500 bootstrap samples of households with a fixed seed, so the same rows give the same figures.
"""

import numpy as np
import pyarrow as pa

inputs = ["campaigns", "reached", "redemptions", "household_months"]

SAMPLES = 500

CAMPAIGNS = """
SELECT campaign_id, type, month, before
FROM (
    SELECT
        campaign_id, type, strftime(starts_on, '%Y-%m') AS month,
        strftime(starts_on - INTERVAL 1 MONTH, '%Y-%m') AS before
    FROM campaigns
)
WHERE month IN (SELECT month FROM household_months) AND before IN (SELECT month FROM household_months)
  AND campaign_id IN (SELECT campaign_id FROM reached)
ORDER BY campaign_id
"""

CHANGES = """
SELECT
    household_id,
    CAST(sum(CASE WHEN month = '{month}' THEN spent ELSE -spent END) AS DOUBLE) AS change,
    household_id IN (SELECT household_id FROM reached WHERE campaign_id = {campaign_id}) AS was_reached
FROM household_months
WHERE month IN ('{month}', '{before}')
GROUP BY household_id
ORDER BY household_id
"""

COUNTS = """
SELECT
    (SELECT count(*) FROM reached WHERE campaign_id = {campaign_id}) AS reached,
    (SELECT count(DISTINCT household_id) FROM redemptions WHERE campaign_id = {campaign_id}) AS redeemers
"""

SCHEMA = pa.schema(
    [
        ("campaign_id", pa.int64()),
        ("type", pa.string()),
        ("month", pa.string()),
        ("reached", pa.int64()),
        ("redeemers", pa.int64()),
        ("response_rate", pa.float64()),
        ("change_reached", pa.float64()),
        ("change_others", pa.float64()),
        ("difference", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
    ]
)


def model(run):
    rows = []
    for campaign in run.sql(CAMPAIGNS).to_pylist():
        changes = run.sql(CHANGES.format(**campaign))
        was_reached = changes["was_reached"].to_numpy()
        change = changes["change"].to_numpy()
        theirs, others = change[was_reached], change[~was_reached]
        if not len(theirs) or not len(others):
            run.log(f"campaign {campaign['campaign_id']}: nobody to compare with")
            continue
        (counts,) = run.sql(COUNTS.format(**campaign)).to_pylist()
        low, high = interval(theirs, others, seed=campaign["campaign_id"])
        rows.append(
            {
                "campaign_id": campaign["campaign_id"],
                "type": campaign["type"],
                "month": campaign["month"],
                **counts,
                "response_rate": round(counts["redeemers"] / counts["reached"], 4),
                "change_reached": round(float(theirs.mean()), 2),
                "change_others": round(float(others.mean()), 2),
                "difference": round(float(theirs.mean() - others.mean()), 2),
                "low": round(low, 2),
                "high": round(high, 2),
            }
        )
    run.log(f"{len(rows)} campaigns with a month before and a month after their start")
    run.metric("campaigns", len(rows))
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def interval(theirs, others, seed):
    """The middle 95 % of the difference of means over samples of households, drawn with replacement."""
    chance = np.random.default_rng(seed)
    means = [
        chance.choice(theirs, len(theirs)).mean() - chance.choice(others, len(others)).mean()
        for _ in range(SAMPLES)
    ]
    return (float(bound) for bound in np.percentile(means, [2.5, 97.5]))
