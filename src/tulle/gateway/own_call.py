"""How parts of a mesh call its own gateway: as its callers do, and believing its own certificate alone.

Whatever name and whoever's signature the certificate has: that it is the one in this mesh's files is what counts, so
the gateway of a certificate for another name is met at its address of this machine all the same.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any, Final

import httpx
from cryptography import x509

from tulle.config import Settings
from tulle.errors import Unavailable
from tulle.gateway.door_certificate import AUTHORITY, SHOWN, names_in
from tulle.serving.own_certificate import pinned

NAME_EXTENSION: Final = "sni_hostname"  # under which httpx and httpcore are told whom to expect


def own_address(settings: Settings) -> str:
    """The gateway's address on this machine, whatever callers are shown."""
    scheme = "https" if settings.gateway_tls is not None else "http"
    return f"{scheme}://{settings.host}:{settings.gateway_port}"


def calling(settings: Settings, *, timeout: float) -> httpx.Client:
    """A client of the own gateway, below its address. Unavailable where its certificate cannot be read."""
    base = own_address(settings)
    # Whatever proxy the environment names: it is this machine, and no secret leaves it.
    if settings.gateway_tls is None:
        return httpx.Client(base_url=base, timeout=timeout, trust_env=False)
    try:
        shown, name = certificate_of(settings)
        context = pinned(shown)
        if settings.gateway_tls.self_signed:  # a renewal may come between reading and calling
            context.load_verify_locations(cafile=str(settings.state_folder / AUTHORITY))
    except (OSError, ValueError) as exc:
        raise Unavailable(
            f"the gateway's certificate cannot be read: {exc}", hint="`tulle gateway status`, `tulle up`"
        ) from None

    def expect(request: httpx.Request) -> None:
        request.extensions = {**request.extensions, NAME_EXTENSION: name}

    hooks: Mapping[str, Any] = {"request": [expect]}
    return httpx.Client(
        base_url=base, timeout=timeout, trust_env=False, verify=context, event_hooks=dict(hooks)
    )


def certificate_of(settings: Settings) -> tuple[str, str]:
    """The certificate that the gateway shows, PEM, and a name it is for. OSError, ValueError; empty without TLS."""
    if settings.gateway_tls is None:
        return "", ""
    shown = (settings.state_folder / SHOWN).read_text()
    return shown, name_in(shown)


def name_in(shown: str) -> str:
    """A name that a certificate is for, which its callers may expect. ValueError where it has none."""
    names = names_in(x509.load_pem_x509_certificates(shown.encode())[0])
    if not names:
        raise ValueError("it is for no name")
    hosts = [one for one in names if not _is_address(one)]
    return (hosts[0] if hosts else names[0]).replace("*", "any", 1)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
