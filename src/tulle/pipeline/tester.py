"""The tests of a product's models in a process of their own: `python -m tulle.pipeline.tester --mesh FOLDER …`.

Models may be Python, and user code belongs neither into the control plane nor into the command line's process. What
comes out is one JSON document; all else that the models write goes to standard error.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from tulle.config import Settings, Warehouse, collector
from tulle.errors import Broken, LimitExceeded, TulleError, from_dict


def run_tests(
    settings: Settings, warehouse: Warehouse, product: str, models: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """Carry out the tests of a product's models, within a warehouse; each as `Tried.as_dict` tells it.

    Raises what the product's code is refused for, LimitExceeded when it takes longer than a run may.
    """
    command = [sys.executable, "-m", "tulle.pipeline.tester", "--mesh", str(settings.folder)]
    try:
        done = subprocess.run(  # noqa: S603  our own module, with names that are checked there
            [*command, "--product", product, "--", *models],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=warehouse.run_timeout_seconds,
            start_new_session=True,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise LimitExceeded(
            f"the tests of '{product}' took longer than {warehouse.run_timeout_seconds:,} s",
            hint="test fewer models at once, or raise 'run_timeout_seconds' of the domain's warehouse",
        ) from None
    try:
        told = json.loads(done.stdout)
    except ValueError:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise Broken(
            f"the process that tests '{product}' ended without an answer: {''.join(last)[:300]}",
            hint="a model may have ended it, or used up its warehouse's memory",
        ) from None
    if "error" in told:
        raise from_dict(told["error"])
    return list(told["tests"])


def main(arguments: list[str] | None = None) -> int:
    """Carry the tests out and tell how they ended."""
    parser = argparse.ArgumentParser(
        prog="tulle.pipeline.tester", description="Test the models of a product."
    )
    parser.add_argument("--mesh", type=Path, required=True, help="the mesh folder")
    parser.add_argument("--product", required=True)
    parser.add_argument("models", nargs="*", help="only those of these models")
    options = parser.parse_args(arguments)
    with redirect_stdout(sys.stderr):  # what models print is no part of the answer
        try:
            told: dict[str, Any] = {"tests": _tests(options.mesh, options.product, options.models)}
        except TulleError as exc:
            told = {"error": exc.as_dict()}
    print(json.dumps(told))
    return 0


def _tests(mesh: Path, name: str, models: Sequence[str]) -> list[dict[str, Any]]:
    # The heavy parts come late: the bounds of the process are set before they are loaded.
    from tulle.pipeline.worker import bound  # noqa: PLC0415
    from tulle.spec.mesh import load_mesh  # noqa: PLC0415

    spec = load_mesh(mesh)
    product = spec.product(name)
    warehouse = spec.settings.warehouse_of(product.warehouse_name)
    bound(warehouse)
    from tulle.engine.duck import DuckEngine  # noqa: PLC0415
    from tulle.pipeline.columns import derive_columns  # noqa: PLC0415
    from tulle.pipeline.graph import load_code  # noqa: PLC0415
    from tulle.pipeline.select import chosen  # noqa: PLC0415
    from tulle.pipeline.try_model import try_models  # noqa: PLC0415

    code = load_code(product, spec=spec)
    code.require_valid()
    derived, _ = derive_columns(code.jobs, product, spec, code.macros)
    wanted = chosen(code.jobs, models)
    with tempfile.TemporaryDirectory(prefix="tulle-test-") as folder:
        place = Path(folder)
        with DuckEngine(warehouse, place / "spill").kept(place / "room") as engine:
            found = try_models(code, engine, derived, place, sorted(wanted) if wanted is not None else None)
    return [tried.as_dict() for tried in found]


if __name__ == "__main__":
    collector.keep()
    sys.exit(main())
