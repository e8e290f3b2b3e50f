"""Instances of APIs are made anew when anything that they depend on is another, and not else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tests.gateway.apis.conftest import read

from tulle.control.served_apis import ServedApis
from tulle.control.workspace import Workspace
from tulle.errors import Invalid
from tulle.gateway.apis import records
from tulle.gateway.apis.declared import Target
from tulle.gateway.apis.records import Binding
from tulle.gateway.policy import ManagedService

API = "api: orders\ntags: [shop]\nversions: [{version: v1, service: orders, publish: true}]\n"
OWNERS = {"orders": "sales"}
ORDERS = ManagedService("orders", ("run/w/orders.sock",), 100)


def test_instances_follow_what_they_depend_on(workspace: Workspace) -> None:
    served, asked = ServedApis(workspace), list[tuple[str, str, Sequence[str]]]()

    def joined(one: ManagedService, product: str, tags: Sequence[str]) -> ManagedService:
        asked.append((one.path, product, tags))
        return one

    stamp = (object(),)
    assert served.look([ORDERS], OWNERS, joined, stamp) == ([], {})
    with workspace.database.write() as connection:
        records.save(connection, "sales", [read(API)])
    (made,), unmade = served.look([ORDERS], OWNERS, joined, stamp)
    assert (made.path, made.answered_by, unmade) == ("orders@v1", "orders", {})
    assert asked == [("orders@v1", "sales", ("shop",))]
    assert served.look([ORDERS], OWNERS, joined, stamp)[0] == [made]
    assert len(asked) == 1
    served.look([replace(ORDERS, max_request_bytes=7)], OWNERS, joined, stamp)
    served.look([ORDERS], OWNERS, joined, stamp)
    served.look([ORDERS], OWNERS, joined, (object(),))
    assert len(asked) == 4
    (alone,), _ = served.look([ORDERS], {"orders": "another"}, joined, stamp)
    assert not alone.has_workers  # it is no longer the API's product's
    records.bind(workspace.database, "orders", "v1", "", Binding(Target()))
    (bound,), _ = served.look([ORDERS], OWNERS, joined, stamp)
    assert not bound.has_workers


def test_one_that_cannot_be_made_hinders_no_other_one(workspace: Workspace) -> None:
    other = API.replace("orders", "others")
    with workspace.database.write() as connection:
        records.save(connection, "sales", [read(API), read(other)])

    def joined(one: ManagedService, _product: str, _tags: Sequence[str]) -> ManagedService:
        if one.name == "orders":
            raise Invalid("the two cannot be joined")
        return one

    made, unmade = ServedApis(workspace).look([], {}, joined, ())
    assert [one.path for one in made] == ["others@v1"]
    assert {place: one.message for place, one in unmade.items()} == {
        ("orders@v1", ""): "the two cannot be joined"
    }
