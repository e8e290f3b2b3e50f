"""What an Envoy does when there is too much of it: of connections, and of memory. In Envoy's words.

Pure. Refusing somebody early keeps it alive for all others: the kernel ends a process that has taken all memory, and
with it every request that it had.
"""

from __future__ import annotations

from typing import Final

from tulle.gateway.envoy_values import Json, typed

_HEAP: Final = "envoy.resource_monitors.fixed_heap"
# What is done from which part of the memory on.
_STEPS: Final = (
    ("envoy.overload_actions.shrink_heap", 0.90),
    ("envoy.overload_actions.disable_http_keepalive", 0.92),
    ("envoy.overload_actions.stop_accepting_requests", 0.95),
    ("envoy.overload_actions.stop_accepting_connections", 0.98),
)


def most_connections(most: int) -> Json:
    """What refuses further callers when so many are connected."""
    return {
        "resource_monitors": [
            {
                "name": "envoy.resource_monitors.global_downstream_max_connections",
                "typed_config": typed(
                    "envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
                    max_active_downstream_connections=most,
                ),
            }
        ]
    }


def overload(connections: int, memory: int) -> Json:
    """What bounds connections, and memory in bytes."""
    made = most_connections(connections)
    kind = "envoy.extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig"
    heap = {"name": _HEAP, "typed_config": typed(kind, max_heap_size_bytes=memory)}
    return {
        "refresh_interval": "0.25s",
        "resource_monitors": [*made["resource_monitors"], heap],
        "actions": [
            {"name": name, "triggers": [{"name": _HEAP, "threshold": {"value": part}}]}
            for name, part in _STEPS
        ],
    }
