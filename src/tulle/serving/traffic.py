"""Which generations of a service answer its requests, and in what parts.

A traffic is single (one generation), random (each request by chance, in parts) or sticky (by the hash of the key that
a request is sent with, so that one key always meets the same generation). A shadow gets copies of a part of the
requests, its answers go nowhere but to the log. Preloaded generations run and answer who asks for them by name.
Pure; knows nothing of packages, processes and the gateway.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import xxhash

from tulle.errors import Invalid

Mode = Literal["single", "random", "sticky"]
WHOLE: Final = 10_000  # parts are counted in hundredths of a percent
MOST_MOUNTED: Final = 20  # of one service: each runs processes
_SUM_TOLERANCE: Final = 1e-6


@dataclass(frozen=True, slots=True)
class Share:
    """A generation and how many of 10,000 requests it gets."""

    generation: str
    parts: int


@dataclass(frozen=True, slots=True)
class Traffic:
    """`shares` in the order in which they were given; `shadow` is no part of them."""

    mode: Mode
    shares: tuple[Share, ...]
    shadow: Share | None = None
    preloaded: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what would leave requests without an answer."""
        names = self.mounted
        if len(names) > MOST_MOUNTED:
            raise Invalid(f"{len(names)} generations are to run, at most {MOST_MOUNTED} of a service do")
        if not self.shares or (self.mode == "single") != (len(self.shares) == 1):
            raise Invalid(f"{len(self.shares)} generations are to answer, by the mode '{self.mode}'")
        if sum(share.parts for share in self.shares) != WHOLE or any(s.parts < 1 for s in self.shares):
            told = ", ".join(f"{s.generation}={s.parts / 100:g}%" for s in self.shares)
            raise Invalid(f"the parts of the generations do not make the whole: {told}")
        repeated = next((a for a, b in itertools.pairwise(sorted(self._named)) if a == b), None)
        if repeated is not None:
            raise Invalid(
                f"generation '{repeated}' is named twice",
                hint="what answers is neither its own shadow nor preloaded",
            )
        if self.shadow is not None and not 1 <= self.shadow.parts <= WHOLE:
            raise Invalid(f"the shadow '{self.shadow.generation}' is to get {self.shadow.parts / 100:g}%")

    @property
    def _named(self) -> list[str]:
        shadow = [self.shadow.generation] if self.shadow else []
        return [*(s.generation for s in self.shares), *shadow, *self.preloaded]

    @property
    def mounted(self) -> tuple[str, ...]:
        """Every generation that runs, those that answer first."""
        return tuple(dict.fromkeys(self._named))

    @property
    def main(self) -> str:
        """The generation that answers most; of equals the first."""
        return max(self.shares, key=lambda share: share.parts).generation

    def parts_of(self, generation: str) -> int:
        """How many of 10,000 requests a generation answers."""
        return next((s.parts for s in self.shares if s.generation == generation), 0)

    def as_plain(self) -> dict[str, Any]:
        """The form in which it is kept and shown."""
        return {
            "mode": self.mode,
            "shares": [{"generation": s.generation, "share": s.parts / WHOLE} for s in self.shares],
            "shadow": {"generation": self.shadow.generation, "share": self.shadow.parts / WHOLE}
            if self.shadow
            else None,
            "preloaded": list(self.preloaded),
        }

    def __str__(self) -> str:
        """`v2`, or `v1 90%, v2 10% (sticky), shadow v3`."""
        if self.mode == "single":
            told = self.main
        else:
            told = ", ".join(f"{s.generation} {s.parts / 100:g}%" for s in self.shares)
            told += " (sticky)" if self.mode == "sticky" else ""
        if self.shadow:
            part = "" if self.shadow.parts == WHOLE else f" {self.shadow.parts / 100:g}%"
            told += f", shadow {self.shadow.generation}{part}"
        return told


def single(generation: str) -> Traffic:
    """All requests to one generation."""
    return Traffic("single", (Share(generation, WHOLE),))


def split(
    shares: Mapping[str, float] | Sequence[tuple[str, float]],
    *,
    sticky: bool = False,
    shadow: tuple[str, float] | None = None,
    preloaded: Sequence[str] = (),
) -> Traffic:
    """The traffic in which each generation gets its share, of 1 in all; Invalid when they do not add up to that.

    A share of 0 keeps the generation running without requests of its own, as one that is preloaded.
    """
    given = list(shares.items() if isinstance(shares, Mapping) else shares)
    if len(given) > MOST_MOUNTED:  # before anything is reckoned with them
        raise Invalid(f"{len(given):,} generations are to run, at most {MOST_MOUNTED} of a service do")
    wrong = next((n for n, s in given if not (math.isfinite(s) and 0 <= s <= 1)), None)
    if wrong is not None:
        raise Invalid(f"the share of generation '{wrong}' is {dict(given)[wrong]:g}, expected 0 to 1")
    if abs(sum(share for _, share in given) - 1) > _SUM_TOLERANCE:
        told = " + ".join(f"{share:g}" for _, share in given)
        raise Invalid(
            f"the shares of the generations are {told or 'none'}, which is not 1",
            hint="for example v1=0.9 v2=0.1",
        )
    if shadow is not None and not (math.isfinite(shadow[1]) and 0 < shadow[1] <= 1):
        raise Invalid(f"the share of the shadow '{shadow[0]}' is {shadow[1]:g}, expected more than 0, to 1")
    answering = _whole_parts([(name, share) for name, share in given if share > 0])
    idle = [name for name, share in given if share == 0]
    mode: Mode = "single" if len(answering) == 1 else "sticky" if sticky else "random"
    copy = Share(shadow[0], max(1, round(shadow[1] * WHOLE))) if shadow else None
    return Traffic(mode, answering, copy, tuple(dict.fromkeys([*idle, *preloaded])))


def from_plain(value: Mapping[str, Any]) -> Traffic:
    """What `as_plain` gave; Invalid when it is not that."""
    try:
        shadow = value.get("shadow")
        made = split(
            [(str(s["generation"]), float(s["share"])) for s in value["shares"]],
            sticky=value.get("mode") == "sticky",
            shadow=(str(shadow["generation"]), float(shadow["share"])) if shadow else None,
            preloaded=[str(name) for name in value.get("preloaded") or ()],
        )
    except (KeyError, TypeError, ValueError) as exc:
        raise Invalid(f"the traffic is not understood: {exc}") from None
    return made


def preloading(traffic: Traffic, generation: str) -> Traffic:
    """The traffic with a generation that runs beside; as it is when it runs already."""
    if generation in traffic.mounted:
        return traffic
    return replace(traffic, preloaded=(*traffic.preloaded, generation))


def part_of(key: str) -> int:
    """Where the hash of a dispatch key lies, from 0 to 9,999.

    XXH64 of the key's UTF-8 bytes with the seed 0, modulo 10,000. A key meets the generation in whose part that lies,
    the generations taken in the order in which they are mapped: with v1=0.9 and v2=0.1, v1 up to 8,999.
    Source: the gateway's weighted clusters with a hash policy of one header do the same.
    """
    return xxhash.xxh64_intdigest(key.encode()) % WHOLE


def generation_of(traffic: Traffic, key: str) -> str:
    """The generation that a dispatch key meets."""
    part = part_of(key)
    for share, end in zip(
        traffic.shares, itertools.accumulate(share.parts for share in traffic.shares), strict=True
    ):
        if part < end:
            return share.generation
    raise AssertionError("the parts make the whole")


def _whole_parts(given: Sequence[tuple[str, float]]) -> tuple[Share, ...]:
    """The shares in whole parts that add up, by the largest remainders; none is less than one part."""
    exact = [share * WHOLE for _, share in given]
    parts = [max(1, math.floor(one + 1e-9)) for one in exact]
    order = sorted(range(len(given)), key=lambda i: (parts[i] - exact[i], i))
    missing = WHOLE - sum(parts)
    for position in itertools.islice(itertools.cycle(order), max(0, missing)):
        parts[position] += 1
    for _ in range(max(0, -missing)):
        parts[parts.index(max(parts))] -= 1
    return tuple(Share(name, part) for (name, _), part in zip(given, parts, strict=True))
