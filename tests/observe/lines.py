"""Lines of an access log, as the gateway writes them."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable
from typing import Any

from tulle.gateway.log_line import LineReader, Lines

NOON = 1_800_014_400  # 2027-01-15 12:00:00 UTC


def line(
    at: float = NOON, *, us: int = 1000, path: str = "/public/api/v1/offers/next/predict", **more: Any
) -> bytes:
    """A request that began at `at` and took `us` microseconds."""
    time = dt.datetime.fromtimestamp(at, dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
    said = {
        "access": "contract",
        "bytes_in": 10,
        "bytes_out": 100,
        "client": "app-1",
        "code": 200,
        "details": "via_upstream",
        "duration_ms": us // 1000,
        "duration_us": us,
        "environment": None,
        "flags": None,
        "generation": "v1",
        "method": "POST",
        "path": path,
        "reason": None,
        "request_id": f"r-{at}-{us}",
        "service": "offers",
        "time": time,
        **more,
    }
    return json.dumps(said, separators=(",", ":")).encode()


def as_read(lines: Iterable[bytes]) -> Lines:
    """What lines say, as they are read in one piece."""
    return LineReader().read(b"".join(one + b"\n" for one in lines))
