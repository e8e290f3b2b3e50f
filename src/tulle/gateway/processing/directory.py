"""Callers whom a directory knows (LDAP): found by their name, signed in with their password, seen in their groups.

On threads of its own, few of them, so that a slow directory holds up nobody else; one that does not answer lets nobody
in. Directories take a name however its letters are written, so a caller is known by it in small letters. What a caller
writes is escaped where it stands in a filter or a name (RFC 4515, RFC 4514).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from tulle.errors import Denied, Invalid, Unavailable
from tulle.gateway.processing.basic_users import (
    BasicCheck,
    missing_password,
    name_and_password,
    not_in_group,
    wrong_password,
)
from tulle.gateway.processing.checking import Found, unavailable_now
from tulle.gateway.processing.handed import HandedConnection
from tulle.pipeline.sources import ldap

AT_ONCE: Final = 8  # callers that are asked for
MOST_GROUPS: Final = 200  # of a caller that are told
USER: Final = "{user}"
DN: Final = "{dn}"
_log = logging.getLogger("tulle.processing")
Connect = Callable[[], HandedConnection | None]


class Directory(BasicCheck):
    """The callers of one policy."""

    def __init__(self, settings: Mapping[str, Any], key: bytes, connect: Connect) -> None:
        self._each = float(settings.get("timeout", 5))
        super().__init__(key, float(settings.get("cache", 60)), missing_password(), patience=self._each * 2)
        self._connect = connect
        self._user_dn = str(settings.get("user_dn", ""))
        self._base = str(settings.get("base", ""))
        self._filter = str(settings.get("filter", f"(uid={USER})"))
        self._group_base = str(settings.get("group_base", "")) or self._base
        self._group_filter = str(
            settings.get("group_filter", f"(|(member={DN})(uniqueMember={DN})(memberUid={USER}))")
        )
        self._group_name = str(settings.get("group_name", "cn"))
        self._groups = frozenset(settings.get("groups", ()))
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="directory")

    def claimed(self, credentials: bytes) -> str:
        return super().claimed(credentials).casefold()

    async def find(self, credentials: bytes) -> Found:
        both, connection = name_and_password(credentials), self._connect()
        if both is None:
            raise wrong_password()
        if connection is None:
            raise RuntimeError("the connection that the policy names is not there")
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._threads, self._looked_up, connection, *both)
        except Denied:
            raise wrong_password() from None
        except Unavailable as exc:
            _log.warning("%s", exc.message)
            raise unavailable_now("The directory of users does not answer now") from None

    def may(self, found: Found) -> None:
        if self._groups and not self._groups & set(found.claims["groups"]):
            raise not_in_group()

    def close(self) -> None:
        super().close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    # ── on a thread ──────────────────────────────────────────────────────────────────────────────────────

    def _looked_up(self, connection: HandedConnection, name: str, password: str) -> Found:
        looking: Any = None
        try:
            if self._user_dn:
                dn = self._user_dn.replace(USER, in_name(name))
            else:
                looking = self._signed_in(connection)
                dn = self._dn_of(looking, name)
            own = ldap.opened(connection.address, connection.options, dn, password, seconds=self._each)
            try:
                groups: list[str] = []
                if self._groups:
                    if looking is None and connection.user:
                        looking = self._signed_in(connection)
                    groups = self._groups_of(looking or own, name, dn)
            finally:
                own.unbind()
        finally:
            if looking is not None:
                looking.unbind()
        known = name.casefold()
        if self._user_dn:
            dn = self._user_dn.replace(USER, in_name(known))
        return Found(known, {"sub": known, "dn": dn, "groups": groups})

    def _signed_in(self, connection: HandedConnection) -> Any:
        try:
            return ldap.opened(
                connection.address,
                connection.options,
                connection.user,
                connection.password,
                seconds=self._each,
            )
        except Denied as exc:  # it is the mesh that is not let in, and not the caller
            raise Unavailable(f"the mesh itself is not let in: {exc.message}") from None

    def _dn_of(self, looking: Any, name: str) -> str:
        found, _ = _searched(looking, self._base, self._filter.replace(USER, in_filter(name)), ["1.1"], 2)
        if len(found) != 1:  # nobody, or it is not said who
            raise Denied("nobody has this name")
        return str(found[0]["dn"])

    def _groups_of(self, looking: Any, name: str, dn: str) -> list[str]:
        said = self._group_filter.replace(DN, in_filter(dn)).replace(USER, in_filter(name))
        found, is_cut = _searched(looking, self._group_base, said, [self._group_name], MOST_GROUPS)
        if is_cut:  # those that are asked for may be among the others
            asked = "".join(f"({self._group_name}={in_filter(one)})" for one in sorted(self._groups))
            more = f"(&{said}(|{asked}))"
            found += _searched(looking, self._group_base, more, [self._group_name], MOST_GROUPS)[0]
        values = [value for one in found for value in one["attributes"].get(self._group_name, [])]
        return sorted({str(value) for value in values})


def directory(settings: Mapping[str, Any], key: bytes, connect: Connect) -> Directory:
    """The step of a policy's settings. Invalid when they cannot be meant."""
    if not settings.get("connection"):
        raise Invalid("ldap: the connection to the directory is not said", hint="connection: NAME")
    for where, text in (("filter", settings.get("filter")), ("user_dn", settings.get("user_dn"))):
        if text is not None and USER not in text:
            raise Invalid(
                f"ldap: '{where}' does not say where the caller's name stands", hint=f"write {USER} there"
            )
    if bool(settings.get("user_dn")) == bool(settings.get("base")):
        raise Invalid(
            "ldap: how callers are found is said twice, or not at all",
            hint="give `base`, below which they are looked for, or `user_dn`, which is their name in the directory",
        )
    if settings.get("groups") and not (settings.get("base") or settings.get("group_base")):
        raise Invalid("ldap: where groups are is not said", hint="give `group_base`")
    for where in ("filter", "group_filter"):
        _check_filter(where, str(settings.get(where, "(a=b)")))
    return Directory(settings, key, connect)


def in_filter(text: str) -> str:
    """A value as it stands in a filter (RFC 4515, 3)."""
    return "".join(one if one.isascii() and one.isalnum() else _hex(one) for one in text)


def in_name(text: str) -> str:
    """A value as it stands in a distinguished name (RFC 4514, 2.4)."""
    return "".join(one if one.isascii() and one.isalnum() else _hex(one) for one in text)


def _hex(sign: str) -> str:
    return "".join(f"\\{octet:02x}" for octet in sign.encode())


def _check_filter(where: str, text: str) -> None:
    depth = 0
    for sign in text:
        depth += {"(": 1, ")": -1}.get(sign, 0)
        if depth < 0:
            break
    if depth or not (text.startswith("(") and text.endswith(")")):
        raise Invalid(
            f"ldap: '{where}' is no filter", hint="such as (uid={user}), or (&(uid={user})(mail=*))"
        )


def _searched(
    looking: Any, base: str, said: str, attributes: list[str], most: int
) -> tuple[list[Mapping[str, Any]], bool]:
    """The entries below `base` that a filter finds, at most so many, and whether there are more.

    Unavailable; Denied where they may not be seen.
    """
    from ldap3.core.exceptions import LDAPException  # noqa: PLC0415  few services have such a policy

    try:
        looking.search(base, said, attributes=attributes, size_limit=most)
    except (LDAPException, OSError) as exc:
        raise Unavailable(f"the directory cannot be searched: {exc}"[:300]) from None
    if looking.result["result"] not in {0, 4, 32}:  # well, more than the limit, or nothing below that name
        raise Unavailable(f"the directory says '{looking.result['description']}' to a search")
    found = [one for one in looking.response or () if one.get("type") == "searchResEntry"]
    return found, looking.result["result"] == 4
