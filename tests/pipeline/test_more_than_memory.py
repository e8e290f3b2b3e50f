"""Models of every kind over more rows than their warehouse's memory holds: what does not fit is spilled to its disk."""

from __future__ import annotations

import shutil

import pyarrow.parquet as pq
import pytest
from tests.pipeline.conftest import World
from tests.pipeline.test_worker import end

from tulle.pipeline import run as runs
from tulle.pipeline import worker

ROWS, MEMORY = 1_050_000, 78_000_000
BIG = f"""
-- kind: view
SELECT i AS id, md5(CAST(i * {{0}} AS VARCHAR)) || md5(CAST(i + 7 AS VARCHAR)) AS word
FROM range({ROWS}) AS t(i)
"""
KINDS = {
    "grouped": "SELECT word, count(*) AS n, min(id) AS id FROM big GROUP BY word",
    "merged": "-- kind: incremental\n-- key: id\nSELECT id, word FROM big",
    "history": "-- kind: snapshot\n-- key: id\nSELECT id, word FROM big",
}
PRODUCT = """
apiVersion: core.oam.dev/v1beta1
kind: DataProduct
spec:
  components:
  - {name: shop, type: domain}
  - {name: sales, type: data-product, properties: {definition: large}}
"""


def carried_out(world: World, *select: str) -> dict[str, int | None]:
    """The rows each step of a run in a process of its own has made."""
    run_id = runs.request(world.database, "sales", options={"select": list(select)})
    worker.start(world.settings, run_id)
    run = end(world, run_id, 280)
    assert run.status == "succeeded", run.error
    return {step.name: step.rows for step in run.steps if step.status == "succeeded"}


@pytest.mark.timeout(600)
def test_every_kind_of_model_works_on_more_than_memory(world: World) -> None:
    # One test, as each kind needs so many rows.
    shutil.rmtree(world.mesh.folder / "products/people")
    (world.mesh.folder / "products/shop/sales/transform/sales.sql").unlink()
    world.mesh.write(
        "mesh.yaml",
        f"name: test\nwarehouse: {{threads: 1, memory: {MEMORY // 1_000_000}MB, temp_disk: 2GB}}\n",
    )
    world.mesh.sales("product.yaml", PRODUCT)
    world.mesh.sales("transform/big.sql", BIG.format(1))
    for name, sql in KINDS.items():
        world.mesh.sales(f"transform/{name}.sql", sql)
    assert carried_out(world)["grouped"] == ROWS
    file = world.lake.repository("sales").files("main", "merged/")[0]
    metadata = pq.ParquetFile(file).metadata
    sizes = [metadata.row_group(number).total_byte_size for number in range(metadata.num_row_groups)]
    assert sum(sizes) > MEMORY, "as it is read it does not fit"

    world.mesh.sales("transform/big.sql", BIG.format("(1 + i % 2)"))
    made = carried_out(world, "big", "merged", "history")
    assert made["merged"] == ROWS
    assert made["history"] == ROWS + ROWS // 2, "every second row is another one"
