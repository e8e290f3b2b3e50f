"""The gateway's door for TCP load balancers, in Envoy's words: each connection begins with the PROXY protocol.

A door of its own, since a door either has these words or not: one that guesses takes them of anybody. Envoy reads the
words before it knows who connects, and lets go whoever is no trusted proxy before a byte of a request is read. What is
announced becomes the connection's address, whatever else is said of addresses follows from it. Pure: made of the
callers' door as it is rendered, so that both decide alike.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Final

from tulle.gateway.envoy_origin import ranges
from tulle.gateway.envoy_values import Json, typed

NAME: Final = "proxied"
_LONGEST_WAIT: Final = "10s"  # for the words, and after them for the begin of TLS


def proxied_listener(public: Json, port: int, proxies: Sequence[str]) -> Json:
    """The door at `port`, of the `public` one; `proxies` are the networks that may connect there."""
    made = copy.copy(public)
    made["name"] = NAME
    address = public["address"]["socket_address"]
    made["address"] = {"socket_address": {**address, "port_value": port}}
    kind = "envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol"
    words = {"name": "words", "typed_config": typed(kind, stat_prefix=NAME)}
    made["listener_filters"] = [words, *public.get("listener_filters", ())]
    made["listener_filters_timeout"] = _LONGEST_WAIT
    # The direct source is who connects, the words notwithstanding. Where no chain fits, a connection ends.
    who = {"direct_source_prefix_ranges": ranges(proxies)}
    made["filter_chains"] = [
        {**chain, "filter_chain_match": {**chain.get("filter_chain_match", {}), **who}}
        for chain in public["filter_chains"]
    ]
    return made
