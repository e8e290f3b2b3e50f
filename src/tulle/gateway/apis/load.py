"""The APIs a product declares: `apis/<name>.yaml` read into values, every problem told with its place.

What other files say (OpenAPI documents, pages, certificates) is read with it, so that what is applied is whole. Whether
services, environments and hosts exist, and whether two APIs want one place, is `conflicts`' matter.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Protocol

from cryptography import x509

from tulle.errors import Invalid, NotFound, Place, Problem
from tulle.gateway.apis.declared import ApiDeclared, ApiVersion, Override, Page, Target
from tulle.gateway.apis.misplaced import misplaced
from tulle.gateway.apis.schema import API_SCHEMA
from tulle.gateway.front import LARGEST_CA, External, MockAnswer, Upstream, check_url, is_address
from tulle.gateway.policies.listed import Written, read_policies
from tulle.serving.access import Access, read_access
from tulle.spec.document import Document
from tulle.spec.document import Path as Steps
from tulle.spec.load import Schema, load_document, validate
from tulle.spec.openapi_document import Operation, read_openapi
from tulle.spec.openapi_examples import example_answers
from tulle.spec.tier import LONGEST_TERMS, Offer, read_offer

FOLDER: Final = "apis"
LARGEST_PAGE: Final = 500_000  # bytes of a text for readers
LARGEST_MOCK: Final = 65_536  # bytes of one answer by an example; Envoy keeps them with its routes
MOST_MOCKED: Final = 1_000_000  # characters of all of a version
# As RFC 9110 has it, without what would end a header or begin another value in it.
_MEDIA: Final = re.compile(
    r'[\w!#$&^.+-]{1,64}/[\w!#$&^.+-]{1,64}(?:; ?[\w-]{1,32}=(?:[\w.+-]{1,64}|"[\w .:/+-]{0,64}"))*', re.ASCII
)
_SCHEMA: Final = Schema(API_SCHEMA)


class HasFolder(Protocol):
    """A product, as far as its APIs are concerned."""

    @property
    def name(self) -> str:
        """The product's name."""

    @property
    def folder(self) -> Path:
        """The folder that holds product.yaml and apis/."""

    @property
    def place(self) -> Place | None:
        """Where product.yaml was read, as people know it."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """An API as its file says, the OpenAPI documents of its versions as JSON, and where its parts are written."""

    api: ApiDeclared
    documents: Mapping[str, str]  # by version
    source: Document

    def problem(self, message: str, *steps: str | int, hint: str | None = None) -> Problem:
        """A problem with what is written at a path of the file."""
        return self.source.problem(message, steps, hint=hint)


def load_apis(product: HasFolder) -> tuple[Loaded, ...]:
    """Every API in the product's `apis/` folder, by name. Invalid with the problems of all files at once."""
    problems: list[Problem] = []
    found: dict[str, Loaded] = {}
    folder = product.folder / FOLDER
    label = str(Path(product.place.file).parent / FOLDER) if product.place else str(folder)
    for path in api_files(folder):
        try:
            loaded = load_api(path, product=product.name, name=f"{label}/{path.name}")
        except Invalid as exc:
            problems += exc.problems or [Problem(exc.message, Place(f"{label}/{path.name}"), exc.hint)]
            continue
        if (other := found.get(loaded.api.name)) is not None:
            told = f"the API '{loaded.api.name}' is also declared in {other.source.name}"
            problems.append(loaded.problem(told, "api"))
        found[loaded.api.name] = loaded
    if problems:
        count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
        raise Invalid(f"the APIs of product '{product.name}' are not valid: {count}", problems=problems)
    return tuple(found[name] for name in sorted(found))


def api_files(folder: Path) -> Sequence[Path]:
    """The files of a folder that declare an API each; OpenAPI documents beside them end in `.openapi.yaml`."""
    found = [*folder.glob("*.yaml"), *folder.glob("*.yml")]
    return sorted(path for path in found if not path.stem.endswith(".openapi"))


def load_api(source: Path | str, *, product: str, name: str = "") -> Loaded:
    """One API's file (a Path, or its text, which names no other files); Invalid with every problem and its place."""
    document = load_document(source, name=name)
    problems = validate(document, _SCHEMA)
    if not problems:
        reader = _Reader(document, source.parent if isinstance(source, Path) else None)
        api = reader.api(product)
        problems = reader.problems
        if not problems:
            return Loaded(api, reader.documents, document)
    unique = list(dict.fromkeys(problems))
    count = f"{len(unique)} problem{'s' if len(unique) > 1 else ''}"
    raise Invalid(f"{document.name} is not valid: {count}", problems=unique)


class _Reader:
    """Reads one file that its schema found well-formed; gathers what is wrong all the same."""

    def __init__(self, document: Document, folder: Path | None) -> None:
        self.document = document
        self.folder = folder
        self.problems: list[Problem] = []
        self.documents: dict[str, str] = {}

    def wrong(self, message: str, *steps: str | int, hint: str | None = None) -> None:
        """Note a problem with what is written at a path."""
        self.problems.append(self.document.problem(message, steps, hint=hint))

    def api(self, product: str) -> ApiDeclared:
        """The whole."""
        raw: Mapping[str, Any] = self.document.value
        seen: set[str] = set()
        for number, one in enumerate(raw["versions"]):
            if one["version"] in seen:
                self.wrong(f"version '{one['version']}' is declared twice", "versions", number, "version")
            seen.add(one["version"])
        visible = raw.get("visibility", "public")
        to: tuple[str, ...] = ()
        if isinstance(visible, dict):
            to = tuple(
                f"{kind}:{name}"
                for key, kind in (("domains", "domain"), ("roles", "role"))
                for name in visible.get(key, ())
            )
        return ApiDeclared(
            name=raw["api"],
            product=product,
            title=raw.get("title", ""),
            summary=raw.get("summary", ""),
            pages=tuple(
                Page(name, self._text(name, LARGEST_PAGE, "docs", number))
                for number, name in enumerate(raw.get("docs", ()))
            ),
            contact=dict(raw.get("contact", {})),
            visibility="restricted" if to else visible,
            visible_to=to,
            offer=self._offer(raw),
            tags=tuple(raw.get("tags", ())),
            objectives={name: float(value) for name, value in raw.get("objectives", {}).items()},
            versions=tuple(self._version(raw["api"], n, one) for n, one in enumerate(raw["versions"])),
        )

    def _offer(self, raw: Mapping[str, Any]) -> Offer:
        """Its tiers and terms; the terms may be in a file."""
        terms = raw.get("terms")
        if terms is not None and "file" in terms:
            terms = {
                "version": terms["version"],
                "text": self._text(terms["file"], LONGEST_TERMS, "terms", "file"),
            }
        told = {**raw, "terms": terms} if terms is not None else raw
        found, wrong = read_offer(replace(self.document, value=told))
        self.problems += wrong
        return found

    def _version(self, api: str, number: int, raw: Mapping[str, Any]) -> ApiVersion:
        at: Steps = ("versions", number)
        target = self._target(raw, at)
        operations: tuple[Operation, ...] = ()
        digest = ""
        if "openapi" in raw:
            operations, text = self._openapi(raw["openapi"], (*at, "openapi"))
            self.documents[raw["version"]] = text
            digest = hashlib.sha256(text.encode()).hexdigest()
        if "service" in raw and "openapi" in raw:
            hint = "leave it out: a service brings its own"
            self.wrong("a service is declared with an OpenAPI document", *at, "openapi", hint=hint)
        if "openapi" not in raw and raw.get("undeclared") == "refuse":
            hint = "give the external service's OpenAPI document as `openapi`"
            self.wrong("no operations are declared, so none would pass", *at, "undeclared", hint=hint)
        if "openapi" not in raw and "upstream" in raw and "undeclared" not in raw:
            hint = "give its OpenAPI document as `openapi`, or let all pass: `undeclared: allow`"
            self.wrong("it is not said which operations the external service has", *at, "upstream", hint=hint)
        access = Access()
        if "access" in raw:
            access, wrong = read_access(self.document, (*at, "access"), self.folder)
            self.problems += wrong
        path = raw.get("path", f"/{api}/{raw['version']}")
        if path == "/" and not raw.get("hosts"):
            self.wrong("the path '/' needs `hosts` of its own", *at, "path")
        overrides = {}
        for name, said in (raw.get("environments") or {}).items():
            overrides[name] = self._override(said or {}, (*at, "environments", name))
        written = self._policies(raw, at)
        made = ApiVersion(
            version=raw["version"],
            target=target,
            path=path,
            hosts=tuple(raw.get("hosts", ())),
            access=access,
            policies=tuple(one.as_plain() for one in written),
            is_published=bool(raw.get("publish", False)),
            allows_undeclared=raw.get("undeclared") == "allow" or "openapi" not in raw,
            operations=operations,
            openapi_digest=digest,
            environments=overrides,
        )
        for found in misplaced(made, written):
            self.wrong(found.message, *at, "policies", *found.steps, hint=found.hint)
        return replace(made, mocks=self._mocks(raw["version"], at)) if made.is_mocked else made

    def _mocks(self, version: str, at: Steps) -> tuple[MockAnswer, ...]:
        """What the gateway answers by the examples of the document."""
        text = self.documents.get(version)
        if text is None:
            hint = "give it as `openapi`, with examples of answers"
            self.wrong("there is no OpenAPI document with examples to answer by", *at, hint=hint)
            return ()
        if not text:  # what is wrong with it is told already
            return ()
        found = tuple(
            MockAnswer(one.method, one.path, one.status, one.name, one.media, one.body)
            for one in example_answers(json.loads(text))
        )
        for one in found:
            if one.media and not _MEDIA.fullmatch(one.media):
                told = f"the content type {one.media[:200]!r} of {one.method} {one.path} is none"
                self.wrong(told, *at, "openapi", hint="write one such as `application/json`")
            if (size := len(one.body.encode("utf-8", "replace"))) > LARGEST_MOCK:
                told = f"the example of {one.method} {one.path} has {size} bytes, at most {LARGEST_MOCK} are answered"
                self.wrong(told, *at, "openapi", hint="give a smaller one")
        if (size := sum(len(one.body) for one in found)) > MOST_MOCKED:
            told = f"its examples have {size} characters together, at most {MOST_MOCKED} are answered by"
            self.wrong(told, *at, "openapi", hint="give smaller ones")
        return found

    def _policies(self, raw: Mapping[str, Any], at: Steps) -> tuple[Written, ...]:
        if "policies" not in raw:
            return ()
        found, wrong = read_policies(self.document, (*at, "policies"))
        self.problems += wrong
        return found

    def _override(self, raw: Mapping[str, Any], at: Steps) -> Override:
        says = {"service", "generation", "upstream", "mock"} & raw.keys()
        return Override(
            target=self._target(raw, at) if says else None,
            path=raw.get("path"),
            hosts=tuple(raw["hosts"]) if "hosts" in raw else None,
        )

    def _target(self, raw: Mapping[str, Any], at: Steps) -> Target:
        if "service" in raw and "upstream" in raw:
            self.wrong("both a service and an external one are to answer", *at, "upstream", hint="keep one")
        if "generation" in raw and "service" not in raw:
            self.wrong("a generation is named without its service", *at, "generation")
        if raw.get("mock"):
            if known := {"service", "upstream"} & raw.keys():
                told = f"both examples and {'a service' if 'service' in known else 'an external one'} are to answer"
                self.wrong(told, *at, "mock", hint="keep one")
            return Target(mock=True)
        if "upstream" in raw:
            return Target(external=self._external(raw["upstream"], (*at, "upstream")))
        return Target(raw.get("service", ""), raw.get("generation", ""))

    def _external(self, raw: Any, at: Steps) -> External:
        said: Mapping[str, Any] = {"urls": [raw]} if isinstance(raw, str) else raw
        connection = said.get("connection", "")
        if connection and "urls" in said:
            hint = "leave `urls` out: the connection has the address, and nothing else is signed in to"
            self.wrong("both addresses and a connection are given", *at, "urls", hint=hint)
        if "urls" not in said and not connection:
            hint = "urls: [https://host/base], or connection: <name>"
            self.wrong("no address is given", *at, hint=hint)
            return External(())
        upstreams: list[Upstream] = []
        for number, one in enumerate(said.get("urls", ())):
            url, weight = (one, 1) if isinstance(one, str) else (one["url"], one.get("weight", 1))
            steps: Steps = at if isinstance(raw, str) else (*at, "urls", number)
            try:
                upstreams.append(Upstream(check_url(url).url, weight))
            except Invalid as exc:
                self.wrong(exc.message, *steps, hint=exc.hint)
        for message in alike(upstreams):
            self.wrong(message, *at, hint="give services that differ in that versions of their own")
        ca = self._certificates(said["ca_file"], (*at, "ca_file")) if "ca_file" in said else ""
        if ca and not connection and not any(one.is_secure for one in upstreams):
            self.wrong("certificates are of no use without https://", *at, "ca_file")
        health = said.get("health", {})
        return External(
            tuple(upstreams),
            ca,
            connect_seconds=float(said.get("connect_timeout", 2.0)),
            timeout_seconds=float(said.get("timeout", 30.0)),
            idle_seconds=float(said.get("idle_timeout", 60.0)),
            health_path=health.get("path", ""),
            health_seconds=float(health.get("interval", 10.0)),
            connection=connection,
        )

    def _openapi(self, raw: Any, at: Steps) -> tuple[tuple[Operation, ...], str]:
        if isinstance(raw, dict):
            operations, wrong = read_openapi(self.document, at)
            self.problems += wrong
            return operations, "" if wrong else _as_text(raw)
        file = self._file(raw, at)
        if file is None:
            return (), ""
        try:
            document = load_document(file, name=str(Path(self.document.name).parent / raw))
        except NotFound:
            self.wrong(f"there is no file '{raw}' below `{FOLDER}/`", *at)
            return (), ""
        except Invalid as exc:
            self.problems += exc.problems or [self.document.problem(exc.message, at, hint=exc.hint)]
            return (), ""
        operations, wrong = read_openapi(document)
        self.problems += wrong
        return operations, "" if wrong else _as_text(document.value)

    def _certificates(self, name: str, at: Steps) -> str:
        text = self._text(name, LARGEST_CA, *at)
        try:
            if text and not x509.load_pem_x509_certificates(text.encode()):
                raise ValueError
        except ValueError:
            self.wrong(f"'{name}' holds no certificates (PEM)", *at)
        return text

    def _text(self, name: str, most: int, *steps: str | int) -> str:
        """The text of a file that is named; empty, with a problem, when there is none to be had."""
        file = self._file(name, steps)
        if file is None:
            return ""
        try:
            with file.open("rb") as opened:
                data = opened.read(most + 1)
            if len(data) > most:
                self.wrong(f"'{name}' is larger than {most} bytes", *steps)
            return data[:most].decode()
        except OSError as exc:
            self.wrong(f"'{name}' cannot be read: {exc.strerror}", *steps)
        except UnicodeDecodeError:
            self.wrong(f"'{name}' is not UTF-8", *steps)
        return ""

    def _file(self, name: str, at: Steps) -> Path | None:
        if self.folder is None:
            self.wrong("a file cannot be named here", *at)
            return None
        path = (self.folder / name).resolve()
        if not path.is_relative_to(self.folder.resolve()):
            self.wrong(f"'{name}' is not below `{FOLDER}/`", *at)
            return None
        return path


def alike(upstreams: Sequence[Upstream]) -> Iterator[str]:
    """Why several addresses cannot be those of one service, if they cannot."""
    for what, values in (
        ("path", {one.base for one in upstreams}),
        ("scheme", {one.is_secure for one in upstreams}),
        ("kind of host (names or addresses)", {is_address(one.host) for one in upstreams}),
    ):
        if len(values) > 1:
            yield f"the addresses of one external service differ in their {what}"
    if len({(one.host, one.port) for one in upstreams}) < len(upstreams):
        yield "an address of the external service is given twice"


def _as_text(document: Any) -> str:
    return json.dumps(document, sort_keys=False, ensure_ascii=False)
