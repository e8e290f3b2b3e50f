"""One record as pydantic checks it."""

from pydantic import BaseModel


class Record(BaseModel):
    """The features of one customer."""

    recency: float
    frequency: float
    tenure: float
    spend: float
    spend_mean: float
    spend_largest: float
    gap_mean: float
    gap_largest: float
    discount_share: float
    channel: int
    region: int

    def values(self):
        """In the order the model was trained with."""
        return list(self.__dict__.values())
