"""The generations that have just left a service, which the gateway knows for a while still.

Knows nothing of why they left.
"""

from __future__ import annotations

from dataclasses import replace

from tulle.gateway.policy import Backend, ManagedService

LEAVING_SECONDS = (
    10.0  # the gateway knows a generation that answers no more: requests may be on their way to it
)

_Place = tuple[str, str]  # service, environment


class Leaving:
    """One a control plane; not safe to call from several threads at once."""

    def __init__(self) -> None:
        self._known: dict[_Place, tuple[Backend, ...]] = {}  # what was published last
        self._left: dict[_Place, dict[str, tuple[Backend, float]]] = {}  # by generation, and until when

    def with_left(self, service: ManagedService, at: float) -> ManagedService:
        """A service with the generations that have just left it; `at` in seconds of a clock that never goes back.

        A request has its way before its body is read. One whose way led to a generation that has left meanwhile is
        answered by it all the same.
        """
        place = (service.name, service.environment)
        mine = {backend.generation for backend in service.backends}
        leaving = self._left.setdefault(place, {})
        for backend in self._known.get(place, ()):
            leaving.setdefault(backend.generation, (backend, at + LEAVING_SECONDS))
        for name, (_, until) in list(leaving.items()):
            if name in mine or until <= at:
                del leaving[name]
        self._known[place] = service.backends
        left = (backend for _, (backend, _) in sorted(leaving.items()))
        return replace(service, backends=(*service.backends, *left))
