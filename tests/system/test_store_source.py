"""Rows of objects in an S3 store, which is moto's server, a process of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import obstore
import pytest
from tests.pipeline.sources.conftest import Shop, problems
from tests.system.test_object_store import bucket, store  # noqa: F401  a fixture

pytestmark = pytest.mark.system
SECRETS = {"secret_access_key": "geheimnis"}


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    made = Shop(tmp_path / "mesh")
    yield made
    made.database.close()


def test_only_new_objects_are_read(store: str, shop: Shop) -> None:  # noqa: F811
    place = bucket(store, "outside")
    obstore.put(place, "sales/2020/1.csv", b"id,n\n1,1\n")
    obstore.put(place, "sales/2020/notes.txt", b"nothing")
    obstore.put(place, "sales/other/1.csv", b"id,n\n9,9\n")
    shop.connect("lake", "store", "s3://outside/sales", SECRETS, access_key_id="k", endpoint=store)
    columns = [{"name": "id", "type": "integer"}, {"name": "n", "type": "integer"}]
    path = "s3://outside/sales/20*/*.csv"
    shop.source(type="store", connection="lake", path=path, columns=columns, load="incremental")
    shop.good()
    assert [row["id"] for row in shop.rows()] == [1]
    assert shop.run().status == "unchanged"
    obstore.put(place, "sales/2021/1.csv", b"id,n\n2,2\n")
    shop.good()
    assert [row["id"] for row in shop.rows()] == [1, 2]
    obstore.put(place, "sales/2021/1.csv", b"id,n\n2,3\n")
    assert "has changed since it was read" in problems(shop.run())
    obstore.put(place, "sales/2021/1.csv", b"id,n\n2,x\n")
    said = problems(shop.run(full=True))
    assert "s3://outside/sales/2021/1.csv" in said
    assert "column 'n' is 'x'" in said


def test_what_cannot_be_read(store: str, shop: Shop) -> None:  # noqa: F811
    shop.connect("lake", "store", "s3://outside/sales", SECRETS, access_key_id="k", endpoint=store)
    shop.source(type="store", connection="lake", path="s3://outside/secret/*.csv")
    assert "a connection opens what is below its address only" in problems(shop.run())
    shop.source(type="store", path="s3://outside/sales/*.csv")
    assert "object_stores" in problems(shop.run())
    shop.source(type="store", connection="lake", path="s3://outside/sales/none/*.csv")
    assert "no object fits 's3://outside/sales/none/*.csv'" in problems(shop.run())
    shop.connect("lake", "store", "s3://missing", SECRETS, access_key_id="k", endpoint=store)
    shop.source(type="store", connection="lake", path="s3://missing/*.csv")
    said = problems(shop.run())
    assert "cannot be read" in said
    assert "geheimnis" not in said
