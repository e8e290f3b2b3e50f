"""How the gateway's Envoy fares, by its own word: version, since when it runs, what it holds, whom it serves now.

Knows Envoy's names for these; nothing of policies and of what else runs.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final

from tulle.config import Settings
from tulle.errors import Unavailable
from tulle.gateway.admin import Admin
from tulle.gateway.envoy_values import ADMIN_SOCKET

_ASKED: Final = (
    r"^(server\.(memory_allocated|memory_physical_size|hot_restart_epoch|uptime)"
    r"|http\.[a-z]+\.downstream_(cx|rq)_active|listener_manager\.total_listeners_(active|draining)"
    r"|overload\..*\.active)$"
)


@dataclass(frozen=True, slots=True)
class Vitals:
    """`state` is Envoy's word (LIVE, DRAINING, …); memory in bytes; `overloaded` are the bounds that are reached."""

    version: str
    state: str
    uptime_seconds: int
    listeners: int
    connections: int
    requests: int
    memory_used: int
    memory_held: int
    overloaded: tuple[str, ...]


def vitals(settings: Settings) -> Vitals | None:
    """How the running Envoy fares; None where none answers."""
    admin = Admin(settings.state_folder, ADMIN_SOCKET)
    try:
        about = json.loads(admin.get("/server_info"))
        stats = {name: int(value) for name, value in admin.stats(_ASKED).items() if value.isdigit()}
    except (Unavailable, ValueError):
        return None
    doors = [name.split(".")[1] for name in stats if name.endswith("downstream_rq_active")]
    return Vitals(
        version=_version(str(about.get("version", ""))),
        state=str(about.get("state", "")),
        uptime_seconds=stats.get("server.uptime", 0),
        listeners=stats.get("listener_manager.total_listeners_active", 0),
        connections=sum(stats.get(f"http.{one}.downstream_cx_active", 0) for one in doors if one in _DOORS),
        requests=sum(stats.get(f"http.{one}.downstream_rq_active", 0) for one in doors if one in _DOORS),
        memory_used=stats.get("server.memory_allocated", 0),
        memory_held=stats.get("server.memory_physical_size", 0),
        overloaded=tuple(
            sorted(
                name.split(".")[-2] for name, value in stats.items() if name.startswith("overload") and value
            )
        ),
    )


_DOORS: Final = ("gateway", "plain")  # not the one of the processor, who asks again for somebody


def _version(text: str) -> str:
    """`<commit>/<version>/<state>/<build>/<library>` in short."""
    parts = text.split("/")
    return parts[1] if len(parts) > 1 else text
