"""What a class of one's own that predicts is like: the shape that API nodes ask of custom predictors.

    from tulle.sdk.predictor import ClassificationPredictor

    class Risk(ClassificationPredictor):
        classes = ("low", "high")

        def predict(self, features):              # a pandas DataFrame, one row a record
            high = features["amount"] > 1000
            labels = high.map({True: "high", False: "low"})
            probas = ...                          # a DataFrame with a column a class, or a matrix
            return labels, probas, [{"rule": "amount"} for _ in range(len(features))]

It lives in a file `transform/_<name>.py` and is saved by `run.save_model`. With `takes = "rows"` it is given a list of
dicts instead, and needs no pandas. A class that is saved itself, not one of its objects, is made in every process that
serves it with the folder of the files that were saved beside it. Knows nothing of services.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal


class ClassificationPredictor:
    """Predicts one of `classes`."""

    classes: Sequence[Any] = ()
    takes: Literal["frame", "rows"] = "frame"

    def __init__(self, folder: str | None = None) -> None:
        """`folder`: where the files are that were saved with the class."""
        self.folder = folder

    def predict(self, features: Any) -> Any:
        """The classes of some rows; or (classes, probabilities); or (classes, probabilities, keys of each row)."""
        raise NotImplementedError


class RegressionPredictor:
    """Predicts a number."""

    takes: Literal["frame", "rows"] = "frame"

    def __init__(self, folder: str | None = None) -> None:
        """`folder`: where the files are that were saved with the class."""
        self.folder = folder

    def predict(self, features: Any) -> Any:
        """The numbers of some rows; or (numbers, keys of each row)."""
        raise NotImplementedError
