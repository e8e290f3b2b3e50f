"""Kill an apply at one moment after another, for real, and look at what is left.

    python crash_apply.py FOLDER FIRST STRIDE

Each point: a child process applies a mesh (first whole, then with a product changed and one removed) or destroys a
product with its data, and kills itself just before or right after one of its commits to the control-plane database
(`crash_points.killed_at`), or inside the first call of a capability (point 0). Then the
survivors look, and apply again. Prints one JSON line a point. A script of its own, because it forks: it must not
have started threads.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

from tests.control.conftest import fill, opened
from tests.pipeline.conftest import SALES, Mesh
from tests.pipeline.crash_points import in_child, killed_at

from tulle.control import grants
from tulle.control.apply import apply_plan, current_plan
from tulle.control.destroy import destroy
from tulle.control.workspace import Workspace
from tulle.errors import NotFound
from tulle.events import PRODUCT_DESTROYED
from tulle.spec.capability import Capability
from tulle.spec.product import Component, DataProduct
from tulle.state import log, plans, products

TOPIC = "  - {name: news, type: topic, properties: {}}\n"


def prepared(mesh: Mesh) -> Workspace:
    """The mesh, opened, with a capability that keeps what it provides in files."""
    workspace = opened(mesh)
    workspace.registry.add(Capability("topic", "Topic", "a topic", {"type": "object"}, "", ""))

    def provision(component: Component, product: DataProduct) -> None:
        _die_here(mesh)
        (mesh.folder / f"{product.name}-{component.name}.topic").write_text("there")

    def destroy(component: Component, product: DataProduct) -> None:
        _die_here(mesh)
        (mesh.folder / f"{product.name}-{component.name}.topic").unlink(missing_ok=True)

    workspace.registry.hook("topic", "provision", provision)
    workspace.registry.hook("topic", "destroy", destroy)
    return workspace


def _die_here(mesh: Mesh) -> None:
    wish = mesh.folder / "die-in-capability"
    if wish.exists():
        wish.unlink()
        os.kill(os.getpid(), signal.SIGKILL)


def apply(mesh: Mesh, point: int | None) -> Any:
    workspace = prepared(mesh)
    if point is not None:
        killed_at(point)
    return len(apply_plan(workspace).done)


def look(mesh: Mesh) -> dict[str, Any]:
    workspace = prepared(mesh)
    left = [f"{s.operation} {s.subject}" for s in current_plan(workspace)[0].steps]
    applied = apply_plan(workspace)
    records = plans.recent(workspace.database)
    return {
        "left": left,
        "done": [f"{s.operation} {s.subject}" for s in applied.plan.steps],
        "nothing_more": apply_plan(workspace).plan.steps == (),
        "products": sorted(item.product.name for item in products.applied(workspace.database)),
        "repositories": sorted(r.name for r in workspace.lake.repositories()),
        "topics": sorted(path.name for path in mesh.folder.glob("*.topic")),
        "open": [r.id for r in records if r.status == plans.RUNNING],
        "steps_open": [s.position for s in records[0].steps if s.status != plans.SUCCEEDED],
        "events": [
            f"{e.kind} {e.subject}" for e in log.read(workspace.database) if e.kind.startswith("product.")
        ],
        "chain": log.verify(workspace.database),
    }


def change(mesh: Mesh) -> None:
    """From the first mesh to the second: `sales` changes and loses its topic, `features` is removed."""
    mesh.sales("product.yaml", SALES.replace("one row a sale", "one row a till slip"))
    shutil.rmtree(mesh.folder / "products/people")


def destroyed(mesh: Mesh, point: int | None) -> Any:
    workspace = prepared(mesh)
    if point is not None:
        killed_at(point)
    return destroy(workspace, "features", data=True)[1]


def look_after_destruction(mesh: Mesh) -> dict[str, Any]:
    workspace = prepared(mesh)
    try:
        again = destroy(workspace, "features", data=True)[1]
    except NotFound:
        again = "there is nothing left"
    return {
        "again": again,
        "products": sorted(item.product.name for item in products.applied(workspace.database)),
        "repositories": sorted(r.name for r in workspace.lake.repositories()),
        "roles": sorted(name for name in grants.look(workspace).groups if name.startswith("features-")),
        "open": [r.id for r in plans.recent(workspace.database) if r.status == plans.RUNNING],
        "events": [e.subject for e in log.read(workspace.database) if e.kind == PRODUCT_DESTROYED],
        "chain": log.verify(workspace.database),
    }


def main(folder: Path, first: int, stride: int) -> None:
    for part in ("first", "second", "destroy"):
        mesh = fill(Mesh(folder / part))
        mesh.sales("product.yaml", SALES + TOPIC)
        if part != "first":
            assert in_child(lambda mesh=mesh: apply(mesh, None)) == 7  # type: ignore[misc]
        if part == "second":
            change(mesh)
        kept = shutil.copytree(mesh.folder, folder / f"{part}-kept")
        work, see = (destroyed, look_after_destruction) if part == "destroy" else (apply, look)
        for point in itertools.count(first if part != "destroy" else max(first, 1), stride):
            shutil.rmtree(mesh.folder)  # the same place again: the lake knows its objects by where they lie
            shutil.copytree(kept, mesh.folder)
            if point == 0:  # inside of the capability instead of after a commit
                (mesh.folder / "die-in-capability").touch()
            ended = in_child(lambda mesh=mesh, n=point, work=work: work(mesh, n or None))  # type: ignore[misc]
            seen = in_child(lambda mesh=mesh, see=see: see(mesh))  # type: ignore[misc]
            print(json.dumps({"part": part, "point": point, "ended": ended, **(seen or {})}), flush=True)
            if ended is not None:
                break


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
