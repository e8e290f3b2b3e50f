"""Spike control in Envoy's words: one chain of filters for all services, each of which has its buckets in it.

A request passes: is it above the limit? → may it wait? → it waits → is it above the limit still? In a file of its own,
since a change of it fills all of its buckets, and in one place for all routes of a service, which share them. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from tulle.gateway.envoy_policies import spikes_of
from tulle.gateway.envoy_values import Json, typed
from tulle.gateway.policies.kind import Spike
from tulle.gateway.policy import ManagedService

_DELAY: Final = "x-envoy-fault-delay-request"  # taken from callers before anything reads a header
_FULL: Final = "x-tulle-no-wait"
_FILTERS: Final = "envoy.extensions.filters.http"


def spikes(services: Sequence[ManagedService]) -> Json:
    """The chain, off but for routes whose policies turn it on."""
    known = [spike for service in services for spike in spikes_of(service)]
    waiting = [spike for spike in known if spike.queue]
    above = {"key": "above", "value": "1"}
    is_above = {
        "header_value_match": {
            "descriptor_key": "above",
            "descriptor_value": "1",
            "headers": [{"name": _DELAY, "present_match": True}],
        }
    }
    wait = typed(
        f"{_FILTERS}.fault.v3.HTTPFault",
        delay={"header_delay": {}, "percentage": {"numerator": 100, "denominator": "HUNDRED"}},
        headers=[{"name": _FULL, "present_match": True, "invert_match": True}],
    )
    tidy = typed(
        f"{_FILTERS}.header_mutation.v3.HeaderMutation",
        mutations={"request_mutations": [{"remove": _DELAY}, {"remove": _FULL}]},
    )
    marked = _marking(_DELAY, "%METADATA(ROUTE:tulle:spike_delay)%")
    filters = [
        ("above", _limit("spike_above", [_of_route()], [_bucket(one) for one in waiting], **marked)),
        (
            "full",
            _limit(
                "spike_full",
                [_of_route(), is_above],
                [_bucket(one, one.queue, one.delay_ms, above) for one in waiting],
                **_marking(_FULL, "1"),
            ),
        ),
        ("wait", wait),
        ("tidy", tidy),
        ("limit", _limit("spike", [_of_route()], [_bucket(one) for one in known], **_REFUSING)),
    ]
    chain = {"filters": [{"name": name, "typed_config": config} for name, config in filters]}
    return typed(f"{_FILTERS}.filter_chain.v3.FilterChainConfig", default_filter_chain=chain)


_REFUSING: Final[Json] = {
    "filter_enforced": {"default_value": {"numerator": 100}, "runtime_key": "spikes.enforced"},
    "response_headers_to_add": [{"header": {"key": "retry-after", "value": "1"}}],
}


def _marking(header: str, value: str) -> Json:
    """Nothing is refused: the request goes on with a mark."""
    mark = {"header": {"key": header, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
    return {"request_headers_to_add_when_not_enforced": [mark]}


def _limit(stat_prefix: str, actions: list[Json], descriptors: list[Json], **more: Any) -> Json:
    return typed(
        f"{_FILTERS}.local_ratelimit.v3.LocalRateLimit",
        stat_prefix=stat_prefix,
        # of requests that this is not asked of
        token_bucket={
            "max_tokens": 4_000_000_000,
            "tokens_per_fill": 4_000_000_000,
            "fill_interval": "0.05s",
        },
        always_consume_default_token_bucket=False,
        filter_enabled={"default_value": {"numerator": 100}, "runtime_key": "spikes.enabled"},
        rate_limits=[{"actions": actions}],
        descriptors=descriptors,
        **more,
    )


def _of_route() -> Json:
    about = {"key": "tulle", "path": [{"key": "spike"}]}
    return {"metadata": {"descriptor_key": "spike", "metadata_key": about, "source": "ROUTE_ENTRY"}}


def _bucket(spike: Spike, requests: int = 0, period_ms: int = 0, *entries: Json) -> Json:
    requests, period_ms = requests or spike.limit.requests, period_ms or spike.limit.period_ms
    return {
        "entries": [{"key": "spike", "value": spike.name}, *entries],
        "token_bucket": {
            "max_tokens": requests,
            "tokens_per_fill": requests,
            "fill_interval": f"{period_ms / 1000:.3f}s",
        },
    }
