"""Which requests a service answers, by its endpoints alone: what its worker has routes for. Pure.

Known from a services file, before there is a package. Knows nothing of how anything is answered.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from tulle.serving.feedback import FEEDBACK_PATH
from tulle.serving.kinds import KINDS

_PREDICTS: Final = "predict"


def operations(endpoints: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """Method and path below the service's address of all that can be asked of endpoints, given as name and kind.

    Also what some of them only answer by what their models are or what is logged (effects, feedback). A kind that is
    not known has none.
    """
    found: list[tuple[str, str]] = []
    models = []
    for name, kind in endpoints:
        if kind not in KINDS:
            continue
        actions = KINDS[kind].actions
        if kind == _PREDICTS:
            models.append(name)
            actions = (*actions, *(one.replace(_PREDICTS, f"{_PREDICTS}-effect") for one in actions))
            found.append(("GET", f"/{name}/{_PREDICTS}-simple"))
        found += [("POST", f"/{name}/{action}") for action in actions]
    found += [("GET", "/openapi.json"), ("GET", "/swagger"), ("POST", FEEDBACK_PATH)]
    if models:  # the Open Inference Protocol
        found += [("GET", "/v2"), ("GET", "/v2/health/live"), ("GET", "/v2/health/ready")]
    for name in models:
        for home in (f"/v2/models/{name}", f"/v2/models/{name}/versions/{{version}}"):
            found += [("GET", home), ("GET", f"{home}/ready"), ("POST", f"{home}/infer")]
    return tuple(found)
