"""The mesh's own authority: what signs the certificates of its parts, and which authorities are trusted meanwhile.

An authority is a root and an intermediate; their keys are encrypted in the database. A new one is trusted before it
signs anything, so that whoever meets its certificates knows it already, and the one before is trusted until all that it
signed has ended. Knows the rows of one table; nothing of files and of who needs certificates.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection as Cx
from sqlalchemy import Row, delete, insert, select, update

from tulle.errors import Broken, Conflict
from tulle.events import AUTHORITY_ENDED, AUTHORITY_MADE, Event
from tulle.gateway.trust.certificate import (
    SKEW_SECONDS,
    Facts,
    Pair,
    facts,
    make_intermediate,
    make_leaf,
    make_root,
)
from tulle.gateway.trust.identity import Identity, domain_of
from tulle.state import log
from tulle.state.db import Database, in_turn, now
from tulle.state.secrets import Secrets, open_secrets
from tulle.state.tables import authorities as table

DAY: Final = 86_400.0
_known_facts = lru_cache(maxsize=64)(facts)  # they are asked for many times a second


@dataclass(frozen=True, slots=True)
class Lives:
    """How long what is signed holds, in seconds; parameters, so that tests need not wait."""

    root: float = 3650 * DAY
    intermediate: float = 90 * DAY
    leaf: float = DAY
    spread: float = 5.0  # for which a new authority is trusted before it signs

    @property
    def renewed_after(self) -> float:
        """The age at which a leaf is made anew: two thirds of its life are left for whoever could not."""
        return self.leaf / 3

    @property
    def overlap(self) -> float:
        """For how long after a new authority signs the one before is trusted: until all that it signed has ended."""
        return self.leaf + SKEW_SECONDS


@dataclass(frozen=True, slots=True)
class Authority:
    """What may be known of an authority: its certificates, PEM, and when it signs and is trusted.

    `trusted_until` is when it ends for having been replaced; None while it is not.
    """

    id: str
    domain: str
    root: str
    intermediate: str
    created_at: float
    issues_from: float
    trusted_until: float | None
    root_facts: Facts
    intermediate_facts: Facts


class Authorities:
    """The authorities of one mesh."""

    def __init__(self, database: Database, key_file: Path, lives: Lives = Lives()) -> None:
        self._database = database
        self._key_file = key_file
        self.lives = lives

    def known(self) -> tuple[Authority, ...]:
        """Every authority, the newest first."""
        with self._database.read() as cx:
            return _known(cx)

    def trusted(self, at: float) -> tuple[Authority, ...]:
        """Those that are trusted at a time, the newest first; also one that does not sign yet."""
        return tuple(one for one in self.known() if one.trusted_until is None or at < one.trusted_until)

    def keep(self, mesh: str, at: float | None = None) -> tuple[Authority, ...]:
        """See to it that there is an authority that signs, and will; those that are trusted.

        The first is made for the mesh called `mesh`. One whose root has used nine tenths of its life is replaced, an
        intermediate two thirds of its own; one that is trusted no more is forgotten with its keys.
        """
        at = now() if at is None else at
        known = self.known()
        if self._is_kept(known, at):
            return known
        with self._database.write() as cx:
            in_turn(cx, "authorities")
            known = _known(cx)
            if not known:
                self._add(cx, domain_of(mesh), at, issues_from=at, overlap=self.lives.overlap)
            elif _used(known[0].root_facts, at) >= 0.9:
                self._add(
                    cx, known[0].domain, at, issues_from=at + self.lives.spread, overlap=self.lives.overlap
                )
            for one in known:
                if one.trusted_until is not None and at >= one.trusted_until:
                    _end(cx, one)
                elif _used(one.intermediate_facts, at) >= 2 / 3:
                    self._renew_intermediate(cx, one, at)
            return _known(cx)

    def rotate(self, *, at_once: bool = False, actor: str = "", at: float | None = None) -> Authority:
        """Replace the authority; the new one. Conflict while one that was made before does not sign yet.

        `at_once`: what the old ones signed is trusted no more from this moment on, as when a key was stolen.
        """
        at = now() if at is None else at
        with self._database.write() as cx:
            in_turn(cx, "authorities")
            known = _known(cx)
            if not known:
                raise Conflict(
                    "the mesh has no authority that could be replaced",
                    hint="it is made when `mutual_tls: true` is in mesh.yaml and the mesh starts",
                )
            if known[0].issues_from > at and not at_once:
                raise Conflict(
                    f"authority '{known[0].id}' was made a moment ago and does not sign yet",
                    hint=f"again in {known[0].issues_from - at:.0f} s, or now with --at-once",
                )
            wait = 0.0 if at_once else self.lives.spread
            overlap = 0.0 if at_once else self.lives.overlap
            id_ = self._add(
                cx, known[0].domain, at, issues_from=at + wait, overlap=overlap, actor=actor, sudden=at_once
            )
            for one in known if at_once else ():
                _end(cx, one, actor)
            return next(one for one in _known(cx) if one.id == id_)

    def issue(self, identity: Identity, at: float | None = None, *, by: str | None = None) -> Pair:
        """A certificate for a part, signed by who signs now, or by the authority of that id. Broken: there is none."""
        at = now() if at is None else at
        with self._database.read() as cx:
            known = _known(cx)
            signing = issuer(known, at) if by is None else next((o for o in known if o.id == by), None)
            if signing is None:
                raise Broken(f"authority '{by}' ended a moment ago", hint="the next one signs; try again")
            sealed = cx.execute(select(table.c.sealed).where(table.c.id == signing.id)).scalar_one()
        keys = self._opened(self._secrets(make=False), signing.id, sealed)
        return make_leaf(Pair(signing.intermediate, keys["intermediate"]), identity, at, self.lives.leaf)

    def _is_kept(self, known: Sequence[Authority], at: float) -> bool:
        return bool(known) and not (
            _used(known[0].root_facts, at) >= 0.9
            or any(one.trusted_until is not None and at >= one.trusted_until for one in known)
            or any(_used(one.intermediate_facts, at) >= 2 / 3 for one in known)
        )

    def _add(
        self,
        cx: Cx,
        domain: str,
        at: float,
        *,
        issues_from: float,
        overlap: float,
        actor: str = "",
        sudden: bool = False,
    ) -> str:
        id_ = secrets.token_hex(8)
        root = make_root(domain, id_, at, self.lives.root)
        intermediate = make_intermediate(root, domain, id_, at, self.lives.intermediate)
        cx.execute(
            insert(table).values(
                id=id_,
                domain=domain,
                root=root.certificate,
                intermediate=intermediate.certificate,
                sealed=self._sealed(id_, root.key, intermediate.key),
                created_at=at,
                issues_from=issues_from,
                overlap_seconds=overlap,
            )
        )
        told = {"domain": domain, "issues_from": issues_from, "at_once": sudden}
        log.append(cx, Event(AUTHORITY_MADE, id_, told), actor=actor)
        return id_

    def _renew_intermediate(self, cx: Cx, one: Authority, at: float) -> None:
        sealed = cx.execute(select(table.c.sealed).where(table.c.id == one.id)).scalar_one()
        keys = self._opened(self._secrets(make=False), one.id, sealed)
        root = Pair(one.root, keys["root"])
        made = make_intermediate(root, one.domain, one.id, at, self.lives.intermediate)
        values = {
            "intermediate": made.certificate,
            "sealed": self._sealed(one.id, keys["root"], made.key),
        }
        cx.execute(update(table).where(table.c.id == one.id).values(**values))

    def _secrets(self, *, make: bool = True) -> Secrets:
        return open_secrets(self._key_file, make=make)

    def _sealed(self, id_: str, root: str, intermediate: str) -> bytes:
        content = json.dumps({"root": root, "intermediate": intermediate})
        return self._secrets().encrypt(content, _purpose(id_))

    def _opened(self, by: Secrets, id_: str, sealed: bytes) -> dict[str, str]:
        try:
            found = json.loads(by.decrypt(sealed, _purpose(id_)))
            return {"root": str(found["root"]), "intermediate": str(found["intermediate"])}
        except (ValueError, KeyError, TypeError):
            raise Broken(f"what is kept of authority '{id_}' cannot be read") from None


def issuer(known: Sequence[Authority], at: float) -> Authority:
    """The newest authority that signs at a time; the oldest where a clock was put back. Broken: there is none."""
    for one in known:
        if one.issues_from <= at:
            return one
    if not known:
        raise Broken("the mesh has no authority yet", hint="`tulle up` makes it where mesh.yaml asks for it")
    return known[-1]


def _end(cx: Cx, one: Authority, actor: str = "") -> None:
    cx.execute(delete(table).where(table.c.id == one.id))
    log.append(cx, Event(AUTHORITY_ENDED, one.id, {"domain": one.domain}), actor=actor)


def _known(cx: Cx) -> tuple[Authority, ...]:
    order = (table.c.issues_from.desc(), table.c.created_at.desc(), table.c.id)
    rows = cx.execute(select(table).order_by(*order)).all()
    found = [_value(row) for row in rows]
    # Each ends a while after the one that came next began to sign.
    ends = [None, *(row.issues_from + row.overlap_seconds for row in rows)]
    return tuple(replace(one, trusted_until=end) for one, end in zip(found, ends, strict=False))


def _value(row: Row[Any]) -> Authority:
    return Authority(
        row.id,
        row.domain,
        row.root,
        row.intermediate,
        row.created_at,
        row.issues_from,
        None,
        _known_facts(row.root),
        _known_facts(row.intermediate),
    )


def _used(about: Facts, at: float) -> float:
    """Which part of its life a certificate has behind it; none where it has not begun."""
    if at < about.begins_at:
        return 0.0
    return (at - about.begins_at) / (about.ends_at - about.begins_at)


def _purpose(id_: str) -> str:
    return f"authority {id_}"
