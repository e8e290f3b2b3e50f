"""The kinds of policy: what each is called, what it may say, where it is carried out, and its place in the order.

One registry, which our own kinds use like anybody's would: a package adds kinds by an entry point of the group
`tulle.policies` that names a function taking the Registry. A kind reads settings into a frozen value and says what
that is: parts of Envoy's configuration, or a step of the processor for what Envoy lacks. All of it is pure. Knows no
service, and not what its own kinds are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final, Literal, TypeVar

from tulle.errors import AlreadyExists, Invalid, NotFound, did_you_mean
from tulle.gateway.envoy_values import Json
from tulle.serving.access import Access
from tulle.serving.ways_in import Credential, WayIn, ways_of
from tulle.spec.load import Schema
from tulle.spec.rate_limit import RateLimit

GROUP: Final = "tulle.policies"
NAME: Final = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
RESERVED: Final = ("policy", "operations", "environments")  # of every entry, whatever its kind

BUILT_IN: Final = (
    "addresses",
    "automated",
    "basic_auth",
    "cors",
    "compression",
    "credentials",
    "introspection",
    "ldap",
    "fault",
    "headers",
    "message_log",
    "mirror",
    "rate_limit",
    "sizes",
    "spike",
    "upstream",
    "json_limits",
    "schema_validation",
    "quota",
    "body_log",
    "token_once",
    "redaction",
    "caching",
    "custom",
)

Settings = Mapping[str, Any]
T = TypeVar("T")

# Where in the order a kind may stand. `first` is before all others whatever the list says; `route` and `processor`
# are carried out after what Envoy's filters check, where no list says otherwise. The others are told in `order`.
Phase = Literal["first", "before", "credentials", "known", "limits", "after", "route", "processor"]


class Unfit(Invalid):
    """A setting that its schema allows and that is wrong all the same; `path` leads to it within the entry."""

    def __init__(self, message: str, *path: str | int, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.path = path


@dataclass(frozen=True, slots=True)
class Named:
    """Something outside of a list that a policy names: a tier, a caller by the id, a group of users, and so on.

    `path` leads to it within the entry.
    """

    what: Literal["tier", "client", "group", "connection", "plugin"]
    name: str
    path: tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Need:
    """What callers have to come with, lest a policy, or a `setting` of it at `path`, does nothing.

    `is_doubtful`: the rest of it does something all the same.
    """

    of: Literal["token", "contract", "claims"]
    setting: str = ""
    path: tuple[str | int, ...] = ()
    is_doubtful: bool = False


@dataclass(frozen=True, slots=True)
class Spot:
    """Where a policy is in force: a service by its path, and the policy's position in its list, from 0."""

    service: str
    position: int

    def name_of(self, kind: str) -> str:
        """What a filter of it is called; by this name a route has settings for it."""
        return f"{self.position} {kind}"


@dataclass(frozen=True, slots=True)
class Count:
    """That requests are counted: so many may pass of each `by`.

    `by` is `client` (an address, where callers show nothing), `address`, `all`, `header:<name>` or `claim:<name>`.
    """

    limit: RateLimit
    by: str = "client"


@dataclass(frozen=True, slots=True)
class Spike:
    """What a service takes at once: of what is above the limit so many may wait so long; `name` is nobody else's."""

    name: str
    limit: RateLimit
    queue: int
    delay_ms: int


@dataclass(frozen=True, slots=True)
class Check:
    """That the processor says who calls, before anything is counted: by what `shows` in the header authorization.

    `way` is what the callers' way in is called: their names mean something together with it. `step` says what the
    processor does, its `kind` and `settings`. `limit` is for each of them; empty: the mesh's usual one. With `contract`
    they are applications by their client ids instead, under the limits of their contracts.
    """

    way: str
    shows: Literal["bearer", "basic"]
    step: Json
    limit: str = ""
    contract: bool = False


@dataclass(frozen=True, slots=True)
class Parts:
    """What a policy is in Envoy's words, on the routes where it holds.

    `filters` are run in the order of the list. `settings` are a route's for the filters that every request passes, by
    their names. `action` and `route` are fields of a route's action and of the route; `cluster` of where it leads to;
    `clusters` are further places.
    """

    filters: Sequence[Json] = ()
    settings: Mapping[str, Json] = field(default_factory=dict)
    action: Json = field(default_factory=dict)
    route: Json = field(default_factory=dict)
    cluster: Json = field(default_factory=dict)
    clusters: Sequence[Json] = ()
    counts: Sequence[Count] = ()
    spikes: Sequence[Spike] = ()
    bounds: Mapping[str, int] = field(default_factory=dict)  # of what is under way there; the narrowest holds
    max_request_bytes: int | None = None
    check: Check | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a caller is told where this kind refuses: `when` is a CEL condition of the reply; status 0: as it is."""

    when: str
    status: int
    error_type: str
    message: str
    advice: str
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of policy. All functions are pure.

    `read` makes a frozen value of settings that fit the schema; it raises Unfit for what the schema cannot say. One of
    `render`, for Envoy, and `step`, for the processor, tells what the value is. `opens`: the ways by which callers come
    in where it holds, instead of what the service itself says; its phase is `credentials`. `ways`: what callers send
    there, for documents and examples; without it what follows from `opens` and `shown_as`. `reaches`: the places
    outside, as http:// or https://, that it sends something to. `whole`: it is for all requests of a service, never for
    some operations. `once`: one in force for a request is all that makes sense. `not_after`: kinds that it may not come
    after. `of_workers`: it bounds the way to a service's workers, so it is the service's own, never that of an API over
    it. `shown_as`: how its callers show who they are, so that no request can be for two such kinds.
    `hides`: where it takes credentials from, as `header:<name>` and `query:<name>`; `tells`: what it writes down, so.
    `names`: what it names that has to be there outside of the list; `needs`: what callers have to come with.
    `anew`: refuses, as `read` does, what nobody may say any more and once could. What is recorded is carried out all
    the same, as far as it can be, or an upgrade would end services that nobody touched.
    """

    name: str  # kebab-case
    summary: str  # one sentence
    properties: Mapping[str, Any]  # JSON Schema of its own settings
    phase: Phase
    read: Callable[[Settings], Any]
    render: Callable[[Any, Spot], Parts] | None = None
    step: Callable[[Any], Json] | None = None
    opens: Callable[[Any], Access] | None = None
    ways: Callable[[Any], Sequence[WayIn]] | None = None
    reaches: Callable[[Any], Sequence[str]] | None = None
    required: tuple[str, ...] = ()
    rules: Mapping[str, Any] = field(default_factory=dict)  # more of its schema: minProperties, anyOf, …
    example: str = ""  # YAML of a whole entry
    whole: bool = False
    once: bool = False
    not_after: tuple[str, ...] = ()
    of_workers: bool = False
    anew: Callable[[Settings], object] | None = None
    shown_as: str = ""
    hides: Callable[[Any], Collection[str]] | None = None
    tells: Callable[[Any], Collection[str]] | None = None
    names: Callable[[Settings], Iterable[Named]] | None = None
    needs: Callable[[Settings], Iterable[Need]] | None = None
    refusals: tuple[Refusal, ...] = ()
    origin: str = "built-in"

    @property
    def where(self) -> Literal["envoy", "processor"]:
        """Where it is carried out."""
        return "envoy" if self.render is not None else "processor"


_OPERATIONS: Final[Json] = {
    "type": "array",
    "minItems": 1,
    "maxItems": 50,
    "description": "the requests it is for; without it, all of the service",
    "items": {
        "type": "object",
        "additionalProperties": False,
        "minProperties": 1,
        "properties": {
            "method": {
                "type": "string",
                "description": "GET (HEAD too), POST, PUT, PATCH, DELETE or OPTIONS",
            },
            "path": {
                "type": "string",
                "x-example": "/items/{id}",
                "description": "a path template below the service's address, such as /fraud/predict or /items/{id}",
            },
        },
    },
}
_ENVIRONMENTS: Final[Json] = {
    "type": "array",
    "minItems": 1,
    "maxItems": 50,
    "items": {"type": "string", "minLength": 1, "maxLength": 63},
    "description": "the environments it is for; without it, all",
}


class Registry:
    """Kinds by name."""

    def __init__(self) -> None:
        self._kinds: dict[str, Kind] = {}
        self._schemas: dict[str, Schema] = {}

    def add(self, kind: Kind) -> None:
        """Register one. Raises AlreadyExists for a taken name, Invalid for a definition that cannot be used."""
        if known := self._kinds.get(kind.name):
            raise AlreadyExists(
                f"the policy '{kind.name}' of {kind.origin} is already registered by {known.origin}",
                hint="give it a name of its own",
            )
        if NAME.fullmatch(kind.name) is None:
            raise Invalid(f"'{kind.name}' is no name for a policy", hint="use kebab-case: ip-allow")
        if (kind.render is None) == (kind.step is None) or (kind.step is None) == (kind.phase == "processor"):
            raise Invalid(
                f"policy '{kind.name}' is not carried out in one place",
                hint="give it `render`, or `step` and the phase `processor`",
            )
        if taken := [name for name in RESERVED if name in kind.properties]:
            raise Invalid(f"policy '{kind.name}' has a setting '{taken[0]}', which every policy has")
        try:
            self._schemas[kind.name] = Schema(entry_schema(kind))
        except ValueError as error:
            raise Invalid(f"the schema of policy '{kind.name}' is not usable: {str(error)[:300]}") from error
        self._kinds[kind.name] = kind

    def get(self, name: str) -> Kind:
        """The kind of that name. Raises NotFound with the nearest name."""
        if name not in self._kinds:
            raise NotFound(f"there is no policy '{name}'", hint=did_you_mean(name, self._kinds))
        return self._kinds[name]

    def carried_out(self, name: str) -> Kind:
        """The kind of a policy that is to be in force. Invalid where there is none: its package may be gone."""
        if name not in self._kinds:
            message = f"nothing here carries out the policy '{name}'"
            raise Invalid(
                message, hint=did_you_mean(name, self._kinds) or "install the package that brings it"
            )
        return self._kinds[name]

    def value(self, name: str, settings: Settings) -> Any:
        """What a kind makes of settings. Invalid when it does not take them, or there is no such kind."""
        kind = self.carried_out(name)
        return _held(kind, lambda: kind.read(settings))

    def demand_sayable(self, name: str, settings: Settings) -> None:
        """Refuse settings that somebody says now and a kind does not take, or no longer. Invalid as `value` says."""
        self.value(name, settings)
        kind = self.carried_out(name)
        if (anew := kind.anew) is not None:
            _held(kind, lambda: anew(settings))

    def parts(self, name: str, settings: Settings, spot: Spot) -> Parts:
        """A policy in Envoy's words; nothing of one that the processor carries out. Invalid as `value` says."""
        kind, value = self.carried_out(name), self.value(name, settings)
        render = kind.render
        return Parts() if render is None else _held(kind, lambda: render(value, spot))

    def step(self, name: str, settings: Settings) -> Json | None:
        """A policy as a step of the processor; None of one that Envoy carries out. Invalid as `value` says."""
        kind, value = self.carried_out(name), self.value(name, settings)
        step = kind.step
        return None if step is None else _held(kind, lambda: step(value))

    def opening(self, name: str, settings: Settings) -> Access | None:
        """The ways in that a policy says; None where it says none. Invalid as `value` says."""
        kind, value = self.carried_out(name), self.value(name, settings)
        opens = kind.opens
        return None if opens is None else _held(kind, lambda: opens(value))

    def ways(self, name: str, settings: Settings) -> tuple[WayIn, ...]:
        """What callers send where a policy says who may call; empty where it does not. Invalid as `value` says."""
        kind = self.carried_out(name)
        opens, ways = kind.opens, kind.ways
        if opens is None:
            return ()
        value = self.value(name, settings)
        if ways is not None:
            return tuple(_held(kind, lambda: ways(value)))
        return ways_of(_held(kind, lambda: opens(value))) or (_some_way(kind),)

    def reached(self, name: str, settings: Settings) -> Sequence[str]:
        """The places outside that a policy sends something to. Invalid as `value` says."""
        kind = self.carried_out(name)
        reaches = kind.reaches
        return () if reaches is None else _held(kind, lambda: reaches(self.value(name, settings)))

    def hidden(self, name: str, settings: Settings) -> Collection[str]:
        """Where a policy takes credentials from: `header:<name>`, `query:<name>`. Invalid as `value` says."""
        kind = self.carried_out(name)
        hides = kind.hides
        return () if hides is None else _held(kind, lambda: hides(self.value(name, settings)))

    def told(self, name: str, settings: Settings) -> Collection[str]:
        """What a policy writes down of requests, in the same words. Invalid as `value` says."""
        kind = self.carried_out(name)
        tells = kind.tells
        return () if tells is None else _held(kind, lambda: tells(self.value(name, settings)))

    def named(self, name: str, settings: Settings) -> tuple[Named, ...]:
        """What a policy names that has to be there outside of the list. Invalid as `value` says."""
        kind = self.carried_out(name)
        names = kind.names
        return () if names is None else _held(kind, lambda: tuple(names(settings)))

    def needs(self, name: str, settings: Settings) -> tuple[Need, ...]:
        """What callers have to come with where a policy is to do something. Invalid as `value` says."""
        kind = self.carried_out(name)
        needs = kind.needs
        return () if needs is None else _held(kind, lambda: tuple(needs(settings)))

    def schema(self, name: str) -> Schema:
        """The compiled schema of a whole entry of that kind. Raises NotFound."""
        self.get(name)
        return self._schemas[name]

    def refusals(self) -> tuple[Refusal, ...]:
        """What callers are told where policies refuse, each condition once."""
        found: dict[str, Refusal] = {}
        for kind in self:
            for refusal in kind.refusals:
                found.setdefault(refusal.when, refusal)
        return tuple(found.values())

    def __iter__(self) -> Iterator[Kind]:
        return iter(self._kinds.values())

    def __contains__(self, name: object) -> bool:
        return name in self._kinds


def _some_way(kind: Kind) -> WayIn:
    """What callers of a kind send that says no more than by which header."""
    if kind.shown_as == "basic":
        return (Credential(kind.name, "basic", ("USER_NAME", "PASSWORD"), description=kind.summary),)
    if kind.shown_as == "bearer":
        return (Credential(kind.name, "bearer", ("TOKEN",), description=kind.summary),)
    return (Credential(kind.name, "header", ("AUTHORIZATION",), "authorization", kind.summary),)


def _held(kind: Kind, act: Callable[[], T]) -> T:
    """What a kind's function gives. Whatever goes wrong in somebody else's code is a refusal of this policy."""
    try:
        return act()
    except Invalid:
        raise
    except Exception as error:
        raise Invalid(
            f"the policy '{kind.name}' of {kind.origin} takes no such settings: {error!r}"
        ) from error


def entry_schema(kind: Kind) -> Json:
    """The JSON Schema of one entry of a list."""
    properties: Json = {
        "policy": {"const": kind.name, "description": kind.summary},
        **kind.properties,
        "environments": _ENVIRONMENTS,
    }
    if not kind.whole:
        properties["operations"] = _OPERATIONS
    return {
        "type": "object",
        "additionalProperties": False,
        "required": ["policy", *kind.required],
        "properties": properties,
        "description": kind.summary,
        **kind.rules,
    }


def built_in_kinds() -> Registry:
    """A registry with our own kinds, and nothing else."""
    registry = Registry()
    for module in BUILT_IN:
        _register(registry, EntryPoint("built-in", f"tulle.gateway.policies.{module}:register", GROUP))
    return registry


@cache
def known_kinds() -> Registry:
    """Our own kinds and those of installed packages, read once a process. Invalid names the package at fault."""
    registry = built_in_kinds()
    for entry in sorted(entry_points(group=GROUP), key=lambda e: e.name):
        _register(registry, entry)
    return registry


def _register(registry: Registry, entry: EntryPoint) -> None:
    try:
        entry.load()(registry)
    except (AlreadyExists, Invalid):
        raise
    except Exception as error:  # a third party's code may fail in any way; whose it is has to be named
        raise Invalid(
            f"the policies of package entry '{entry.name}' ({entry.value}) cannot be loaded: {error!r}"
        ) from error
