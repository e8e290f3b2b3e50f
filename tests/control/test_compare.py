"""Comparing over HTTP and from the command line, on a small mesh: the product's key, masking, experiments."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from tulle.cli.connect import mesh_client
from tulle.cli.main import cli
from tulle.errors import Invalid, NotFound
from tulle.lake.repository import open_lake
from tulle.sdk.client import Client
from tulle.sdk.lake import LakeClient
from tulle.spec.mesh import load_settings
from tulle.spec.skeleton import mesh_files
from tulle.state.db import open_database

PRODUCT = """
apiVersion: core.oam.dev/v1beta1
kind: DataProduct
spec:
  components:
  - {name: shop, type: domain, properties: {description: the shop}}
  - {name: sales, type: data-product, properties: {definition: what was sold}}
  - name: sales
    type: data-set
    properties:
      description: one row a sale
      columns:
      - {name: id, type: integer, key: true}
      - {name: who, type: string, pii: direct}
      - {name: n, type: integer}
"""


def parquet(**columns: list[object]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mesh with a product, whose `exp` changed one row and added one, and a repository that is no product's."""
    folder = tmp_path_factory.mktemp("mesh")
    for path, text in mesh_files("shop").items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    document = folder / "products/shop/sales/product.yaml"
    document.parent.mkdir(parents=True)
    document.write_text(PRODUCT)
    settings = load_settings(folder)
    with mesh_client(folder) as client:
        client.apply()
        LakeClient(client._http).create_repository("loose")
    database = open_database(settings.database_url)
    lake = open_lake(database, settings.storage_namespace)
    for name in ("sales", "loose"):
        repository = lake.repository(name)
        repository.put("main", "sales/part-0.parquet", parquet(id=[1, 2], who=["Ann", "Bob"], n=[1, 2]))
        repository.put("main", "notes/read.me", b"hello")
        repository.commit("main", "First")
        repository.create_branch("exp")
        more = parquet(id=[1, 2, 3], who=["Ann", "Bo", "Cy"], n=[1, 20, 3])
        repository.put("exp", "sales/part-0.parquet", more)
        repository.commit("exp", "Second")
        repository.create_branch("lost", "main")
        repository.delete("lost", "sales/part-0.parquet")
    database.close()
    return folder


@pytest.fixture(scope="module")
def client(mesh: Path) -> Iterator[Client]:
    with mesh_client(mesh) as found:
        yield found


def test_the_declared_key_is_the_default(client: Client) -> None:
    (found,) = client.compare("sales", "main", "exp", "sales")
    rows = found["rows"]
    assert (rows["key"], rows["added"], rows["removed"], rows["changed"]) == (["id"], 1, 0, 1)
    assert rows["changed_rows"][0]["left"] == {"id": "2", "who": "Bob", "n": "2"}
    assert rows["changed_by_column"] == {"who": 1, "n": 1}
    assert {p["name"]: p["changed"] for p in found["profile"]} == {"id": True, "who": True, "n": True}
    assert found["same"] is False
    (loose,) = client.compare("sales", "main", "exp", "sales", key="")
    assert (loose["rows"]["key"], loose["rows"]["added"], loose["rows"]["removed"]) == ([], 2, 1)
    (other,) = client.compare("loose", "main", "exp", "sales", key="id,who")
    assert (other["rows"]["added"], other["rows"]["removed"]) == (2, 1)


def test_a_side_without_the_data_set_has_no_rows(client: Client) -> None:
    (found,) = client.compare("sales", "main", "lost", "sales")
    assert (found["rows"]["key"], found["rows"]["removed"], found["right_rows"]) == (["id"], 2, 0)


def test_what_a_page_would_show(client: Client) -> None:
    (found,) = client.compare("sales", "main", "exp", "sales", masked=True)
    assert "Bo" not in json.dumps(found)
    assert found["rows"]["changed_rows"][0]["right"] == {"id": "2", "who": "•••", "n": "20"}
    (closed,) = client.compare("loose", "main", "exp", "sales", masked=True)
    assert closed["rows"]["added_rows"][0]["right"] == {"id": "•••", "who": "•••", "n": "•••"}


def test_every_data_set_that_differs(client: Client) -> None:
    found = client.compare("sales", "main", "exp")
    assert [one["prefix"] for one in found] == ["sales"]
    assert client.compare("sales", "main", "main") == []
    with pytest.raises(Invalid, match="for one data set"):
        client.compare("sales", "main", "exp", key="id")
    with pytest.raises(NotFound):
        client.compare("nothing", "main", "exp")


def test_experiments(client: Client) -> None:
    exp, lost = client.experiments("sales", "main", ["exp", "lost"])["experiments"]
    assert (exp["ahead"], exp["behind"], exp["changed_paths"]) == (1, 0, 1)
    (change,) = exp["data_sets"]
    assert (change["name"], change["left_rows"], change["right_rows"]) == ("sales", 2, 3)
    moved = {p["name"]: (p["left"]["mean"], p["right"]["mean"]) for p in change["profile"]}
    assert moved["n"] == (1.5, 8.0)
    assert (lost["ahead"], lost["data_sets"][0]["right_rows"]) == (0, 0)  # staged, not committed
    with pytest.raises(NotFound):
        client.experiments("sales", "main", ["exp", "nowhere"])
    with pytest.raises(Invalid):
        client.experiments("sales", "main", ["exp"] * 21)


def test_the_command(mesh: Path) -> None:
    def run(*arguments: str) -> str:
        result = CliRunner().invoke(cli, ["--mesh", str(mesh), "compare", *arguments])
        assert result.exit_code == 0, result.output
        return result.output

    text = run("sales", "main", "exp", "sales")
    assert "rows   2 → 3: 1 added, 0 removed, 1 changed by id" in text
    assert "~ id=2  who: Bob → Bo, n: 2 → 20" in text
    assert "+ id=3 who=Cy n=3" in text
    assert "1.5 → 8" in text
    assert "no key" in run("loose", "main", "exp")
    assert "no data set differs" in run("sales", "main", "main")
    assert "no difference" in run("sales", "main", "main", "sales")
    assert "Bob" not in run("sales", "main", "exp", "--masked")
    assert json.loads(run("sales", "main", "exp", "--json"))[0]["right_rows"] == 3
    lines = run("sales", "--experiments", "main", "exp", "lost").splitlines()
    assert lines[1].split()[:6] == ["exp", "1", "0", "1", "sales", "3"]
    assert "(-2)" in lines[2]


@pytest.mark.parametrize(
    "arguments",
    [["sales", "main"], ["sales", "a", "b", "c", "d"], ["sales", "a", "b", "--key", "x", "--no-key"]],
)
def test_wrong_usage(mesh: Path, arguments: list[str]) -> None:
    assert CliRunner().invoke(cli, ["--mesh", str(mesh), "compare", *arguments]).exit_code == 2
