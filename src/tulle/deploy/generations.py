"""Which workers the recorded deployments ask for, and what the gateway is told of each service. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tulle.config import Settings
from tulle.deploy.local import Mounted
from tulle.gateway.policies.listed import policies_in, written_of
from tulle.gateway.policy import MOST_AT_ONCE, Backend, ManagedService, Notice, Stopped
from tulle.serving.generation import Deployment, folder_of
from tulle.serving.needs import Needs
from tulle.serving.traffic import Traffic
from tulle.spec.environment import production


def mounted(settings: Settings, deployments: Iterable[Deployment], at: float) -> list[Mounted]:
    """The generations that shall run at a time, in seconds since the epoch; none of a service that has ended."""
    return [
        one
        for found in deployments
        if not found.has_ended(at)
        for one in mounted_of(settings, found).values()
    ]


def mounted_of(settings: Settings, deployment: Deployment) -> Mapping[str, Mounted]:
    """The generations of one deployment, by version."""
    return {
        version: Mounted(
            deployment.service,
            version,
            folder_of(settings, deployment.service, version),
            deployment.workers_of(version, settings.service_workers),
            deployment.environment,
        )
        for version in deployment.mounted
    }


def stopped_of(deployment: Deployment, at: float) -> Stopped | None:
    """Why a service is to answer nobody at a time, if it is."""
    if deployment.has_ended(at):
        return "retired"
    return None if deployment.enabled else "disabled"


def managed(
    settings: Settings, deployment: Deployment, traffic: Traffic, needs: Needs, at: float
) -> ManagedService:
    """A service as the gateway knows it while `traffic` is in force; `needs` are those of all its generations."""
    known = mounted_of(settings, deployment)
    ending = deployment.ending
    environment = deployment.environment or production(settings).name
    return ManagedService(
        deployment.service,
        (),
        settings.max_request_bytes,
        timeout_seconds=needs.seconds,
        may_repeat=needs.may_repeat,
        access=needs.access,
        policies=policies_in(written_of(needs.policies), environment),
        environment=deployment.environment,
        traffic=traffic,
        backends=tuple(
            Backend(version, tuple(known[version].socket(n) for n in range(known[version].workers)))
            for version in sorted(traffic.mounted)
        ),
        notice=Notice(ending.deprecated_at, ending.sunset_at, ending.successor) if ending else None,
        stopped=stopped_of(deployment, at),
        most_requests=deployment.bounds.most_requests or MOST_AT_ONCE,
        product=deployment.product,
    )
