"""`ip-allow` and `ip-deny`: from which addresses a service may be called.

The address is that of the connection, or what a trusted proxy says (`gateway.envoy_origin`): what a caller says of
itself in headers is not believed.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Any, Final

from tulle.gateway.envoy_values import Json, typed
from tulle.gateway.policies.kind import Kind, Parts, Refusal, Registry, Settings, Spot, Unfit

_MATCHED: Final = "address"


@dataclass(frozen=True, slots=True)
class Addresses:
    """Networks, each as an address and how many of its bits count."""

    networks: tuple[tuple[str, int], ...]


_PROPERTIES: Final[Json] = {
    "addresses": {
        "type": "array",
        "minItems": 1,
        "maxItems": 1000,
        "items": {"type": "string", "x-example": "10.0.0.0/8"},
        "description": "addresses and networks, such as 192.0.2.7, 10.0.0.0/8 or 2001:db8::/32",
    }
}


def _read(settings: Settings) -> Addresses:
    found = []
    for number, text in enumerate(settings["addresses"]):
        try:
            network = ipaddress.ip_network(text)
        except ValueError as exc:
            hint = "write 192.0.2.7, or a network such as 10.0.0.0/8"
            if "host bits" in str(exc):
                hint = f"the network of it is {ipaddress.ip_network(text, strict=False)}"
            raise Unfit(f"'{text}' is no address or network", "addresses", number, hint=hint) from None
        found.append((str(network.network_address), network.prefixlen))
    return Addresses(tuple(found))


def _principal(addresses: Addresses) -> Json:
    ranges = [
        {"remote_ip": {"address_prefix": prefix, "prefix_len": bits}} for prefix, bits in addresses.networks
    ]
    return {"or_ids": {"ids": ranges}}


def _denying(principal: Json, kind: str, spot: Spot) -> Parts:
    rule = {"permissions": [{"any": True}], "principals": [principal]}
    config = typed(
        "envoy.extensions.filters.http.rbac.v3.RBAC",
        rules={"action": "DENY", "policies": {_MATCHED: rule}},
    )
    return Parts(filters=[{"name": spot.name_of(kind), "typed_config": config}])


def _deny(addresses: Addresses, spot: Spot) -> Parts:
    return _denying(_principal(addresses), "ip-deny", spot)


def _allow(addresses: Addresses, spot: Spot) -> Parts:
    return _denying({"not_id": _principal(addresses)}, "ip-allow", spot)


_REFUSED: Final = Refusal(
    f"response.code_details == 'rbac_access_denied_matched_policy[{_MATCHED}]'",
    403,
    "AddressNotAllowed",
    "The service may not be called from this address",
    "Its owner says from where it may be called",
)


def register(registry: Registry) -> None:
    """Make both kinds known."""
    more: dict[str, Any] = {"properties": _PROPERTIES, "required": ("addresses",), "phase": "before"}
    registry.add(
        Kind(
            "ip-allow",
            "Only callers from these addresses pass.",
            read=_read,
            render=_allow,
            refusals=(_REFUSED,),
            example="policy: ip-allow\naddresses: [10.0.0.0/8, 192.0.2.7]",
            **more,
        )
    )
    registry.add(
        Kind(
            "ip-deny",
            "Callers from these addresses do not pass.",
            read=_read,
            render=_deny,
            refusals=(_REFUSED,),
            example="policy: ip-deny\naddresses: [203.0.113.0/24]",
            **more,
        )
    )
