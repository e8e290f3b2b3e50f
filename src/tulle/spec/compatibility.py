"""May this product become that one under the version it names? What a product promises about its own changes.

`compatibility: backward` (the default): what breaks those who rely on the product needs a new major version.
`full`: so does what leaves earlier data unreadable for those who rely on the new. `none`: nothing is promised.
Pure.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from tulle.errors import Problem
from tulle.spec.compare import Change
from tulle.spec.product import DataProduct

MODES = ("none", "backward", "full")
DEFAULT_MODE = "backward"
_VERSION = re.compile(r"v?(\d{1,9})(?:\.(\d{1,9}))?(?:\.(\d{1,9}))?(?:[-+].*)?")


def mode_of(product: DataProduct) -> str:
    """The promise a product makes: one of MODES."""
    return _written(product) or DEFAULT_MODE


def _written(product: DataProduct) -> str:
    for component in product.components:
        if component.base == "data-product":
            mode = component.properties.get("compatibility", "")
            return mode if mode in MODES else ""
    return ""


def major(version: str) -> tuple[int, int]:
    """What must grow with a breaking change: the first number; below 1.0 the second one counts too.

    A version that is missing, or is none, comes before all others.
    """
    found = _VERSION.fullmatch(version.strip())
    if not found:
        return (-1, 0)
    first, second = int(found[1]), int(found[2] or 0)
    return (first, second if first == 0 else 0)


def next_major(version: str) -> str:
    """The least version that may break what `version` promised."""
    first, second = major(version)
    if first < 0:
        return "1.0.0"
    return f"0.{second + 1}.0" if first == 0 else f"{first + 1}.0.0"


def refusal(old: DataProduct, new: DataProduct, changes: Sequence[Change]) -> Problem | None:
    """Why `new` may not replace `old`, or None when it may."""
    # A promise that was written holds for the step that takes it back; one nobody wrote can be declined.
    promised = mode_of(old) if _written(old) else mode_of(new)
    if promised == "none" or major(new.version) > major(old.version):
        return None
    broken = [c.sentence for c in changes if c.breaking or (promised == "full" and c.closes_old)]
    if not broken:
        return None
    shown = "; ".join(broken[:3]) + (f"; and {len(broken) - 3} more" if len(broken) > 3 else "")
    stays = f"its version stays {old.version or 'not given'}"
    if new.version != old.version:
        stays = f"its version goes from {old.version or 'not given'} to {new.version or 'not given'} only"
    message = f"product '{new.name}' promises {promised} compatibility, but {shown}; {stays}"
    hint = f"write `version: {next_major(old.version)}` beside its definition, or keep what others rely on"
    if not _written(old):
        hint += "; `compatibility: none` says that nobody may rely on it"
    return Problem(message, new.place, hint)
