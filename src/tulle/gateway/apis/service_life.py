"""Where a deployed service is in its life, in the words of APIs: as one of a single version. Pure.

Knows nothing of versions that are declared, which have their life recorded.
"""

from __future__ import annotations

from tulle.gateway.apis.records import Life, Status
from tulle.serving.generation import Ending


def life_of(ending: Ending | None, at: float) -> Life:
    """Its life at a time, in seconds since the epoch: from its sunset on it answers 410, so it is retired by then."""
    if ending is None:
        return Life("published")
    over = ending.sunset_at is not None and ending.sunset_at <= at
    status: Status = "retired" if over else "deprecated"
    return Life(status, ending.deprecated_at, ending.sunset_at, ending.successor)
