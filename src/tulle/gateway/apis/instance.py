"""The instances of APIs as the gateway knows them: each version in each environment, with what answers it now. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tulle.errors import TulleError
from tulle.gateway.apis.declared import ApiVersion, Target
from tulle.gateway.apis.own_policies import SetByHand
from tulle.gateway.apis.records import Binding, Life, RecordedApi
from tulle.gateway.front import Front
from tulle.gateway.policies.listed import policies_in, written_of
from tulle.gateway.policies.opening import accesses
from tulle.gateway.policy import ManagedService, Notice, path_of
from tulle.serving.access import Access
from tulle.serving.traffic import single


@dataclass(frozen=True, slots=True)
class Instance:
    """A version of an API in one environment, the empty one is that of consumers.

    `path` is its address, with the environment in it; `binding` is there where it was bound by hand,
    `by_hand` where its policies were set so.
    """

    api: RecordedApi
    version: ApiVersion
    life: Life
    environment: str
    place: str  # the environment's name, also that of consumers
    path: str
    hosts: tuple[str, ...]
    declared: Target
    binding: Binding | None
    by_hand: SetByHand | None = None

    @property
    def target(self) -> Target:
        """What is to answer."""
        return self.declared if self.binding is None else self.binding.target

    @property
    def policies(self) -> tuple[Mapping[str, Any], ...]:
        """Its own, as they are written."""
        return self.version.policies if self.by_hand is None else self.by_hand.policies

    @property
    def access(self) -> Access:
        """By which ways it is called, as its own policies say, else as its `access` does.

        Where operations differ, of those that no policy names. What the mesh has for many is not known here.
        """
        try:
            policies = policies_in(written_of(self.policies), self.place)
            return accesses(policies, self.version.access)[-1]
        except TulleError:  # a kind that is not there any more; the gateway tells of it
            return self.version.access

    @property
    def answers(self) -> bool:
        """Whether the gateway knows it: a draft is tried where consumers are not."""
        return self.life.status != "draft" or self.environment != ""


def instances(apis: Sequence[RecordedApi], places: Mapping[str, str]) -> Iterator[Instance]:
    """Every instance; `places` are the environments by name, each as deployments name it (consumers': empty)."""
    consumers = next((name for name, place in places.items() if not place), "")
    for api in apis:
        for version in api.declared.versions:
            life = api.lives.get(version.version, Life())
            for name in dict.fromkeys([consumers, *version.environments]):
                if name in places:
                    yield _instance(api, version, life, name, places[name])


def _instance(api: RecordedApi, version: ApiVersion, life: Life, name: str, place: str) -> Instance:
    said = version.environments.get(name)
    path, hosts, target = version.path, version.hosts, version.target
    if said is not None:
        path = said.path if said.path is not None else path
        hosts = said.hosts if said.hosts is not None else hosts
        target = said.target if said.target is not None else target
    if place:
        path = f"/{place}" if path == "/" else f"/{place}{path}"
    binding = api.bindings.get((version.version, place))
    by_hand = api.policies.get((version.version, place))
    return Instance(api, version, life, place, name, path, hosts, target, binding, by_hand)


def managed_instances(
    found: Sequence[Instance],
    services: Mapping[str, ManagedService],
    owners: Mapping[str, str],
    *,
    largest_request: int,
    usual_limit: str,
) -> Iterator[ManagedService]:
    """What the gateway is told of each that it knows; `services` are those that are deployed, by their paths.

    `owners` are their products, by name: one of another product than the API's answers only where it was bound, which
    takes who may change both.
    """
    paths = {(one.api.name, one.environment, one.version.version): one.path for one in found if one.answers}
    for one in found:
        if one.answers:
            successor = paths.get((one.api.name, one.environment, one.life.successor), "")
            yield _managed(one, services, owners, successor, largest_request, usual_limit)


def _managed(
    one: Instance,
    services: Mapping[str, ManagedService],
    owners: Mapping[str, str],
    successor: str,
    largest: int,
    usual_limit: str,
) -> ManagedService:
    version, target = one.version, one.target
    front = Front(
        version=version.version,
        path=one.path,
        hosts=one.hosts,
        external=target.external,
        only_declared=not version.allows_undeclared,
        operations=() if version.allows_undeclared else tuple((o.method, o.path) for o in version.operations),
        mocks=version.mocks if target.mock else (),
    )
    made = ManagedService(
        one.api.name,
        (),
        largest,
        environment=one.environment,
        front=front,
        access=version.access,
        policies=policies_in(written_of(one.policies), one.place),
        usual_limit=usual_limit,
        may_repeat=False,
        notice=_notice(one.life, successor),
        stopped="retired" if one.life.status == "retired" else None,
        product=one.api.declared.product,
    )
    if target.external is not None:
        return replace(made, timeout_seconds=target.external.timeout_seconds)
    behind = services.get(path_of(target.service, one.environment)) if target.service else None
    if behind is None or behind.stopped is not None:
        return made
    if one.binding is None and owners.get(target.service) != one.api.declared.product:
        return made
    traffic = behind.traffic
    if target.generation:
        if traffic is None or target.generation not in traffic.mounted:
            return made
        traffic = single(target.generation)
    return replace(
        made,
        front=replace(front, serves=behind.path),
        upstreams=behind.upstreams,
        traffic=traffic,
        backends=behind.backends,
        timeout_seconds=behind.timeout_seconds,
        may_repeat=behind.may_repeat,
        max_request_bytes=behind.max_request_bytes,
        most_requests=behind.most_requests,
    )


def _notice(life: Life, successor: str) -> Notice | None:
    if life.deprecated_at is None or life.status not in {"deprecated", "retired"}:
        return None
    return Notice(life.deprecated_at, life.sunset_at, successor)
