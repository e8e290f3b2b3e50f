"""What differs between two policies of the gateway, in the words of the model: which service, policy, client, contract.

Pure. Knows nothing of how policies are kept, and nothing of Envoy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any, Final, Literal, TypeVar

import msgspec

from tulle.gateway.policies.entry import Policy
from tulle.gateway.policies.showing import entry_shown
from tulle.gateway.policy import Client, Contract, GatewayPolicy, ManagedService
from tulle.gateway.versions.recorded import plain

_LONGEST: Final = 120  # characters of a value that is told
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that is not as it was; `details` say what of it, a sentence each."""

    what: Literal["service", "api", "client", "contract"]
    name: str
    how: Literal["added", "removed", "changed"]
    details: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """As people read it."""
        told = f": {'; '.join(self.details)}" if self.details else ""
        return f"{self.what} {self.name} {self.how}{told}"


def difference(before: GatewayPolicy, after: GatewayPolicy) -> list[Change]:
    """What has to be done to `before` to make it `after`: services, then clients, then contracts, by their names."""
    return [
        *_compared(before.services, after.services, lambda one: one.path, _kind_of, _service),
        *_compared(before.clients, after.clients, lambda one: one.client_id, lambda _: "client", _client),
        *_compared(before.contracts, after.contracts, _named, lambda _: "contract", _contract),
    ]


def _compared(
    before: Sequence[T],
    after: Sequence[T],
    name: Callable[[T], str],
    kind: Callable[[T], Any],
    details: Callable[[T, T], Iterator[str]],
) -> Iterator[Change]:
    old, new = {name(one): one for one in before}, {name(one): one for one in after}
    for key in sorted(old.keys() | new.keys()):
        if key not in new:
            yield Change(kind(old[key]), key, "removed")
        elif key not in old:
            yield Change(kind(new[key]), key, "added", tuple(_first_words(new[key])))
        elif old[key] != new[key] and (told := tuple(details(old[key], new[key]))):
            yield Change(kind(new[key]), key, "changed", told)


def _kind_of(service: ManagedService) -> str:
    return "service" if service.front is None else "api"


def _named(one: Contract) -> str:
    place = "" if one.environment is None else f" in {one.environment or 'prod'}"
    return f"{one.client_id} for {one.service}{place}"


def _first_words(one: object) -> Iterator[str]:
    if isinstance(one, ManagedService):
        yield f"at {one.address}"
        if one.policies:
            yield "policies " + ", ".join(policy.kind for policy in one.policies)
    elif isinstance(one, Contract):
        yield " and ".join(map(str, one.windows))


def _client(old: Client, new: Client) -> Iterator[str]:
    if old.secret_hash != new.secret_hash or old.second_hash != new.second_hash:
        count = len(new.hashes)
        yield "its secret is another" if count == 1 else f"{count} secrets open, one of them is another"


def _contract(old: Contract, new: Contract) -> Iterator[str]:
    if old.windows != new.windows:
        yield f"limit {' and '.join(map(str, old.windows))} → {' and '.join(map(str, new.windows))}"
    if old.tier != new.tier:
        yield f"tier {old.tier or 'none'} → {new.tier or 'none'}"
    if old.not_in != new.not_in:
        yield f"not for versions {', '.join(old.not_in) or 'none'} → {', '.join(new.not_in) or 'none'}"
    if old.way != new.way:
        yield f"way in {old.way} → {new.way}"


def _service(old: ManagedService, new: ManagedService) -> Iterator[str]:
    if old.traffic != new.traffic:
        yield f"answered by {old.traffic or 'nothing'} → {new.traffic or 'nothing'}"
    yield from _policies(old.policies, new.policies)
    one, other = (_leaves(_rest(service)) for service in (old, new))
    for key in sorted(one.keys() | other.keys()):
        if one.get(key) != other.get(key):
            yield f"{key} {_shown(one.get(key))} → {_shown(other.get(key))}"


def _rest(service: ManagedService) -> Mapping[str, Any]:
    """All of a service that has no words of its own above."""
    made: dict[str, Any] = msgspec.to_builtins(plain(service))
    for key in ("policies", "traffic", "backends"):
        made.pop(key)
    return made


def _policies(old: Sequence[Policy], new: Sequence[Policy]) -> Iterator[str]:
    one, other = ([_plain(policy.as_plain()) for policy in policies] for policies in (old, new))
    yield from policy_changes(one, other)


def policy_changes(one: Sequence[Mapping[str, Any]], other: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What differs between two lists of policies as files have them, a sentence each."""
    kinds = [str(policy.get("policy")) for policy in one], [str(policy.get("policy")) for policy in other]
    for tag, i1, i2, j1, j2 in SequenceMatcher(None, *kinds, autojunk=False).get_opcodes():
        if tag == "equal":
            for i, j in zip(range(i1, i2), range(j1, j2), strict=True):
                yield from _settings(f"policy {j + 1} ({kinds[1][j]})", one[i], other[j])
            continue
        yield from (f"policy {i + 1} ({kinds[0][i]}) removed" for i in range(i1, i2))
        yield from (f"policy {j + 1} ({kinds[1][j]}) added" for j in range(j1, j2))


def _plain(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    made: dict[str, Any] = msgspec.to_builtins(entry)
    return made


def _settings(name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    told, tells = entry_shown(old), entry_shown(new)
    for key in sorted(old.keys() | new.keys()):
        if old.get(key) == new.get(key):
            continue
        was, now = _shown(told.get(key)), _shown(tells.get(key))
        yield f"{name}: {key} {was} → {now}" if was != now else f"{name}: a hidden value of {key} is another"


def setting_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    """What differs between plain values without secrets, by their names, each with what it was and is."""
    for key in sorted(old.keys() | new.keys()):
        if old.get(key) != new.get(key):
            yield f"{key} {_shown(old.get(key))} → {_shown(new.get(key))}"


def _leaves(value: Any, before: str = "") -> dict[str, Any]:
    """The plain values within, each by the names that lead to it; lists are values as they are."""
    if not isinstance(value, Mapping):
        return {before: value}
    found: dict[str, Any] = {}
    for key, one in value.items():
        found |= _leaves(one, f"{before}.{key}" if before else str(key))
    return found


def _shown(value: Any) -> str:
    if value is None or value in ("", [], {}):
        return "none"
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}… ({len(text):,} characters)"
