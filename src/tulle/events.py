"""Facts that happened, as frozen values. Slices that may not import each other meet through these.

An event is appended in the same transaction as the change it tells of (`state.log`), so it is there if and
only if the change is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Event:
    """One fact: `kind` is a dotted past-tense verb (`run.finished`), `subject` names what it is about."""

    kind: str
    subject: str
    data: Mapping[str, Any] = field(default_factory=dict)


PRODUCT_APPLIED = "product.applied"
PRODUCT_DESTROYED = "product.destroyed"
RUN_STARTED = "run.started"
RUN_FINISHED = "run.finished"
STEP_STARTED = "step.started"
STEP_FINISHED = "step.finished"
PACKAGE_BUILT = "package.built"
GENERATION_REQUESTED = "generation.requested"
GENERATION_ACTIVATED = "generation.activated"
GENERATION_FAILED = "generation.failed"
GENERATION_WITHDRAWN = "generation.withdrawn"
APPLICATION_REGISTERED = "application.registered"
APPLICATION_ROTATED = "application.rotated"
APPLICATION_REVOKED = "application.revoked"
CONTRACT_CHANGED = "contract.changed"
GATEWAY_PUBLISHED = "gateway.published"
