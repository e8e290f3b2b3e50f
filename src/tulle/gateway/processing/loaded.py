"""The plan in force: read when its file is replaced, and only where all of it can be carried out.

A plan that is damaged or cannot be carried out is refused and told; the last good one stays. Chains that left the plan
are kept for a while, for requests whose route still had them. Knows nothing of requests.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from tulle.errors import Invalid
from tulle.gateway.processing import kinds, plan
from tulle.gateway.processing.plan import ChainPlan
from tulle.gateway.processing.step import Chain

LEAVING_SECONDS: Final = 60.0  # longer than Envoy takes to have its new routes everywhere
_log = logging.getLogger("tulle.processing")
Mark = tuple[int, int, int]


class Loaded:
    """The chains by key. For one thread."""

    def __init__(
        self, file: Path, stores: kinds.Stores, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._file = file
        self._stores = stores
        self._clock = clock
        self._mark: Mark | None = None
        self._chains: dict[bytes, Chain] = {}
        self._leaving: dict[bytes, float] = {}  # until when
        self.version = ""
        self.refused = 0
        self.problem = ""

    def chain(self, key: bytes) -> Chain | None:
        """The steps of a key, None when it is not known."""
        return self._chains.get(key)

    def look(self) -> None:
        """Read the plan if there is another one."""
        mark = self._marked()
        if mark is not None and mark != self._mark:
            self._mark = mark
            self._read()
        if self._leaving:
            self._let_go()

    def _read(self) -> None:
        try:
            version, chains = plan.read(self._file.read_bytes())
            if version != self.version:
                self._take(chains)
        except (Invalid, OSError) as exc:
            self.refused += 1
            self.problem = exc.message if isinstance(exc, Invalid) else str(exc)
            _log.error("the new plan is refused, the last good one stays: %s", self.problem)
            return
        self.version, self.problem = version, ""

    def _take(self, chains: Mapping[str, ChainPlan]) -> None:
        made: dict[bytes, Chain] = {}
        for key, one in chains.items():
            name = key.encode()
            known = self._chains.get(name)
            # Its steps are the same, by the digest in the key: what they hold stays.
            made[name] = (
                replace(known, tiers=one.tiers, windows=one.windows)
                if known is not None
                else kinds.chain_of(one, self._stores)
            )
        until = self._clock() + LEAVING_SECONDS
        for name in self._chains.keys() - made.keys():
            self._leaving.setdefault(name, until)
            made[name] = self._chains[name]
        for key in chains:
            self._leaving.pop(key.encode(), None)
        self._chains = made

    def _let_go(self) -> None:
        at = self._clock()
        for name in [name for name, until in self._leaving.items() if until <= at]:
            del self._leaving[name]
            for step in self._chains.pop(name).steps:
                step.close()

    def _marked(self) -> Mark | None:
        try:
            stat = self._file.stat()
        except OSError:
            return None
        return stat.st_mtime_ns, stat.st_ino, stat.st_size

    def close(self) -> None:
        """End what the steps hold."""
        for chain in self._chains.values():
            for step in chain.steps:
                step.close()
