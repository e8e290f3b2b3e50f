"""The versions of the gateway's policy: a numbered one whenever something else is published, with when and why.

A version is a list of parts, each kept once under the digest of its content: a service each, clients and contracts in
shares, so that a change among a thousand services or ten thousand applications adds a few kilobytes. What follows from
what runs (where workers listen, which generation is leaving) is no part of a version. Secrets are in none: of them the
policy has hashes alone. Knows nothing of Envoy and not who publishes.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

import msgspec
from sqlalchemy import Connection as Cx
from sqlalchemy import Row, delete, insert, select

from tulle import events as known_events
from tulle.errors import Broken, Invalid, NotFound
from tulle.gateway.policy import Backend, Client, Contract, GatewayPolicy, ManagedService
from tulle.state import log
from tulle.state.db import Database, in_turn, now
from tulle.state.tables import events as event_rows
from tulle.state.tables import gateway_parts, gateway_pins, gateway_versions

SHARES: Final = 64  # of clients, and of contracts
KEPT: Final = 100  # the newest; of older ones the last of each day
KEPT_DAYS: Final = 90
_SPARE: Final = 20  # by how many there may be more, before those that are too many are removed
MOST_CAUSES: Final = 20
_DAY: Final = 86_400.0
_LENGTH: Final = 16  # bytes of a digest
_AT_A_TIME: Final = 400  # parts in one statement

# Facts after which the gateway is told something else.
_BEGINNINGS: Final = (
    *("product.applied", "product.destroyed", "generation.", "service.", "application.", "service_key."),
    *("contract.", "offer.", "api.", "gateway.pinned", "gateway.resumed", "mesh."),
)
CAUSES: Final = tuple(
    value
    for name, value in vars(known_events).items()
    if name.isupper()
    and isinstance(value, str)
    and value.startswith(_BEGINNINGS)
    and value not in {"service.drift", "service.replayed", "service.written"}
)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Cause:
    """A fact that came before a version: what happened (`kind`) to what, by whom, when."""

    kind: str
    subject: str
    actor: str
    at: float


@dataclass(frozen=True, slots=True)
class Version:
    """A version without its content. `causes`, the newest first, are none where settings or Tulle itself changed."""

    number: int
    at: float
    digest: str
    services: int
    clients: int
    contracts: int
    causes: tuple[Cause, ...]

    @property
    def by(self) -> str:
        """Who caused it last, as far as that is known."""
        return next((one.actor for one in self.causes if one.actor), "")

    @property
    def reason(self) -> str:
        """What caused it, in a few words."""
        if not self.causes:
            return "settings of the mesh, or another Tulle"
        first = self.causes[0]
        more = f" and {len(self.causes) - 1} more" if len(self.causes) > 1 else ""
        return f"{first.kind} {first.subject}{more}"


class _Index(msgspec.Struct, frozen=True, array_like=True):
    """Which parts a version has: digests, one after the other."""

    services: bytes
    clients: bytes
    contracts: bytes


class Versions:
    """Notes versions. One a process that publishes; what it made of a service before it need not make again."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._last: bytes | None = None  # the index of the newest one
        self._made: dict[str, tuple[ManagedService, bytes, bytes | None]] = {}
        self._shared: dict[str, tuple[object, bytes, Mapping[bytes, bytes]]] = {}

    def note(self, policy: GatewayPolicy, until: int | None = None) -> Version | None:
        """Keep a policy that was published just now, unless the newest version is the same; the one that was made.

        `until` is the last event (`state.log.newest`) before the policy was read: what happened since is not in it,
        and is a cause of the next version. Without it nothing has happened since.
        """
        fresh: dict[bytes, bytes] = {}
        index = msgspec.msgpack.encode(
            _Index(
                b"".join(self._service(one, fresh) for one in policy.services),
                self._share("clients", policy.clients, lambda one: one.client_id, fresh),
                self._share("contracts", policy.contracts, lambda one: one.client_id, fresh),
            )
        )
        if index == self._last:
            return None
        with self._database.write() as cx:
            in_turn(cx, "gateway_versions")
            newest = cx.execute(
                select(gateway_versions).order_by(gateway_versions.c.number.desc()).limit(1)
            ).one_or_none()
            if newest is not None and newest.parts == index:
                self._last = index
                return None
            _add_parts(cx, fresh)
            after = newest.event_id if newest is not None else 0
            version = _add(cx, policy, index, after, until)
            _thin(cx, version.at)
        self._last = index
        known = {one.path for one in policy.services}
        self._made = {
            path: (one, digest, None) for path, (one, digest, _) in self._made.items() if path in known
        }
        self._shared = {what: (of, digests, {}) for what, (of, digests, _) in self._shared.items()}
        return version

    def _service(self, one: ManagedService, fresh: dict[bytes, bytes]) -> bytes:
        made = self._made.get(one.path)
        if made is None or made[0] is not one:
            content = msgspec.json.encode(plain(one))
            digest = _digest(content)
            is_known = made is not None and made[1] == digest and made[2] is None and self._last is not None
            made = self._made[one.path] = (one, digest, None if is_known else zlib.compress(content, 1))
        if made[2] is not None:
            fresh[made[1]] = made[2]
        return made[1]

    def _share(self, what: str, of: Sequence[T], key: Callable[[T], str], fresh: dict[bytes, bytes]) -> bytes:
        made = self._shared.get(what)
        if made is None or made[0] is not of:
            shares: list[list[T]] = [[] for _ in range(SHARES)]
            for one in of:
                shares[zlib.crc32(key(one).encode()) % SHARES].append(one)
            contents = [msgspec.json.encode(share) for share in shares]
            digests = [_digest(content) for content in contents]
            before = made[1] if made is not None else b""
            known = {before[at : at + _LENGTH] for at in range(0, len(before), _LENGTH)}
            left = dict(made[2]) if made is not None else {}
            more = {d: zlib.compress(c, 1) for d, c in zip(digests, contents, strict=True) if d not in known}
            made = self._shared[what] = (of, b"".join(digests), {**left, **more})
        fresh.update(made[2])
        return made[1]


def plain(service: ManagedService) -> ManagedService:
    """A service without what follows from what runs: where workers listen, who is leaving, by which certificate."""
    mounted = tuple(Backend(name, ()) for name in sorted(service.traffic.mounted)) if service.traffic else ()
    return replace(service, upstreams=(), backends=mounted, identity="")


def versions(database: Database, *, limit: int = 50, before: int | None = None) -> Sequence[Version]:
    """The versions there are, the newest first."""
    query = select(gateway_versions).order_by(gateway_versions.c.number.desc()).limit(limit)
    if before is not None:
        query = query.where(gateway_versions.c.number < before)
    with database.read() as cx:
        return [_version(row) for row in cx.execute(query)]


def version(database: Database, number: int | None = None) -> Version:
    """The version of that number, or the newest. NotFound."""
    with database.read() as cx:
        return _version(_row(cx, number))


def policy_of_version(database: Database, number: int) -> GatewayPolicy:
    """What a version is. NotFound; Broken when it cannot be read any more."""
    with database.read() as cx:
        index = msgspec.msgpack.decode(_row(cx, number).parts, type=_Index)
        wanted = [*_cut(index.services), *_cut(index.clients), *_cut(index.contracts)]
        contents: dict[str, bytes] = {}
        names = sorted({one.hex() for one in wanted})
        for start in range(0, len(names), _AT_A_TIME):
            query = select(gateway_parts).where(gateway_parts.c.digest.in_(names[start : start + _AT_A_TIME]))
            contents |= {row.digest: row.content for row in cx.execute(query)}
    try:
        return GatewayPolicy(
            tuple(_read(contents, one, ManagedService) for one in _cut(index.services)),
            tuple(_joined(contents, index.clients, list[Client], lambda one: one.client_id)),
            tuple(
                _joined(
                    contents,
                    index.contracts,
                    list[Contract],
                    lambda one: (one.service, one.client_id, one.environment or ""),
                )
            ),
        )
    except (LookupError, ValueError, zlib.error, Invalid) as exc:
        raise Broken(
            f"version {number} of the gateway cannot be read: {exc}",
            hint="an earlier Tulle may have made it; `tulle gateway versions` lists the others",
        ) from None


def _read(contents: Mapping[str, bytes], digest: bytes, kind: type[T]) -> T:
    return msgspec.json.decode(zlib.decompress(contents[digest.hex()]), type=kind)


def _joined(contents: Mapping[str, bytes], digests: bytes, kind: Any, key: Callable[[Any], Any]) -> list[Any]:
    found = [one for digest in _cut(digests) for one in _read(contents, digest, kind)]
    return sorted(found, key=key)


def _cut(digests: bytes) -> list[bytes]:
    return [digests[at : at + _LENGTH] for at in range(0, len(digests), _LENGTH)]


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()[:_LENGTH]


def _row(cx: Cx, number: int | None) -> Row[Any]:
    query = select(gateway_versions).order_by(gateway_versions.c.number.desc()).limit(1)
    if number is not None:
        query = query.where(gateway_versions.c.number == number)
    row = cx.execute(query).one_or_none()
    if row is None:
        told = (
            f"there is no version {number} of the gateway"
            if number is not None
            else "nothing was published yet"
        )
        raise NotFound(told, hint="`tulle gateway versions` lists those that are kept")
    return row


def _version(row: Row[Any]) -> Version:
    causes = tuple(Cause(**one) for one in row.causes)
    return Version(row.number, row.at, row.digest, row.services, row.clients, row.contracts, causes)


def _add(cx: Cx, policy: GatewayPolicy, index: bytes, after: int, until: int | None) -> Version:
    last = max(after, until if until is not None else log.newest(cx))
    found = cx.execute(
        select(event_rows)
        .where(event_rows.c.id > after, event_rows.c.id <= last, event_rows.c.kind.in_(CAUSES))
        .order_by(event_rows.c.id.desc())
        .limit(MOST_CAUSES)
    ).all()
    causes = [{"kind": r.kind, "subject": r.subject, "actor": r.actor, "at": r.at} for r in found]
    row = cx.execute(
        insert(gateway_versions)
        .values(
            at=now(),
            digest=hashlib.sha256(index).hexdigest()[:16],
            parts=index,
            services=len(policy.services),
            clients=len(policy.clients),
            contracts=len(policy.contracts),
            causes=causes,
            event_id=last,
        )
        .returning(gateway_versions)
    ).one()
    return _version(row)


def _add_parts(cx: Cx, fresh: Mapping[bytes, bytes]) -> None:
    named = {digest.hex(): content for digest, content in fresh.items()}
    names = sorted(named)
    for start in range(0, len(names), _AT_A_TIME):
        some = names[start : start + _AT_A_TIME]
        there = set(
            cx.execute(select(gateway_parts.c.digest).where(gateway_parts.c.digest.in_(some))).scalars()
        )
        rows = [{"digest": name, "content": named[name]} for name in some if name not in there]
        if rows:
            cx.execute(insert(gateway_parts), rows)


def _thin(cx: Cx, at: float) -> None:
    """Forget versions that are too many, and parts that are of none any more."""
    known = cx.execute(
        select(gateway_versions.c.number, gateway_versions.c.at).order_by(gateway_versions.c.number.desc())
    ).all()
    pinned = set(
        cx.execute(select(gateway_pins.c.version).where(gateway_pins.c.ended_at.is_(None))).scalars()
    )
    gone = surplus([(row.number, row.at) for row in known], pinned, at)
    if len(gone) < _SPARE:
        return
    cx.execute(delete(gateway_versions).where(gateway_versions.c.number.in_(gone)))
    used: set[bytes] = set()
    for index in cx.execute(select(gateway_versions.c.parts)).scalars():
        one = msgspec.msgpack.decode(index, type=_Index)
        used.update(_cut(one.services), _cut(one.clients), _cut(one.contracts))
    names = {one.hex() for one in used}
    unused = [name for name in cx.execute(select(gateway_parts.c.digest)).scalars() if name not in names]
    for start in range(0, len(unused), _AT_A_TIME):
        cx.execute(
            delete(gateway_parts).where(gateway_parts.c.digest.in_(unused[start : start + _AT_A_TIME]))
        )


def surplus(known: Iterable[tuple[int, float]], pinned: Iterable[int], at: float) -> list[int]:
    """Which of the versions, number and time, the newest first, are to be forgotten."""
    kept, gone, days = set(pinned), [], set()
    for place, (number, made_at) in enumerate(known):
        day = int(made_at // _DAY)
        is_last_of_its_day = day not in days and at - made_at < KEPT_DAYS * _DAY
        days.add(day)
        if place >= KEPT and not is_last_of_its_day and number not in kept:
            gone.append(number)
    return gone
