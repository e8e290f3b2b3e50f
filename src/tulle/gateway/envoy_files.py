"""Renders a GatewayPolicy to the files the real Envoy reads.

Pure: a policy and a Door in, plain JSON values out. The way of a request through the filters is in
`envoy_listener`; how credentials travel is told in docs/decisions/gateway-credentials.md. Knows nothing of the
file system, of processes and of the database.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

import msgspec

from tulle.gateway.envoy_access import (
    MOST_CALLERS,
    buckets,
    counted_by,
    token_checks,
)
from tulle.gateway.envoy_clusters import all_clusters
from tulle.gateway.envoy_inner import (
    chains_of,
    inner_listener,
)
from tulle.gateway.envoy_keys import RUNTIME as FETCHED
from tulle.gateway.envoy_listener import listeners
from tulle.gateway.envoy_overload import overload
from tulle.gateway.envoy_pause import pause_listener
from tulle.gateway.envoy_policies import (
    policy_buckets,
    policy_counted_by,
)
from tulle.gateway.envoy_routes import behind, routes
from tulle.gateway.envoy_spikes import spikes
from tulle.gateway.envoy_tls import RUNTIME
from tulle.gateway.envoy_tracing import SENDING, collector
from tulle.gateway.envoy_values import (
    ADMIN_SOCKET,
    AUTH,
    CLIENT_HEADER,
    JWT,
    LIMITS,
    ROUTE_CONFIGURATION,
    ROUTES,
    SECOND_NAME,
    SPIKES,
    Door,
    Json,
    typed,
    watched,
)
from tulle.gateway.policy import (
    GatewayPolicy,
)
from tulle.gateway.processing.plan import FILE as PLAN
from tulle.gateway.processing.plan import resources
from tulle.gateway.signing import Signing

NONE: Final[Mapping[str, Signing]] = {}
MOST_FORMER: Final = 1000  # sizes of buckets, which are few
# Files in the order they must be published in: a client gets a limit before it gets a contract, a service gets
# its workers and its steps before it gets a route. What takes something away opens no hole in this order either.
FILES: Final = ("limits", "spikes", "auth", "clusters", "jwt", PLAN, "inner", "routes", "listeners")


def render(
    policy: GatewayPolicy,
    door: Door,
    names: Iterable[str] = FILES,
    signings: Mapping[str, Signing] = NONE,
) -> Mapping[str, Json]:
    """The watched files by name (see FILES); each carries the digest of its own content as version.

    Those of routes are written as bytes, by `envoy_route_files`; what they say is the same.
    """
    resources_of = _resources_of(policy, door, signings)
    return {name: versioned(resources_of[name]()) for name in names}


def written(
    policy: GatewayPolicy, door: Door, names: Iterable[str], signings: Mapping[str, Signing] = NONE
) -> dict[str, bytes]:
    """The same as the bytes of JSON."""
    resources_of = _resources_of(policy, door, signings)
    return {name: versioned_bytes(resources_of[name]()) for name in names}


def _resources_of(
    policy: GatewayPolicy, door: Door, signings: Mapping[str, Signing]
) -> Mapping[str, Callable[[], Sequence[Json]]]:
    return {
        "limits": lambda: [_extension(LIMITS, limits(policy))],
        "spikes": lambda: [_extension(SPIKES, spikes(policy.services))],
        "auth": lambda: [_extension(AUTH, credentials(policy))],
        "clusters": lambda: [
            typed("envoy.config.cluster.v3.Cluster", **c) for c in all_clusters(policy, door, signings)
        ],
        "jwt": lambda: [_extension(JWT, token_checks(policy.services))],
        PLAN: lambda: resources(chains_of(policy)),
        "inner": lambda: [typed(ROUTE_CONFIGURATION, **behind(policy))],
        "routes": lambda: [typed(ROUTE_CONFIGURATION, **routes(policy, door.processors))],
        "listeners": lambda: [
            typed("envoy.config.listener.v3.Listener", **one)
            for one in (*listeners(door), inner_listener(traced=door.traces is not None), pause_listener())
        ],
    }


def bootstrap(door: Door) -> Json:
    """The file Envoy starts with: its admin socket, and where the watched files are."""
    made: Json = {
        "node": {"id": "gateway", "cluster": "gateway"},
        "admin": {"address": {"pipe": {"path": ADMIN_SOCKET, "mode": 0o600}}},
        "dynamic_resources": {"lds_config": watched("listeners"), "cds_config": watched("clusters")},
        # paths of operations as an expression are longer than Envoy allows without a word; they stay linear in time
        "layered_runtime": {
            "layers": [
                {
                    "name": "static",
                    "static_layer": {
                        "re2.max_program_size.error_level": 65_536,
                        **RUNTIME,
                        **FETCHED,
                        **SENDING,
                    },
                }
            ]
        },
        "overload_manager": overload(door.most_connections, door.most_bytes),
    }
    if clusters := collector(door.traces):
        made["static_resources"] = {"clusters": clusters}
    return made


def static_twin(policy: GatewayPolicy, door: Door, signings: Mapping[str, Signing] = NONE) -> Json:
    """One file with everything in place, for `--mode validate`, which does not read watched files."""
    twin = bootstrap(door)
    del twin["dynamic_resources"]
    twin["static_resources"] = {
        "listeners": [
            *listeners(
                door,
                {
                    AUTH: credentials(policy),
                    JWT: token_checks(policy.services),
                    LIMITS: limits(policy),
                    SPIKES: spikes(policy.services),
                    ROUTES: routes(policy, door.processors),
                },
            ),
            inner_listener(behind(policy), traced=door.traces is not None),
            pause_listener(),
        ],
        "clusters": [*all_clusters(policy, door, signings), *collector(door.traces)],
    }
    return twin


# ── the watched files ────────────────────────────────────────────────────────────────────────────────────


def credentials(policy: GatewayPolicy) -> Json:
    """Who may sign in: an htpasswd with a line `client_id:{SHA}hash` a secret; secrets are never in it."""
    # Envoy refuses an empty list. This line admits nobody: its hash is no SHA-1, and a space cannot be in an id.
    lines = [
        f"{name}:{{SHA}}{hashed}"
        for c in policy.clients
        for name, hashed in ((c.client_id, c.secret_hash), (c.client_id + SECOND_NAME, c.second_hash))
        if hashed
    ] or [" nobody:{SHA}" + "=" * 28]
    return typed(
        "envoy.extensions.filters.http.basic_auth.v3.BasicAuth",
        users={"inline_string": "\n".join(lines) + "\n"},
        forward_username_header=CLIENT_HEADER,
    )


def limits(policy: GatewayPolicy) -> Json:
    """The token buckets, of contracts and other callers; in a file of its own as reloading it fills all of them."""
    held = {*policy.offered, *(one.windows for one in policy.contracts)}
    return typed(
        "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
        stat_prefix="contract",
        # Only for a request without a bucket of its own, which contracts rule out; small, so that nobody gains.
        token_bucket={"max_tokens": 1, "tokens_per_fill": 1, "fill_interval": "0.05s"},
        always_consume_default_token_bucket=False,
        filter_enabled=_always("limits.enabled"),
        filter_enforced=_always("limits.enforced"),
        enable_x_ratelimit_headers="DRAFT_VERSION_03",
        rate_limits=[
            {"actions": actions}
            for actions in (
                *counted_by(policy.services, held),
                *policy_counted_by(policy.services),
            )
        ],
        max_dynamic_descriptors=MOST_CALLERS,
        descriptors=[
            *buckets(policy.services, held),
            *policy_buckets(policy.services),
        ],
    )


def with_former_limits(wanted: bytes, former: bytes) -> bytes:
    """The file of limits with those that it has now and shall no longer have.

    A change of it fills all buckets, and routes that are still in force may count by them: so nothing is taken out,
    until there are too many.
    """
    document, before = msgspec.json.decode(wanted), msgspec.json.decode(former)
    new, old = document["resources"][0]["typed_config"], before["resources"][0]["typed_config"]
    kept = ("rate_limits", "descriptors")
    # What another version of this code wrote may count otherwise.
    is_alike = all(old.get(name) == said for name, said in new.items() if name not in kept)
    if not is_alike or len(old["descriptors"]) > MOST_FORMER:
        return wanted
    for name in kept:
        new[name] = [*old[name], *(one for one in new[name] if one not in old[name])]
    return msgspec.json.encode(versioned(document["resources"]))


# ── small parts ──────────────────────────────────────────────────────────────────────────────────────────


def _extension(name: str, content: Json) -> Json:
    return typed("envoy.config.core.v3.TypedExtensionConfig", name=name, typed_config=content)


def _always(runtime_key: str) -> Json:
    return {"default_value": {"numerator": 100, "denominator": "HUNDRED"}, "runtime_key": runtime_key}


def versioned(content: Sequence[Json]) -> Json:
    """A watched file: the resources, and the digest of them as its version."""
    return {"version_info": _version(msgspec.json.encode(content)), "resources": list(content)}


def versioned_bytes(content: Sequence[Json]) -> bytes:
    """The same as it is written; the resources, which may be many, are put into words once."""
    resources = msgspec.json.encode(content)
    return b'{"version_info":"' + _version(resources).encode() + b'","resources":' + resources + b"}"


def _version(resources: bytes) -> str:
    return hashlib.sha256(resources).hexdigest()[:16]


def digest_of(*parts: str) -> str:
    """A short name for the contents of all `parts` together."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
