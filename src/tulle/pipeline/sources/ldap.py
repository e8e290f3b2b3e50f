"""A directory (LDAP) as a connection leads to it: over TLS that is checked, within a time, signed in or not.

Knows nothing of who is looked for. `ldap3` is imported late: few meshes have a directory.
"""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import certifi

from tulle.errors import Denied, Invalid, Unavailable
from tulle.state.connections import Connection

TIMEOUT: Final = 10.0  # seconds, where nothing else is said
_HINT: Final = "check it with `tulle connection test`"


def opened(
    address: str,
    options: Mapping[str, str],
    user: str,
    password: str,
    *,
    seconds: float = TIMEOUT,
) -> Any:
    """An `ldap3.Connection` that is signed in as this user, by his distinguished name; empty: as nobody.

    Denied where name and password do not fit, Unavailable where the directory does not answer as it should. `ldaps://`
    is TLS from the beginning; with `ldap://` it begins by StartTLS, unless the option `tls=none` says otherwise.
    """
    ldap3 = _library()
    from ldap3.core.exceptions import LDAPException  # noqa: PLC0415

    parts = urlsplit(address)
    import ssl  # noqa: PLC0415

    with warnings.catch_warnings():  # of what the library uses of others
        warnings.simplefilter("ignore")
        try:
            tls = ldap3.Tls(validate=ssl.CERT_REQUIRED, ca_certs_file=options.get("ca_file") or _trusted())
            server = ldap3.Server(
                parts.hostname,
                parts.port or (636 if parts.scheme == "ldaps" else 389),
                use_ssl=parts.scheme == "ldaps",
                tls=tls,
                get_info=ldap3.NONE,
                connect_timeout=seconds,
            )
            found = ldap3.Connection(
                server,
                user or None,
                password or None,
                authentication=ldap3.SIMPLE if user else ldap3.ANONYMOUS,
                receive_timeout=math.ceil(seconds),  # it takes whole ones alone
                read_only=True,
                auto_referrals=False,
            )
            try:
                found.open(read_server_info=False)
                if parts.scheme == "ldap" and options.get("tls") != "none":
                    found.start_tls(read_server_info=False)
                if not found.bind(read_server_info=False):
                    demand_fits(found.result)
            except BaseException:
                if found.socket is not None:  # it is left open where nobody answered
                    with contextlib.suppress(OSError):
                        found.socket.close()
                raise
        except (LDAPException, OSError) as exc:
            raise Unavailable(
                f"the directory at {address} does not answer: {exc}"[:300], hint=_HINT
            ) from None
    return found


def demand_fits(result: Mapping[str, Any]) -> None:
    """Denied for an answer which says that name and password do not fit, Unavailable for any other that is not well."""
    # invalidCredentials, noSuchObject, invalidDNSyntax, inappropriateAuthentication, constraintViolation, unwilling
    if result["result"] in {49, 32, 34, 48, 19, 53}:
        raise Denied("the directory does not take this name and password")
    raise Unavailable(f"the directory says '{result['description']}'", hint=_HINT)


def ping(connection: Connection) -> str:
    """Sign in as the connection says. Denied, Unavailable."""
    user, password = connection.options.get("user", ""), connection.secrets.get("password", "")
    found = opened(connection.address, connection.options, user, password)
    found.unbind()
    return f"the directory answers{f', signed in as {user}' if user else ''}"


def _library() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import ldap3  # noqa: PLC0415
    except ImportError:
        raise Invalid(
            "what speaks to a directory is not installed", hint="pip install 'tulle[ldap]'"
        ) from None
    return ldap3


def _trusted() -> str:
    import ssl  # noqa: PLC0415

    return ssl.get_default_verify_paths().cafile or certifi.where()
