"""Policies that are right each by itself and cannot be meant together, as one ends or shuts out what another lets in.

Only of lists that somebody says now; what is recorded is carried out as it stands. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Final

from tulle.gateway.policies.entry import Policy, split
from tulle.gateway.policies.listed import Written
from tulle.gateway.policies.unmet import Misplaced

Network = IPv4Network | IPv6Network
Found = tuple[int, tuple[str | int, ...], str, str]  # position in the list, where within, why, what to do
_MOST_COMPARED: Final = 10_000  # pairs of networks


def contrary(written: Sequence[Written]) -> Iterator[Misplaced]:
    """What of a list cannot be meant, each place once."""
    told: dict[tuple[int, tuple[str | int, ...]], Misplaced] = {}
    for number, one in enumerate(written):
        first = written.index(one)
        if first < number:
            message = f"the same '{one.policy.kind}' is listed twice, here and as number {first + 1}"
            told[number, ("policy",)] = Misplaced((number, "policy"), message, "leave one out")
    for numbers in _together(written):
        policies = [written[n].policy for n in numbers]
        for _, held in split(policies):
            for look in _LOOKS:
                for position, steps, message, hint in look(policies, held):
                    at = numbers[position]
                    told.setdefault((at, steps), Misplaced((at, *steps), message, hint))
    yield from told.values()


def _together(written: Sequence[Written]) -> Iterator[list[int]]:
    """The lists, as positions, of the environments that are named and of one that is not."""
    for name in sorted({name for one in written for name in one.environments}):
        yield [n for n, one in enumerate(written) if one.is_in(name)]
    yield [n for n, one in enumerate(written) if not one.environments]


def _nobody_passes(policies: Sequence[Policy], held: Sequence[int]) -> Iterator[Found]:
    """Addresses that are let in by one policy and by no other, or shut out."""
    allowed: list[Network] | None = None
    last = 0
    denied = [one for n in held if policies[n].kind == "ip-deny" for one in _networks(policies[n])]
    for number in held:
        if policies[number].kind != "ip-allow":
            continue
        networks, last = _networks(policies[number]), number
        if allowed is not None and len(allowed) * len(networks) > _MOST_COMPARED:
            return
        allowed = networks if allowed is None else _in_both(allowed, networks)
    if allowed is None or len(allowed) * len(denied) > _MOST_COMPARED:
        return
    if not allowed:
        message = "nobody passes: no address is let in by every 'ip-allow' that holds here"
        yield last, ("addresses",), message, "make one list of both, or let each be for other operations"
    elif all(any(_is_within(one, other) for other in denied) for one in allowed):
        message = "nobody passes: every address that is let in here is shut out by 'ip-deny'"
        yield last, ("addresses",), message, "take them out of one of both"


def _never_over(policies: Sequence[Policy], held: Sequence[int]) -> Iterator[Found]:
    """Tries that may take as long as all of them together."""
    whole = [policies[n].settings["seconds"] for n in held if policies[n].kind == "timeout"]
    for number in held:
        each = policies[number].settings.get("seconds_each") if policies[number].kind == "retry" else None
        if each is not None and whole and each >= min(whole):
            message = f"a try of {each} s is not over before the 'timeout' of {min(whole)} s ends all of them"
            yield number, ("seconds_each",), message, "make it shorter, or the timeout longer"


_LOOKS: Final[tuple[Callable[[Sequence[Policy], Sequence[int]], Iterator[Found]], ...]] = (
    _nobody_passes,
    _never_over,
)


def _networks(policy: Policy) -> list[Network]:
    return [ip_network(text) for text in policy.settings["addresses"]]


def _in_both(some: Sequence[Network], others: Sequence[Network]) -> list[Network]:
    found = [one for one in some if any(_is_within(one, other) for other in others)]
    return found + [other for other in others if any(_is_within(other, one) for one in some)]


def _is_within(one: Network, other: Network) -> bool:
    if isinstance(one, IPv4Network) and isinstance(other, IPv4Network):
        return one.subnet_of(other)
    return isinstance(one, IPv6Network) and isinstance(other, IPv6Network) and one.subnet_of(other)
