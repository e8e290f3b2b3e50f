"""The instances of APIs as the gateway is told of them."""

from __future__ import annotations

from typing import Any

from tests.gateway.apis.conftest import read

from tulle.gateway.apis.declared import Target
from tulle.gateway.apis.instance import instances, managed_instances
from tulle.gateway.apis.records import Binding, Life, RecordedApi
from tulle.gateway.front import External, Upstream
from tulle.gateway.policy import Backend, ManagedService, Notice
from tulle.serving.traffic import single, split

PLACES = {"dev": "dev", "test": "test", "main": ""}
API = """
api: orders
versions:
- {version: v1, service: orders, path: /o, hosts: [h.example], environments: {test: {path: /t, hosts: []}}}
- {version: v2, policies: [{policy: compression, environments: [main]}], upstream: https://a.example, undeclared: allow, environments: {dev: {service: orders}, gone: }}
"""
BOTH = split({"v1": 0.5, "v2": 0.5})


def service(environment: str = "", **more: Any) -> ManagedService:
    backends = tuple(Backend(name, (f"run/{name}.sock",)) for name in ("v1", "v2"))
    known = {"traffic": BOTH, "backends": backends, "timeout_seconds": 7.0, "may_repeat": False, **more}
    return ManagedService("orders", (), 5000, environment=environment, **known)


def managed(
    lives: dict[str, Life],
    bindings: dict[tuple[str, str], Binding] | None = None,
    services: tuple[ManagedService, ...] = (),
    owner: str = "sales",
) -> dict[str, ManagedService]:
    api = RecordedApi(read(API).api, lives, bindings or {})
    found = managed_instances(
        list(instances([api], PLACES)),
        {one.path: one for one in services},
        {one.name: owner for one in services},
        largest_request=1000,
        usual_limit="9/1s",
    )
    return {one.path: one for one in found}


LIVE = {"v1": Life("published"), "v2": Life("published")}


def test_each_version_is_where_consumers_are_and_where_it_is_named() -> None:
    found = managed(LIVE)
    assert sorted(found) == ["dev/orders@v2", "orders@v1", "orders@v2", "test/orders@v1"]
    addresses = {path: (one.address, one.front.hosts if one.front else None) for path, one in found.items()}
    assert addresses == {
        "orders@v1": ("/o", ("h.example",)),
        "test/orders@v1": ("/test/t", ()),
        "orders@v2": ("/orders/v2", ()),
        "dev/orders@v2": ("/dev/orders/v2", ()),
    }
    assert {path: len(one.policies) for path, one in found.items() if one.policies} == {"orders@v2": 1}
    assert found["orders@v1"].front is not None
    assert found["orders@v1"].front.is_unbound  # the service is not deployed
    assert (found["orders@v1"].usual_limit, found["orders@v1"].max_request_bytes) == ("9/1s", 1000)


def test_a_service_answers_with_its_workers_where_it_is_deployed() -> None:
    one = managed(LIVE, services=(service(), service("test", traffic=single("v2"))))
    front = one["orders@v1"].front
    assert front is not None
    assert (front.serves, front.external, one["orders@v1"].traffic) == ("orders", None, BOTH)
    assert one["orders@v1"].answered_by == "orders"
    assert (one["orders@v1"].timeout_seconds, one["orders@v1"].max_request_bytes) == (7.0, 5000)
    assert one["test/orders@v1"].answered_by == "test/orders"
    assert one["test/orders@v1"].traffic == single("v2")
    dev = one["dev/orders@v2"].front
    assert dev is not None
    assert dev.is_unbound


def test_a_service_that_is_stopped_answers_no_api() -> None:
    front = managed(LIVE, services=(service(stopped="disabled"),))["orders@v1"].front
    assert front is not None
    assert front.is_unbound


def test_a_service_of_another_product_answers_only_where_it_was_bound() -> None:
    bindings = {("v1", "test"): Binding(Target("orders"), changed_by="ann")}
    found = managed(LIVE, bindings, (service(), service("dev"), service("test")), "pricing")
    fronts = {path: one.front.serves for path, one in found.items() if one.front}
    assert fronts == {"orders@v1": "", "test/orders@v1": "test/orders", "orders@v2": "", "dev/orders@v2": ""}


def test_a_draft_is_tried_where_consumers_are_not() -> None:
    assert sorted(managed({"v1": Life("draft"), "v2": Life("published")})) == [
        "dev/orders@v2",
        "orders@v2",
        "test/orders@v1",
    ]


def test_the_life_of_a_version_is_told_to_callers() -> None:
    found = managed({"v1": Life("deprecated", 1.0, 2.0, "v2"), "v2": Life("retired", 3.0)})
    assert found["orders@v1"].notice == Notice(1.0, 2.0, "/orders/v2")
    assert found["test/orders@v1"].notice == Notice(1.0, 2.0, "")  # the other is not in this environment
    assert found["orders@v1"].stopped is None
    assert (found["orders@v2"].stopped, found["orders@v2"].notice) == ("retired", Notice(3.0))


def test_what_is_bound_by_hand_answers_instead() -> None:
    other = External((Upstream("https://b.example"),), timeout_seconds=3.0)
    bindings = {
        ("v1", ""): Binding(Target(external=other)),
        ("v1", "test"): Binding(Target(), "mended"),
        ("v2", ""): Binding(Target("orders", "v2")),
        ("v2", "dev"): Binding(Target("orders", "v9")),
    }
    found = managed(LIVE, bindings, (service(), service("dev"), service("test")))
    fronts = {path: one.front for path, one in found.items()}
    assert all(front is not None for front in fronts.values())
    assert fronts["orders@v1"].external == other  # type: ignore[union-attr]
    assert found["orders@v1"].timeout_seconds == 3.0
    assert fronts["test/orders@v1"].is_unbound  # type: ignore[union-attr]
    assert found["orders@v2"].traffic == single("v2")
    assert fronts["dev/orders@v2"].is_unbound  # type: ignore[union-attr]  such a generation does not run


MOCKED = """
api: orders
versions:
- version: v1
  mock: true
  openapi:
    openapi: 3.1.0
    info: {title: Orders, version: "1"}
    paths: {/items: {get: {responses: {"200": {content: {application/json: {example: [1]}}}}}}}
  environments: {dev: {service: orders}}
"""


def test_examples_answer_where_it_is_said_and_nowhere_else() -> None:
    api = RecordedApi(read(MOCKED).api, {"v1": Life("published")}, {})
    found = managed_instances(
        list(instances([api], PLACES)),
        {one.path: one for one in [service("dev")]},
        {"orders": "sales"},
        largest_request=1000,
        usual_limit="9/1s",
    )
    fronts = {one.environment: one.front for one in found}
    assert fronts[""] is not None
    assert [(one.path, one.body) for one in fronts[""].mocks] == [("/items", "[1]")]
    assert not fronts[""].is_unbound
    assert fronts["dev"] is not None
    assert (fronts["dev"].mocks, fronts["dev"].serves) == ((), "dev/orders")
