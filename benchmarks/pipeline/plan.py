"""How long a plan of a large mesh takes: nothing applied, nothing changed, one product changed, one breaking.

    python benchmarks/pipeline/plan.py [PRODUCTS]

Makes a mesh of 1,000 products (default) in a temporary folder: every tenth reads a file, the others an earlier product;
each has two data sets with declared columns, two SQL models and a file of checks. `cold` is a new process, `warm` the
same process again, as in a running control plane. Prints one line a measurement.
"""

from __future__ import annotations

import os
import resource
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

DOMAINS = 25


def product_text(number: int) -> str:
    """The document of one product."""
    source = (
        "source: {type: file, path: data/rows.csv, columns: [{name: id, type: integer}, {name: customer},"
        " {name: amount, type: double}, {name: day, type: date}]}"
        if number % 10 == 0
        else f"product: product-{number - 1}, associated_output_port: rows of {number - 1}"
    )
    columns = "\n".join(
        f"      - {{name: {name}, type: {kind}, description: what {name} means}}"
        for name, kind in (("id", "integer"), ("customer", "string"), ("amount", "double"), ("day", "date"))
    )
    return f"""apiVersion: core.oam.dev/v1beta1
kind: DataProduct
spec:
  components:
  - {{name: Domain {number % DOMAINS}, type: domain, properties: {{description: a domain}}}}
  - name: product {number}
    type: data-product
    properties: {{definition: rows of {number}, version: 1.0.0, data_product_owner: owner@example.com}}
  - name: rows
    type: data-set
    properties:
      description: rows
      columns:
{columns}
  - name: totals
    type: data-set
    properties:
      description: totals
      columns:
      - {{name: customer, type: string, key: true}}
      - {{name: total, type: double}}
  - name: taken
    type: input-port
    properties: {{description: where rows come from, data_set: taken, {source}}}
  - {{name: rows of {number}, type: output-port, properties: {{description: all rows, data_set: rows}}}}
"""


def make(folder: Path, count: int) -> None:
    """Write the mesh."""
    folder.joinpath("mesh.yaml").write_text("name: large\n")
    for number in range(count):
        home = folder / "products" / f"domain-{number % DOMAINS}" / f"product-{number}"
        for name, text in {
            "product.yaml": product_text(number),
            "transform/rows.sql": "SELECT id, customer, amount, day FROM taken WHERE amount > 0\n",
            "transform/totals.sql": "SELECT customer, sum(amount) AS total FROM rows GROUP BY customer\n",
            "checks/rows.yaml": "checks:\n- {data_set: rows, type: not_null, columns: [id]}\n",
        }.items():
            (home / name).parent.mkdir(parents=True, exist_ok=True)
            (home / name).write_text(text)


def measured(what: str, work: Callable[[], str]) -> None:
    """Time one piece of work and print what came of it."""
    began, worked = time.perf_counter(), time.process_time()
    told = work()
    worked = time.process_time() - worked
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    took = f"{time.perf_counter() - began:8.2f} s ({worked:.2f} s of CPU)"
    print(f"{what:<48} {took}   {told}   ({peak:.0f} MB)", flush=True)


def in_child(what: str, work: Callable[[], str]) -> None:
    """The same in a process of its own."""
    sys.stdout.flush()
    if (child := os.fork()) == 0:
        status = 1
        try:
            measured(what, work)
            status = 0
        except Exception:  # noqa: BLE001  the child ends here, whatever it met
            traceback.print_exc()
        finally:
            os._exit(status)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
        sys.exit(f"{what} failed")


def main(count: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder, count)

        def planned(times: int = 1) -> str:
            from tulle.control.apply import current_plan
            from tulle.server.app import open_workspace
            from tulle.spec.mesh import load_settings

            workspace = open_workspace(load_settings(folder))
            for round_ in range(times):
                began, worked = time.perf_counter(), time.process_time()
                plan, _ = current_plan(workspace)
                took = time.perf_counter() - began
                if round_:
                    cpu = time.process_time() - worked
                    told = f"{'  again in the same process':<48} {took:8.2f} s ({cpu:.2f} s of CPU)"
                    print(told, flush=True)
            hits = sum(len(d.hits) for s in plan.steps for d in s.details)
            return f"{len(plan.steps)} steps, {hits} hits, {len(plan.refusals)} refusals"

        def applied() -> str:
            from tulle.control.apply import apply_plan
            from tulle.server.app import open_workspace
            from tulle.spec.mesh import load_settings

            return f"{len(apply_plan(open_workspace(load_settings(folder))).done)} steps done"

        changed = folder / "products" / "domain-3" / "product-3"
        in_child(f"plan, {count} products, nothing applied", planned)
        in_child("apply", applied)
        in_child("plan, nothing changed", lambda: planned(3))
        other = "SELECT customer, max(amount) AS total FROM rows GROUP BY customer\n"
        (changed / "transform/totals.sql").write_text(other)
        in_child("plan, one file changed", planned)
        text = (changed / "product.yaml").read_text()
        other = text.replace("{name: amount, type: double,", "{name: amount, type: integer,", 1)
        (changed / "product.yaml").write_text(other)
        in_child("plan, one breaking change", planned)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
