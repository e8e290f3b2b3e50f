"""Whom to write to about an application, and by mail of a real server to nobody else."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest
from tests.control.conftest import opened
from tests.pipeline.conftest import Mesh

from tulle.control.application_people import addresses_of
from tulle.control.check_mesh import check_mesh
from tulle.control.workspace import Workspace
from tulle.errors import Invalid
from tulle.gateway.applications import About
from tulle.lake.access import people
from tulle.observe.channels import Channels, Message
from tulle.server.app import open_workspace
from tulle.spec.mesh import load_settings

MAIL = """
name: test
alerts: {{mail: {{type: apprise, url_variable: MAIL_URL, on: []}}, chat: {{type: slack, url_variable: X}}}}
alert_addresses: ['127.0.0.1:{port}']
contact_channel: {channel}
contact_domains: [example.org, Mail.Example.com]
"""


@pytest.fixture
def known(mesh: Mesh) -> Iterator[Workspace]:
    mesh.write("mesh.yaml", MAIL.format(port=25, channel="mail"))
    workspace = open_workspace(load_settings(mesh.folder, {}))
    yield workspace
    workspace.database.close()


@pytest.mark.parametrize(
    ("contact", "expected"),
    [
        ("tills@example.org", ("tills@example.org",)),
        ("mailto:a.b+c@mail.example.com ", ("a.b+c@mail.example.com",)),
        ("tills@example.com", ()),  # a domain that is not named
        ("tills@example.org.evil.com", ()),
        ("tills@sub.example.org", ()),
        ("a@example.org, b@evil.com", ()),
        ("a@example.org\r\nBcc: b@evil.com", ()),
        ("a@example.org\n", ("a@example.org",)),
        ("Tills <a@example.org>", ()),
        ('"a b"@example.org', ()),
        ("a@evil.com@example.org", ()),
        ("a%evil.com@example.org", ("a%evil.com@example.org",)),
        (".a@example.org", ()),
        ("ä@example.org", ()),
        (f"{'a' * 65}@example.org", ()),
        ("https://example.org", ()),
        ("", ()),
    ],
)
def test_only_plain_addresses_of_named_domains_are_written_to(
    known: Workspace, contact: str, expected: tuple[str, ...]
) -> None:
    assert addresses_of(known, About(contact=contact)) == expected


def test_owners_are_written_to_where_the_lake_knows_them(known: Workspace) -> None:
    with known.database.write() as connection:
        people.add_user(connection, "tom", email="tom@example.org")
        people.add_user(connection, "eve", email="eve@elsewhere.net")
        people.add_user(connection, "bob")
    about = About(("tom", "eve", "bob", "ann@example.org", "tom"), contact="tom@example.org")
    assert addresses_of(known, about) == ("tom@example.org", "ann@example.org")
    quiet = replace(known, settings=replace(known.settings, contact_channel=""))
    assert addresses_of(quiet, about) == ()


@pytest.mark.parametrize("channel", ["chat", "nobody"])
def test_a_channel_that_is_no_mail_is_told_where_the_mesh_is_validated(mesh: Mesh, channel: str) -> None:
    mesh.write("mesh.yaml", MAIL.format(port=25, channel=channel))
    workspace = opened(mesh)
    (told,) = [str(one) for one in check_mesh(workspace).problems]
    assert told.startswith("mesh.yaml:4:")
    assert told.endswith("(known: mail)")
    assert f"'{channel}' is no channel of type apprise" in told
    workspace.database.close()


class MailServer:
    """Takes mail by SMTP on loopback, one after another."""

    def __init__(self) -> None:
        self.got: list[tuple[list[str], str]] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                wire, _ = self._socket.accept()
            except OSError:
                return
            with wire, wire.makefile("rwb") as file:
                self._talk(file)

    def _talk(self, file: object) -> None:
        to: list[str] = []

        def say(text: str) -> None:
            file.write(f"{text}\r\n".encode())  # type: ignore[attr-defined]
            file.flush()  # type: ignore[attr-defined]

        say("220 here")
        while line := file.readline().decode():  # type: ignore[attr-defined]
            word = line[:4].upper()
            if word == "RCPT":
                to.append(line.partition("<")[2].partition(">")[0])
            if word == "DATA":
                say("354 go on")
                lines = []
                while (said := file.readline().decode()) != ".\r\n":  # type: ignore[attr-defined]
                    lines.append(said)
                self.got.append((to, "".join(lines)))
                to = []
            say("221 bye" if word == "QUIT" else "250 ok")
            if word == "QUIT":
                return

    def stop(self) -> None:
        self._socket.close()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # apprise's own
def test_mail_goes_to_the_one_it_is_for(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    server = MailServer()
    mesh.write("mesh.yaml", MAIL.format(port=server.port, channel="mail"))
    workspace = open_workspace(load_settings(mesh.folder, {}))
    url = f"mailto://127.0.0.1:{server.port}?from=mesh@example.org&to=ops@example.org&cc=boss@example.org&mode=insecure"
    monkeypatch.setenv("MAIL_URL", url)
    channels = Channels(workspace.settings, workspace.database)
    try:
        message = Message("application 'till' may call\r\nBcc: x@evil.com", "by: olga", {}, "k")
        channels.send("mail", message, to="tills@example.org")
        monkeypatch.setenv("MAIL_URL", f"json://127.0.0.1:{server.port}/")
        with pytest.raises(Invalid, match="sends no mail"):
            channels.send("mail", message, to="tills@example.org")
    finally:
        server.stop()
        workspace.database.close()
    ((to, text),) = server.got
    assert to == ["tills@example.org"]
    headers = text.partition("\r\n\r\n")[0].lower()
    assert "boss@example.org" not in headers
    assert "ops@example.org" not in headers
    assert "\r\nbcc:" not in headers
    assert "olga" in text
