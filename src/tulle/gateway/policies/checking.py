"""What the kinds by which the processor says who calls have in common. Knows no single kind."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import msgspec

from tulle.errors import Invalid
from tulle.gateway.envoy_values import Json
from tulle.gateway.policies.kind import Check, Kind, Named, Parts, Settings, Spot, Unfit
from tulle.gateway.policies.steps import checked_step
from tulle.serving.access import Access
from tulle.serving.ways_in import Credential, WayIn
from tulle.spec.rate_limit import RATE_SCHEMA, RateLimit
from tulle.spec.source import CONNECTION_NAME

CONNECTION: Final[Json] = {
    "type": "string",
    "pattern": CONNECTION_NAME,
    "x-expected": "the name of a connection",
}
LIMIT: Final[Json] = {**RATE_SCHEMA, "description": "of each caller: requests/period, such as 50/1s"}
_OURS: Final = frozenset({"limit", "contract"})  # of the settings, not the processor's


@dataclass(frozen=True, slots=True)
class Checked:
    """What the processor is told, and the limit of each caller, or that it is the caller's contract's."""

    step: Json
    limit: str
    contract: bool


def checking_kind(
    name: str, way: str, summary: str, properties: Json, *, shows: str, told: str, **more: Any
) -> Kind:
    """A kind by which the processor says who calls, in a step of the same name; `shows` is bearer or basic.

    `told` says in a document what is sent.
    """

    def read(settings: Settings) -> Checked:
        told = {key: value for key, value in msgspec.to_builtins(dict(settings)).items() if key not in _OURS}
        by_contract = bool(settings.get("contract"))
        if by_contract and "limit" in settings:
            raise Unfit(
                "callers have the limits of their contracts",
                "limit",
                hint="leave out `limit`, or `contract`",
            )
        return Checked(checked_step(name, told), _limit_of(settings), by_contract)

    def render(value: Checked, _: Spot) -> Parts:
        by: Literal["bearer", "basic"] = "bearer" if shows == "bearer" else "basic"
        return Parts(check=Check(way, by, value.step, value.limit, value.contract))

    def ways(value: Checked) -> Sequence[WayIn]:
        settings = value.step["settings"]
        said = told + (f" of {settings['issuer']}" if "issuer" in settings else "")
        said += ", that names an application with a contract" if value.contract else ""
        if shows == "basic":
            return [(Credential(way, "basic", ("USER_NAME", "PASSWORD"), description=said),)]
        scopes = tuple(settings.get("scopes", ()))
        said += f", with the scopes {' '.join(scopes)}" if scopes else ""
        return [(Credential(way, "bearer", ("TOKEN",), description=said, scopes=scopes),)]

    return Kind(
        name,
        summary,
        {**properties, "limit": LIMIT},
        "credentials",
        read,
        render=render,
        opens=lambda _: Access(contracts=False),
        ways=ways,
        once=True,
        shown_as=shows,
        **more,
    )


def names_connection(settings: Settings) -> Iterator[Named]:
    """What a kind that asks elsewhere names outside of the list."""
    yield Named("connection", settings["connection"], ("connection",))


def _limit_of(settings: Settings) -> str:
    if (limit := settings.get("limit")) is not None:
        try:
            RateLimit.parse(limit)
        except Invalid as exc:
            raise Unfit(exc.message, "limit", hint=exc.hint) from None
    return str(limit or "")
