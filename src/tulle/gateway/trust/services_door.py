"""The gateway's door for the services of the mesh: the one for callers outside again, by mutual TLS, on its own socket.

A service calls another one here with credentials of its own, as an application does, so that contracts and limits are
in force; and its credentials hold only together with its certificate, at this door and at no other one. Pure: makes the
door of the one that is rendered already, so that both always decide alike.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Final

from tulle.gateway.envoy_values import CLIENT_HEADER, Json, header_input, typed
from tulle.gateway.trust.identity import Identity
from tulle.gateway.trust.transport import GATEWAY_FILE, accepting, watched_certificate

NAME: Final = "services"
SOCKET: Final = "run/gateway/services.sock"  # relative to .tulle/
LONGEST_SECONDS: Final = 60  # that a connection takes requests; the answer to the next one says that it ends
DRAIN_SECONDS: Final = 5  # after which it ends without one, as soon as nothing is under way on it
IDENTITY: Final = "identity"  # the filter's name
WRONG: Final = "wrong_identity"  # how a refusal is called in Envoy's log


def services_listener(public: Json) -> Json:
    """The door for services, made of the `public` one as it is rendered."""
    made = copy.deepcopy(public)
    made["name"] = NAME
    made["address"] = {"pipe": {"path": SOCKET, "mode": 0o600}}
    inspector = typed("envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector")
    made["listener_filters"] = [{"name": "name", "typed_config": inspector}]  # which name was asked for
    for chain in made["filter_chains"]:
        chain["transport_socket"] = accepting(**watched_certificate(GATEWAY_FILE))
        chain["transport_socket_connect_timeout"] = "5s"
        for one in chain["filters"]:
            manager = one["typed_config"]
            bounds = manager.get("common_http_protocol_options", {})
            # A certificate is looked at when a connection begins. One that no longer holds has to end with its time.
            manager["common_http_protocol_options"] = {
                **bounds,
                "max_connection_duration": f"{LONGEST_SECONDS}s",
            }
            manager["drain_timeout"] = f"{DRAIN_SECONDS}s"
    return made


def identity_filter() -> Json:
    """The filter that holds credentials against certificates; off where no service has both."""
    return {
        "name": IDENTITY,
        "typed_config": typed(
            "envoy.extensions.filters.http.rbac.v3.RBAC", matcher={"on_no_match": _action("DENY")}
        ),
        "disabled": True,
    }


def holders(uris: Sequence[tuple[str, str]]) -> Mapping[str, Json]:
    """What turns the filter on for all routes: of each client id that is a service's, the URI that must come with it.

    Empty where there is none. A hash map of client ids, so it is as quick for a thousand services as for one.
    """
    if not uris:
        return {}
    san = _input("ssl", "UriSan")
    name = _input("network", "ServerName")

    def only(uri: str) -> Json:
        by_uri = {"input": san, "exact_match_map": {"map": {uri: _action("ALLOW")}}}
        among = {"matcher": {"matcher_tree": by_uri, "on_no_match": _action("DENY")}}
        # Without TLS there are no certificates to look into, which ends the matching without a word of who refused.
        by_name = {"input": name, "exact_match_map": {"map": {Identity("").host: among}}}
        return {"matcher": {"matcher_tree": by_name, "on_no_match": _action("DENY")}}

    matcher = {
        "matcher_tree": {
            "input": header_input(CLIENT_HEADER),
            "exact_match_map": {"map": {client: only(uri) for client, uri in sorted(uris)}},
        },
        "on_no_match": _action("ALLOW"),  # whoever else it is, it is not a service that it says it is
    }
    per_route = typed("envoy.extensions.filters.http.rbac.v3.RBACPerRoute", rbac={"matcher": matcher})
    return {IDENTITY: per_route}


def _input(of: str, name: str) -> Json:
    kind = f"envoy.extensions.matching.common_inputs.{of}.v3.{name}Input"
    return {"name": name, "typed_config": typed(kind)}


def _action(action: str) -> Json:
    name = WRONG if action == "DENY" else action
    kind = typed("envoy.config.rbac.v3.Action", name=name, action=action)
    return {"action": {"name": name, "typed_config": kind}}
