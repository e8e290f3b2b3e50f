"""The words in which Envoy's configuration is written: names shared by its files, and messages as JSON values.

Pure. Knows nothing of policies.
"""

from __future__ import annotations

import ipaddress
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import certifi

Json = dict[str, Any]
TYPE: Final = "type.googleapis.com/"

API_PREFIX: Final = "/public/api/v1/"
CLIENT_HEADER: Final = "x-tulle-client"
WAY_HEADER: Final = (
    "x-tulle-way"  # by which way the caller came in: a name means something only together with it
)
# For the processor alone, which hands them on to nobody; see `gateway.processing.exchange`.
CLAIMS_HEADER: Final = "x-tulle-claims"
QUOTA_PREFIX: Final = "x-tulle-quota-"  # of headers by which the processor tells of a quota
PROCESS_HEADER: Final = "x-tulle-process"
ADDRESS_HEADER: Final = "x-tulle-address"
FOLDER: Final = "run/gateway"  # relative to .tulle/, where Envoy runs
ADMIN_SOCKET: Final = f"{FOLDER}/admin.sock"
CERTIFICATE: Final = "certificate"  # what callers are shown: a watched file, and the secret in it
INNER_SOCKET: Final = f"{FOLDER}/inner.sock"  # where the processor sends to
ACCESS_LOG: Final = "log/gateway-access.jsonl"  # relative to .tulle/

# The id of a request: Envoy's own, else what its refusal gave it. What is refused as malformed has the id that it came
# with, if it has one: nothing that callers forge is removed by then, so it is cut.
REQUEST_ID: Final = (
    '%COALESCE({"operators": ["STREAM_ID", {"command": "RESP", "param": "x-request-id"}]}):100%'
)


def callers_path(most: int) -> str:
    """A request's path as the caller wrote it, without its query, cut after so many bytes.

    Routes lead to other paths, and what was there first is remembered where they do.
    """
    return (
        '%COALESCE({"operators": [{"command": "DYNAMIC_METADATA", "param": "tulle:path"}, '
        f'{{"command": "PATH", "param": "NQ"}}]}}):{most}%'
    )


# names of the listener and its parts; files, routes and statistics refer to them
LISTENER: Final = "gateway"
ROUTES: Final = "routes"
AS_BYTES: Final = ("inner", "routes")  # watched files that grow with what is routed; the others are JSON
VIRTUAL_HOST: Final = "envoy.config.route.v3.VirtualHost"
ROUTE_CONFIGURATION: Final = "envoy.config.route.v3.RouteConfiguration"
INNER_LISTENER: Final = "inner"
INNER_ROUTES: Final = "inner_routes"
READABLE: Final = "readable"  # by pages of other origins, on where a route answers by itself
NORMALISE: Final = "normalise"
READER: Final = "reader_cookie"
READER_SET: Final = "reader_set"  # on where an external service answers
READER_COOKIE: Final = "tulle-reader-"  # what a portal's cookie begins with, as reader_cookie.lua says
AUTH: Final = "auth"
GUARD: Final = "guard"
SECOND_NAME: Final = (
    "~2"  # behind a client's id: who signs in by its secret of the second form, as credentials.lua says
)
ONE_NAME: Final = "one_name"
REMEMBER: Final = "client"
JWT: Final = "jwt"
UNFIT: Final = "unfit_tokens"
CHECKS: Final = "checks"
CONTRACT: Final = "contract"
LIMITS: Final = "limits"
SPIKES: Final = "spikes"
BODY: Final = "body"
HEADER_LIMIT: Final = "header_limit"
MESSAGES: Final = "message_log"
ELSEWHERE: Final = "credentials_elsewhere"
# three places for the policies of a route: before credentials, between these and limits, after limits
POLICIES: Final = ("policies_before", "policies_known", "policies_after")
_USUAL_TRUST: Final = "/etc/ssl/certs/ca-certificates.crt"
DISPATCH: Final = "dispatch"
DISPATCH_BODY: Final = "dispatch_body"

# by which callers choose a generation, as the members `dispatch` of a body do
FORCED_HEADER: Final = "forced-generation"
KEY_HEADER: Final = "dispatch-key"


@dataclass(frozen=True, slots=True)
class Traces:
    """Where spans go, and that one request of so many has some."""

    url: str
    host: str
    port: int
    one_in: int


@dataclass(frozen=True, slots=True)
class Door:
    """Where the gateway listens and what it bounds; changes need a restart or re-open the listener."""

    host: str = "127.0.0.1"
    port: int = 8000
    access_log: str = ACCESS_LOG
    most_connections: int = 10_000
    most_bytes: int = 2_000_000_000  # of memory, beyond which it takes no more
    traces: Traces | None = None
    mutual_tls: bool = False  # whether there is a door for the mesh's own services beside it
    processors: int = 1
    tls: bool = False  # whether callers meet it by TLS, with the certificate in its file
    hsts_seconds: int = 0
    plain_port: int = 0  # one beside it that is without TLS
    plain_serves: bool = False  # what is there: the same, or the way to TLS
    trusted_proxies: tuple[str, ...] = ()  # networks that are believed whose requests they pass on
    proxied_port: int = (
        0  # a door beside it where each connection begins with the PROXY protocol, of these alone
    )


def processor_socket(number: int) -> str:
    """Where a processor answers, relative to .tulle/."""
    return f"{FOLDER}/processor-{number}.sock"


def typed(kind: str, **content: Any) -> Json:
    """A message of the protobuf type `kind`, as JSON writes it."""
    return {"@type": TYPE + kind, **content}


def file_name(name: str) -> str:
    """What the watched file `name` is called; Envoy reads it by what the name ends in."""
    return f"{name}.pb" if name in AS_BYTES else f"{name}.json"


def watched(name: str) -> Json:
    """Where Envoy finds and watches the file `name`."""
    return {"path_config_source": {"path": f"{FOLDER}/{file_name(name)}"}, "resource_api_version": "V3"}


def header_input(name: str) -> Json:
    """A request header as what a matcher looks at."""
    kind = typed("envoy.type.matcher.v3.HttpRequestHeaderMatchInput", header_name=name)
    return {"name": name, "typed_config": kind}


def trusted() -> str:
    """The file of certificates that an issuer's address is checked with: this machine's, else those we bring."""
    ours = ssl.get_default_verify_paths().cafile  # follows SSL_CERT_FILE
    found = next((one for one in (ours, _USUAL_TRUST) if one and Path(one).is_file()), None)
    return found or certifi.where()


def host_address(host: str) -> bool:
    """Whether a host is an address rather than a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
