"""Traces in Envoy's words: a span a request, sent to a collector by OTLP over HTTP.

The id of a caller's trace is taken over, so that one id leads all the way; whether it is sampled is ours to say, by
that id. Without a collector nothing of a caller's trace is let through. What spans tell has the names that
OpenTelemetry gives it (semantic conventions of HTTP), beside those that Envoy gives it by itself. Pure.
"""

from __future__ import annotations

from typing import Final

from tulle.gateway.envoy_values import REQUEST_ID, Json, Traces, callers_path, host_address, typed

CLUSTER: Final = "traces.collector"  # no service can have it
TRACE_HEADER: Final = "x-tulle-trace"  # the id by itself, which nothing of a refusal can tell otherwise
HEADERS: Final = ("traceparent", "tracestate", "baggage")
# Envoy's own tag has the query, in which callers may show credentials: a tag of the same name is in its place.
_PATH: Final = callers_path(200)
_TAGS: Final = {
    "http.url": _PATH,
    "url.path": _PATH,
    "url.scheme": "%REQ(:SCHEME):10%",
    "http.request.method": "%REQ(:METHOD):20%",
    "user_agent.original": "%REQ(USER-AGENT):200%",
    "tulle.request_id": REQUEST_ID,
}
# What a `traceparent` is (W3C): Envoy begins no trace at all where it is something else.
_SAID: Final = f"request.headers['{HEADERS[0]}']"
_WELL_FORMED: Final = " && ".join(
    (
        f"{_SAID}.size() == 55",
        f"{_SAID}.matches('^00-[0-9a-f]{{32}}-')",  # in two, as a longer expression is refused
        f"{_SAID}.matches('-[0-9a-f]{{16}}-[0-9a-f]{{2}}$')",
        *(f"!{_SAID}.contains('-{'0' * length}-')" for length in (16, 32)),
    )
)
_KEPT: Final = "x-tulle-traceparent"
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
    tags: list[Json] = [
        {
            "tag": tag,
            "metadata": {
                "kind": {"route": {}},
                "metadata_key": {"key": "tulle", "path": [{"key": key}]},
            },
        }
        for tag, key in named.items()
    ]
    tags += [{"tag": tag, "value": value} for tag, value in _TAGS.items()]
    tags.append({"tag": "http.response.status_code", "value": "%RESPONSE_CODE%", "value_type": "INT"})
    return {
        "tracing": {
            "provider": {"name": "envoy.tracers.opentelemetry", "typed_config": config},
            "random_sampling": {"value": 100},  # the sampler says which
            "max_path_tag_length": 200,
            "custom_tags": tags,
            "operation": "%REQ(:METHOD):20% %METADATA(ROUTE:tulle:service)%",
        }
    }


def without_malformed(traces: Traces | None) -> list[Json]:
    """What takes a `traceparent` away that is none, before a trace begins: it begins anew then."""
    if traces is None:
        return []

    def written(header: str, value: str) -> Json:
        said = {"header": {"key": header, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
        return {"append": said}

    name = HEADERS[0]
    return [
        written(_KEPT, f"%CEL({_WELL_FORMED} ? {_SAID} : '')%"),  # a header without a value is not written
        {"remove": name},
        written(name, f"%REQ({_KEPT})%"),
        {"remove": _KEPT},
    ]


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
