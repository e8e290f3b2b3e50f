"""`client-id`, `api-key`, `jwt` and `public` on the real Envoy."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.gateway.conftest import API, SECRETS, Mesh, Reply, as_client, check_error
from tests.gateway.policies.conftest import Put
from tests.gateway.tokens import ISSUER, Issuer, bearer

from tulle.errors import Invalid
from tulle.gateway.policies.listed import parse_policies
from tulle.serving.access import Access, Public

A = SECRETS["app-a"]
OPEN = Access(contracts=False, public=Public("100000/1s"))


@pytest.fixture(scope="module")
def issuer() -> Issuer:
    return Issuer()


def jwt(issuer: Issuer, **more: Any) -> str:
    return json.dumps(
        {"policy": "jwt", "issuer": ISSUER, "jwks": issuer.public_keys(), "limit": "1000/1s"} | more
    )


def caller(reply: Reply) -> Any:
    assert reply.status == 200, reply.body
    return reply.json()["headers"].get("x-tulle-client")


def ask(mesh: Mesh, path: str = "first/x", headers: dict[str, str] | None = None) -> Reply:
    return mesh.ask(API + path, headers)


@pytest.mark.system
def test_the_list_says_who_may_call_instead_of_access(put: Put) -> None:
    mesh = put("- policy: client-id", access=OPEN)
    check_error(ask(mesh), 401, "InvalidClient")
    assert caller(ask(mesh, headers=as_client("app-a"))) == "app-a"
    check_error(ask(mesh, headers=as_client("app-c")), 403, "NoContract")


@pytest.mark.system
def test_id_and_secret_in_the_query_end_at_the_gateway(put: Put) -> None:
    mesh = put("- {policy: client-id, query: true}")
    reply = ask(mesh, f"first/x?a=1&client_id=app-a&client_secret={A}&b=%20")
    assert caller(reply) == "app-a"
    assert reply.json()["target"] == "/public/api/v1/first/x?a=1&b=%20"
    assert A not in reply.body.decode()
    assert ask(mesh, f"first/x?client%5Fid=app-a&client_secret={A}").json()["target"].endswith("/x")
    for wrong in (
        "client_id=app-a&client_secret=" + SECRETS["app-b"],
        f"client_id=app-a&client_id=app-a&client_secret={A}",
        f"client_id=app%0d%0a-a&client_secret={A}",
        f"client_secret={A}",
        "client_id=app-a",
    ):
        check_error(ask(mesh, f"first/x?{wrong}"), 401, "InvalidClient")
    # what is in the headers counts
    both = ask(mesh, f"first/x?client_id=app-b&client_secret={SECRETS['app-b']}", as_client("app-a"))
    assert caller(both) == "app-a"
    check_error(
        ask(put("- policy: client-id"), f"first/x?client_id=app-a&client_secret={A}"), 401, "InvalidClient"
    )


@pytest.mark.system
def test_a_key_in_a_header_or_parameter_of_another_name(put: Put) -> None:
    listed = "- {policy: api-key, header: x-api-key, query: key}\n- policy: client-id"
    mesh = put(listed)  # a contract's key is one like that of a service
    reply = ask(mesh, headers={"x-api-key": f"app-a.{A}"})
    assert caller(reply) == "app-a"
    assert "x-api-key" not in reply.json()["headers"]
    assert caller(ask(mesh, f"first/x?key=app-a.{A}")) == "app-a"
    check_error(ask(mesh, headers={"x-api-key": f"app-b.{A}"}), 401, "InvalidClient")
    check_error(ask(mesh, headers={"x-api-key": ""}), 401, "InvalidClient")


@pytest.mark.system
def test_who_shows_a_key_in_its_header_is_not_taken_for_everybody(put: Put) -> None:
    mesh = put(
        "- {policy: public, limit: 1000/1s}\n- {policy: api-key, header: x-api-key}\n- policy: client-id"
    )
    assert caller(ask(mesh)) is None
    assert caller(ask(mesh, headers={"x-api-key": f"app-a.{A}"})) == "app-a"
    check_error(ask(mesh, headers={"x-api-key": "app-a.wrong"}), 401, "InvalidClient")


@pytest.mark.system
def test_who_shows_something_in_the_query_is_not_taken_for_everybody(put: Put) -> None:
    mesh = put(
        "- {policy: public, limit: 1000/1s}\n- {policy: api-key, query: key}\n- {policy: client-id, query: true}"
    )
    for query in ("", "?a=key", "?monkey=1", "?a=1&keys=2"):
        reply = ask(mesh, f"first/x{query}")
        assert caller(reply) is None
        assert reply.json()["target"].endswith(f"/x{query}")
    for query in (f"key=app-a.{A}", f"a=1&k%65y=app-a.{A}", f"client_id=app-a&client_secret={A}"):
        reply = ask(mesh, f"first/x?{query}")
        assert caller(reply) == "app-a"
        assert A not in reply.body.decode()
    for query in ("key=app-a.wrong", "key", "a&key=", "client_secret=x", "client%5Fid=app-a&client_secret=x"):
        check_error(ask(mesh, f"first/x?{query}"), 401, "InvalidClient")


@pytest.mark.system
def test_credentials_go_on_from_no_operation(put: Put) -> None:
    mesh = put("""
- {policy: public, limit: 1000/1s, operations: [{path: /open}]}
- {policy: api-key, header: x-ident, query: key, operations: [{path: /keyed}]}
- {policy: client-id, query: true, operations: [{path: /named}]}
""")
    secret = f"key=app-a.{A}&client_id=app-a&client_secret={A}"
    sent = {"x-ident": f"app-a.{A}"}
    for path, headers in (("open", sent), ("other", sent | as_client("app-a")), ("named", sent)):
        reply = ask(mesh, f"first/{path}?a=1&{secret}", headers)
        assert reply.status == 200
        assert reply.json()["target"] == f"{API}first/{path}?a=1"
        assert A not in reply.body.decode()
    assert A not in str(mesh.log_lines())


@pytest.mark.system
def test_a_token_must_have_the_claims(put: Put, issuer: Issuer) -> None:
    mesh = put(
        f"- {jwt(issuer, audience='services', claims={'tenant': ['north', 'south'], 'org.unit': 'risk'})}"
    )
    right: dict[str, Any] = {"tenant": "south", "org": {"unit": ["sales", "risk"]}}
    assert caller(ask(mesh, headers=bearer(issuer.token(**right)))) == "warehouse-app"
    for wrong in ({"tenant": "east"}, {"tenant": None}, {"org": {"unit": "sales"}}, {"tenant": 5}):
        refused = ask(mesh, headers=bearer(issuer.token(**(right | wrong))))
        check_error(refused, 403, "InsufficientScope")
    check_error(ask(mesh, headers=bearer(issuer.token(aud="others", **right))), 401, "InvalidToken")
    check_error(ask(mesh, headers=bearer(issuer.token("none", **right))), 401, "InvalidToken")
    check_error(ask(mesh), 401, "MissingToken")
    check_error(ask(mesh, headers=as_client("app-a")), 401, "MissingToken")


@pytest.mark.system
def test_operations_are_open_to_others_each(put: Put, issuer: Issuer) -> None:
    mesh = put(f"""
- {{policy: public, limit: 1000/1s, operations: [{{method: GET, path: /openapi.json}}]}}
- {jwt(issuer, scopes=["predict"], operations=[{"path": "/score/predict"}])}
- {jwt(issuer, scopes=["admin"], operations=[{"path": "/admin/{what}"}])}
""")
    assert caller(ask(mesh, "first/openapi.json")) is None
    token = bearer(issuer.token())
    assert caller(ask(mesh, "first/score/explain", as_client("app-a"))) == "app-a"  # as `access` says
    reply = mesh.ask(f"{API}first/score/predict", token, method="POST", body=b"{}")
    assert caller(reply) == "warehouse-app"
    check_error(mesh.ask(f"{API}first/score/predict", as_client("app-a")), 401, "MissingToken")
    check_error(ask(mesh, "first/admin/x", token), 403, "InsufficientScope")
    assert caller(ask(mesh, "first/admin/x", bearer(issuer.token(scope="admin")))) == "warehouse-app"
    check_error(ask(mesh, "first/score/explain", token), 401, "InvalidClient")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("{policy: api-key, header: Authorization}", "no header for a key"),
        ("{policy: api-key, header: x-tulle-client}", "no header for a key"),
        ("{policy: api-key, limit: many}", "many"),
        ("{policy: public, limit: many}", "many"),
        ("{policy: public}", "limit"),
        ("{policy: jwt, issuer: 'https://a'}", "public keys are not said"),
        (
            "{policy: jwt, issuer: 'https://a', jwks_uri: 'http://keys.example.com/'}",
            "no address of public keys",
        ),
        ("{policy: jwt, issuer: 'https://a', jwks_file: keys.json}", "jwks_file"),
        ("{policy: jwt, issuer: 'https://a', jwks_uri: 'https://a/k', claims: {a: []}}", "claims"),
    ],
)
def test_what_opens_nothing_is_refused(settings: str, said: str) -> None:
    with pytest.raises(Invalid) as told:
        parse_policies(f"- {settings}")
    assert said in str(told.value.problems[0])


@pytest.mark.system
def test_more_keys_than_may_be_said_are_taken_where_they_are_recorded(put: Put, issuer: Issuer) -> None:
    key = next(one for one in issuer.public_keys()["keys"] if one["kid"] == "e")
    many = [{**key, "kid": f"e{number}"} for number in range(100)]
    text = f"[{jwt(issuer, jwks={'keys': [*many, key]})}]"
    with pytest.raises(Invalid) as caught:
        parse_policies(text)
    assert "101 public keys, at most 100" in str(caught.value.problems[0])
    (recorded,) = parse_policies(text, is_recorded=True)
    mesh = put("[]", policies=(recorded.policy,))
    assert caller(ask(mesh, headers=bearer(issuer.token("ES256")))) == "warehouse-app"


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ("", "public keys are not said"),
        (", jwks: {}, jwks_uri: 'https://a.example'", "public keys are said twice"),
    ],
)
def test_the_keys_of_an_issuer_are_said_once(keys: str, told: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse_policies(f"- {{policy: jwt, issuer: them{keys}}}")
    (problem,) = caught.value.problems
    assert told in problem.message
    assert problem.hint == "give `jwks_uri` or `jwks`"
