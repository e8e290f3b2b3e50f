"""Who may call a service, as files and deployments say it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.gateway.tokens import Issuer, encoded

from tulle.config import Settings
from tulle.errors import Broken, Invalid
from tulle.gateway.envoy import Gateway
from tulle.gateway.policy import GatewayPolicy, ManagedService
from tulle.serving.access import Access, Keys, Public, _key_set, access_of, parse_access
from tulle.serving.openapi_access import with_access

SHORT = {"kty": "RSA", "e": "AQAB", "n": encoded((1 << 1023 | 1).to_bytes(128))}


@pytest.fixture(scope="module")
def public_keys() -> dict[str, Any]:
    return Issuer().public_keys()


def test_without_a_word_it_is_contracts() -> None:
    assert access_of({}) == Access()
    assert Access().ways() == ("contracts",)


def test_the_ways_that_are_named_are_all_there_are(public_keys: dict[str, Any]) -> None:
    assert parse_access("api_keys: true") == Access(contracts=False, api_keys=Keys())
    assert parse_access("{public: {limit: 5/1m, by: address}}").public == Public("5/1m", "address")
    mixed = parse_access(
        json.dumps(
            {
                "contracts": True,
                "api_keys": {"limit": "20/1s"},
                "jwt": {"issuer": "https://i/", "audience": "a", "jwks": public_keys, "scopes": ["x"]},
            }
        )
    )
    assert mixed.ways() == ("contracts", "api_keys", "jwt")
    assert mixed.jwt is not None
    assert (mixed.jwt.audiences, mixed.jwt.scopes, mixed.jwt.client_claim) == (("a",), ("x",), "client_id")
    assert json.loads(mixed.jwt.jwks) == public_keys
    assert access_of(json.loads(json.dumps(mixed.as_plain()))) == mixed


def _bad(text: str) -> list[str]:
    with pytest.raises(Invalid) as caught:
        parse_access(text)
    return [problem.message for problem in caught.value.problems]


def test_what_nobody_can_mean_is_told() -> None:
    assert _bad("contracts: false") == ["nobody may call the service"]
    assert _bad("{public: {limt: 5/1s}}") == ["unknown property 'limt' in 'public'"]
    assert "rate limit of 0 requests" in _bad("{public: {limit: 0/1s}}")[0]
    assert "rate limit 'often' is not understood" in _bad("{api_keys: {limit: often}}")[0]
    assert _bad("{jwt: {issuer: x}}") == ["the issuer's public keys are not said"]
    assert "said twice" in _bad("{jwt: {issuer: x, jwks_uri: 'https://i/k', jwks: {keys: []}}}")[0]
    assert _bad("{jwt: {jwks_uri: 'https://i/k'}}") == ["'issuer' is missing in 'jwt'"]
    parse_access("{jwt: {issuer: x, jwks_uri: 'http://127.0.0.1:8080/k'}}")
    with pytest.raises(Broken, match="cannot be read"):
        access_of({"public": {"limit": 3}})


@pytest.mark.parametrize(
    "uri",
    [
        "http://issuer.example/k",
        "ftp://i/k",
        "file:///etc/passwd",
        "https:///k",
        "https://u:p@i/k",
        "https://i:x/",
        "https://i:0/",
        "https://i:99999/",
        "https://a_b/k",
        "https://a..b/k",
        "https://-a/k",
        "https://*.a/k",
        "https://%41/k",
        'https://a"b/k',
        "https://a;b/k",
        "https://a\\b/k",
        "https://[fe80::1%25eth0]/k",
        "https://" + "h" * 300 + "/k",
        "https://h/" + "p" * 3000,
        "https://h/a b",
        "https://h/é",
    ],
)
def test_keys_are_not_fetched_from_what_is_no_address(uri: str) -> None:
    assert "is no address of public keys" in _bad(json.dumps({"jwt": {"issuer": "x", "jwks_uri": uri}}))[0]


@pytest.fixture
def gateway(tmp_path: Path) -> Gateway:
    """A gateway that does not run; it asks Envoy whether it would take what is published."""
    return Gateway(Settings(folder=tmp_path))


@pytest.mark.parametrize(
    "uri",
    ["https://login.example.com/k?a=b", "https://10.0.0.1:8443/k", "https://[::1]/k", "http://localhost:1/k"],
)
def test_keys_are_fetched_from_an_address_that_the_gateway_takes(uri: str, gateway: Gateway) -> None:
    access = parse_access(json.dumps({"jwt": {"issuer": "x", "jwks_uri": uri}}))
    service = ManagedService("svc", ("run/w/x.sock",), 1000, access=access)
    assert "clusters" in gateway.publish(GatewayPolicy.of(services=[service])).changed


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"kty": "oct", "k": "c2VjcmV0"}, "a shared secret"),
        ({"kty": "RSA", "n": "AQAB", "e": "AQAB"}, "is no RSA key that is known"),
        (SHORT, "has 1024 bits"),
        ({"kty": "RSA", "n": "AQAB", "e": "AQAB", "d": "AQAB"}, "is a private key"),
        ({"kty": "RSA", "n": "?", "e": "AQAB"}, "is no RSA key that is known"),
        ({"kty": "RSA", "n": "AQAB=", "e": "AQAB"}, "is no RSA key that is known"),
        ({"kty": "RSA", "e": "AQAB"}, "lacks 'n'"),
        ({"kty": "RSA", "n": "AQAB", "e": "AQAB", "alg": "HS256"}, "for 'HS256', which is not accepted"),
        ({"kty": "RSA", "n": "AQAB", "e": "AQAB", "alg": "ES256"}, "for 'ES256', which is not accepted"),
        ({"kty": "EC", "crv": "P-256", "x": "AQAB", "y": "AQAB", "alg": "RS256"}, "for 'RS256', which is"),
        ({"kty": "EC", "crv": "P-256", "x": "AQAB", "y": "AQAB", "alg": "ES384"}, "for 'ES384', which is"),
        ({"kty": "OKP", "crv": "Ed25519", "x": "AQAB", "alg": ["EdDSA"]}, "which is not accepted"),
        ({"kty": "OKP", "crv": "Ed25519", "x": "AQAB", "kid": 5}, "has a 'kid' that is no text"),
        ({"kty": "EC", "crv": "secp256k1", "x": "AQAB", "y": "AQAB"}, "is no EC key that is known"),
        ({"kty": "EC", "crv": "P-256", "x": "AQAB", "y": "AQAB"}, "is no EC key that is known"),
        ({"kty": "OKP", "crv": "Ed25519", "x": "AQAB"}, "is no OKP key that is known"),
        ({"kty": "OKP", "crv": "X25519", "x": "A" * 43}, "is no OKP key that is known"),
        ({"kty": "PQ"}, "of no kind that is known"),
        (3, "of no kind that is known"),
    ],
)
def test_only_public_keys_of_both_sides_are_taken(change: Any, told: str) -> None:
    assert told in _bad(json.dumps({"jwt": {"issuer": "x", "jwks": {"keys": [change]}}}))[0]


def test_a_set_of_keys_is_one_and_not_too_large(public_keys: dict[str, Any]) -> None:
    for keys in ({}, {"keys": []}, {"keys": {}}):
        assert "no set of public keys" in _bad(json.dumps({"jwt": {"issuer": "x", "jwks": keys}}))[0]
    for odd in ("\ud800", float("nan")):
        with pytest.raises(Invalid, match="JSON has no word for"):
            _key_set({"jwks": {"keys": [{**public_keys["keys"][0], "more": odd}]}}, None)
    many = {"keys": public_keys["keys"][:1] * 101}
    assert "101 public keys, at most 100" in _bad(json.dumps({"jwt": {"issuer": "x", "jwks": many}}))[0]
    large = {"keys": [public_keys["keys"][0] | {"x5c": ["x" * 65_000]}] * 2}
    assert "at most 65536" in _bad(json.dumps({"jwt": {"issuer": "x", "jwks": large}}))[0]
    assert "cannot be named here" in _bad("{jwt: {issuer: x, jwks_file: k.json}}")[0]


def test_a_file_of_keys_lies_beside_the_service(tmp_path: Path, public_keys: dict[str, Any]) -> None:
    from tulle.serving.service import load_service

    services = tmp_path / "services"
    services.mkdir()
    (services / "keys.json").write_text(json.dumps(public_keys))
    (tmp_path / "outside.json").write_text(json.dumps(public_keys))
    (services / "broken.json").write_text("{")
    declared = """
service: orders
access:
  contracts: true
  jwt: {issuer: https://issuer.example/, jwks_file: FILE}
endpoints:
- {name: a, type: lookup, data_set: x, key: y}
"""
    path = services / "orders.yaml"
    path.write_text(declared.replace("FILE", "keys.json"))
    service = load_service(path)
    assert service.access.ways() == ("contracts", "jwt")
    assert service.access.jwt is not None
    assert json.loads(service.access.jwt.jwks) == public_keys
    for name, told in (
        ("../outside.json", "is not beside the services file"),
        ("/etc/passwd", "is not beside"),
        ("nothing.json", "cannot be read: No such file"),
        ("broken.json", "is no JSON"),
    ):
        path.write_text(declared.replace("FILE", name))
        with pytest.raises(Invalid) as caught:
            load_service(path)
        (problem,) = caught.value.problems
        assert told in problem.message
        assert problem.place is not None
        assert problem.place.line == 5


def test_tokens_of_applications_with_a_contract_are_told_as_such(public_keys: dict[str, Any]) -> None:
    said = {"jwt": {"issuer": "https://issuer.example/", "jwks": public_keys, "contract": True}}
    access = parse_access(json.dumps(said))
    assert access.jwt is not None
    assert access.jwt.contract
    assert access_of(access.as_plain()) == access
    scheme = with_access({}, access)["components"]["securitySchemes"]["token"]
    assert (
        scheme["description"]
        == "a token of https://issuer.example/, that names an application with a contract"
    )
    said["jwt"]["limit"] = "5/1s"
    with pytest.raises(Invalid) as caught:
        parse_access(json.dumps(said))
    (problem,) = caught.value.problems
    assert "limits of their contracts" in problem.message
    assert problem.hint == "leave out `limit`, or `contract`"
