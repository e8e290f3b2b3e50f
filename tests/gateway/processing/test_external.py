"""Policies of the processor on an API with an external service behind it, at an address of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from tests.gateway.conftest import SECRETS, as_client, check_error, wait_until
from tests.gateway.external import Service
from tests.gateway.processing.conftest import PLENTY, Processed

from tulle.gateway.front import External, Front, Upstream
from tulle.gateway.policies.entry import Policy
from tulle.gateway.policy import Client, Contract, GatewayPolicy, ManagedService
from tulle.gateway.secret import hash_secret

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def outside() -> Iterator[Service]:
    with Service() as service:
        yield service


def test_what_an_external_service_answers_is_redacted_too(processed: Processed, outside: Service) -> None:
    front = Front(
        "v1",
        "/orders/v1",
        external=External((Upstream(outside.url()),)),
        only_declared=True,
        operations=(("GET", "/items"),),
    )
    redaction = Policy(
        "redaction", {"fields": [{"path": "$.target", "action": "constant", "value": "hidden"}]}
    )
    processed.mesh.gateway.publish(
        GatewayPolicy.of(
            services=[ManagedService("orders", (), 1000, front=front, policies=(redaction,))],
            clients=[Client("app-a", hash_secret(SECRETS["app-a"]))],
            contracts=[Contract("app-a", "orders", PLENTY)],
        )
    )
    reply = processed.mesh.ask("/orders/v1/items?a=1", as_client("app-a"))
    assert reply.status == 200
    assert json.loads(reply.body)["target"] == "hidden"
    check_error(processed.mesh.ask("/orders/v1/other", as_client("app-a")), 404, "UnknownOperation")
    assert not [name for name in json.loads(reply.body)["headers"] if name.startswith("x-tulle")]
    assert "Forged" not in reply.headers.values()
    sets = {**as_client("app-a"), "x-sets": "a=1|tulle-reader-8700=x"}
    assert processed.mesh.ask("/orders/v1/items", sets).headers["set-cookie"] == "a=1"


def test_one_kept_answer_is_read_by_each_page_as_the_list_says(
    processed: Processed, outside: Service
) -> None:
    front = Front("v1", "/orders/v1", external=External((Upstream(outside.url()),)))
    pages = ["https://a.example", "https://b.example"]
    policies = (
        Policy("cors", {"origins": pages, "expose": ["x-tulle-cache"]}),
        Policy("caching", {"ttl": 60, "shared": True}),
    )
    processed.mesh.gateway.publish(
        GatewayPolicy.of(
            services=[ManagedService("orders", (), 1000, front=front, policies=policies)],
            clients=[Client("app-a", hash_secret(SECRETS["app-a"]))],
            contracts=[Contract("app-a", "orders", PLENTY)],
        )
    )
    says = {"access-control-allow-origin": "*", "access-control-allow-credentials": "true"}
    for kept, page in [("miss", pages[0]), ("hit", pages[1]), ("hit", "https://c.example"), ("hit", "")]:
        shown = as_client("app-a") | {"x-answers": json.dumps(says)} | ({"origin": page} if page else {})
        reply = processed.mesh.ask("/orders/v1/kept", shown)
        assert (reply.status, reply.headers["x-tulle-cache"], reply.headers["vary"]) == (200, kept, "origin")
        told = {name: said for name, said in reply.headers.items() if name.startswith("access-control-")}
        may = {"access-control-allow-origin": page, "access-control-expose-headers": "x-tulle-cache"}
        assert told == (may if page in pages else {})


def test_what_is_mirrored_behind_the_processor_tells_no_more_than_elsewhere(
    processed: Processed, outside: Service
) -> None:
    with Service("another") as other:
        front = Front("v1", "/orders/v1", external=External((Upstream(outside.url()),)))
        policies = (Policy("json-limits", {"max_depth": 5}), Policy("mirror", {"to": other.url()}))
        processed.mesh.gateway.publish(
            GatewayPolicy.of(
                services=[ManagedService("orders", (), 1000, front=front, policies=policies)],
                clients=[Client("app-a", hash_secret(SECRETS["app-a"]))],
                contracts=[Contract("app-a", "orders", PLENTY)],
            )
        )
        shown = {**as_client("app-a"), "cookie": "a=b", "content-type": "application/json"}
        reply = processed.mesh.ask("/orders/v1/items", shown, method="POST", body=b"[]")
        assert json.loads(reply.body)["headers"]["cookie"] == "a=b"
        wait_until(lambda: bool(other.heads), "what is mirrored")
        (told,) = other.heads
    assert told.pop("x-request-id") == reply.headers["x-request-id"]
    usual = {"accept-encoding": "identity", "content-length": "2", "content-type": "application/json"}
    assert told == {"host": f"127.0.0.1:{other.port}"} | usual
