"""Policies of the mesh for many services: whom they are for, and how they join a service's own."""

from __future__ import annotations

from typing import Any

import pytest
from tests.gateway.conftest import API, Mesh, as_client, check_error
from tests.gateway.policies.conftest import policy_of

from tulle.config import PolicySet
from tulle.errors import Invalid
from tulle.gateway.policies.automated import MeshPolicies, Target, wrongly_left_out
from tulle.gateway.policies.entry import Policy
from tulle.gateway.policies.listed import conflict, parse_policies, policies_in

TARGET = Target("orders", "prod", "sales", ("pii", "eu"))
CORS = {"policy": "cors", "origins": ["https://a.example"]}
LIMIT = {"policy": "rate-limit", "limits": "5/1s"}
DENY = {"policy": "ip-deny", "addresses": ["192.0.2.1"]}
STAMP = {"policy": "header-injection", "response": {"x-mesh": "acme"}}


def of_mesh(**sets: dict[str, Any]) -> MeshPolicies:
    return MeshPolicies({name: PolicySet(**{"policies": (DENY,), **one}) for name, one in sets.items()})


def own(text: str) -> tuple[Policy, ...]:
    return policies_in(parse_policies(text), "prod")


@pytest.mark.parametrize(
    ("said", "holds"),
    [
        ({}, True),
        ({"domains": ("sales",)}, True),
        ({"domains": ("hr",)}, False),
        ({"tags": ("pci", "pii")}, True),
        ({"tags": ("pci",)}, False),
        ({"services": ("orders",), "environments": ("prod",)}, True),
        ({"services": ("orders",), "environments": ("dev",)}, False),
        ({"services": ("others",)}, False),
    ],
)
def test_a_set_is_for_what_it_names(said: dict[str, Any], holds: bool) -> None:
    assert (of_mesh(a=said).sets_for(TARGET) == ("a",)) is holds


def test_a_service_does_without_a_set_unless_it_is_mandatory() -> None:
    mesh = of_mesh(a={}, b={"mandatory": True})
    without = own("- {policy: without, sets: [a, b, c]}")
    assert mesh.sets_for(TARGET, ("a", "b")) == ("b",)
    assert [one.kind for one in mesh.joined(TARGET, without)] == ["ip-deny", "without"]
    sets = {"a": PolicySet(), "b": PolicySet(mandatory=True)}
    told = [message for message, _ in wrongly_left_out(sets, without)]
    assert told == ["the policies 'b' of the mesh are mandatory", "there is no set of policies 'c'"]


def test_both_lists_keep_their_order_and_the_mesh_comes_first() -> None:
    mesh = of_mesh(a={"policies": (STAMP, LIMIT)}, b={"policies": (CORS, DENY)})
    joined = mesh.joined(
        TARGET, own("- policy: client-id\n- {policy: body-limit, max_bytes: 5}\n- policy: compression")
    )
    assert [one.kind for one in joined] == [
        *("cors", "ip-deny", "client-id", "header-injection", "compression", "rate-limit", "body-limit")
    ]
    assert conflict(joined) is None


def test_what_can_hold_once_only_is_as_the_mesh_says() -> None:
    mesh = of_mesh(a={"policies": (CORS, {"policy": "client-id"}, LIMIT)})
    joined = mesh.joined(
        TARGET,
        own("""
- {policy: cors, origins: ['*']}
- {policy: public, limit: 5/1s}
- {policy: rate-limit, limits: 1/1s}
"""),
    )
    assert [one.as_plain() for one in joined] == [
        CORS,
        {"policy": "client-id"},
        LIMIT,
        {"policy": "rate-limit", "limits": "1/1s"},
    ]


def test_an_api_over_a_service_leaves_its_workers_to_it() -> None:
    mesh = of_mesh(a={"policies": ({"policy": "outlier-ejection"}, DENY)})
    over = Target("orders", "prod", behind=TARGET)
    assert [one.kind for one in mesh.joined(over, ())] == ["ip-deny"]
    assert [one.kind for one in mesh.joined(TARGET, ())] == ["ip-deny", "outlier-ejection"]


def test_what_the_mesh_demands_of_a_service_it_demands_of_an_api_over_it() -> None:
    mesh = of_mesh(
        walls={"mandatory": True, "services": ("orders",)},
        usual={"services": ("orders",), "policies": (STAMP,)},
        others={"mandatory": True, "services": ("prices",), "policies": (STAMP,)},
    )
    over = Target("shop", "prod", "another", behind=TARGET)
    without = own("- {policy: without, sets: [walls]}")
    assert mesh.sets_for(over, ("walls",)) == ("walls",)
    assert [one.kind for one in mesh.joined(over, without)] == ["ip-deny", "without"]
    assert mesh.sets_for(Target("shop", "prod", "another")) == ()


def test_a_set_that_is_no_list_of_policies_is_in_the_way_of_those_it_is_for() -> None:
    often = {"policies": ({"policy": "rate-limit", "limits": "often"},), "domains": ("sales",)}
    mesh = of_mesh(limits=often, walls={}, more={**often, "mandatory": True, "domains": ("hr",)})
    with pytest.raises(Invalid, match=r"set 'limits' of mesh.yaml cannot be read: .*'often'") as told:
        mesh.joined(TARGET, ())
    assert "mesh.yaml, policies.limits" in str(told.value.problems[0])
    without = own("- {policy: without, sets: [limits]}")
    assert [one.kind for one in mesh.joined(TARGET, without)] == ["ip-deny", "without"]
    assert [one.kind for one in mesh.joined(Target("prices", "prod"), ())] == ["ip-deny"]
    assert mesh.demanded(TARGET, ()) == ()
    with pytest.raises(Invalid, match="set 'more'"):
        mesh.demanded(Target("people", "prod", "hr"), ())


@pytest.mark.system
def test_they_hold_on_the_gateway(mesh: Mesh) -> None:
    here = {"policy": "ip-deny", "addresses": ["127.0.0.0/8"]}
    sets = of_mesh(a={"policies": (STAMP,)}, b={"policies": (here,), "environments": ("dev",)})
    found = {e: sets.joined(Target("first", e), own("- policy: compression")) for e in ("prod", "dev")}
    mesh.gateway.publish(policy_of("[]", policies=found["prod"]))
    reply = mesh.ask(f"{API}first/x", as_client("app-a"))
    assert (reply.status, reply.headers["x-mesh"]) == (200, "acme")
    mesh.gateway.publish(policy_of("[]", policies=found["dev"]))
    check_error(mesh.ask(f"{API}first/x", as_client("app-a")), 403, "AddressNotAllowed")
