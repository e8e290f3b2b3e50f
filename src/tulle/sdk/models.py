"""The Python client of models and experiments.

    models = ModelClient(client)
    run = models.train("customer-360", "will-return", data_set="learned_from", target="returned")
    models.experiment(run)

Answers are plain values as the API documents them.
"""

from __future__ import annotations

from typing import Any

from tulle.sdk.client import Client, part


class ModelClient:
    """Calls one mesh, through a client of it."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def train(self, product: str, model: str, **asked: Any) -> str:
        """Train a model on what is published: `data_set`, `target`, and what else may be said; the id of the run."""
        return str(self._client.post(f"/models/{part(product)}/{part(model)}", asked)["id"])

    def models(self, *, product: str | None = None, environment: str = "main") -> list[dict[str, Any]]:
        """The models that are published, with the experiments they are of."""
        return list(self._client.get("/models", product=product, environment=environment)["models"])

    def model(self, product: str, model: str, *, environment: str = "main") -> dict[str, Any]:
        """A model: what it takes and gives, its experiments, the services that answer from it."""
        return self._client.get(f"/models/{part(product)}/{part(model)}", environment=environment)

    def delete(self, product: str, model: str, *, environment: str = "main") -> str:
        """Take a model out of what is published; the commit that does. Conflict where a service names it."""
        path = f"/models/{part(product)}/{part(model)}"
        return str(self._client.delete(path, environment=environment)["commit"])

    def serve(self, product: str, model: str, service: str | None = None) -> str:
        """Declare a service that answers from a model; the file that does."""
        path = f"/models/{part(product)}/{part(model)}/service"
        return str(self._client.post(path, {"service": service})["file"])

    def experiment(self, experiment_id: str) -> dict[str, Any]:
        """An experiment with all that is told of it."""
        return self._client.get(f"/experiments/{part(experiment_id)}")

    def compare(self, *experiments: str) -> dict[str, Any]:
        """Two or more experiments beside one another: metrics, what differs, curves, whether the rows are the same."""
        return self._client.get("/experiments/compare", id=list(experiments))
