"""The webhook of an application: a URL of its owners' that is told of each step of its contracts, signed.

URL and signing secret are kept encrypted; the secret is shown once. Who receives checks the signature, so nobody else
can tell it anything, and the time in it, so nothing that was told is told again. Knows nothing of what is told.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import time
from typing import Any, Final
from urllib.parse import urlsplit

from sqlalchemy import delete, insert, select

from tulle import events
from tulle.control import applications
from tulle.control.workspace import Workspace
from tulle.errors import Denied, Invalid, TulleError, Unavailable
from tulle.events import Event
from tulle.lake.hooks.outbound import Outbound
from tulle.observe.channels import Message
from tulle.state import log
from tulle.state.connections import KEY_FILE
from tulle.state.db import now
from tulle.state.secrets import open_secrets
from tulle.state.tables import application_hooks as table

SIGNATURE: Final = "tulle-signature"
LONGEST_URL: Final = 1000
SECONDS: Final = 20.0


def set_hook(
    workspace: Workspace, name: str, url: str, *, actor: str = "", user: str | None = None
) -> dict[str, Any]:
    """Tell a URL of an application's steps from now on; with the secret that signs, this one time.

    NotFound, also for a user who does not own the application; Invalid or Denied for a URL that may not be told.
    """
    application = applications.one(workspace, name, user=user)
    _check(workspace, url)
    secret = secrets.token_hex(32)
    vault = open_secrets(workspace.settings.state_folder / KEY_FILE)
    about = f"application-hook:{application.client_id}"
    values = {"url": vault.encrypt(url, f"{about}:url"), "secret": vault.encrypt(secret, f"{about}:secret")}
    with workspace.database.write() as cx:
        cx.execute(delete(table).where(table.c.client_id == application.client_id))
        cx.execute(insert(table).values(client_id=application.client_id, set_at=now(), **values))
        told = {"client_id": application.client_id, "hook": True}
        log.append(
            cx, Event(events.APPLICATION_CHANGED, f"application:{application.name}", told), actor=actor
        )
    return {"name": application.name, "host": urlsplit(url).hostname, "signing_secret": secret}


def remove_hook(workspace: Workspace, name: str, *, actor: str = "", user: str | None = None) -> bool:
    """Tell it no more; False where there was nobody to tell. NotFound as for `set_hook`."""
    application = applications.one(workspace, name, user=user)
    with workspace.database.write() as cx:
        done = cx.execute(delete(table).where(table.c.client_id == application.client_id)).rowcount
        if done:
            told = {"client_id": application.client_id, "hook": False}
            log.append(
                cx, Event(events.APPLICATION_CHANGED, f"application:{application.name}", told), actor=actor
            )
    return bool(done)


def has_hook(workspace: Workspace, client_id: str) -> bool:
    """Whether an application has one."""
    with workspace.database.read() as cx:
        return cx.execute(select(table.c.client_id).where(table.c.client_id == client_id)).first() is not None


def send(workspace: Workspace, client_id: str, message: Message) -> None:
    """Tell the webhook of an application; nothing where it has none by now.

    Unavailable when it may be taken later, else the reason why it never will; no error has the URL.
    """
    with workspace.database.read() as cx:
        row = cx.execute(select(table).where(table.c.client_id == client_id)).first()
    if row is None:
        return
    vault = open_secrets(workspace.settings.state_folder / KEY_FILE, make=False)
    about = f"application-hook:{client_id}"
    url = vault.decrypt(bytes(row.url), f"{about}:url")
    secret = vault.decrypt(bytes(row.secret), f"{about}:secret")
    body = json.dumps(message.data, default=str).encode()
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "Tulle",
        "Idempotency-Key": message.key,
        SIGNATURE: signature(secret, body, int(time.time())),
    }
    try:
        _check(workspace, url)
        answer = _outbound(workspace).send(
            "POST", url, headers=headers, body=body, deadline=time.monotonic() + SECONDS
        )
    except TulleError as exc:
        raise type(exc)(f"the webhook of application '{client_id}': {exc.message}", hint=exc.hint) from None
    if not 200 <= answer.status < 300:
        kind = Unavailable if answer.status >= 500 or answer.status in {408, 425, 429} else Invalid
        raise kind(f"the webhook of application '{client_id}' answered {answer.status}")


def signature(secret: str, body: bytes, at: int) -> str:
    """What the header says of a body that is sent at a time, in seconds since the epoch."""
    signed = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={signed}"


def _outbound(workspace: Workspace) -> Outbound:
    # a list of its own: where the mesh's operator sends alerts is nothing that every owner may write to
    return Outbound(
        workspace.settings.webhook_addresses, who="webhooks of applications", setting="webhook_addresses"
    )


def _check(workspace: Workspace, url: str) -> None:
    """Refuse what is no URL, or leads where nobody listed: Invalid or Denied."""
    if len(url) > LONGEST_URL or any(ord(sign) <= 32 or ord(sign) == 127 for sign in url):
        raise Invalid("what is given for the webhook is no URL", hint="https://, without spaces")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        raise Invalid("what is given for the webhook is no URL", hint="https://host/path") from None
    if parts.scheme not in {"http", "https"} or not host or parts.username or parts.fragment:
        raise Invalid(
            "what is given for the webhook is no URL that can be told", hint="https://, without a user"
        )
    outbound = _outbound(workspace)
    if outbound.lists(host, port):
        return
    if parts.scheme == "http":
        raise Invalid(
            f"the webhook at '{host}' is told without TLS, where anybody on the way reads along",
            hint=f"give its https:// address; or who keeps mesh.yaml lists '{host}:{port}' under webhook_addresses",
        )
    try:
        outbound.addresses(host, port, time.monotonic() + SECONDS)
    except Denied:
        raise
    except TulleError:
        return  # a name that nobody knows now may be known when there is something to tell
