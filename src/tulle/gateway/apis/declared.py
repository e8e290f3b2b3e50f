"""An API as a product declares it: its versions, what answers each, where, and what people are told of it.

Frozen values that are kept as they are when they are applied. Knows nothing of files and of the database.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from tulle.errors import Broken
from tulle.gateway.front import External, MockAnswer
from tulle.serving.access import Access
from tulle.spec.openapi_document import Operation
from tulle.spec.tier import Offer

Visibility = Literal["public", "private", "restricted"]


@dataclass(frozen=True, slots=True)
class Target:
    """What answers: a service, maybe one generation of it, an external service, or the gateway by examples (`mock`).

    None of them: nothing does.
    """

    service: str = ""
    generation: str = ""
    external: External | None = None
    mock: bool = False

    def __str__(self) -> str:
        """In words."""
        if self.service:
            return f"service:{self.service}" + (f"@{self.generation}" if self.generation else "")
        if self.external is not None and self.external.connection:
            return f"connection:{self.external.connection}"
        if self.external is not None:
            return ", ".join(one.url for one in self.external.upstreams)
        return "examples" if self.mock else "nothing"


@dataclass(frozen=True, slots=True)
class Override:
    """What is otherwise in one environment; None: as it is said for all."""

    target: Target | None = None
    path: str | None = None
    hosts: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class ApiVersion:
    """One version of an API. `operations` are those of its own OpenAPI document, where it has one.

    `environments` are those it has an instance in beside that of consumers, each with what is otherwise there; the
    one of consumers is among them where something is said of it.
    """

    version: str
    target: Target
    path: str
    hosts: tuple[str, ...] = ()
    access: Access = Access()
    policies: tuple[Mapping[str, Any], ...] = ()  # as `policies.listed` keeps them
    is_published: bool = False  # as soon as it is applied first
    allows_undeclared: bool = False
    operations: tuple[Operation, ...] = ()
    openapi_digest: str = ""  # SHA-256 of the document, empty where there is none
    environments: Mapping[str, Override] = field(default_factory=dict)
    mocks: tuple[MockAnswer, ...] = ()  # by the examples of its document, where an instance answers by them

    @property
    def is_mocked(self) -> bool:
        """Whether an instance is declared to answer by examples."""
        said = [one.target for one in self.environments.values() if one.target is not None]
        return any(one.mock for one in [self.target, *said])


@dataclass(frozen=True, slots=True)
class Page:
    """A text for readers, Markdown."""

    file: str
    text: str


@dataclass(frozen=True, slots=True)
class ApiDeclared:
    """What holds for all versions of an API. `visible_to` are domains (`domain:…`) and roles (`role:…`)."""

    name: str
    product: str
    title: str = ""
    summary: str = ""
    pages: tuple[Page, ...] = ()
    contact: Mapping[str, str] = field(default_factory=dict)
    visibility: Visibility = "public"
    visible_to: tuple[str, ...] = ()
    offer: Offer = Offer()  # to those who would call it
    tags: tuple[str, ...] = ()
    versions: tuple[ApiVersion, ...] = ()
    objectives: Mapping[str, float] = field(default_factory=dict)  # availability in percent, latencies in ms

    def version(self, name: str) -> ApiVersion | None:
        """The version of that name."""
        return next((one for one in self.versions if one.version == name), None)


def as_plain(api: ApiDeclared) -> dict[str, Any]:
    """The form that the database keeps, and that `api_of` reads."""
    plain: dict[str, Any] = msgspec.to_builtins(api)
    return plain


def api_of(plain: Mapping[str, Any]) -> ApiDeclared:
    """What `as_plain` gave. Broken when it is damaged."""
    try:
        return msgspec.convert(plain, ApiDeclared)
    except msgspec.ValidationError as exc:
        raise Broken(
            f"an API that was applied cannot be read: {exc}", hint="`tulle apply` writes it anew"
        ) from None
