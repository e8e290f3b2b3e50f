"""One request through the real Envoy: what the caller gets and what the worker sees."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace

import pytest
from tests.gateway.conftest import (
    API,
    CONTRACTS,
    PLENTY,
    SECRETS,
    WORKERS,
    Mesh,
    as_client,
    basic,
    check_error,
    policy,
    wait_until,
)

from tulle.gateway.policy import Contract, GatewayPolicy, RateLimit

pytestmark = pytest.mark.system

A, B = SECRETS["app-a"], SECRETS["app-b"]
FORMS = {
    "two headers": {"client_id": "app-a", "client_secret": A},
    "Basic id:secret": basic("app-a", A),
    "key as Bearer": {"authorization": f"Bearer app-a.{A}"},
    "key as Basic user": basic(f"app-a.{A}", ""),
    "scheme in any case": {"authorization": basic("app-a", A)["authorization"].replace("Basic", "bASIC")},
    "two headers win": {"client_id": "app-a", "client_secret": A, "authorization": "Bearer nonsense"},
}
BAD = {
    "nothing": {},
    "wrong secret": basic("app-a", B),
    "somebody else's secret": {"client_id": "app-a", "client_secret": B},
    "id alone": {"client_id": "app-a"},
    "secret alone": {"client_secret": A},
    "empty secret": basic("app-a", ""),
    "key without a dot": {"authorization": f"Bearer app-a{A}"},
    "key with a wrong secret": {"authorization": f"Bearer app-a.{B}"},
    "the hash as secret": basic("app-a", "{SHA}" + "x" * 28),
    "not base64": {"authorization": "Basic !!!!"},
    "empty Basic": {"authorization": "Basic "},
    "another scheme": {"authorization": f"Digest app-a:{A}"},
    "a colon in the id": {"client_id": f"app-a:{A}", "client_secret": ""},
    "very long": {"authorization": "Bearer " + "x" * 20_000},
    "unknown client": basic("app-z", A),
    "the line of an empty list": basic(" nobody", ""),
    "id in our own header": {"x-tulle-client": "app-a"},
}


# ── credentials ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_credentials_is_accepted_and_ends_at_the_gateway(mesh: Mesh, form: str) -> None:
    reply = mesh.ask(API + "first/x/predict", FORMS[form], method="POST", body=b'{"features": {}}')
    assert reply.status == 200, reply.body
    seen = reply.json()["headers"]
    assert (seen["x-tulle-client"], seen["x-tulle-way"]) == ("app-a", "contract")
    assert not {"authorization", "client_id", "client_secret"} & set(seen)
    assert A not in reply.body.decode()
    assert reply.json()["result"]["got"] == {"features": {}}
    assert seen["x-request-id"] == reply.headers["x-request-id"]  # once, though the worker sends it too
    assert reply.headers["x-tulle-generation"] == "v1"  # what the worker tells of itself passes


@pytest.mark.parametrize("form", BAD)
def test_bad_credentials_are_answered_401(mesh: Mesh, form: str) -> None:
    reply = mesh.ask(API + "first/x", BAD[form])
    check_error(reply, 401, "InvalidClient")
    assert reply.headers["www-authenticate"] == 'Basic realm="tulle", charset="UTF-8"'


def test_credentials_sent_twice_are_nobodys(mesh: Mesh) -> None:
    good, other = f"Authorization: Bearer app-a.{A}\r\n", f"Authorization: Bearer app-b.{B}\r\n"
    check_error(
        mesh.say(f"GET {API}first/x HTTP/1.1\r\nhost: g\r\n{good}{other}\r\n".encode()), 401, "InvalidClient"
    )
    ids = f"client_id: app-a\r\nclient_id: app-b\r\nclient_secret: {A}\r\n"
    check_error(mesh.say(f"GET {API}first/x HTTP/1.1\r\nhost: g\r\n{ids}\r\n".encode()), 401, "InvalidClient")


def test_the_stock_dataiku_client_works(mesh: Mesh) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the client's own imports warn
        import dataikuapi
    uri = f"http://127.0.0.1:{mesh.settings.gateway_port}/"  # the slash at the end makes its paths start with //
    client = dataikuapi.APINodeClient(uri, "first", f"app-a.{A}")
    assert client.predict_record("x", {"customer_id": "00003"})["result"]["prediction"] == "1"
    stranger = dataikuapi.APINodeClient(uri, "first", f"app-a.{B}")
    with pytest.raises(Exception, match="InvalidClient: Missing or wrong credentials"):
        stranger.predict_record("x", {})


# ── who may call what ────────────────────────────────────────────────────────────────────────────────────


def test_an_application_may_call_only_what_it_has_a_contract_for(mesh: Mesh) -> None:
    assert mesh.ask(API + "second/x", as_client("app-b")).status == 200
    check_error(mesh.ask(API + "second/x", as_client("app-a")), 403, "NoContract")
    check_error(mesh.ask(API + "first/x", as_client("app-c")), 403, "NoContract")


@pytest.mark.parametrize("path", ["nowhere/x", "firstly/x", "", "first%00/x", "FIRST/x"])
def test_an_unknown_service_is_404_after_the_caller_is_known(mesh: Mesh, path: str) -> None:
    if "%" in path:
        check_error(mesh.ask(API + path, as_client("app-a")), 400, "InvalidRequest")
        return
    check_error(mesh.ask(API + path, as_client("app-a")), 404, "UnknownService")
    body = b"x" * 500
    check_error(mesh.ask(API + path, as_client("app-a"), method="POST", body=body), 404, "UnknownService")
    check_error(mesh.ask(API + path), 401, "InvalidClient")


def test_what_is_below_a_service_is_the_workers_matter(mesh: Mesh) -> None:
    reply = mesh.ask(API + "first/missing?a=1", as_client("app-a"))
    assert (reply.status, reply.json()["target"]) == (404, API + "first/missing?a=1")
    assert (
        mesh.ask(API + "first/openapi.json", as_client("app-a")).json()["target"]
        == API + "first/openapi.json"
    )
    check_error(mesh.ask(API + "first/openapi.json"), 401, "InvalidClient")


@pytest.mark.parametrize(
    ("sent", "seen"),
    [
        ("//public//api/v1/first//x", API + "first/x"),
        (API + "second/../first/x", API + "first/x"),
        (API + "second/%2e%2e/first/x", API + "first/x"),
        (API + "first", API + "first"),
    ],
)
def test_the_worker_sees_the_path_the_contract_was_checked_for(mesh: Mesh, sent: str, seen: str) -> None:
    assert mesh.ask(sent, as_client("app-a")).json()["target"] == seen


def test_no_path_leads_around_the_contract(mesh: Mesh) -> None:
    for path in ("first/../second/x", "first/%2e%2e/second/x", "./second/x"):
        check_error(mesh.ask(API + path, as_client("app-a")), 403, "NoContract")
    seen = mesh.ask(API + "first//..//second/x", as_client("app-a")).json()  # `..` takes away the empty part
    assert (seen["worker"][:5], seen["target"]) == ("first", API + "first/second/x")
    check_error(mesh.ask(API + "first%2f..%2fsecond/x", as_client("app-a")), 400, "InvalidRequest")


def test_callers_cannot_say_what_only_the_gateway_says(mesh: Mesh) -> None:
    forged = {
        "x-tulle-client": "app-b",
        "X-Tulle-Anything": "1",
        "x_tulle_client": "app-b",
        "x-tulle_client": "app-b",
        "X_Tulle-Client": "app-b",
        "x_forwarded_for": "10.0.0.1",
        "x-real_ip": "10.0.0.1",
        "x_request-id": "mine",
        "x_dg-client": "app-b",
        "x_key": "a caller's own",
        "x_original_name": "a caller's own",
        "x-forwarded_for": "10.0.0.1",
        "x-envoy_retry_on": "5xx",
        "x-dg-client": "app-b",
        "x-envoy-upstream-rq-timeout-ms": "1",
        "x-envoy-retry-on": "5xx",
        "x-forwarded-for": "10.0.0.1",
        "x-forwarded-proto": "https",
        "forwarded": "for=10.0.0.1",
        "x-request-id": "mine",
    }
    reply = mesh.ask(API + "first/x", as_client("app-a") | forged)
    seen = reply.json()["headers"]
    assert seen["x-tulle-client"] == "app-a"
    assert reply.headers["x-request-id"] == seen["x-request-id"] != "mine"
    assert seen["x-forwarded-proto"] == "http"
    left = {"x-tulle-anything", "x-dg-client", "x-forwarded-for", "forwarded"} & set(seen)
    assert not left
    assert [name for name in seen if "_" in name and name.startswith("x")] == ["x_key", "x_original_name"]
    assert not [name for name in seen if name.startswith("x-envoy-") and name != "x-envoy-external-address"]


# ── bounds ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.usefixtures("full_buckets")
def test_too_fast_is_429_with_what_is_left_and_when_to_come_again(mesh: Mesh) -> None:
    answers = [mesh.ask(API + "first/x", as_client("app-b")) for _ in range(4)]
    assert [a.status for a in answers] == [200, 200, 200, 429]
    assert [a.headers["x-ratelimit-remaining"] for a in answers] == ["2", "1", "0", "0"]
    assert {a.headers["x-ratelimit-limit"] for a in answers} == {"3"}
    assert "retry-after" not in answers[0].headers
    check_error(answers[3], 429, "TooManyRequests")
    # an even refill: the next of 3 a minute comes after 20 s
    assert 1 <= int(answers[3].headers["retry-after"]) <= 20
    assert answers[3].headers["x-ratelimit-reset"] == answers[3].headers["retry-after"]
    # neither its other contract nor anybody else is concerned
    assert mesh.ask(API + "second/x", as_client("app-b")).status == 200
    assert mesh.ask(API + "first/x", as_client("app-a")).status == 200


def test_buckets_stay_as_they_are_when_something_else_changes(mesh: Mesh) -> None:
    while mesh.ask(API + "first/x", as_client("app-b")).status == 200:
        pass
    workers = WORKERS | {"first": ("run/w/first-1.sock",), "third": ("run/w/second-1.sock",)}
    result = mesh.gateway.publish(policy(workers, CONTRACTS))
    assert result.changed == ("clusters", "inner", "routes")
    assert mesh.ask(API + "first/x", as_client("app-b")).status == 429


def test_a_body_that_is_too_large_is_413(mesh: Mesh) -> None:
    fits = mesh.ask(API + "first/x", as_client("app-a"), method="POST", body=b"x" * 10_000)
    assert (fits.status, fits.json()["bytes"]) == (200, 10_000)
    large = mesh.ask(API + "first/x", as_client("app-a"), method="POST", body=b"x" * 10_001)
    check_error(large, 413, "RequestTooLarge")
    chunks = (b"x" * 1000 for _ in range(20))
    check_error(
        mesh.ask(API + "first/x", as_client("app-a"), method="POST", body=chunks), 413, "RequestTooLarge"
    )


@pytest.mark.parametrize("service", ["down", "empty"])
def test_a_service_without_a_living_worker_is_503(mesh: Mesh, service: str) -> None:
    check_error(mesh.ask(API + service + "/x", as_client("app-a")), 503, "ServiceUnavailable")


def test_a_worker_that_hangs_up_on_every_try_is_503(mesh: Mesh) -> None:
    check_error(mesh.ask(API + "first/hang-up", as_client("app-a")), 503, "ServiceUnavailable")


def test_a_worker_that_takes_too_long_is_504(mesh: Mesh) -> None:
    mesh.gateway.publish(policy(WORKERS, CONTRACTS, timeout_seconds=0.2))
    check_error(mesh.ask(API + "first/slow", as_client("app-a")), 504, "ServiceTimeout")


HELLO = f"GET {API}first/x HTTP/1.1\r\n"


@pytest.mark.parametrize(
    ("data", "status", "error_type"),
    [
        (b"\x00\x01 not http\r\n\r\n", 400, "InvalidRequest"),
        (HELLO.encode() + b"host: g\r\nno colon\r\n\r\n", 400, "InvalidRequest"),
        (HELLO.encode() + b"\r\n", 400, "InvalidRequest"),
        (
            HELLO.encode() + b"host: g\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n",
            400,
            "InvalidRequest",
        ),
        (HELLO.replace("1.1", "1.0").encode() + b"\r\n", 426, "UpgradeRequired"),
        (HELLO.encode() + b"host: g\r\nz: " + b"z" * 40_000 + b"\r\n\r\n", 431, "HeadersTooLarge"),
        (
            f"CONNECT g:80 HTTP/1.1\r\nhost: g\r\nclient_id: app-a\r\nclient_secret: {A}\r\n\r\n".encode(),
            405,
            "MethodNotAllowed",
        ),
    ],
    ids=["noise", "header", "no-host", "smuggling", "http10", "headers", "connect"],
)
def test_envoys_own_errors_have_the_same_form(mesh: Mesh, data: bytes, status: int, error_type: str) -> None:
    check_error(mesh.say(data), status, error_type)


def test_what_is_refused_as_malformed_has_an_id_that_the_log_tells(mesh: Mesh) -> None:
    found = check_error(mesh.ask(f"{API}first%2fx"), 400, "InvalidRequest")["requestId"]
    log = mesh.settings.log_folder / "gateway-access.jsonl"
    wait_until(lambda: found in log.read_text(), "the line of the request")
    line = next(json.loads(one) for one in log.read_text().splitlines() if found in one)
    assert (line["request_id"], line["code"]) == (found, 400)
    reply = mesh.ask(f"{API}first%2fx", {"x-request-id": "a" * 500})
    assert reply.json()["requestId"] == "a" * 100


# ── what it tells ────────────────────────────────────────────────────────────────────────────────────────


def test_it_can_be_told_to_say_that_it_is_not_alive_while_it_answers(mesh: Mesh) -> None:
    resting = replace(policy(WORKERS, CONTRACTS), is_alive=False)
    assert mesh.gateway.publish(resting).changed == ("routes",)
    check_error(mesh.ask("/isAlive/"), 503, "NotAlive")
    assert mesh.ask(API + "first/x", as_client("app-a")).status == 200
    assert mesh.gateway.publish(policy(WORKERS, CONTRACTS)).changed == ("routes",)
    assert mesh.ask("//isAlive/").status == 200
    check_error(mesh.ask("/isAlive/", method="POST"), 401, "InvalidClient")
    check_error(mesh.ask("/isAlive/x"), 401, "InvalidClient")


def test_it_says_that_it_is_alive_to_anybody(mesh: Mesh) -> None:
    reply = mesh.ask("/isAlive/")
    assert (reply.status, reply.json()) == (200, {"status": "alive"})


def test_the_access_log_has_a_line_a_request_and_no_secret(mesh: Mesh) -> None:
    reply = mesh.ask(
        API + "first/x/predict?token=geheim", as_client("app-a"), method="POST", body=b'{"a": 1}'
    )
    mesh.ask(API + "first/x", {"authorization": f"Bearer app-a.{B}"})
    wanted = reply.headers["x-request-id"]
    wait_until(lambda: any(line["request_id"] == wanted for line in mesh.log_lines()), "the log line", 3)
    line = next(line for line in mesh.log_lines() if line["request_id"] == wanted)
    assert line["time"].endswith("Z")
    assert line["duration_ms"] >= 0
    assert line["upstream_ms"] >= 0
    expected = {
        "method": "POST",
        "path": API + "first/x/predict",
        "code": 200,
        "client": "app-a",
        "service": "first",
        "bytes_in": 8,
        "bytes_out": len(reply.body),
        "flags": "-",
    }
    assert {name: line[name] for name in expected} == expected
    text = (mesh.settings.log_folder / "gateway-access.jsonl").read_text()
    assert "geheim" not in text
    assert not [secret for secret in SECRETS.values() if secret in text]


def test_envoy_counts_what_happened_and_knows_the_workers(mesh: Mesh) -> None:
    def counts() -> list[int]:
        names = ("downstream_rq_total", "downstream_rq_4xx", "basic_auth.denied", "rbac.denied")
        found = mesh.admin.stats(r"^http\.gateway\.")
        return [int(found[f"http.gateway.{name}"]) for name in names]

    before = counts()
    mesh.ask(API + "first/x", as_client("app-a"))
    mesh.ask(API + "first/x")
    mesh.ask(API + "second/x", as_client("app-a"))
    assert [now - then for now, then in zip(counts(), before, strict=True)] == [3, 2, 1, 1]
    assert mesh.health("first") == dict.fromkeys(WORKERS["first"], True)
    assert mesh.health("down") == dict.fromkeys(WORKERS["down"], False)
    assert mesh.health("empty") == {}


def test_the_windows_of_a_contract_hold_together_and_others_have_their_own(mesh: Mesh) -> None:
    usual = policy(WORKERS, CONTRACTS)
    layered = Contract("app-a", "first", RateLimit.parse("100/1s"), more=(RateLimit.parse("4/1h"), PLENTY))
    others = [c for c in usual.contracts if (c.client_id, c.service) != ("app-a", "first")]
    mesh.gateway.publish(
        GatewayPolicy.of(services=usual.services, clients=usual.clients, contracts=[*others, layered])
    )
    found = [mesh.ask(API + "first/x", as_client("app-a")) for _ in range(5)]
    assert [reply.status for reply in found] == [200, 200, 200, 200, 429]
    assert found[0].headers["x-ratelimit-limit"].split(",")[0] == "4"  # the tightest
    assert [mesh.ask(API + "first/x", as_client("app-b")).status for _ in range(4)] == [200, 200, 200, 429]
