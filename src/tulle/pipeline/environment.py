"""What a run in an environment is made by, and where it reads other products.

In an environment into which a release was promoted, runs are made by that release and not by the product's folder,
whatever is edited there meanwhile. Files of input ports are no code: they are read where they arrive.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from sqlalchemy import select

from tulle.config import Settings
from tulle.engine.duck import DuckEngine
from tulle.errors import NotFound
from tulle.lake.repository import Lake, Repository
from tulle.pipeline import manifest, promotion, release
from tulle.pipeline.graph import ProductCode, load_code
from tulle.pipeline.job import INGEST
from tulle.pipeline.run import Run
from tulle.pipeline.sources.address import environment_of
from tulle.spec.environment import PREVIEW, of_branch, production, read_from
from tulle.spec.mesh import MeshSpec
from tulle.state.db import Database
from tulle.state.tables import environments


def code_of_run(
    database: Database, lake: Lake, spec: MeshSpec, run: Run, engine: DuckEngine | None = None
) -> ProductCode:
    """The code a run is to be made by; noted in its manifest. What was promoted or put back half is settled first."""
    promotion.settle(database, lake, product=run.product, branch=run.environment)
    asked = run.options.get("release")
    version = str(asked) if asked else promotion.in_force(database, run.product, run.environment)
    if version is None:
        code = load_code(spec.product(run.product), spec=spec, engine=engine)
    else:
        code = released_code(database, lake, spec, run.product, version, engine)
    manifest.begin(database, run, code, version)
    return code


def released_code(
    database: Database,
    lake: Lake,
    spec: MeshSpec,
    product: str,
    version: str,
    engine: DuckEngine | None = None,
) -> ProductCode:
    """The code of a release, every byte of it checked. NotFound; Broken when it is not what was signed."""
    live = spec.product(product)
    found = release.get(database, product, version)
    folder = release.unpack(lake, found, spec.settings)
    declared = replace(found.declared(), folder=folder, file=folder / "product.yaml")
    code = load_code(declared, spec=spec, engine=engine)
    ports = {port.name for port in declared.input_ports}
    # Seeds are code: they are read where the release is, unlike the files of input ports.
    jobs = tuple(
        replace(job, path=folder / job.port.source.path)
        if job.kind == INGEST and job.port and job.port.source and job.port.name not in ports
        else job
        for job in code.jobs
    )
    return replace(code, jobs=jobs, product=replace(declared, folder=live.folder, file=live.file))


def upstream_branch(
    database: Database, settings: Settings, upstream: Repository, branch: str, data_set: str
) -> str:
    """The branch of another product that a run on `branch` reads: the same, else where it falls back to.

    Of those that have the data set the first; where none has, the first that is there. NotFound when no
    branch is.
    """
    wanted = tuple(dict.fromkeys(_branches(database, settings, branch)))
    there = {found.name for found in upstream.branches()}
    present = [name for name in wanted if name in there]
    for name in present:
        if any(entry.path.endswith(".parquet") for entry in upstream.entries(name, f"{data_set}/")):
            return name
    if not present:
        raise NotFound(
            f"product '{upstream.name}' has no branch '{branch}'",
            hint="`tulle apply` makes the branches of environments, or give the environment a `fallback:`",
        )
    return present[0]


def _branches(database: Database, settings: Settings, branch: str) -> Iterator[str]:
    yield branch
    found = of_branch(settings, branch)
    if found is not None:
        yield from (environment.branch for environment in read_from(settings, found.name))
    elif branch.startswith(PREVIEW):
        source = _source_of(database, branch)
        yield from (e.branch for e in read_from(settings, source or production(settings).name))
    else:  # somebody's own branch: other products are read as consumers see them
        yield production(settings).branch


def connections_of(database: Database, settings: Settings, branch: str) -> str:
    """The environment whose connections a run on a branch uses; a preview those of what it was made of."""
    found = of_branch(settings, branch)
    if found is None and branch.startswith(PREVIEW) and (source := _source_of(database, branch)):
        found = settings.environments.get(source)
    return found.connections if found is not None else environment_of(branch)


def _source_of(database: Database, branch: str) -> str | None:
    """The environment a preview was made of."""
    with database.read() as cx:
        found = cx.execute(select(environments.c.source).where(environments.c.branch == branch)).scalar()
    return str(found) if found else None
