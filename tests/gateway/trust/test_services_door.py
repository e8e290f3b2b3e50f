"""The gateway's door for services on the real Envoy: whose credentials hold, by which certificate, and how workers call."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import ssl
import time
from collections.abc import Mapping
from dataclasses import replace

import psutil
import pytest
from tests.gateway.conftest import PLENTY, SECRETS, Reply, as_client, check_error, wait_until
from tests.gateway.trust.conftest import PATH, Trusted, context

from tulle.gateway.envoy import Gateway
from tulle.gateway.policy import Client, Contract, GatewayPolicy
from tulle.gateway.secret import hash_secret
from tulle.gateway.trust.certificate import Pair
from tulle.gateway.trust.services_door import SOCKET
from tulle.gateway.trust.transport import BUNDLE, FOLDER
from tulle.serving.outside import Door, Got, Outside, outside_file, write_outside
from tulle.serving.own_certificate import Mutual
from tulle.serving.request import RequestError
from tulle.serving.traffic import single

CALLER, OTHER, APP = (
    "app-a",
    "app-b",
    "app-c",
)  # client ids: of the services `caller` and `other`, of a person's program
PLACES = {("offers", ""), ("caller", ""), ("other", "")}
pytestmark = pytest.mark.system


@pytest.fixture
def door(trusted: Trusted) -> Trusted:
    """`offers` may be called by the service `caller` and by an application; the service `other` has no contract."""
    trusted.keeper.keep(PLACES)
    holders = tuple(
        (client, trusted.keeper.identity((name, "")).uri)
        for client, name in ((CALLER, "caller"), (OTHER, "other"))
    )
    policy = GatewayPolicy.of(
        services=trusted.keeper.entrusted([trusted.service(single("v1"))]),
        clients=(Client(name, hash_secret(secret)) for name, secret in SECRETS.items()),
        contracts=[Contract(CALLER, "offers", PLENTY), Contract(APP, "offers", PLENTY)],
    )
    trusted.published = replace(policy, holders=holders)
    trusted.gateway.publish(trusted.published)
    return trusted


def ask(mesh: Trusted, pair: Pair | None, headers: Mapping[str, str], target: str = PATH) -> Reply:
    connection = http.client.HTTPConnection("gateway.mesh", timeout=10)
    with mesh.wire(SOCKET) as wire:
        connection.sock = context(pair, mesh.roots).wrap_socket(wire, server_hostname="gateway.mesh")
        with contextlib.closing(connection):
            connection.request("POST", target, body="{}", headers=dict(headers))
            answer = connection.getresponse()
            return Reply(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())


def test_a_service_calls_with_its_credentials_and_its_certificate(door: Trusted) -> None:
    caller = door.pair("caller")
    reply = ask(door, caller, as_client(CALLER))
    assert (reply.status, reply.json()["headers"]["x-tulle-client"]) == (200, CALLER)
    check_error(ask(door, door.pair("other"), as_client(OTHER)), 403, "NoContract")
    check_error(ask(door, caller, {}), 401, "InvalidClient")

    def logged() -> bool:
        uri = door.keeper.identity(("caller", "")).uri
        return any(
            (line["caller"], line["client"], line["code"]) == (uri, CALLER, 200) for line in door.log_lines()
        )

    wait_until(logged, "writing the log")


def test_neither_holds_without_the_other(door: Trusted) -> None:
    # a stolen secret: at the door for everybody, and by another service's certificate
    stolen = door.ask(PATH, as_client(CALLER), method="POST", body="{}")
    check_error(stolen, 403, "WrongIdentity")
    check_error(ask(door, door.pair("other"), as_client(CALLER)), 403, "WrongIdentity")
    check_error(ask(door, door.pair(), as_client(CALLER)), 403, "WrongIdentity")
    # the certificate of a service of that name elsewhere
    check_error(ask(door, door.pair("caller", "test"), as_client(CALLER)), 403, "WrongIdentity")
    # everybody else's credentials are as they were
    assert door.ask(PATH, as_client(APP), method="POST", body="{}").status == 200


def test_who_is_not_of_the_mesh_does_not_come_in(door: Trusted) -> None:
    with pytest.raises(ssl.SSLError):
        ask(door, None, as_client(APP))
    forged = {"x-forwarded-client-cert": f"URI={door.keeper.identity(('caller', '')).uri}"}
    check_error(
        door.ask(PATH, {**as_client(CALLER), **forged}, method="POST", body="{}"), 403, "WrongIdentity"
    )


def test_a_service_is_no_proxy_whatever_it_says_of_its_way(door: Trusted) -> None:
    trusting = Gateway(replace(door.settings, trusted_proxies=("127.0.0.0/8", "10.0.0.0/8")))
    trusting.publish(door.published)
    said = {"x-forwarded-for": "192.0.2.1"}
    seen = ask(door, door.pair("caller"), {**as_client(CALLER), **said}).json()["headers"]
    assert not {"x-forwarded-for", "x-envoy-external-address"} & seen.keys()  # a socket has no address
    # at the door for everybody the connection is of a trusted proxy
    seen = door.ask(PATH, {**as_client(APP), **said}, method="POST", body="{}").json()["headers"]
    assert seen["x-envoy-external-address"] == "192.0.2.1"
    door.gateway.publish(door.published)


def test_no_connection_outlasts_its_certificate_for_long(
    door: Trusted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever connected before the authority was replaced: an open connection ends, with an answer that says so."""
    standing = door.gateway.command().cwd / "run/gateway/listeners.json"
    monkeypatch.setattr("tulle.gateway.trust.services_door.LONGEST_SECONDS", 1)
    shorter = Gateway(door.settings)
    before = standing.read_bytes()
    shorter.publish(door.published)
    assert standing.read_bytes() != before
    connection = http.client.HTTPConnection("gateway.mesh", timeout=10)
    with door.wire(SOCKET) as wire:
        own = context(door.pair("caller"), door.roots)
        connection.sock = own.wrap_socket(wire, server_hostname="gateway.mesh")
        with contextlib.closing(connection):
            answers = []
            for pause in (0.0, 1.2):
                time.sleep(pause)
                connection.request("POST", PATH, body="{}", headers=dict(as_client(CALLER)))
                answer = connection.getresponse()
                answers.append((answer.status, answer.getheader("connection")))
                answer.read()
            assert answers == [(200, None), (200, "close")]
            assert connection.sock is None
    door.gateway.publish(door.published)


# ── how a worker calls ───────────────────────────────────────────────────────────────────────────────────


def worker_door(mesh: Trusted, service: str, named: str = "") -> Door:
    state = mesh.settings.state_folder
    file = outside_file(state, service)
    mutual = Mutual(
        SOCKET, f"{FOLDER}/service-{service}@prod.json", f"{FOLDER}/{BUNDLE}.json", "gateway.mesh"
    )
    write_outside(file, Outside("https://gateway.mesh", CALLER, SECRETS[CALLER], mutual=mutual, named=named))
    return Door(file)


async def call(door: Door, host: str = "gateway.mesh") -> Got:
    by = door.by()
    return await door.send(
        "POST",
        f"https://{host}{PATH}",
        headers=[("client_id", by.client_id), ("client_secret", by.client_secret)],
        content=b"{}",
        seconds=5,
        allowed=None,
        what="service 'offers'",
    )


def test_a_worker_calls_by_its_certificate_and_goes_on_when_that_changes(door: Trusted) -> None:
    state = door.settings.state_folder
    own = state / FOLDER / "service-caller@prod.json"

    async def work() -> list[int]:
        by = worker_door(door, "caller")
        found = [(await call(by)).status]
        before = by._pools.copy()
        own.unlink()
        door.keeper._files._looked = None
        assert door.keeper.keep(PLACES) == ("service-caller@prod",)
        many = await asyncio.gather(*(call(by) for _ in range(20)))
        found += [one.status for one in many]
        assert by._pools != before
        found.append((await call(by)).status)
        assert by._leaving == []
        with pytest.raises(RequestError) as refused:  # whoever answers there, it is the gateway or nobody
            await call(by, "offers.prod.mesh")
        found.append(refused.value.status)
        await by.close()
        return found

    handles = psutil.Process().num_fds()
    assert asyncio.run(work()) == [200] * 22 + [503]
    assert psutil.Process().num_fds() <= handles
    assert not list((state / FOLDER).glob("*.pem"))


def test_a_worker_expects_the_door_for_services_whatever_others_are_shown(door: Trusted) -> None:
    """As where callers meet the gateway by TLS too, for another name."""

    async def work() -> int:
        by = worker_door(door, "caller", named="localhost")
        found = (await call(by)).status
        await by.close()
        return found

    assert asyncio.run(work()) == 200


def test_a_worker_without_a_certificate_says_so(door: Trusted) -> None:
    async def work() -> RequestError:
        by = worker_door(door, "nobody")
        with pytest.raises(RequestError) as refused:
            await call(by)
        await by.close()
        return refused.value

    refused = asyncio.run(work())
    assert (refused.status, refused.error_type) == (503, "Unreachable")
    assert "certificate" in refused.message
    damaged = door.settings.state_folder / FOLDER / "service-nobody@prod.json"
    damaged.write_text(json.dumps({"resources": [{}]}))
    assert "certificate" in asyncio.run(work()).message
    damaged.unlink()
