"""One call of the REST API: who asks for what, read strictly, and the answers in lakeFS's forms.

A handler demands the permission first, then does one thing with the lake. Knows no operation.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote_to_bytes

import msgspec

from tulle.errors import Invalid, NotFound
from tulle.lake.door import Incoming, Outgoing
from tulle.lake.repository import Lake, Repository
from tulle.lake.rest.forms import branch_of

if TYPE_CHECKING:
    from tulle.lake.access import Access

T = TypeVar("T")

JSON_BYTES = 1024 * 1024  # a body in JSON
PAGE = 100  # what a list answers unless asked for more
MAX_PAGE = 1000
JSON = ("content-type", "application/json")

_NOTHING: Mapping[str, object] = {}
_ENCODER = msgspec.json.Encoder()


@dataclass(slots=True)
class Call:
    """A request of a known caller for one operation. `parameters` are those of the path, decoded.

    `endpoint` is the URL callers know this server by, without a path; "" when it was not told.
    """

    request: Incoming
    lake: Lake
    access: Access
    user: str
    parameters: Mapping[str, str]
    endpoint: str = ""
    operation: str = ""
    _query: dict[str, list[str]] | None = field(default=None, repr=False)

    # ── what was asked ───────────────────────────────────────────────────────────────────────────────────

    def __getitem__(self, name: str) -> str:
        """A parameter of the path."""
        return self.parameters[name]

    def queries(self, name: str) -> list[str]:
        """Every value of a query parameter. Invalid when the query is no UTF-8."""
        if self._query is None:
            self._query = _parsed(self.request.raw_query)
        return self._query.get(name, [])

    def query(self, name: str, default: str = "") -> str:
        """The first value of a query parameter."""
        values = self.queries(name)
        return values[0] if values else default

    def needed(self, name: str) -> str:
        """A query parameter that must be there. Invalid without."""
        values = self.queries(name)
        if not values:
            raise Invalid(f"the query parameter '{name}' is missing")
        return values[0]

    def flag(self, name: str, *, default: bool = False) -> bool:
        """A query parameter that is true or false."""
        text = self.query(name).lower()
        if text in {"", "true", "1", "t", "false", "0", "f"}:
            return text in {"true", "1", "t"} if text else default
        raise Invalid(f"'{text}' is neither true nor false", hint=f"query parameter '{name}'")

    def number(self, name: str, default: int, least: int, most: int) -> int:
        """A whole number of the query within bounds."""
        text = self.query(name)
        if not text:
            return default
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if not least <= value <= most:
            raise Invalid(f"'{text[:40]}' cannot be '{name}'", hint=f"a whole number from {least} to {most}")
        return value

    def amount(self) -> int:
        """How many results a page may have; as lakeFS does, 0 and -1 stand for the default."""
        value = self.number("amount", PAGE, -1, 2**31)
        return min(value, MAX_PAGE) if value > 0 else PAGE

    def header(self, name: str) -> str:
        """A header by its lower-case name, "" when it is not there."""
        return self.request.header(name)

    def json(self, form: type[T], limit: int = JSON_BYTES) -> T:
        """The body, decoded. Invalid when it has another form, LimitExceeded beyond `limit` bytes."""
        return decoded(self.request.body(limit), form)

    # ── what is allowed and for whom ─────────────────────────────────────────────────────────────────────

    def demand(self, action: str, *resources: str) -> None:
        """Denied unless the caller may do `action` (fs:ReadObject …) on what the names name."""
        client = self.request.client
        if (
            self.request.is_hurried
            and not self.access.decide(self.user, action, *resources, client=client).allowed
        ):
            self.request.take_time()  # a denial is written down
        self.access.demand(self.user, action, *resources, client=client)

    def may(self, action: str, *resources: str) -> bool:
        """Whether `demand` would let it pass; leaves no trace."""
        return self.access.decide(self.user, action, *resources, client=self.request.client).allowed

    def demand_repository(self, action: str) -> None:
        """`demand` for the repository of the path."""
        self.demand(action, self.access.resource_repository(self["repository"]))

    def demand_branch(self, action: str, branch: str | None = None) -> None:
        """`demand` for a branch, that of the path unless it is named."""
        name = self["branch"] if branch is None else branch
        self.demand(action, self.access.resource_branch(self["repository"], name))

    def demand_object(self, action: str, branch: str, path: str) -> None:
        """`demand` for an object of the path's repository."""
        self.demand(action, *self.access.resource_object(self["repository"], branch, path))

    def note(self, kind: str, repository: str, **details: object) -> None:
        """Record in the trail a change of a repository as such; what is in it has logs of its own."""
        self.access.audit(self.user, kind, f"repository/{repository}", "done", **details)

    def demand_below(self, action: str, branch: str, prefix: str, repository: str = "") -> None:
        """`demand` for every object below a prefix, of the path's repository unless another is named."""
        names = self.access.resource_object(repository or self["repository"], branch, prefix)
        self.access.demand_below(self.user, action, *names)

    def demand_shown(self, ref: str, name: str) -> None:
        """Denied where a branch or tag, by holding what a ref holds, would show the caller more of it."""
        hidden, objects = branch_of(ref), self.access.resource_object
        if hidden == name:
            return
        names = objects(self["repository"], hidden, ""), objects(self["repository"], name, "")
        decision = self.access.decide_shown(self.user, "fs:ReadObject", *names)
        if not decision.allowed and not self._has(name, ref):
            self.access.refuse(self.user, "fs:ReadObject", f"all of '{ref}' by way of '{name}'", decision)

    def _has(self, name: str, ref: str) -> bool:
        repository = self.repository()
        try:
            commit = repository.resolve(ref)
            return repository.merge_base(commit, repository.resolve(f"{name}@")) == commit
        except NotFound:
            return False

    def repository(self, *, force: bool = False) -> Repository:
        """The repository of the path in the caller's hands; with `force` also a read-only one may be changed."""
        return self.lake.repository(self["repository"], actor=self.user, force=force)


def decoded(body: bytes, form: type[T]) -> T:
    """JSON as a value of a type. Invalid with what does not fit and where."""
    try:
        return msgspec.json.decode(body or b"null", type=form)
    except msgspec.ValidationError as exc:
        raise Invalid(f"the body does not fit: {exc}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise Invalid(f"the body is no JSON: {exc}") from None


def json_answer(value: Any, status: int = 200, headers: Sequence[tuple[str, str]] = ()) -> Outgoing:
    """An answer in JSON."""
    return Outgoing(status, _ENCODER.encode(value), (JSON, *headers))


def no_content(headers: Sequence[tuple[str, str]] = ()) -> Outgoing:
    """204."""
    return Outgoing(204, b"", headers)


def text_answer(text: str, status: int = 200) -> Outgoing:
    """An answer in plain text."""
    return Outgoing(status, text.encode(), (("content-type", "text/html; charset=utf-8"),))


def failed(
    message: str,
    status: int,
    headers: Sequence[tuple[str, str]] = (),
    fields: Mapping[str, object] = _NOTHING,
) -> Outgoing:
    """lakeFS's form of an error."""
    plain = message.encode("utf-8", "replace").decode()  # it may quote what is no UTF-8
    return json_answer({"message": plain, **fields}, status, headers)


def page_of(
    results: Sequence[Any], *, has_more: bool, next_offset: str = "", most: int = MAX_PAGE
) -> dict[str, Any]:
    """lakeFS's form of a page; `next_offset` is what `after` is to be for the next one."""
    return {
        "pagination": {
            "has_more": has_more,
            "next_offset": next_offset if has_more else "",
            "results": len(results),
            "max_per_page": most,
        },
        "results": results,
    }


def cut(found: Sequence[T], amount: int) -> tuple[Sequence[T], bool]:
    """The first `amount` of one more than were asked for, and whether that one is there."""
    return found[:amount], len(found) > amount


def paged(items: Iterable[tuple[str, Any]], call: Call) -> Outgoing:
    """A page of (name, value) pairs in the order of the names, which were found without a limit.

    For short lists; `prefix`, `after` and `amount` of the query are applied here.
    """
    prefix, after, amount = call.query("prefix"), call.query("after"), call.amount()
    found = [(name, value) for name, value in items if name.startswith(prefix) and name > after]
    kept, more = cut(found, amount)
    values = [value for _, value in kept]
    return json_answer(page_of(values, has_more=more, next_offset=kept[-1][0] if kept else ""))


def text_of(raw: bytes, what: str) -> str:
    """Percent-encoded bytes of an address as text. Invalid when they are no UTF-8 or hold a NUL."""
    try:
        text = unquote_to_bytes(raw).decode()
    except UnicodeDecodeError:
        raise Invalid(f"the {what} is not UTF-8") from None
    if "\0" in text:
        raise Invalid(f"the {what} holds a NUL character")
    return text


def _parsed(raw: bytes) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for pair in raw.split(b"&"):
        if pair:
            name, _, value = pair.replace(b"+", b" ").partition(b"=")
            found.setdefault(text_of(name, "query"), []).append(text_of(value, "query"))
    return found
