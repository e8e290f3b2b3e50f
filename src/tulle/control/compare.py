"""Comparing data sets over HTTP, below `/mesh/v1/repositories/{name}/`: `compare` and `experiments`.

Whoever has the mesh's token sees every value, unless `masked` asks for what a page may show.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import Query

from tulle.catalog import comparing
from tulle.catalog.routes import Routes
from tulle.control.workspace import Workspace
from tulle.engine.compare import MOST_ROWS, Comparison, compare
from tulle.engine.dataset_files import changed_data_sets
from tulle.engine.duck import DuckEngine
from tulle.engine.experiment import experiments
from tulle.engine.profile import QUANTILES, ProfileChange
from tulle.errors import Invalid, NotFound
from tulle.spec.product import DataProduct
from tulle.state import products

Sample = Annotated[int, Query(ge=1, le=MOST_ROWS)]


def compare_data_set(
    workspace: Workspace,
    repository: str,
    left: str,
    right: str,
    prefix: str,
    *,
    key: tuple[str, ...] | None = None,
    masked: bool = False,
    tolerance: float = 0.0,
    limit: int = 20,
    profile: bool = True,
    header: bool = True,
) -> Comparison:
    """Compare a data set between two refs, by its product's declared key unless another is given.

    A declared key is used where both sides have its columns; `key=()` compares without one.
    """
    product = product_of(workspace, repository)
    engine = engine_of(workspace, product)
    opened = workspace.lake.repository(repository)
    options: dict[str, Any] = {"limit": limit, "profile": profile, "header": header}
    chosen = key
    if chosen is None and (declared := comparing.declared_key(product, prefix)):
        seen = compare(engine, opened, left, right, prefix, limit=1, rows=False, profile=False, header=header)
        lost = {change.name for change in seen.columns if change.kind in {"added", "removed"}}
        if seen.left_rows == 0 or seen.right_rows == 0 or not lost & set(declared):
            chosen = declared
    found = compare(engine, opened, left, right, prefix, key=chosen, tolerance=tolerance, **options)
    return comparing.for_page(found, product) if masked else found


def product_of(workspace: Workspace, repository: str) -> DataProduct | None:
    """The product whose repository that is, None when it is nobody's."""
    try:
        return products.applied_product(workspace.database, repository).product
    except NotFound:
        return None


def engine_of(workspace: Workspace, product: DataProduct | None) -> DuckEngine:
    """An engine in the bounds of the product's warehouse."""
    settings = workspace.settings
    warehouse = settings.warehouse_of(product.warehouse_name if product else "")
    return DuckEngine(warehouse, settings.run_folder / "compare")


def router(workspace: Workspace) -> Routes:
    """The routes on one mesh."""
    api = Routes(prefix="/mesh/v1/repositories/{name}")

    @api.get("/compare")
    def one(
        name: str,
        left: str,
        right: str,
        prefix: str = "",
        key: str | None = None,
        tolerance: float = 0.0,
        limit: Sample = 20,
        profile: bool = True,
        header: bool = True,
        masked: bool = False,
    ) -> dict[str, Any]:
        columns = None if key is None else tuple(part for part in key.split(",") if part)
        if prefix:
            found = compare_data_set(
                workspace,
                name,
                left,
                right,
                prefix,
                key=columns,
                masked=masked,
                tolerance=tolerance,
                limit=limit,
                profile=profile,
                header=header,
            )
            return {"data_sets": [as_plain(found)]}
        if columns or tolerance:
            raise Invalid("a key or a tolerance is for one data set", hint="name it with `prefix`")
        return {
            "data_sets": [
                as_plain(
                    compare_data_set(
                        workspace, name, left, right, each, masked=masked, limit=limit, profile=profile
                    )
                )
                for each in changed_data_sets(workspace.lake.repository(name), left, right)
            ]
        }

    @api.get("/experiments")
    def several(
        name: str, base: str, ref: Annotated[list[str], Query()], profile: bool = True
    ) -> dict[str, Any]:
        engine = engine_of(workspace, product_of(workspace, name))
        found = experiments(engine, workspace.lake.repository(name), base, ref, profile=profile)
        return {
            "base": base,
            "experiments": [
                {
                    **asdict(experiment),
                    "data_sets": [
                        {**asdict(change), "profile": [_profile(column) for column in change.profile]}
                        for change in experiment.data_sets
                    ],
                }
                for experiment in found
            ],
        }

    return api


def as_plain(found: Comparison) -> dict[str, Any]:
    """A comparison as plain values."""
    return {
        **asdict(found),
        "same": found.same,
        "profile": [_profile(column) for column in found.profile],
        "quantiles": QUANTILES,
    }


def _profile(column: ProfileChange) -> dict[str, Any]:
    return {**asdict(column), "changed": column.changed}
