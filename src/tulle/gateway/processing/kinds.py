"""The kinds of steps: how each is made of its settings. One table; the policies that need a step name it here.

Knows nothing of files and connections.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final
from weakref import WeakValueDictionary

import msgspec

from tulle.errors import Invalid, TulleError, did_you_mean
from tulle.gateway.envoy_values import trusted
from tulle.gateway.processing.answer_cache import AnswerCache, Kept, Room, caching_rules
from tulle.gateway.processing.basic_users import BasicUsers
from tulle.gateway.processing.body_log import Note, body_log
from tulle.gateway.processing.directory import directory
from tulle.gateway.processing.handed import HandedConnection, Hands, named
from tulle.gateway.processing.introspection import introspection
from tulle.gateway.processing.json_limits import json_limits
from tulle.gateway.processing.plan import ChainPlan, StepPlan
from tulle.gateway.processing.plugin import plugin
from tulle.gateway.processing.quota import quota
from tulle.gateway.processing.redaction import redaction
from tulle.gateway.processing.schema_check import schema_check
from tulle.gateway.processing.step import MOST_ANSWER_BYTES, Chain, Step
from tulle.gateway.processing.token_once import token_once
from tulle.gateway.processing.used_tokens import UsedTokens
from tulle.gateway.processing.windows import Windows

MOST_STEPS: Final = 50


@dataclass(slots=True)
class Stores:
    """What outlives a change of plan: counts and kept answers, by what they are of. `key` gives secret keys."""

    windows: Callable[[str], Windows]
    key: Callable[[str], bytes]
    kept: WeakValueDictionary[str, Kept] = field(default_factory=WeakValueDictionary)  # while a step uses it
    room: Room = field(default_factory=Room)
    note: Note = lambda _: None
    hands: Hands | None = None  # what the control plane hands over; None: nothing
    used: UsedTokens = field(default_factory=lambda: UsedTokens(None))

    @classmethod
    def passing(cls) -> Stores:
        """For steps that are made only to see whether they can be."""
        return cls(lambda _: Windows(), lambda _: b"")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a step is to be: in the chain of which service, with which stores."""

    chain: ChainPlan
    stores: Stores
    plan: StepPlan

    @property
    def settings(self) -> Mapping[str, Any]:
        """What the policy says."""
        return self.plan.settings

    @property
    def name(self) -> str:
        """By which counts are kept: the same when the settings change, and in all parts of a service."""
        return f"{self.chain.service} {self.plan.name}"

    @property
    def own_name(self) -> str:
        """By which answers are kept: another one for other settings, and for what another generation answers."""
        content = msgspec.json.encode([self.settings, self.chain.answered_by], order="sorted")
        return f"{self.name} {hashlib.sha256(content).hexdigest()}"


def _caching(place: Place) -> Step:
    rules = caching_rules(place.settings)
    kept = place.stores.kept.get(place.own_name)
    if kept is None:
        entries, size = place.settings.get("max_entries", 10_000), place.settings.get("max_bytes", 64 << 20)
        kept = place.stores.kept[place.own_name] = Kept(int(entries), int(size), place.stores.room)
    return AnswerCache(rules, kept)


def _connection(place: Place) -> Callable[[], HandedConnection | None]:
    """What gives the connection that a policy names, as it is handed over by then."""

    def given() -> HandedConnection | None:
        hands = place.stores.hands
        return None if hands is None else named(hands, place.chain.service, place.settings["connection"])

    return given


def _introspection(place: Place) -> Step:
    return introspection(place.settings, place.stores.key("credentials"), _connection(place), trusted())


KINDS: Final[Mapping[str, Callable[[Place], Step]]] = {
    "redaction": lambda place: redaction(place.settings, place.stores.key, MOST_ANSWER_BYTES),
    "json-limits": lambda place: json_limits(place.settings),
    "schema-validation": lambda place: schema_check(
        place.settings, place.chain.bases, place.chain.service, MOST_ANSWER_BYTES
    ),
    "caching": _caching,
    "body-log": lambda place: body_log(place.settings, place.chain.service, place.stores.note),
    "custom": lambda place: plugin(place.settings),
    "basic-auth": lambda place: BasicUsers(
        place.settings, place.stores.key("credentials"), lambda: place.stores.hands
    ),
    "ldap": lambda place: directory(place.settings, place.stores.key("credentials"), _connection(place)),
    "oauth2-introspection": _introspection,
    "quota": lambda place: quota(place.settings, place.stores.windows(place.name)),
    "token-once": lambda place: token_once(place.settings, partial(place.stores.used.use, place.name)),
}


def step_of(plan: StepPlan, chain: ChainPlan, stores: Stores) -> Step:
    """The step of a plan, ready. Invalid, naming the route, when it cannot be made."""
    make = KINDS.get(plan.kind)
    if make is None:
        raise Invalid(
            f"{chain.service}: the processor knows no step '{plan.kind}'", hint=did_you_mean(plan.kind, KINDS)
        )
    try:
        return make(Place(chain, stores, plan))
    except TulleError as exc:
        raise Invalid(f"{chain.service}: {exc.message}", hint=exc.hint) from exc
    except (TypeError, ValueError, LookupError, AttributeError, OverflowError) as exc:
        raise Invalid(f"{chain.service}: the settings of '{plan.kind}' cannot be read: {exc}") from exc


def chain_of(plan: ChainPlan, stores: Stores) -> Chain:
    """A chain, ready. Invalid when one of its steps cannot be made, or their order lets something through."""
    check_order(plan)
    steps = [step_of(one, plan, stores) for one in plan.steps]
    return Chain.of(steps, plan.tiers, windows=plan.windows)


def check_order(plan: ChainPlan) -> None:
    """Invalid where an answer that was redacted for one caller would be kept and given to another one."""
    if len(plan.steps) > MOST_STEPS:
        raise Invalid(f"{plan.service}: {len(plan.steps)} steps, at most {MOST_STEPS} are carried out")
    kinds = [step.kind for step in plan.steps]
    if "caching" in kinds and "redaction" in kinds[kinds.index("caching") :]:
        raise Invalid(
            f"{plan.service}: redaction comes after caching, so what is redacted for one caller would be kept",
            hint="put redaction before caching",
        )


def check(chains: Mapping[str, ChainPlan] | list[ChainPlan]) -> None:
    """Invalid, naming the route, when a chain cannot be made. Nothing is kept, counted or started."""
    for plan in chains.values() if isinstance(chains, Mapping) else chains:
        for step in chain_of(plan, Stores.passing()).steps:
            step.close()
