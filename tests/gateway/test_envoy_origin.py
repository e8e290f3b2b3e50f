"""From which address a request came, on a real Envoy behind trusted proxies: who is believed, and who uses it."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Final

import pytest
from tests.gateway.conftest import API, Mesh, Reply, as_client, basic, check_error, policy, wait_until

from tulle.config import Settings
from tulle.gateway.envoy import Gateway
from tulle.gateway.policies.listed import parse_policies, policies_in
from tulle.gateway.policy import GatewayPolicy, RateLimit

pytestmark = pytest.mark.system

PROXY, STRANGER = "127.0.0.9", "127.0.0.1"  # from which a connection comes
CALLER = "203.0.113.7"
TRUSTED = (f"{PROXY}/32", "10.9.0.0/16", "fd00:9::/32")
PLENTY = RateLimit.parse("100000/1s")


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]) -> Iterator[Mesh]:
    """A gateway that trusts proxies, with one worker."""
    settings = replace(
        Settings(folder=tmp_path_factory.mktemp("behind")),
        gateway_port=free_port(),
        gateway_concurrency=1,  # each of Envoy's threads counts wrong secrets by itself
        trusted_proxies=TRUSTED,
    )
    mesh = Mesh(settings, Gateway(settings))
    mesh.start_worker("one", "run/w/one.sock")
    mesh.gateway.publish(_policy(""))
    mesh.start()
    yield mesh
    mesh.stop()
    mesh.kill_worker("one")


def _policy(listed: str, *, guarded: bool = False) -> GatewayPolicy:
    made = policy(
        {"first": ("run/w/one.sock",)},
        {("app-a", "first"): PLENTY},
        policies=policies_in(parse_policies(listed), "") if listed else (),
    )
    return replace(made, is_guarded=guarded)


def ask(mesh: Mesh, source: str, said: str | None, headers: Mapping[str, str] | None = None) -> Reply:
    """Ask from an address of this machine, with this `x-forwarded-for`."""
    wire = http.client.HTTPConnection("127.0.0.1", mesh.settings.gateway_port, 10, (source, 0))
    given = {**(as_client("app-a") if headers is None else headers), "x-tulle-address": "192.0.2.99"}
    try:
        wire.request(
            "GET", f"{API}first/x", headers=given | ({} if said is None else {"X-Forwarded-For": said})
        )
        answer = wire.getresponse()
        return Reply(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
    finally:
        wire.close()


SAID: Final = (  # from where the connection is, what it says, whose address it is then
    (PROXY, CALLER, CALLER),
    (PROXY, f"{CALLER}, 10.9.3.4", CALLER),  # by two of them
    (PROXY, f"192.0.2.1, {CALLER}", CALLER),  # what the caller wrote before its proxy counts for nothing
    (PROXY, f"10.9.0.1, {CALLER}, 10.9.3.4", CALLER),
    (PROXY, f"192.0.2.1, {PROXY}, {CALLER}", CALLER),
    (PROXY, f"'; DROP, {CALLER}", CALLER),
    (PROXY, "2001:db8::7, fd00:9::2", "2001:db8::7"),
    (PROXY, f"2001:db8::7,{CALLER},fd00:9:1::2,10.9.3.4", CALLER),
    (PROXY, None, PROXY),  # a proxy that says nothing
    (PROXY, "", PROXY),
    (PROXY, "nonsense", PROXY),
    (PROXY, "203.0.113.7:1234", PROXY),  # with a port is no address
    (STRANGER, CALLER, STRANGER),
    (STRANGER, f"{CALLER}, {PROXY}", STRANGER),
    (STRANGER, None, STRANGER),
)


def test_a_trusted_proxy_alone_is_believed(behind: Mesh) -> None:
    wanted: dict[str, str] = {}
    for source, said, address in SAID:
        reply = ask(behind, source, said)
        seen = reply.json()["headers"]
        assert seen["x-envoy-external-address"] == address, (source, said)
        assert not {"x-forwarded-for", "x-tulle-address", "forwarded", "x-envoy-internal"} & seen.keys()
        wanted[reply.headers["x-request-id"]] = address

    def logged() -> dict[str, str]:
        return {one["request_id"]: one["address"] for one in behind.log_lines()}

    wait_until(lambda: wanted.keys() <= logged().keys(), "the lines of the log", 20)
    assert wanted.items() <= logged().items()


def test_further_words_of_the_way_are_believed_of_nobody(behind: Mesh) -> None:
    forged = {
        "x-forwarded-proto": "https",
        "x-forwarded-host": "elsewhere",
        "x-forwarded-client-cert": "URI=x",
        "x-forwarded-form": "1",
        "x-forwarded-f": "1",
        "x-forwarded_for": "192.0.2.1",
        "x_forwarded_for": "192.0.2.1",
        "x-forwarded": "for=192.0.2.1",
        "forwarded": "for=192.0.2.1",
        "x-real-ip": "192.0.2.1",
        "x-envoy-external-address": "192.0.2.1",
        "x-envoy-internal": "true",
        "x-request-id": "mine",
    }
    seen = ask(behind, PROXY, CALLER, as_client("app-a") | forged).json()["headers"]
    assert seen["x-forwarded-proto"] == "http"
    assert seen["x-envoy-external-address"] == CALLER
    assert seen["x-request-id"] != "mine"
    assert [name for name in seen if name.startswith("x-forwarded")] == ["x-forwarded-proto"]
    assert not {"forwarded", "x-real-ip", "x-envoy-internal"} & seen.keys()


def test_several_lines_of_the_header_are_one_list(behind: Mesh) -> None:
    wire = http.client.HTTPConnection("127.0.0.1", behind.settings.gateway_port, 10, (PROXY, 0))
    wire.putrequest("GET", f"{API}first/x")
    for name, value in as_client("app-a").items():
        wire.putheader(name, value)
    for value in ("192.0.2.1", CALLER, "10.9.0.2"):
        wire.putheader("x-forwarded-for", value)
    wire.endheaders()
    seen = json.loads(wire.getresponse().read())["headers"]
    wire.close()
    assert seen["x-envoy-external-address"] == CALLER
    assert "x-forwarded-for" not in seen


def test_lists_of_addresses_are_about_the_caller(behind: Mesh) -> None:
    assert behind.gateway.publish(_policy(f"- {{policy: ip-allow, addresses: [{CALLER}]}}")).confirmed
    assert ask(behind, PROXY, CALLER).status == 200
    check_error(ask(behind, PROXY, f"{CALLER}, 192.0.2.1"), 403, "AddressNotAllowed")
    check_error(ask(behind, STRANGER, CALLER), 403, "AddressNotAllowed")
    assert behind.gateway.publish(
        _policy(f"- {{policy: ip-deny, addresses: [{CALLER}, {STRANGER}]}}")
    ).confirmed
    check_error(ask(behind, PROXY, CALLER), 403, "AddressNotAllowed")
    check_error(ask(behind, PROXY, f"192.0.2.1, {CALLER}, 10.9.0.2"), 403, "AddressNotAllowed")
    check_error(ask(behind, STRANGER, "192.0.2.1"), 403, "AddressNotAllowed")
    assert ask(behind, PROXY, "192.0.2.1").status == 200


def test_limits_of_an_address_and_what_is_told_of_it_are_the_callers(behind: Mesh) -> None:
    listed = (
        "- {policy: rate-limit, limits: 2/1h, by: address}\n"
        "- policy: header-injection\n  request: {x-caller: '${address}'}"
    )
    assert behind.gateway.publish(_policy(listed)).confirmed
    replies = [ask(behind, PROXY, f"192.0.2.{number}, {CALLER}") for number in range(4)]
    assert [one.status for one in replies] == [200, 200, 429, 429]
    assert replies[0].json()["headers"]["x-caller"] == CALLER
    assert ask(behind, PROXY, "203.0.113.8").status == 200  # another caller of the same proxy
    assert ask(behind, STRANGER, CALLER).json()["headers"]["x-caller"] == STRANGER


def test_wrong_secrets_are_counted_of_the_caller(behind: Mesh) -> None:
    assert behind.gateway.publish(_policy("", guarded=True)).confirmed
    wrong = basic("app-a", "0" * 40)
    tried = [ask(behind, PROXY, f"192.0.2.{n}, {CALLER}", wrong).status for n in range(30)]
    assert tried[:10] == [401] * 10
    assert tried.count(429) > 10
    assert ask(behind, PROXY, "203.0.113.8", wrong).status == 401  # nobody else is held for it
    assert ask(behind, PROXY, "203.0.113.8").status == 200
    assert behind.gateway.publish(_policy("")).confirmed
