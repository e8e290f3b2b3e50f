"""Secrets of a connection, in every form in which somebody may repeat them."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote, quote_plus

import pytest

from tulle.pipeline.sources.hidden import looks_secret, parameters, shown_address, without_secrets
from tulle.state.connections import Connection

SECRET = 'p:w/ "ü"\\'
FORMS = [
    SECRET,
    quote(SECRET),
    quote(SECRET, safe=""),
    quote_plus(SECRET),
    json.dumps(SECRET),
    repr(SECRET),
    repr(SECRET.encode()),
    base64.b64encode(SECRET.encode()).decode(),
    base64.b64encode(f"me:{SECRET}".encode()).decode(),
]


@pytest.mark.parametrize("form", FORMS)
def test_no_form_is_shown(form: str) -> None:
    connection = Connection(
        "a", "prod", "http", "https://h", {"user": "me"}, {"password": SECRET, "none": ""}
    )
    assert without_secrets(connection, f"it says {form}!") in {
        f"it says {mark}…{mark}!" for mark in ("", '"', "'")
    } | {"it says b'…'!"}
    assert without_secrets(None, form) == form


def test_what_an_address_of_before_has_in_it_is_not_shown() -> None:
    address = "jdbc:sqlserver://h:1;user=me;accessToken=a%20b;trustStore=/etc/key"
    connection = Connection("a", "prod", "sql", address)
    said = "no sign-in by accessToken=a%20b (a b) at h:1;user=me;trustStore=/etc/key"
    assert (
        without_secrets(connection, said)
        == "no sign-in by accessToken=… (…) at h:1;user=me;trustStore=/etc/key"
    )


def test_an_address_of_before_is_shown_without_its_secrets() -> None:
    address = "jdbc:sqlserver://h:1;user=me;accessToken=a%20b;trustStore=/etc/key"
    assert shown_address(address) == "jdbc:sqlserver://h:1;user=me;accessToken=…;trustStore=/etc/key"
    assert shown_address("postgresql://h/d?sslmode=require") == "postgresql://h/d?sslmode=require"


@pytest.mark.parametrize(
    ("name", "value", "is_secret"),
    [
        ("password", "123", True),
        ("sslpassword", "x", True),
        ("accessToken", "x", True),
        ("sig", "x", True),
        ("keyStoreSecret", "x", True),
        ("sslkey", "/etc/key.pem", False),
        ("trustStorePassword", "", False),
        ("passwordless", "true", False),
        ("tcpKeepAlive", "x", False),
        ("sslmode", "require", False),
        ("signOn", "x", False),
    ],
)
def test_what_looks_like_a_secret(name: str, value: str, is_secret: bool) -> None:
    assert looks_secret(name, value) is is_secret


def test_parameters_however_they_are_set_apart() -> None:
    assert parameters("jdbc:x://h/d?a=1&b=2%203;c={x;y}") == [("a", "1"), ("b", "2 3"), ("c", "{x;y}")]
