"""What is really there against what was applied, each difference made by hand and found."""

from __future__ import annotations

import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
from tests.control.conftest import opened
from tests.pipeline.conftest import Mesh

from tulle.control.apply import apply_plan
from tulle.control.drift import look
from tulle.control.workspace import Workspace
from tulle.gateway import applications
from tulle.gateway.policy import RateLimit
from tulle.pipeline import run as runs
from tulle.pipeline.execute import execute
from tulle.state.drift import MESH, Finding, found_of


def ran(workspace: Workspace, product: str) -> None:
    run_id = runs.request(workspace.database, product, options={})
    assert execute(workspace.database, workspace.lake, workspace.spec(), run_id).status == "succeeded"


def findings(workspace: Workspace) -> dict[str, tuple[Finding, ...]]:
    return {item.subject: item.findings for item in look(workspace) if item.findings}


def parquet(**columns: list[object]) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out)
    return out.getvalue()


def test_what_was_applied_and_run_has_not_drifted(workspace: Workspace) -> None:
    apply_plan(workspace)
    assert findings(workspace) == {}  # nothing was published yet
    ran(workspace, "sales")
    assert findings(workspace) == {}
    looked = found_of(workspace.database, "sales")
    assert looked is not None
    assert looked.findings == ()


def test_rows_put_aside_are_a_runs(mesh: Mesh, workspace: Workspace) -> None:
    document = mesh.folder / "products/shop/sales/product.yaml"
    path = "        path: data/sales.csv\n"
    assert path in document.read_text()
    document.write_text(document.read_text().replace(path, f"{path}        on_bad_rows: quarantine\n"))
    rows = mesh.folder / "products/shop/sales/data/sales.csv"
    rows.write_text(f"{rows.read_text()}9,eve,someday,1\n")
    apply_plan(workspace)
    ran(workspace, "sales")
    repository = workspace.lake.repository("sales")
    assert "till_rows__rejected/" in repository.list("main", delimiter="/").prefixes
    assert findings(workspace) == {}


def test_rows_put_there_by_hand_are_found_with_their_columns(workspace: Workspace) -> None:
    apply_plan(workspace)
    ran(workspace, "sales")
    repository = workspace.lake.repository("sales")
    repository.put("main", "sales/more.parquet", [parquet(id=[9], customer=["eve"])])
    repository.put("main", "notes.txt", [b"do not forget"])
    staged = findings(workspace)["sales"][0]
    assert "2 objects on 'main' changed by hand and not committed, first 'notes.txt'" in staged.sentence
    repository.commit("main", "by hand")
    told = [finding.sentence for finding in findings(workspace)["sales"]]
    assert told[0] == "'notes.txt' lies in the repository, and no run made it"
    assert told[1].startswith("data set 'sales' was changed by hand since run ")


def test_columns_that_are_not_as_promised_are_found(workspace: Workspace) -> None:
    apply_plan(workspace)
    repository = workspace.lake.repository("sales")
    repository.put("main", "sales/a.parquet", [parquet(id=["1"], customer=["eve"])])
    repository.commit("main", "by hand")
    kinds = {(f.kind, f.name) for f in findings(workspace)["sales"]}
    assert kinds == {
        ("data-set", "sales"),
        ("column", "sales.id"),
        ("column", "sales.day"),
        ("column", "sales.amount"),
    }


def test_what_is_gone_is_found(workspace: Workspace) -> None:
    apply_plan(workspace)
    ran(workspace, "sales")
    repository = workspace.lake.repository("sales")
    repository.delete_prefix("main", "sales/")
    repository.commit("main", "away")
    workspace.lake.delete_repository("features")
    found = findings(workspace)
    assert [f.sentence for f in found["sales"]] == [
        "the rows of data set 'sales' are gone, its record is there"
    ]
    assert [f.kind for f in found["features"]] == ["repository"]


def test_contracts_on_nothing_are_found_and_the_summary_is_written(mesh: Mesh, workspace: Workspace) -> None:
    apply_plan(workspace)
    applications.register(workspace.database, "shop-app", services={"gone": RateLimit(1, 1000)})
    (finding,) = findings(workspace)[MESH]
    assert "application 'shop-app' has a contract on 'gone', which does not exist" in finding.sentence
    summary = json.loads((mesh.folder / ".tulle/run/drift.json").read_text())
    assert summary["findings"] == {"": 1}


def test_other_environments_are_looked_at_too(mesh: Mesh) -> None:
    mesh.write(
        "mesh.yaml", "name: test\nwarehouse: {threads: 1, memory: 256MB}\nenvironments: {dev: {}, idle: {}}\n"
    )
    workspace = opened(mesh)
    apply_plan(workspace)
    assert findings(workspace) == {}
    repository = workspace.lake.repository("sales")
    repository.put("dev", "sales/more.parquet", [parquet(id=[9], customer=["eve"])])
    repository.commit("dev", "by hand")
    repository.put("dev", "notes.txt", [b"do not forget"])
    told = [finding.sentence for finding in findings(workspace)["sales"]]
    workspace.database.close()
    assert told == [
        "in environment 'dev': 1 object on 'dev' changed by hand and not committed, first 'notes.txt'",
        "in environment 'dev': 'notes.txt' lies in the repository, and no run made it",
        "in environment 'dev': data set 'sales' was put there by hand: no run made it",
    ]
