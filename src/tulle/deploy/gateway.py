"""The gateway's Envoy as a process that is kept running: how it starts, is taken over, and ends without a lost request.

Knows nothing of what is published to it.
"""

from __future__ import annotations

from tulle.config import Settings
from tulle.deploy.supervise import Drain, Takeover, Wanted
from tulle.gateway.envoy import Gateway
from tulle.gateway.envoy_process import STOP_SECONDS


def wanted(settings: Settings, gateway: Gateway) -> Wanted:
    """The process as it should run now; `Gateway.prepare` or `publish` must have come first."""
    start, process = gateway.command(), gateway.process
    seconds = float(settings.gateway_drain_seconds)

    def done(taken: int) -> bool:
        return process.has_taken_over(taken) and gateway.ready()

    # It ends by itself when its time is over, and is killed if it does not.
    takeover = Takeover(process.asked(), lambda taken: process.command(taken).argv, done, seconds + 5)
    return Wanted(
        name="gateway",
        kind="gateway",
        argv=start.argv,
        cwd=start.cwd,
        env=start.env,
        keeps_environment=False,
        log=settings.log_folder / "gateway.log",
        ready=gateway.ready,
        url=f"{settings.gateway_url}/",
        takeover=takeover if process.can_be_taken_over else None,
        drain=Drain(process.drain, process.is_idle, min(STOP_SECONDS, seconds)),
    )
