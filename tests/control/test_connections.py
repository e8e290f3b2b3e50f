"""Connections through the API and the command line: kept encrypted, tried for real, and never shown."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.gateway.external import Authority

from tulle.cli.connection import connection as command
from tulle.cli.main import cli
from tulle.errors import Invalid, TulleError
from tulle.pipeline.sources.address import made
from tulle.server.app import open_workspace
from tulle.spec.mesh import load_settings
from tulle.state.connections import open_connections

SECRET = "geheimnis-17"


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "mesh.yaml").write_text("name: test\n")
    with closing(sqlite3.connect(tmp_path / "shop.db")) as cx:
        cx.execute("CREATE TABLE orders (id INTEGER)")
    yield tmp_path
    kept = b"".join(f.read_bytes() for f in (tmp_path / ".tulle").rglob("*") if f.is_file())
    assert SECRET.encode() not in kept


def tulle(mesh: Path, *arguments: str, given: str = "") -> str:
    result = CliRunner().invoke(cli, ["--mesh", str(mesh), "connection", *arguments], input=given)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    assert SECRET not in result.output
    return result.output


def test_a_connection_from_setting_to_removing(mesh: Path) -> None:
    address = f"sqlite:///{mesh / 'shop.db'}"
    tulle(
        mesh, "set", "db", "--kind", "sql", "--address", address, "--secret", "password", given=f"{SECRET}\n"
    )
    tulle(mesh, "set", "db", "--kind", "sql", "--address", "sqlite:////nowhere", "--environment", "dev")
    (dev, prod) = sorted(json.loads(tulle(mesh, "list", "--json")), key=lambda c: str(c["environment"]))
    assert (dev["environment"], prod["environment"]) == ("dev", "prod")
    assert (prod["address"], prod["secrets"]) == (address, ["password"])
    assert "(kept, not shown)" in tulle(mesh, "show", "db")
    assert "1 tables" in tulle(mesh, "test", "db")
    with pytest.raises(TulleError, match="there is no file /nowhere"):
        tulle(mesh, "test", "db", "--environment", "dev")
    tulle(mesh, "remove", "db")
    with pytest.raises(TulleError, match="there is no connection 'db' in environment 'prod'") as told:
        tulle(mesh, "show", "db")
    assert "it is known in dev" in str(told.value.hint)


def test_the_certificates_of_a_file_are_read_when_it_is_set(mesh: Path) -> None:
    said = [
        "set",
        "api",
        "--kind",
        "http",
        "--address",
        "https://shop.example.org",
        "--secret",
        "client_secret",
    ]
    options = [
        "auth=oauth2",
        "client_id=me",
        "token_url=https://login.example.org/",
        f"ca_file={mesh / 'ca.pem'}",
    ]
    said += [part for option in options for part in ("--option", option)]
    with pytest.raises(TulleError, match=r"cannot be read: .*ca\.pem: No such file") as told:
        tulle(mesh, *said, given=f"{SECRET}\n")
    assert "set the connection again" in str(told.value.hint)
    assert json.loads(tulle(mesh, "list", "--json")) == []
    (mesh / "ca.pem").write_text(ca := Authority(mesh).ca)
    assert "BEGIN" not in tulle(mesh, *said, given=f"{SECRET}\n") + tulle(mesh, "show", "api")
    (mesh / "ca.pem").unlink()
    workspace = open_workspace(load_settings(mesh, {}))
    known = open_connections(workspace.settings, workspace.database)
    assert known.get("api", "prod").certificates.split() == ca.split()
    workspace.database.close()


def test_a_password_in_an_address_is_taken_out_of_it(mesh: Path) -> None:
    address = f"postgresql://me:{SECRET}@db.example.org:5433/shop?sslmode=require"
    assert SECRET not in tulle(mesh, "set", "db", "--kind", "sql", "--address", address)
    found = json.loads(tulle(mesh, "show", "db", "--json"))
    assert found["address"] == "postgresql://db.example.org:5433/shop?sslmode=require"
    assert (found["options"], found["secrets"]) == ({"user": "me"}, ["password"])


def test_a_secret_is_no_argument(mesh: Path) -> None:
    with pytest.raises(Invalid, match="a secret is no argument"):
        tulle(
            mesh, "set", "a", "--kind", "sql", "--address", "sqlite:////x", "--secret", f"password={SECRET}"
        )


@pytest.mark.parametrize(
    ("kind", "address", "options", "secrets", "says"),
    [
        ("sql", "oracle://x", {}, {}, "the address is none of an sql connection"),
        ("sql", "sqlite:///relative.db", {}, {}, "names no absolute file"),
        (
            "sql",
            "jdbc:postgresql://h/d?password=x",
            {"jar": "/a.jar"},
            {},
            "the address has a password in it",
        ),
        (
            "sql",
            "jdbc:oracle:thin:scott/tiger@//h:1521/d",
            {"jar": "/j.jar"},
            {},
            "the address has a password in it",
        ),
        (
            "sql",
            "jdbc:sqlserver://h;user=x;accessToken=abc",
            {"jar": "/a.jar"},
            {},
            "the address has 'accessToken' in it, which looks like a secret",
        ),
        ("sql", "jdbc:postgresql://h/d?sslpassword=x", {"jar": "/a.jar"}, {}, "the address has a password"),
        ("sql", "jdbc:postgresql://h/d", {"jar": "/a.jar"}, {"no name": "x"}, "has no secret 'no name'"),
        ("sql", "postgresql://h/d", {}, {"sslpassword": "x"}, "has no secret 'sslpassword'"),
        ("sql", "jdbc:postgresql://h/d", {}, {}, "absolute path of the driver's jar"),
        ("sql", "postgresql://h/d?sslkey=x", {}, {}, "looks like a secret"),
        ("sql", "postgresql://h/d", {"usr": "x"}, {}, "an sql connection has no option 'usr'"),
        ("http", "https://h", {"auth": "bearer"}, {}, "auth=bearer needs the secret 'token'"),
        ("http", "https://h", {}, {"token": "x"}, "not how to sign in with it"),
        ("http", "https://h", {"auth": "header", "header": "X\r\nY"}, {"token": "x"}, "control character"),
        ("queue", "https://h", {}, {}, "there is no kind of connection 'queue'"),
        ("http", "https://h ost", {}, {}, "the address is none"),
    ],
)
def test_what_is_no_connection(
    kind: str, address: str, options: dict[str, str], secrets: dict[str, str], says: str
) -> None:
    with pytest.raises(Invalid, match=says):
        made("name", "prod", kind, address, options, secrets)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"token_url": ""}, "auth=oauth2 needs the option 'token_url'"),
        ({"client_secret": ""}, "auth=oauth2 needs the secret 'client_secret'"),
        ({"token_url": "https://me:pw@h/t"}, "'token_url' is no address that can be asked"),
        ({"token_url": "https://h/t#x"}, "'token_url' is no address that can be asked"),
        ({"token_url": "ldap://h/t"}, "'token_url' is no address that can be asked"),
        ({"token_url": "https://h:99999/"}, "'token_url' is no address that can be asked"),
        ({"client_id": "é"}, "'client_id' is no id of a client"),
        ({"scope": "a  b"}, "'scope' names no scopes"),
        ({"scope": 'a"b'}, "'scope' names no scopes"),
        ({"client_auth": "query"}, "neither header nor body"),
        ({"ca_file": "ca.pem"}, "ca_file is no absolute path"),
        ({"auth": "bearer", "token": "x"}, "the option '.*' is for auth=oauth2 alone"),
    ],
)
def test_what_gets_no_token(change: dict[str, str], says: str) -> None:
    options = {"auth": "oauth2", "token_url": "https://login.example.org/token", "client_id": "me"}
    secrets = {"client_secret": SECRET}
    assert SECRET not in str(made("name", "prod", "http", "https://h", options, secrets))
    for key, value in change.items():
        into = secrets if key in {"client_secret", "token"} else options
        into[key] = value
        if not value:
            del into[key]
    if "token" in secrets:
        del secrets["client_secret"]
    with pytest.raises(Invalid, match=says) as refused:
        made("name", "prod", "http", "https://h", options, secrets)
    assert SECRET not in str(refused.value)


def test_secrets_of_a_jdbc_driver_are_kept_like_its_password() -> None:
    address = "jdbc:sqlserver://h:1433;encrypt=true;keyStore=/etc/keys.jks;loginTimeout=5"
    secrets = {"accessToken": SECRET, "keyStoreSecret": SECRET}
    found = made("db", "prod", "sql", address, {"jar": "/a.jar"}, secrets)
    assert (found.address, found.secrets) == (address, secrets)
    assert SECRET not in str(found)


def test_the_help_has_an_example() -> None:
    text = CliRunner().invoke(command, ["set", "--help"]).output
    assert "tulle connection set shop-db --kind sql" in text
