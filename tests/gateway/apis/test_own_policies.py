"""Policies of APIs that were set by hand: kept over what is applied, told, followed, forgotten with the version."""

from __future__ import annotations

import pytest
from sqlalchemy import update
from tests.gateway.apis.test_records import ONE, TWO, api, save

from tulle.errors import NotFound
from tulle.gateway.apis import own_policies, records
from tulle.gateway.apis.instance import instances, managed_instances
from tulle.gateway.apis.records import Followed
from tulle.state import log
from tulle.state.db import Database
from tulle.state.tables import api_policies

OWN = (
    "{version: v1, service: orders, publish: true, policies: [{policy: compression}], environments: {test: }}"
)
LIST = [
    {"policy": "cors", "origins": ["*"]},
    {"policy": "body-limit", "max_bytes": 9, "environments": ["test"]},
]
PLACES = {"test": "test", "prod": ""}


def held(database: Database) -> dict[str, list[str]]:
    """The kinds of policies that the gateway is told of, by instance."""
    found = managed_instances(
        list(instances(records.recorded(database), PLACES)), {}, {}, largest_request=9, usual_limit="1/1s"
    )
    return {one.path: [policy.kind for policy in one.policies] for one in found}


def test_what_is_set_is_in_force_until_it_is_taken_back(database: Database) -> None:
    save(database, api("orders", OWN, TWO))
    assert held(database) == {"orders@v1": ["compression"], "test/orders@v1": ["compression"]}
    followed = Followed(database)
    assert followed.look()[0].policies == {}
    own_policies.set_policies(database, "orders", "v1", "test", LIST, actor="ann")
    assert held(database) == {"orders@v1": ["compression"], "test/orders@v1": ["cors", "body-limit"]}
    said = followed.look()[0].policies["v1", "test"]
    assert (said.policies, said.changed_by) == (tuple(LIST), "ann")
    own_policies.set_policies(database, "orders", "v1", "test", LIST, actor="bob")  # nothing new
    assert followed.look()[0].policies["v1", "test"].changed_by == "ann"
    own_policies.set_policies(database, "orders", "v1", "", LIST)
    own_policies.set_policies(database, "orders", "v1", "", [])
    save(database, api("orders", OWN, TWO))  # applied again
    assert held(database) == {"orders@v1": [], "test/orders@v1": ["cors", "body-limit"]}
    own_policies.set_policies(database, "orders", "v1", "", None)
    assert held(database)["orders@v1"] == ["compression"]
    told = [(e.actor, e.subject, e.data) for e in log.read(database) if e.kind == "api.policies_changed"]
    kinds = ["cors", "body-limit"]
    assert told[0] == (
        "ann",
        "api:orders",
        {"version": "v1", "environment": "test", "before": None, "after": kinds},
    )
    assert [(d["before"], d["after"]) for _, _, d in told[1:]] == [(None, kinds), (kinds, []), ([], None)]


def test_what_is_taken_back_is_as_it_was_said(database: Database) -> None:
    save(database, api("orders", OWN, TWO))
    assert own_policies.set_policies(database, "orders", "v1", "", LIST, actor="ann") is None
    before = own_policies.set_policies(database, "orders", "v1", "", [], actor="bob")
    own_policies.take_back(database, "orders", "v1", "", LIST, None, actor="bob")  # that is not said any more
    assert held(database)["orders@v1"] == []
    own_policies.take_back(database, "orders", "v1", "", [], before, actor="bob")
    said = Followed(database).look()[0].policies["v1", ""]
    assert (said, said.changed_by) == (before, "ann")
    own_policies.take_back(database, "orders", "v1", "", LIST, None, actor="bob")
    assert held(database)["orders@v1"] == ["compression"]


def test_it_ends_with_the_version_and_with_the_api(database: Database) -> None:
    save(database, api("orders", ONE, TWO), api("more", TWO))
    for name, version in (("orders", "v1"), ("orders", "v2"), ("more", "v2")):
        own_policies.set_policies(database, name, version, "", LIST)
    assert save(database, api("orders", TWO)) == ["more"]
    save(database, api("orders", ONE, TWO), api("more", TWO))  # and again, anew
    more, orders = records.recorded(database)
    assert (more.policies, list(orders.policies)) == ({}, [("v2", "")])
    with pytest.raises(NotFound, match="has no version 'v7' any more"):
        own_policies.set_policies(database, "orders", "v7", "", LIST)


def test_a_damaged_list_keeps_its_own_api_out_and_no_other(database: Database) -> None:
    save(database, api("orders", ONE), api("more", TWO))
    own_policies.set_policies(database, "orders", "v1", "", LIST)
    for damaged in ([{"kind": "cors"}], {"policy": "cors"}, "cors", [["policy"]]):
        with database.write() as connection:
            connection.execute(update(api_policies).values(policies=damaged))
        assert [one.name for one in records.recorded(database)] == ["more"], damaged
