"""How an endpoint explains its predictions. A value, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Method = Literal["shapley", "ice"]
LEAST_STEPS, MOST_STEPS = 25, 1000


@dataclass(frozen=True, slots=True)
class Explaining:
    """How an endpoint explains: always or when it is asked, by what, how many features, in how many steps."""

    enabled: bool = False
    method: Method = "shapley"
    features: int = 5
    steps: int = 100
