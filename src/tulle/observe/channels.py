"""Sending a message to a channel: a webhook, Slack, or whatever apprise knows by its URL.

A URL is a secret: it comes from the environment or encrypted from the database, and no message, log or error of
ours has it. Only public addresses are reached unless the mesh allows others.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, insert, select

from tulle.config import AlertChannel, Settings, secret_in_environment
from tulle.errors import Denied, Invalid, NotFound, TulleError, Unavailable, did_you_mean
from tulle.lake.hooks.outbound import Outbound
from tulle.observe.resolving import judging
from tulle.state.db import Database, now
from tulle.state.secrets import open_secrets
from tulle.state.tables import alert_channels

SECONDS = 20.0
# What apprise sends to a host that the URL names, and what it sends to a service's own public address.
_OWN_HOST = {
    "mailto", "mailtos", "json", "jsons", "xml", "xmls", "form", "forms", "ntfy", "ntfys", "gotify", "gotifys",
    "mmost", "mmosts", "rocket", "rockets", "matrix", "matrixs", "workflow", "workflows", "zulip",
}  # fmt: skip
_SERVICES = {
    "slack", "discord", "msteams", "tgram", "gchat", "pagerduty", "opsgenie", "pover", "webex", "wxteams",
    "sendgrid", "mailgun", "ses", "sns", "twilio", "pagertree", "spike", "victorops", "splunk",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Message:
    """What is told: words for people, and `data` for programs."""

    title: str
    text: str
    data: Mapping[str, Any]
    key: str  # the same for the same message sent again


_WRITE_IT = "write it under `alerts:` in mesh.yaml, and `tulle gateway reload`"


class Channels:
    """The channels of one mesh."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings = settings
        self._database = database
        self._outbound = Outbound(settings.alert_addresses, who="alerts", setting="alert_addresses")

    def channel(self, name: str) -> AlertChannel:
        """One channel. NotFound with the nearest name."""
        if name not in self._settings.alerts:
            hint = did_you_mean(name, self._settings.alerts) or _WRITE_IT
            raise NotFound(f"there is no alert channel '{name}'", hint=hint)
        return self._settings.alerts[name]

    def state(self, name: str) -> str:
        """Where the channel's URL comes from, or that it is missing."""
        channel = self.channel(name)
        if channel.url:
            return "mesh.yaml"
        if channel.url_variable:
            missing = secret_in_environment(channel.url_variable) is None
            return f"${channel.url_variable}" + (", which is not set" if missing else "")
        return "encrypted" if self._stored(name) is not None else "missing"

    def keep_url(self, name: str, url: str) -> None:
        """Keep a channel's URL, encrypted. Invalid when the channel has its URL elsewhere, or for what is none."""
        channel = self.channel(name)
        if channel.url or channel.url_variable:
            raise Invalid(
                f"the URL of alert channel '{name}' comes from {self.state(name)}",
                hint="take it out of mesh.yaml to keep it encrypted instead",
            )
        _check_url(channel, name, url)
        secrets = open_secrets(self._settings.state_folder / "secret.key")
        data = secrets.encrypt(url, f"alert-channel:{name}")
        with self._database.write() as cx:
            cx.execute(delete(alert_channels).where(alert_channels.c.name == name))
            cx.execute(insert(alert_channels).values(name=name, url=data, set_at=now()))

    def _stored(self, name: str) -> bytes | None:
        with self._database.read() as cx:
            found = cx.execute(select(alert_channels.c.url).where(alert_channels.c.name == name)).scalar()
        return None if found is None else bytes(found)

    def _url(self, name: str) -> str:
        channel = self.channel(name)
        if channel.url:
            return channel.url
        if channel.url_variable:
            url = secret_in_environment(channel.url_variable)
            if url is None:
                raise Invalid(
                    f"alert channel '{name}' takes its URL from {channel.url_variable}, which is not set",
                    hint="set it in the environment of `tulle up`",
                )
            _check_url(channel, name, url)
            return url
        stored = self._stored(name)
        if stored is None:
            raise Invalid(f"alert channel '{name}' has no URL yet", hint=f"`tulle alerts set {name}`")
        secrets = open_secrets(self._settings.state_folder / "secret.key", make=False)
        return secrets.decrypt(stored, f"alert-channel:{name}")

    def send(self, name: str, message: Message, *, to: str = "") -> None:
        """Send a message. Unavailable when it may be taken later, else the reason why it never will.

        With `to`, one mail address, it goes there by the server of a channel that sends mail, and to nobody else.
        """
        channel, url = self.channel(name), self._url(name)
        if channel.type == "apprise":
            self._send_by_apprise(name, url, message, to)
            return
        if to:
            raise Invalid(f"alert channel '{name}' of type {channel.type} sends no mail")
        value: Any = message.data
        if channel.type == "slack":
            value = {"text": f"*{_slack(message.title)}*\n{_slack(message.text)}"}
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "Tulle",
            "Idempotency-Key": message.key,
        }
        body = json.dumps(value, default=str).encode()
        try:
            answer = self._outbound.send(
                "POST", url, headers=headers, body=body, deadline=time.monotonic() + SECONDS
            )
        except Denied as exc:
            raise Denied(
                f"alert channel '{name}': {exc.message}",
                hint="list the address under `alert_addresses:` in mesh.yaml when it is meant",
            ) from None
        except TulleError as exc:
            raise type(exc)(f"alert channel '{name}': {exc.message}", hint=exc.hint) from None
        if 200 <= answer.status < 300:
            return
        kind = Unavailable if answer.status >= 500 or answer.status in {408, 425, 429} else Invalid
        raise kind(
            f"alert channel '{name}' answered {answer.status}", hint="look at its URL, and what is behind it"
        )

    def _send_by_apprise(self, name: str, url: str, message: Message, to: str) -> None:
        scheme = url.partition("://")[0].lower()
        apprise = _apprise()
        # One server: given as a text, several behind commas would be taken, and only one of them judged.
        server = apprise.Apprise.instantiate(url)
        if server is None:
            raise Invalid(
                f"the URL of alert channel '{name}' is none that apprise understands",
                hint="its forms are on apprise's pages, for example mailtos://user:password@host?to=address",
            )
        if scheme in _OWN_HOST:
            ports = {"mailto": 25, "mailtos": 587, "workflow": 443, "zulip": 443}
            port = server.port or ports.get(scheme, 443 if scheme.endswith("s") else 80)
            self._outbound.addresses(_host(server), port, time.monotonic() + SECONDS)
        if to:
            if scheme not in {"mailto", "mailtos"}:
                raise Invalid(
                    f"alert channel '{name}' sends no mail",
                    hint="its URL begins with mailto:// or mailtos://",
                )
            server.targets, server.cc, server.bcc = [(False, to)], set(), set()
        server.redirects = False  # they would lead to where nobody judged
        sender = apprise.Apprise()
        sender.add(server)
        # It resolves the name again: what was judged above may be another address by then.
        with judging(self._outbound, SECONDS) as judged:
            try:
                # Rows are text: what reads them as HTML must not find any in them.
                taken = sender.notify(
                    body=message.text, title=message.title, body_format=apprise.NotifyFormat.TEXT
                )
            except Exception:  # noqa: BLE001  a plugin may raise anything, and its words may hold the URL
                taken = False
        if isinstance(judged.refused, Denied):
            raise judged.refused
        if not taken:
            raise Unavailable(f"alert channel '{name}': {scheme} did not take the message")


def _host(server: Any) -> str:
    """The host that a server of apprise's sends to: for mail the mail server, for Zulip the organization's."""
    if organization := getattr(server, "organization", ""):
        return f"{organization}.{server.hostname}"
    return str(getattr(server, "smtp_host", "") or server.host or "")


def _apprise() -> Any:
    try:
        import apprise  # noqa: PLC0415  heavy, and an extra
    except ModuleNotFoundError:
        raise Invalid(
            "alert channels of type apprise need apprise, which is not installed",
            hint="install tulle[alerts]; webhook and slack need nothing more",
        ) from None
    logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)  # it would write URLs
    return apprise


def _check_url(channel: AlertChannel, name: str, url: str) -> None:
    scheme = url.partition("://")[0].lower()
    if "://" not in url or len(url) > 4000 or any(ord(sign) <= 32 for sign in url):
        raise Invalid(f"what is given for alert channel '{name}' is no URL")
    wanted = _OWN_HOST | _SERVICES if channel.type == "apprise" else {"http", "https"}
    if scheme not in wanted:
        raise Invalid(
            f"alert channel '{name}' of type {channel.type} does not send to {scheme}://",
            hint=f"one of {', '.join(sorted(wanted))}",
        )


def _slack(text: str) -> str:
    """Text in which nobody can be called to (`<!channel>`)."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
