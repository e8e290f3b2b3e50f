"""What every write-side function works on: the settings of one mesh and its opened stores.

The settings are a frozen value that is exchanged as a whole when `mesh.yaml` is taken up while the mesh runs. Who keeps
a copy of them is among the `followers`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from tulle.config import Settings
from tulle.control.pace import Pace
from tulle.lake.repository import Lake
from tulle.spec.capability import Registry
from tulle.spec.mesh import MeshSpec, load_mesh
from tulle.spec.remember import Remembered
from tulle.state.db import Database

STEPS_AN_HOUR: Final = 60  # of one person with applications and what these ask for, of which others are told


@dataclass(slots=True)
class Workspace:
    """One mesh, opened."""

    settings: Settings
    database: Database
    lake: Lake
    registry: Registry
    remembered: Remembered = field(default_factory=Remembered, compare=False, repr=False)
    steps: Pace = field(default_factory=lambda: Pace(STEPS_AN_HOUR), compare=False, repr=False)
    followers: list[Callable[[Settings], object]] = field(default_factory=list, compare=False, repr=False)

    def take_up(self, settings: Settings) -> None:
        """Have other settings in force, for everything that works on this mesh from now on."""
        self.settings = settings
        for follow in self.followers:
            follow(settings)

    def spec(self) -> MeshSpec:
        """The mesh as its documents say now. Invalid, with every problem, when they do not hold."""
        return load_mesh(self.settings, self.registry, self.remembered)
