"""APIs with an external service behind them, through the processor: what it is told, and what passes."""

from __future__ import annotations

from tests.gateway.conftest import SECRETS, as_client, check_error
from tests.gateway.external import Service
from tests.gateway.processing.conftest import PLENTY, Processed

from tulle.gateway.front import External, Front, Upstream
from tulle.gateway.policies.entry import Policy
from tulle.gateway.policy import Client, Contract, GatewayPolicy, ManagedService
from tulle.gateway.secret import hash_secret

STEP = Policy("redaction", {"fields": [{"path": "$.server"}]})


def put(processed: Processed, service: Service, *policies: Policy) -> None:
    front = Front(
        "v1",
        "/orders/v1",
        external=External((Upstream(service.url("/base")),)),
        only_declared=True,
        operations=(("GET", "/items/{id}"),),
    )
    processed.mesh.gateway.publish(
        GatewayPolicy.of(
            services=[ManagedService("orders", (), 10_000, front=front, policies=policies)],
            clients=[Client(name, hash_secret(secret)) for name, secret in SECRETS.items()],
            contracts=[Contract("app-a", "orders", PLENTY)],
        )
    )


def test_an_external_service_is_told_nothing_by_way_of_the_processor(processed: Processed) -> None:
    with Service("secret") as service:
        caller = {**as_client("app-a"), "x-tulle-process": "forged", "x-tulle-token": "forged"}
        seen = []
        for policies in ((), (STEP,)):
            put(processed, service, *policies)
            reply = processed.mesh.ask("/orders/v1/items/7?a=b", caller)
            assert reply.status == 200, reply.body
            seen.append(reply.json())
        straight, through = seen
        assert (straight.pop("server"), "server" in through) == ("secret", False)  # it was redacted
        assert through["target"] == straight["target"] == "/base/items/7?a=b"
        assert through["headers"]["host"] == f"127.0.0.1:{service.port}"
        ours = ("x-tulle", "x-envoy", "x-forwarded", "authorization", "client_")
        assert not [name for name in through["headers"] if name.startswith(ours)]
        check_error(processed.mesh.ask("/orders/v1/items/7", caller, method="PUT"), 405, "MethodNotAllowed")
        check_error(processed.mesh.ask("/orders/v1/thing", caller), 404, "UnknownOperation")
        check_error(processed.mesh.ask("/orders/v1/items/7"), 401, "InvalidClient")
        check_error(processed.mesh.ask("/orders/v1/items/7", as_client("app-b")), 403, "NoContract")
