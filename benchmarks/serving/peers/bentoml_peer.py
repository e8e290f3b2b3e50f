"""BentoML: one service, one worker, its input checked by the types of the method."""

import bentoml
from scoring import load


@bentoml.service(workers=1, logging={"access": {"enabled": False}})
class Predictor:
    """The model."""

    def __init__(self):
        self.answer = load()

    @bentoml.api
    async def predict(
        self,
        recency: float,
        frequency: float,
        tenure: float,
        spend: float,
        spend_mean: float,
        spend_largest: float,
        gap_mean: float,
        gap_largest: float,
        discount_share: float,
        channel: int,
        region: int,
    ) -> dict:
        """One prediction."""
        values = (recency, frequency, tenure, spend, spend_mean, spend_largest)
        return self.answer([*values, gap_mean, gap_largest, discount_share, channel, region])
