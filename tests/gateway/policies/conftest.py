"""Policies in force on the real Envoy of the tests of the gateway, for the service `first`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.gateway.conftest import CONTRACTS, SECRETS, WORKERS, Mesh

from tulle.gateway.policies.listed import parse_policies, policies_in
from tulle.gateway.policy import Client, Contract, GatewayPolicy, ManagedService
from tulle.gateway.secret import hash_secret

Put = Callable[..., Mesh]


def policy_of(text: str, environment: str = "", **service: Any) -> GatewayPolicy:
    """The usual policy, with this list (YAML) for `first`."""
    listed = policies_in(parse_policies(text), environment)
    more = {"policies": listed, **service}
    return GatewayPolicy.of(
        services=(
            ManagedService(
                name, sockets, **{"max_request_bytes": 10_000, **(more if name == "first" else {})}
            )
            for name, sockets in WORKERS.items()
        ),
        clients=(Client(name, hash_secret(secret)) for name, secret in SECRETS.items()),
        contracts=(Contract(client, name, limit) for (client, name), limit in CONTRACTS.items()),
    )


@pytest.fixture
def put(mesh: Mesh) -> Put:
    """Put a list of policies in force for `first`, and give the running gateway."""

    def act(text: str, **service: Any) -> Mesh:
        assert mesh.gateway.publish(policy_of(text, **service)).confirmed
        return mesh

    return act
