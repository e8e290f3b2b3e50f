"""The filter by which Envoy asks the processor who calls, before it counts the request and sends it on.

The head of the request alone goes there, and the caller's name comes back. Where the processor does not answer nobody
is let in. Pure. Knows nothing of how callers are told.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from tulle.gateway.envoy_inner import check_chain, patience_of, processor_of
from tulle.gateway.envoy_policies import ServicePart, chain_of_filters
from tulle.gateway.envoy_values import (
    ADDRESS_HEADER,
    CLAIMS_HEADER,
    CLIENT_HEADER,
    PROCESS_HEADER,
    Json,
    typed,
)
from tulle.gateway.policy import ManagedService
from tulle.gateway.processing.plan import StepPlan

_MOST_TRIES: Final = 8
_FIRST_PAUSE: Final = 0.025  # seconds; each next one may be twice as long
PATIENCE: Final = 35  # seconds; longer than any step may take to find out
_TOLD: Final = ("www-authenticate", "retry-after", "content-type", "x-tulle-error")


def asking(service: ManagedService, part: ServicePart, step: StepPlan, processors: int) -> Json:
    """What a route has for the place of checks: the processor is asked by this step."""
    known = [CLIENT_HEADER, *([CLAIMS_HEADER] if part.steps else [])]
    again = "connect-failure,refused-stream,reset-before-request"
    check = typed(
        "envoy.extensions.filters.http.ext_authz.v3.ExtAuthz",
        transport_api_version="V3",
        http_service={
            "server_uri": {
                "uri": "http://processor",
                "cluster": processor_of(service.path, processors),
                "timeout": f"{PATIENCE}s",
            },
            "authorization_request": {
                "headers_to_add": [
                    {"key": PROCESS_HEADER, "value": check_chain(service, step).key},
                    {"key": ADDRESS_HEADER, "value": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"},
                ]
            },
            "authorization_response": {
                "allowed_upstream_headers": _names(known),
                "allowed_client_headers": _names(_TOLD),
            },
            # While the processor is started again what it never got waits here, for some three seconds, or less where
            # a request has less: who is not let in is told so, and not that a service took too long. The longest pause
            # is also how long Envoy lets each try take, so it is no shorter than that may be.
            "retry_policy": {
                "retry_on": again,
                "num_retries": tries_within(patience_of(service, part)),
                "retry_back_off": {"base_interval": f"{_FIRST_PAUSE}s", "max_interval": f"{PATIENCE}s"},
            },
        },
        allowed_headers=_names(["authorization", "x-request-id", "traceparent"]),
        failure_mode_allow=False,
        status_on_error={"code": "ServiceUnavailable"},
    )
    return chain_of_filters([{"name": "check", "typed_config": check}])


def tries_within(seconds: float) -> int:
    """How many pauses there are within so many seconds, however long each of them happens to be."""
    return min(_MOST_TRIES, max(1, int(math.log2(seconds / _FIRST_PAUSE + 1))))


def _names(names: Sequence[str]) -> Json:
    return {"patterns": [{"exact": name, "ignore_case": True} for name in names]}
