"""Traces in Envoy's words: a span a request, sent to a collector by OTLP over HTTP.

The id of a caller's trace is taken over, so that one id leads all the way; whether it is sampled is ours to say, by
that id. Without a collector nothing of a caller's trace is let through. Pure.
"""

from __future__ import annotations

from typing import Final

from tulle.gateway.envoy_values import Json, Traces, host_address, typed

CLUSTER: Final = "traces.collector"  # no service can have it
TRACE_HEADER: Final = "x-tulle-trace"  # the id by itself, which nothing of a refusal can tell otherwise
HEADERS: Final = ("traceparent", "tracestate", "baggage")
_MILLION: Final = 1_000_000
# Spans are sent when there are five, and this often where there are fewer; Envoy's own wait is five seconds.
SENDING: Final = {"tracing.opentelemetry.flush_interval_ms": 1000}


def tracing(traces: Traces | None) -> Json:
    """What the connection manager has of it."""
    if traces is None:
        return {}
    sampler = typed(
        "envoy.extensions.tracers.opentelemetry.samplers.v3.TraceIdRatioBasedSamplerConfig",
        sampling_percentage={"numerator": round(_MILLION / traces.one_in), "denominator": "MILLION"},
    )
    config = typed(
        "envoy.config.trace.v3.OpenTelemetryConfig",
        service_name="tulle-gateway",
        http_service={"http_uri": {"uri": traces.url, "cluster": CLUSTER, "timeout": "2s"}},
        sampler={
            "name": "envoy.tracers.opentelemetry.samplers.trace_id_ratio_based",
            "typed_config": sampler,
        },
    )
    named = {
        "tulle.service": "service",
        "tulle.environment": "environment",
    }
    tags = [
        {
            "tag": tag,
            "metadata": {
                "kind": {"route": {}},
                "metadata_key": {"key": "tulle", "path": [{"key": key}]},
            },
        }
        for tag, key in named.items()
    ]
    return {
        "tracing": {
            "provider": {"name": "envoy.tracers.opentelemetry", "typed_config": config},
            "random_sampling": {"value": 100},  # the sampler says which
            "max_path_tag_length": 200,
            "custom_tags": tags,
        }
    }


def trace_filter(traces: Traces | None) -> list[Json]:
    """What notes the id of a request's trace, first of all: whoever refuses it after that can tell it."""
    if traces is None:
        return []
    noted = {"header": {"key": TRACE_HEADER, "value": "%TRACE_ID%"}}
    said = [{"append": {**noted, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}}]
    kind = "envoy.extensions.filters.http.header_mutation.v3.HeaderMutation"
    return [{"name": "trace", "typed_config": typed(kind, mutations={"request_mutations": said})}]


def collector(traces: Traces | None) -> list[Json]:
    """The cluster of the collector."""
    if traces is None:
        return []
    endpoint = {
        "endpoint": {"address": {"socket_address": {"address": traces.host, "port_value": traces.port}}}
    }
    return [
        {
            "name": CLUSTER,
            "type": "STATIC" if host_address(traces.host) else "STRICT_DNS",
            "connect_timeout": "1s",
            "load_assignment": {"cluster_name": CLUSTER, "endpoints": [{"lb_endpoints": [endpoint]}]},
        }
    ]
