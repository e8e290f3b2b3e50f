"""From which address a request came, in Envoy's words: that of the connection, or what a trusted proxy says.

Only where the connection itself is of a trusted proxy is `x-forwarded-for` read: from its end, where the nearest proxy
wrote, up to the first address that is no trusted proxy's. What a caller wrote before that counts for nothing. Whatever
counts by address, refuses by it or notes it has the address that is found here. The header goes no further; services
of the mesh are told the address as Envoy tells it without proxies. Pure.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Final

from tulle.gateway.envoy_values import Json, typed

HEADER: Final = "x-forwarded-for"
_TOLD: Final = "x-envoy-external-address"
_ALL: Final = "x[-_]forwarded.*"
# All of them but for the one; these expressions cannot look ahead.
_ALL_BUT_IT: Final = "x_forwarded.*|x-forwarded(|[^-].*|-(|f|fo|[^f].*|f[^o].*|fo[^r].*|for.+))"


def detection(proxies: Sequence[str]) -> Json:
    """The connection manager's fields that say how the address is found."""
    # For a loopback caller Envoy would append this machine's outer address.
    if not proxies:
        return {"use_remote_address": True, "skip_xff_append": True}
    kind = "envoy.extensions.http.original_ip_detection.xff.v3.XffConfig"
    said = typed(kind, xff_trusted_cidrs={"cidrs": ranges(proxies)}, skip_xff_append=True)
    return {
        "use_remote_address": False,  # that of the connection is what is left where the extension finds none
        "skip_xff_append": True,
        "original_ip_detection_extensions": [{"name": "trusted_proxies", "typed_config": said}],
    }


def ranges(networks: Sequence[str]) -> list[Json]:
    """Networks as Envoy writes them."""
    read = [ipaddress.ip_network(one) for one in networks]
    return [{"address_prefix": str(one.network_address), "prefix_len": one.prefixlen} for one in read]


def removed_before(proxies: Sequence[str]) -> str:
    """An expression of the headers by which callers tell of their way: removed before anything reads one."""
    return _ALL_BUT_IT if proxies else _ALL


def removed_after(proxies: Sequence[str]) -> list[Json]:
    """The filter that removes what the address was found by: no policy and no service meets it."""
    if not proxies:
        return []
    kind = "envoy.extensions.filters.http.header_mutation.v3.HeaderMutation"
    said = {"header": {"key": _TOLD, "value": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"}}
    tell = {"append": {**said, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}}
    config = typed(kind, mutations={"request_mutations": [{"remove": HEADER}, tell]})
    return [{"name": "origin", "typed_config": config}]
