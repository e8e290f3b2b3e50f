"""What a Python model of a product is given as `run`, for type checkers and for tests of one's own.

    from tulle.sdk.run import Run

    inputs = ["visits", "customer_features"]

    def model(run: Run):
        learned = run.training_set(
            "customer-insights/will-return", version="v1", entities="visits", time="visited_at"
        ).to_pandas()
        …

Anything that has these will do in a test. Knows nothing of runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    import pyarrow as pa


class Run(Protocol):
    """Reads the inputs of a model, reports, saves models. Data sets are named as in `inputs`."""

    id: str

    def read(self, name: str) -> pa.Table:
        """All rows of an input."""

    def read_pandas(self, name: str) -> Any:
        """All rows of an input, as a pandas DataFrame."""

    def read_polars(self, name: str) -> Any:
        """All rows of an input, as a Polars DataFrame."""

    def scan_polars(self, name: str) -> Any:
        """An input as a Polars LazyFrame."""

    def sql(self, query: str) -> pa.Table:
        """The rows of one SELECT over the inputs."""

    def training_set(self, endpoint: str, *, version: str, entities: str, time: str) -> pa.Table:
        """The rows of the input `entities`, each with the features that `service/endpoint` would have looked up then.

        What the endpoint looks up must be inputs, too; entities that it would refuse are left out.
        """

    def log(self, text: object) -> None:
        """Keep a line with the run."""

    def metric(self, name: str, value: float) -> None:
        """Keep a number with the run."""

    def save_model(
        self,
        name: str,
        model: Any,
        *,
        features: Sequence[str],
        sample: Any,
        metrics: Mapping[str, float],
        baseline: Mapping[str, float] | None = None,
        classes: Sequence[Any] | None = None,
        activation: Literal["softmax", "sigmoid"] | None = None,
        files: str | Path | None = None,
    ) -> None:
        """Keep a trained model, published together with the data set."""

    def mlflow_model(self, address: str, *, tracking: str | None = None, registry: str | None = None) -> Any:
        """A model that MLflow keeps, to be given to `save_model`."""

    def save_forecaster(
        self,
        name: str,
        model: Any,
        *,
        sample: Any,
        time: str,
        target: str,
        horizon: int,
        step: str,
        metrics: Mapping[str, float],
        baseline: Mapping[str, float] | None = None,
        identifiers: Sequence[str] = (),
        externals: Sequence[str] = (),
    ) -> None:
        """Keep a model that forecasts."""
