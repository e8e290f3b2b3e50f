"""`rate-limit` on the real Envoy."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from tests.gateway.conftest import API, PLENTY, Mesh, as_client, check_error
from tests.gateway.policies.conftest import Put

from tulle.gateway.policy import RateLimit
from tulle.serving.access import Access, Public

pytestmark = pytest.mark.system

A, B = as_client("app-a"), as_client("app-b")


def passed(mesh: Mesh, headers: Mapping[str, str], times: int = 4, path: str = "first/x") -> int:
    return sum(mesh.ask(API + path, headers).status == 200 for _ in range(times))


@pytest.fixture(autouse=True)
def fresh(put: Put) -> None:
    """A changed limits file fills all buckets."""
    put("[]")


def test_each_client_has_its_own(put: Put) -> None:
    mesh = put("- {policy: rate-limit, limits: 2/1h}")
    assert passed(mesh, A) == 2
    refused = mesh.ask(f"{API}first/x", A)
    check_error(refused, 429, "TooManyRequests")
    assert int(refused.headers["retry-after"]) > 0
    assert refused.headers["x-ratelimit-remaining"] == "0"
    assert refused.headers["x-ratelimit-limit"].startswith("2")
    assert passed(mesh, B) == 2  # its contract has 3


def test_all_together(put: Put) -> None:
    mesh = put("- {policy: rate-limit, limits: 3/1h, by: all}")
    assert passed(mesh, A, 2) + passed(mesh, B, 2) == 3


def test_layers_hold_together_and_the_tightest_is_told(put: Put) -> None:
    mesh = put("- {policy: rate-limit, limits: [2/1h, 1000/1d]}")
    reply = mesh.ask(f"{API}first/x", A)
    assert (reply.headers["x-ratelimit-limit"].split(",")[0], reply.headers["x-ratelimit-remaining"]) == (
        "2",
        "1",
    )
    assert passed(mesh, A) == 1


def test_by_a_header_and_who_leaves_it_out_is_counted_too(put: Put) -> None:
    mesh = put("- {policy: rate-limit, limits: 2/1h, by: 'header:x-team'}")
    assert passed(mesh, A | {"x-team": "one"}) == 2
    assert passed(mesh, A | {"x-team": "two"}) == 2
    assert passed(mesh, A) == 2


def test_by_address_where_callers_show_nothing(put: Put) -> None:
    everybody = Access(contracts=False, public=Public("100000/1s"))
    mesh = put("- {policy: rate-limit, limits: 2/1h, by: client}", access=everybody)
    assert passed(mesh, {}) == 2
    mesh = put("- {policy: rate-limit, limits: 3/1h, by: address}", access=everybody)
    assert passed(mesh, {}) == 3


def test_for_one_operation_alone(put: Put) -> None:
    mesh = put("""
- policy: rate-limit
  limits: 1/1h
  operations: [{method: GET, path: '/items/{id}'}]
- policy: rate-limit
  limits: 3/1h
  by: all
  operations: [{path: /items/special}]
""")
    assert passed(mesh, A, path="first/items/7") == 1
    assert passed(mesh, A, path="first/items/8/?x=1") == 0
    assert passed(mesh, A, path="first/%69tems/9") == 0  # the same path in other words
    assert passed(mesh, A, path="first/items") == 4
    assert passed(mesh, A, path="first/items/7/more") == 4
    # both hold for what is of both
    assert passed(mesh, B, path="first/items/special") == 1
    posted = [mesh.ask(f"{API}first/items/special", A, method="POST", body=b"{}").status for _ in range(3)]
    assert posted.count(429) == 1


def test_a_contracts_limit_holds_beside_it(put: Put) -> None:
    mesh = put("- {policy: rate-limit, limits: 1000/1h}")
    assert passed(mesh, B, 5) == 3
    assert str(PLENTY) == str(RateLimit.parse("100000/1s"))


def test_a_change_of_other_policies_gives_nobody_a_full_window(put: Put) -> None:
    limit = "- {policy: rate-limit, limits: 2/1h}"
    assert passed(put(limit), A) == 2
    mesh = put(f"- {{policy: header-injection, response: {{x-a: b}}}}\n{limit}")
    reply = mesh.ask(f"{API}first/x", A)
    assert reply.status == 429
    assert reply.headers["x-a"] == "b"
