"""By which ways APIs are called where consumers are, in words: as the policies in force say, else as `access` does.

Worked out once for an API and remembered until it, its product, what answers or the mesh's own policies are others.
Knows nothing of who asks.
"""

from __future__ import annotations

import operator
import threading
from collections.abc import Mapping, Sequence

from tulle.catalog.way_words import in_words
from tulle.config import Settings
from tulle.errors import TulleError
from tulle.gateway.apis.instance import Instance, instances
from tulle.gateway.apis.records import RecordedApi
from tulle.gateway.in_force import joined_with, target_among
from tulle.gateway.policies.opening import ways_in
from tulle.serving import generation
from tulle.serving.ways_in import WayIn
from tulle.spec.environment import production
from tulle.spec.product import DataProduct
from tulle.state.db import Database


class CalledBy:
    """The ways into the APIs of one mesh. Safe to share between threads."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._kept: dict[str, tuple[tuple[object, ...], tuple[str, ...]]] = {}  # by API: of what it follows

    def words(
        self, settings: Settings, apis: Sequence[RecordedApi], documents: Mapping[str, DataProduct]
    ) -> Mapping[str, tuple[str, ...]]:
        """Of each of some APIs, by name; `documents` are the products. What cannot be read is as `access` says."""
        product_of: Mapping[str, str] = {}
        if settings.policies:  # which may be for what is behind an API
            product_of = {one.service: one.product for one in generation.everywhere(self._database)}
        with self._lock:
            kept = dict(self._kept)
        found: dict[str, tuple[tuple[object, ...], tuple[str, ...]]] = {}
        place = {production(settings).name: ""}
        for api in apis:
            state: tuple[object, ...] = (api, settings)
            if settings.policies:
                targets = (one.target.service for one in instances([api], place))
                behind = (documents.get(product_of.get(name, "")) for name in targets)
                state = (*state, documents.get(api.declared.product), *behind)
            known = kept.get(api.name)
            if known is None or len(known[0]) != len(state) or not all(map(operator.is_, known[0], state)):
                ways = (
                    way
                    for one in instances([api], place)
                    for way in _ways(settings, one, documents, product_of)
                )
                known = (state, in_words(tuple(dict.fromkeys(ways))))
                found[api.name] = known
            kept[api.name] = known
        with self._lock:
            self._kept |= found
        return {api.name: kept[api.name][1] for api in apis}


def _ways(
    settings: Settings, one: Instance, documents: Mapping[str, DataProduct], product_of: Mapping[str, str]
) -> tuple[WayIn, ...]:
    try:
        return joined_with(settings, one, lambda: target_among(one, documents, product_of)).ways.all()
    except TulleError:  # which the gateway tells as a fault
        return ways_in((), one.version.access).all()
