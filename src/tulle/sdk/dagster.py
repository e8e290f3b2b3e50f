"""Dagster: one asset a data set of a mesh's products, made by running the product.

    from dagster import Definitions
    from tulle.sdk.dagster import TulleMesh, load_assets

    mesh = TulleMesh(url="http://127.0.0.1:8080", token=EnvVar("TULLE_TOKEN"))
    defs = Definitions(assets=load_assets(mesh), resources={"mesh": mesh})

Products are multi-assets: one run makes all data sets of a product, and its asset keys are (product, data set). A
product's assets depend on all assets of the products it takes from. Imports Dagster, so only Dagster's processes
import this module.
"""

# No postponed annotations: Dagster reads those of its functions when they are defined.
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dagster import (
    AssetExecutionContext,
    AssetKey,
    AssetsDefinition,
    AssetSpec,
    ConfigurableResource,
    Failure,
    MaterializeResult,
    MetadataValue,
    multi_asset,
)

from tulle.errors import TulleError
from tulle.sdk.client import Client
from tulle.sdk.following import failing_checks, is_good, wait_for_run, why

__all__ = ["TulleMesh", "load_assets"]


class TulleMesh(ConfigurableResource):  # type: ignore[misc]  # Dagster's types are not installed here
    """A mesh by the URL of its control plane and its token."""

    url: str = "http://127.0.0.1:8080"
    token: str
    timeout: float = 3600.0
    pause: float = 1.0

    def client(self) -> Client:
        """A client of the mesh."""
        return Client.connect(self.url, token=self.token)


def load_assets(
    mesh: TulleMesh, *, products: Sequence[str] | None = None, token: str | None = None
) -> list[AssetsDefinition]:
    """The assets of the mesh's applied products, or of some; the mesh is asked once, when definitions load.

    `token` is for that moment, in which Dagster has not read an `EnvVar` yet; default: TULLE_TOKEN, else the mesh's.
    """
    given = token or os.environ.get("TULLE_TOKEN") or mesh.token
    client = Client.connect(mesh.url, token=given)
    try:
        known = {product["name"]: product for product in client.products()}
    finally:
        client.close()
    wanted = list(known) if products is None else list(products)
    if missing := [name for name in wanted if name not in known]:
        raise ValueError(f"the mesh has no product '{missing[0]}'; it has {', '.join(sorted(known))}")
    return [_assets_of(known[name], known) for name in wanted if known[name]["data_sets"]]


def _assets_of(product: Mapping[str, Any], known: Mapping[str, Mapping[str, Any]]) -> AssetsDefinition:
    name = product["name"]
    above = [
        AssetKey([upstream, data_set])
        for upstream in product["upstream"]
        for data_set in known.get(upstream, {}).get("data_sets", ())
    ]
    specs = [
        AssetSpec(
            key=AssetKey([name, data_set]),
            deps=above,
            description=product["description"],
            group_name=product["domain"].replace("-", "_"),
            kinds={"tulle", "parquet"},
        )
        for data_set in product["data_sets"]
    ]

    @multi_asset(specs=specs, name=name.replace("-", "_"))  # type: ignore[untyped-decorator]
    def run(context: AssetExecutionContext, mesh: TulleMesh) -> Iterator[MaterializeResult]:
        client = mesh.client()
        try:
            run_id = client.start_run(name)
            context.log.info("run %s of %s", run_id, name)
            ended = wait_for_run(client, run_id, timeout=mesh.timeout, pause=mesh.pause)
        except TulleError as exc:
            raise Failure(exc.message, metadata={"hint": exc.hint or ""}) from exc
        finally:
            client.close()
        link = MetadataValue.url(f"{mesh.url}/runs/{run_id}")
        if not is_good(ended):
            checks = {check["name"]: check["message"] for check in failing_checks(ended)}
            raise Failure(why(ended), metadata={"run": link, "checks": checks}, allow_retries=not checks)
        rows = {step["name"]: step["rows"] for step in ended["steps"]}
        for data_set in product["data_sets"]:
            metadata: dict[str, Any] = {"run": link, "status": ended["status"]}
            if ended["commit_id"]:
                metadata["commit"] = ended["commit_id"]
            if rows.get(data_set) is not None:
                metadata["dagster/row_count"] = rows[data_set]
            yield MaterializeResult(asset_key=AssetKey([name, data_set]), metadata=metadata)

    return run
