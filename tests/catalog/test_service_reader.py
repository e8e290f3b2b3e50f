"""What the pages of services are made of: what answers, who may call, and what is wrong told where it belongs."""

from __future__ import annotations

import pytest
from tests.catalog.conftest import World

from tulle.errors import NotFound


def test_a_service_tells_what_answers_and_who_may_call(world: World) -> None:
    page = world.reader().services.page("customer-totals")
    assert page.service.state == "active"
    assert page.service.active is not None
    assert page.service.active.version == "v1"
    assert page.service.product == "people"
    (endpoint,) = page.service.endpoints
    assert endpoint.actions == ("lookup", "lookup-multi")
    assert endpoint.queries[0].name == "ann"
    curl = next(one for one in endpoint.snippets if one.language == "curl")
    assert '{"data": {"customer": "ann"}}' in curl.text
    assert endpoint.data_sets == (("people", "totals"),)
    assert page.api is not None
    assert [o.path for o in page.api.operations] == [*("/total/lookup", "/total/lookup-multi", "/feedback")]
    assert [(c.name, c.limit) for c in page.consumers] == [("web-shop", "5/1s")]


def test_a_service_without_a_package_says_so(applied: World) -> None:
    page = applied.reader().services.page("customer-totals")
    assert page.service.state == "declared"
    assert page.service.endpoints[0].queries[0].body.startswith("{")
    assert page.api is None
    assert page.api_problem
    with pytest.raises(NotFound, match="no package yet"):
        applied.reader().services.openapi("customer-totals")


def test_a_damaged_package_is_told_and_takes_nothing_down(world: World) -> None:
    (world.settings.state_folder / "packages/customer-totals/v1.tar").write_bytes(b"damaged")
    reader = world.reader()
    page = reader.services.page("customer-totals")
    assert page.api is None
    assert "cannot be read" in page.api_problem
    assert reader.home().services[0].name == "customer-totals"


def test_a_broken_services_file_is_told_and_takes_nothing_down(world: World) -> None:
    world.write("products/crm/people/services/customer-totals.yaml", "service: [")
    reader = world.reader()
    assert reader.product("people").problems
    assert reader.home().problems
    assert [s.name for s in reader.services.all()] == ["customer-totals"]  # it is deployed all the same
