"""What the page of the gateway shows: how it fares, its certificate, what was published when, and a pin.

Read by whoever sees the portal, so it names no service and no application: some may not be seen. Changes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from tulle.config import Settings
from tulle.errors import TulleError
from tulle.gateway.door_certificate import Shown, shown
from tulle.gateway.mesh_changes import at_next_start, changes
from tulle.gateway.versions.pin import pin_of
from tulle.gateway.versions.recorded import Version, versions
from tulle.gateway.versions.told import Pin
from tulle.gateway.vitals import Vitals, vitals
from tulle.spec.mesh import load_settings
from tulle.state.db import Database, now

SHOWN = 50  # versions


@dataclass(frozen=True, slots=True)
class VersionLine:
    """A version, and the kinds of facts that came before it: how often each."""

    version: Version
    causes: tuple[tuple[str, int], ...]
    is_pinned: bool


@dataclass(frozen=True, slots=True)
class GatewayPage:
    """What the page shows; `certificate_state` is empty without TLS, `is_sound`: mesh.yaml can be read."""

    url: str
    vitals: Vitals | None
    pin: Pin | None
    certificate: Shown | None
    certificate_state: str
    lines: tuple[VersionLine, ...]
    for_reload: tuple[str, ...] = ()  # settings of mesh.yaml that are other ones than those in force
    for_start: tuple[str, ...] = ()
    is_sound: bool = True


class GatewayReader:
    """Answers the page's question about one mesh."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings, self._database = settings, database

    def take_up(self, settings: Settings) -> None:
        """Answer by other settings from now on."""
        self._settings = settings

    def _waiting(self) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
        """The settings of mesh.yaml that wait for a reload, and those for a start; None where it is not sound."""
        try:
            wanted = load_settings(self._settings.folder)
        except TulleError:  # why names what is in the file, which not everybody who sees the page may read
            return None
        reloaded = dict.fromkeys(one.setting for one in changes(self._settings, wanted))
        return tuple(reloaded), at_next_start(self._settings, wanted)

    def page(self) -> GatewayPage:
        """The gateway as it is now."""
        pin, certificate = self.pin(), shown(self._settings)
        waiting = self._waiting()
        for_reload, for_start = waiting or ((), ())
        return GatewayPage(
            url=f"{self._settings.gateway_url}/",
            vitals=vitals(self._settings),
            pin=pin,
            certificate=certificate,
            certificate_state=certificate.state(now()) if certificate is not None else "",
            lines=tuple(_lines(versions(self._database, limit=SHOWN), pin)),
            for_reload=for_reload,
            for_start=for_start,
            is_sound=waiting is not None,
        )

    def pin(self) -> Pin | None:
        """The pin in force, if there is one."""
        return pin_of(self._database)


def _lines(found: Sequence[Version], pin: Pin | None) -> list[VersionLine]:
    return [
        VersionLine(
            one,
            tuple(Counter(cause.kind for cause in one.causes).items()),
            pin is not None and pin.version == one.number,
        )
        for one in found
    ]
