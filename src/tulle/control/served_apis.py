"""The instances of APIs as the gateway is to have them now, made anew only when anything they depend on is another.

It is asked several times a second, and making a thousand of them takes a good part of that. Knows nothing of who
publishes them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import is_

from tulle.config import Settings
from tulle.control.workspace import Workspace
from tulle.errors import TulleError
from tulle.gateway.apis.instance import instances, managed_instances
from tulle.gateway.apis.records import Followed, RecordedApi
from tulle.gateway.policy import ManagedService
from tulle.gateway.publishing import Unmade
from tulle.spec.environment import places

Place = tuple[str, str]  # an API with its version, and an environment
Joined = Callable[[ManagedService, str, Sequence[str]], ManagedService]  # with its product and tags


class ServedApis:
    """One a switchboard; not for several threads at once."""

    def __init__(self, workspace: Workspace) -> None:
        self._settings = workspace.settings
        self._apis = Followed(workspace.database)
        self._of: (
            tuple[Sequence[RecordedApi], Sequence[ManagedService], Mapping[str, str], Sequence[object]] | None
        ) = None
        self._made: list[ManagedService] = []
        self._unmade: dict[Place, Unmade] = {}

    def take_up(self, settings: Settings) -> None:
        """Make all anew by other settings of the mesh."""
        self._settings, self._of = settings, None

    def look(
        self,
        deployed: Sequence[ManagedService],
        owners: Mapping[str, str],
        joined: Joined,
        stamp: Sequence[object],
    ) -> tuple[Sequence[ManagedService], Mapping[Place, Unmade]]:
        """The instances with what answers each of `deployed`, and those of which none can be made.

        `owners` are the products of the services, by name. `joined` adds what the mesh has for many; `stamp` has
        another object when that is.
        """
        apis = self._apis.look()
        before = self._of
        is_same = before is not None and before[0] is apis and all(map(is_, before[3], stamp))
        if not is_same or before is None or before[1] != deployed or before[2] != owners:
            self._make(apis, deployed, owners, joined)
            self._of = apis, list(deployed), owners, stamp
        return self._made, self._unmade

    def declared(self) -> Mapping[str, tuple[str, Sequence[str]]]:
        """The products and tags of the APIs as they are declared now, by name."""
        return {api.name: (api.declared.product, api.declared.tags) for api in self._apis.look()}

    def _make(
        self,
        apis: Sequence[RecordedApi],
        deployed: Sequence[ManagedService],
        owners: Mapping[str, str],
        joined: Joined,
    ) -> None:
        declared = {api.name: api.declared for api in apis}
        self._made, self._unmade = [], {}
        for one in managed_instances(
            list(instances(apis, places(self._settings))),
            {service.path: service for service in deployed},
            owners,
            largest_request=self._settings.max_request_bytes,
            usual_limit=self._settings.default_rate_limit,
        ):
            said = declared[one.name]
            try:
                self._made.append(joined(one, said.product, said.tags))
            except TulleError as exc:
                self._unmade[one.known_as, one.environment] = Unmade(exc.message, one.stopped, exc.hint or "")
