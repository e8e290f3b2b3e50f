"""Policies that do nothing where they are listed, as nobody who may call there comes with what they go by. Pure.

A limit by a claim where no token is taken, a tier where no contract opens anything: what was to be bounded or protected
is not. Which of that is wrong and which may be meant all the same is for the kind to say.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from tulle.gateway.policies.entry import Policy, split
from tulle.gateway.policies.kind import Need, Registry, Spot, known_kinds
from tulle.gateway.policies.opening import access_where
from tulle.serving.access import Access

_WORDS: Final[Mapping[str, tuple[str, str]]] = {
    "token": ("a token", "let tokens in: `jwt` or `oauth2-introspection` in the list, or `jwt` in `access`"),
    "contract": (
        "a contract",
        "let contracts open it: `client-id` in the list, `contracts` in `access`, or `contract: true` of tokens",
    ),
    "claims": (
        "claims",
        "let those in who have some: `jwt`, `oauth2-introspection`, `basic-auth` or `ldap` in the list",
    ),
}


def idle(
    policies: Sequence[Policy], usual: Access, registry: Registry | None = None
) -> Iterator[tuple[int, Need]]:
    """What policies need and no caller has, wherever they hold: each position with the need.

    `usual` says who may call where no policy does. Invalid where the list cannot be carried out.
    """
    known = registry or known_kinds()
    needs = {n: found for n, one in enumerate(policies) if (found := known.needs(one.kind, one.settings))}
    if not needs:
        return
    met: dict[int, set[str]] = {number: set() for number in needs}
    for _, held in split(policies):
        brought = _brought(policies, held, usual, known)
        for number in needs.keys() & set(held):
            met[number] |= brought
    for number, found in needs.items():
        yield from ((number, need) for need in found if need.of not in met[number])


def words_of(kind: str, need: Need) -> tuple[str, str]:
    """Why a policy of a kind does nothing for such a need, and what to do."""
    what, hint = _WORDS[need.of]
    said = f"'{need.setting}' of '{kind}'" if need.setting else f"'{kind}'"
    return f"{said} does nothing here: nobody who may call comes with {what}", hint


def _brought(policies: Sequence[Policy], held: Sequence[int], usual: Access, known: Registry) -> set[str]:
    """What callers bring where the policies at these positions hold."""
    access = access_where(policies, held, usual, known)
    found: set[str] = set()
    if access.contracts:
        found.add("contract")
    if access.jwt is not None:
        found |= {"token", "claims"}
        found |= {"contract"} if access.jwt.contract else set()
    for number in held:
        check = known.parts(policies[number].kind, policies[number].settings, Spot("", number)).check
        if check is not None:
            found |= {"claims"} | ({"token"} if check.shows == "bearer" else set())
            found |= {"contract"} if check.contract else set()
    return found
