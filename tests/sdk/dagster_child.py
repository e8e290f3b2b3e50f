"""Runs in Dagster's own environment: the mesh's assets, materialised in dependency order by Dagster itself."""

import json
import sys

from dagster import Definitions, materialize

from tulle.sdk.dagster import TulleMesh, load_assets

mesh = TulleMesh(url=sys.argv[1], token=sys.argv[2], pause=0.1, timeout=90)
assets = load_assets(mesh)
Definitions(assets=assets, resources={"mesh": mesh})
depends = {
    key.to_user_string(): sorted(dep.asset_key.to_user_string() for dep in spec.deps)
    for one in assets
    for key, spec in one.specs_by_key.items()
}
result = materialize(assets, resources={"mesh": mesh}, raise_on_error=False)
print(
    json.dumps(
        {
            "depends": depends,
            "success": result.success,
            "made": [
                (event.asset_key.to_user_string(), str(event.materialization.metadata["status"].value))
                for event in result.get_asset_materialization_events()
            ],
            "failures": [
                str(e.step_failure_data.user_failure_data.description)
                for e in result.get_step_failure_events()
            ],
        }
    )
)
