"""Signed addresses and tokens: only ours, only for what they say, only for their time."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulle.errors import Denied
from tulle.lake.access.tokens import Signer


class Clock:
    def __init__(self):
        self.now = 1_000_000.0

    def __call__(self):
        return self.now


def parts(url):
    path, _, query = url.partition("?")
    return path, query


def test_an_address_is_good_for_its_method_path_and_time():
    clock = Clock()
    signer = Signer(b"k" * 32, clock)
    path, query = parts(signer.sign("GET", "/api/v1/signed/x", 60))
    signer.verify("GET", path, query)
    for method, other in [("PUT", path), ("GET", path + "y"), ("GET", "/api/v1/signed/")]:
        with pytest.raises(Denied, match="does not hold"):
            signer.verify(method, other, query)
    with pytest.raises(Denied, match="does not hold"):
        Signer(b"o" * 32, clock).verify("GET", path, query)
    with pytest.raises(Denied, match="does not hold"):
        signer.verify("GET", path, query.replace("expires=1000060", "expires=9000060"))
    clock.now += 61
    with pytest.raises(Denied, match="time of this address is up"):
        signer.verify("GET", path, query)


@pytest.mark.parametrize(
    "query",
    [
        "",
        "expires=1",
        "signature=x",
        "expires=-1&signature=x",
        "expires=1e9&signature=x",
        "expires=²&signature=x",
        "expires=" + "9" * 5000 + "&signature=x",
        "expires=2000000&signature=%ff\udc80é",
    ],
)
def test_what_is_not_signed_is_refused(query):
    with pytest.raises(Denied):
        Signer(b"k" * 32, Clock()).verify("GET", "/x", query)


def test_a_token_stands_for_its_user_until_it_expires():
    clock = Clock()
    signer = Signer(b"k" * 32, clock)
    token, expires = signer.token("ann", 60, "AKIAJ")
    claim = signer.claim_of(token)
    assert (claim.user, claim.key, claim.issued, expires) == ("ann", "AKIAJ", 1_000_000.0, 1_000_060)
    body, _, signature = token.partition(".")
    forged = base64.urlsafe_b64encode(json.dumps({"sub": "admin", "exp": 9e9, "iat": 0, "key": ""}).encode())
    for wrong in [
        f"{forged.decode().rstrip('=')}.{signature}",
        body,
        f"{body}.",
        "",
        ".",
        "é.é",
        "\udc80.\udc80",
    ]:
        with pytest.raises(Denied):
            signer.claim_of(wrong)
    with pytest.raises(Denied):
        Signer(b"o" * 32, clock).claim_of(token)
    clock.now += 61
    with pytest.raises(Denied, match="time is up"):
        signer.claim_of(token)


def test_a_signature_of_one_kind_is_none_of_the_other():
    signer = Signer(b"k" * 32, Clock())
    token, _ = signer.token("ann", 60)
    with pytest.raises(Denied):
        signer.verify("GET", token.partition(".")[0], f"expires=1000060&signature={token.partition('.')[2]}")


@given(st.text())
def test_nonsense_is_denied(text):
    signer = Signer(b"k" * 32, Clock())
    with pytest.raises(Denied):
        signer.claim_of(text)
    with pytest.raises(Denied):
        signer.verify("GET", "/x", text)
