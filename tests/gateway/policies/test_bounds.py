"""What is just within the bounds of each kind the real Envoy takes: a good list is not refused when it is published."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tulle.gateway.envoy import Gateway
from tulle.gateway.policies.listed import parse_policies, policies_in
from tulle.gateway.policy import GatewayPolicy, ManagedService

ODD_NAME = "!#$%&'*+.^_`|~-x"
LIST: list[dict[str, Any]] = [
    {
        "policy": "cors",
        "origins": ["https://*.a-very-long-name-of-a-host-of-somebody.example.co.uk:65535", "http://a"],
        "methods": ["GET", "PROPFIND"],
        "headers": [ODD_NAME, "*"],
        "expose": ["*"],
        "max_age": 86_400,
    },
    {"policy": "ip-deny", "addresses": ["0.0.0.0/1", "2001:db8::/32", "::1", "192.0.2.7"] * 20},
    {
        "policy": "header-limit",
        "max_count": 5,
        "max_bytes": 32_768,
        "max_header_bytes": 64,
        "max_url_bytes": 64,
    },
    {"policy": "client-id", "query": True},
    {"policy": "api-key", "limit": "1000000000/7d", "header": "x-" + "a" * 60, "query": "a" * 64},
    {
        "policy": "header-injection",
        "request": {ODD_NAME: '100% "quoted" \\ %%REQ(x)% ${client} $ {} ${request_id}'},
        "response": {"x-b": "", "x-c": "%" * 100},
    },
    {"policy": "header-removal", "request": ["x-a-*", ODD_NAME], "response": [ODD_NAME + "*"]},
    {
        "policy": "fault-injection",
        "delay_ms": 1,
        "delay_percent": 0.0001,
        "status": 599,
        "status_percent": 100,
    },
    {"policy": "rate-limit", "limits": ["1/50ms", "1000000000/7d"], "by": "claim:a.b:c-d_e.f"},
    {"policy": "rate-limit", "limits": "1/1s", "by": "header:x_y-z0"},
    {"policy": "spike-control", "limit": "1/50ms", "queue": 10_000, "delay_ms": 30_000},
    {"policy": "timeout", "seconds": 0.05},
    {"policy": "retry", "times": 10, "cases": ["connection", "reset", "unavailable", "error", "limited"]},
    {"policy": "circuit-breaker", "connections": 1, "waiting": 1, "requests": 1, "retries": 1},
    {"policy": "concurrency-limit", "requests": 100_000, "queue": 100_000},
    {"policy": "outlier-ejection", "errors": 1000, "seconds": 0.5, "most_percent": 1},
    {"policy": "mirror", "to": "https://[2001:db8::1]:8443", "percent": 0.0001},
    {"policy": "mirror", "to": "http://a-host.example"},
    {
        "policy": "body-limit",
        "max_bytes": 1 << 30,
        "operations": [{"path": "/a.b~!$&'()*+,=:@-/{x}" + "/y" * 15}],
    },
    {"policy": "message-log", "request": ["a" * 100], "response": ["b.c~d"], "query": ["Q_1"]},
    {"policy": "compression", "forms": ["zstd", "br", "gzip"], "min_bytes": 30, "types": ["a/b+c.d-e"]},
]


@pytest.mark.system
def test_envoy_takes_what_is_just_within_bounds(gateway: Gateway) -> None:
    for listed in (*([one] for one in LIST), _carried_out_together(LIST)):
        policies = policies_in(parse_policies(json.dumps(listed)), "prod")
        service = ManagedService("first", ("run/w/a.sock",), 1 << 30, policies=policies)
        gateway.check(GatewayPolicy.of(services=[service]))


def _carried_out_together(listed: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The list in an order that can be: credentials, then what is free, then limits."""
    last = ("rate-limit", "spike-control", "timeout", "retry", "mirror")
    first = ("cors", "ip-deny", "client-id", "api-key")
    return sorted(listed, key=lambda one: (one["policy"] in last, one["policy"] not in first))
