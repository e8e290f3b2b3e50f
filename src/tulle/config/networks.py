"""Networks of proxies, as mesh.yaml says them: each address one, and none that is every address.

Knows nothing of requests.
"""

from __future__ import annotations

import ipaddress
from typing import Any

from tulle.config.reading import texts
from tulle.errors import Invalid

MOST_NETWORKS = 100  # of proxies: each request is held against all of them


def networks(name: str, value: Any) -> tuple[str, ...]:
    """A list of addresses and networks, each as a network. Invalid."""
    found = texts(name, value)
    if len(found) > MOST_NETWORKS:
        raise Invalid(f"mesh.yaml: '{name}' has {len(found):,} networks, expected at most {MOST_NETWORKS}")
    return tuple(_network(name, one) for one in found)


def _network(name: str, text: str) -> str:
    try:
        if "%" in text:  # a zone of this machine's, which no proxy elsewhere writes
            raise ValueError(text)
        network = ipaddress.ip_network(text)
    except ValueError as exc:
        hint = "write 10.0.0.5, or a network such as 10.0.0.0/28 or 2001:db8::/64"
        if "host bits" in str(exc):
            hint = f"the network of it is {ipaddress.ip_network(text, strict=False)}"
        raise Invalid(
            f"mesh.yaml: '{name}' has '{text[:80]}', which is no address or network", hint=hint
        ) from None
    if network.prefixlen == 0:
        raise Invalid(
            f"mesh.yaml: '{name}' has '{text[:80]}', which is every address: each caller could say any of its own",
            hint="list the addresses of the proxies alone",
        )
    return str(network)
