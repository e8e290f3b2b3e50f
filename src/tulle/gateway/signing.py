"""What the gateway signs in with at an external service, and how Envoy is told: on the last step of the way up.

It is no part of the policy, which is recorded, compared and shown: it is given beside it, and is in the file of
clusters alone, which its owner alone may read. No filter before that step, no copy of a request and no other cluster
meets it. Knows nothing of where it is kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from tulle.gateway.envoy_sign_in import ClientCredentials, token_filter
from tulle.gateway.envoy_values import Json, typed

_PROTOCOL: Final = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_CALLERS: Final = ("authorization", "proxy-authorization")  # what is for us, or for nobody behind us


@dataclass(frozen=True, slots=True)
class Signing:
    """Headers that sign in, or who asks for tokens that do, as it was given at `given_at`; its text never has them."""

    given_at: float
    headers: Mapping[str, str] = field(repr=False)
    tokens: ClientCredentials | None = None


def stamp_of(signings: Mapping[str, Signing]) -> str:
    """What is another text when another one is given, taken or changed; nothing can be read out of it."""
    said = "\0".join(f"{path}\0{one.given_at!r}" for path, one in sorted(signings.items()))
    return hashlib.sha256(said.encode()).hexdigest() if said else ""


def signed(cluster: Json, signing: Signing | None) -> Json:
    """A cluster, with filters of its own, that signs in with each request; without a signing it sends none."""
    if signing is None:
        load = {"cluster_name": cluster["name"], "endpoints": []}
        return {key: said for key, said in cluster.items() if key != "health_checks"} | {
            "load_assignment": load
        }
    mutations: list[Json] = [{"remove": name} for name in _CALLERS]
    mutations += [
        {
            "append": {
                "header": {"key": name.lower(), "value": value.replace("%", "%%")},
                "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
            }
        }
        for name, value in signing.headers.items()
    ]
    sign_in = {
        "name": "sign_in",
        "typed_config": typed(
            "envoy.extensions.filters.http.header_mutation.v3.HeaderMutation",
            mutations={"request_mutations": mutations},
        ),
    }
    options = cluster["typed_extension_protocol_options"]
    tokens = [token_filter(cluster["name"], signing.tokens)] if signing.tokens is not None else []
    filters = [sign_in, *tokens, *options[_PROTOCOL]["http_filters"]]
    return {
        **cluster,
        "typed_extension_protocol_options": {
            **options,
            _PROTOCOL: {**options[_PROTOCOL], "http_filters": filters},
        },
    }
