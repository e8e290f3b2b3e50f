"""Every operation of lakeFS's API is answered, or refused by name."""

import pytest
from tests.lake.rest.calling import path_of
from tests.lake.rest.openapi import operations

from tulle.lake.rest.router import all_routes
from tulle.lake.rest.unsupported import REASONS


def test_every_operation_has_its_route():
    routed = {route.operation: (route.method, route.path) for route in all_routes()}
    documented = {name: (method, path) for name, (method, path, _) in operations().items()}
    assert {name: routed.get(name) for name in documented} == documented


def test_what_is_not_documented_is_marked_as_ours():
    ours = {route.operation for route in all_routes()} - set(operations())
    assert all(name.startswith("tulle.") for name in ours)


@pytest.mark.parametrize("operation", sorted(REASONS))
def test_unsupported_operations_say_so(client, operation):
    method, path, _ = operations()[operation]
    names = {"userId": "u", "repository": "sales", "branch": "main"}
    answer = client.call(method, path_of(path, **names), json={})
    assert answer.status == 501
    assert len(answer.message) > 30


def test_strangers_may_call_exactly_what_the_document_lets_them():
    public = {route.operation for route in all_routes() if route.public}
    documented = {name for name, (_, _, operation) in operations().items() if operation.get("security") == []}
    extra = {"stsLogin", "getAuthCapabilities"} | {"tulle.getSigned", "tulle.headSigned", "tulle.putSigned"}
    assert public - extra <= documented
