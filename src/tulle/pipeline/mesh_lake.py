"""The lake of a mesh as its settings say, with the hooks that watch it and who relies on its names.

The same for every process that commits.
"""

from __future__ import annotations

from functools import partial

from tulle.config import Settings
from tulle.engine.duck import DuckEngine
from tulle.lake.hooks.built_in import built_in_kinds
from tulle.lake.hooks.run import Hooks
from tulle.lake.hooks.sandbox import Sandbox
from tulle.lake.repository import Lake, open_lake
from tulle.pipeline.name_uses import uses_of
from tulle.quality.hook import check_kind
from tulle.state.db import Database


def open_mesh_lake(settings: Settings, database: Database) -> Lake:
    """The lake of a mesh, its hooks in place."""
    lake = open_lake(
        database,
        settings.storage_namespace,
        stores=settings.object_stores,
        cache=settings.state_folder / "cache" / "ranges",
    )
    sandbox = Sandbox(environments=settings.hook_environments)
    engine = DuckEngine(settings.warehouse, settings.state_folder / "tmp")
    kinds = {
        **built_in_kinds(allowed=settings.hook_addresses, sandbox=sandbox),
        "check": check_kind(engine, sandbox),
    }
    lake.hooks = Hooks(lake, kinds)
    lake.uses = partial(uses_of, database)
    return lake
