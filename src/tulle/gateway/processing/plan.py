"""What the processor shall do, as a file: the chain of steps of each route, by the key that the route sends along.

A key holds the digest of its steps: a request meets the very steps that its route was published with, and routes may
change while requests are under way. Pure. Knows nothing of how steps work.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from tulle.errors import Invalid

FILE: Final = "processing"  # among the gateway's watched files
DIGEST_LETTERS: Final = 16

SHORTEST_OF_CONTRACT_MS: Final = (
    60_000  # what a quota counts of a contract; the gateway alone counts shorter windows
)


class StepPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One step: of which kind, and with which settings; `name` tells it from others of its service."""

    name: str
    kind: str
    settings: dict[str, Any]


def step_plan(name: str, said: Any) -> StepPlan:
    """What a kind of policy says of its step: `kind` and `settings`. Invalid when it says something else."""
    try:
        return msgspec.convert({"name": name, **said}, StepPlan)
    except (msgspec.ValidationError, TypeError) as exc:
        raise Invalid(
            f"the policy '{name}' is no step of the processor: {exc}",
            hint="its kind gives `kind` and `settings`",
        ) from None


class ChainPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The steps of one route in their order.

    `service` is the path of whose requests they are; `bases` are the paths below which its API is. `tiers` is the tier
    of each client whose contract has one. `windows` are those of each client's contract that a quota counts, where one
    does: limits such as `1000/1d`, none where the contract has none that is long enough. `answered_by` is another one
    when another generation answers.
    """

    service: str
    steps: tuple[StepPlan, ...]
    bases: tuple[str, ...] = ()
    tiers: dict[str, str] = {}
    windows: dict[str, tuple[str, ...]] = {}
    answered_by: str = ""

    @property
    def key(self) -> str:
        """What its route sends along. Tiers and windows are not in it: who has which may change while routes stay."""
        answered = [self.answered_by] if self.answered_by else []
        content = msgspec.json.encode([self.bases, self.steps, *answered], order="sorted")
        return f"{self.service}@{hashlib.sha256(content).hexdigest()[:DIGEST_LETTERS]}"


def resources(chains: Sequence[ChainPlan]) -> list[dict[str, Any]]:
    """The chains as a watched file has them, in the order of their keys."""
    return [
        {"key": chain.key, "chain": msgspec.to_builtins(chain)}
        for chain in sorted(chains, key=lambda c: c.key)
    ]


def read(content: bytes) -> tuple[str, Mapping[str, ChainPlan]]:
    """Version and chains of a watched file, by key. Invalid when it is damaged or of another form."""
    try:
        document = msgspec.json.decode(content)
        chains = {str(one["key"]): msgspec.convert(one["chain"], ChainPlan) for one in document["resources"]}
        version = str(document["version_info"])
    except (msgspec.MsgspecError, RecursionError, TypeError, LookupError) as exc:
        raise Invalid(f"the processor's plan cannot be read: {exc}") from None
    if version != version_of(document["resources"]):
        raise Invalid("the processor's plan is damaged: its version is not that of its content")
    if wrong := next((key for key, chain in chains.items() if chain.key != key), None):
        raise Invalid(f"the processor's plan is damaged: '{wrong}' is not the key of its steps")
    return version, chains


def version_of(content: Sequence[Any]) -> str:
    """The digest of a watched file's resources, as the gateway's other files have it."""
    return hashlib.sha256(msgspec.json.encode(content)).hexdigest()[:16]
