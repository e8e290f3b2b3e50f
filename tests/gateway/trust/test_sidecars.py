"""Gateway, sidecars and workers on the real Envoy: who is let in, who is not, and what is lost when something ends."""

from __future__ import annotations

import json
import os
import socket
import ssl
import threading
import time
from collections import Counter
from dataclasses import replace
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest
from tests.gateway.conftest import PLENTY, SECRETS, as_client, check_error, wait_until
from tests.gateway.trust.conftest import PATH, Trusted, context

from tulle.config import Settings
from tulle.errors import Broken
from tulle.gateway import access_log
from tulle.gateway.front import Front
from tulle.gateway.policy import Backend, Client, Contract, GatewayPolicy
from tulle.gateway.secret import hash_secret
from tulle.gateway.trust.authority import Authorities
from tulle.gateway.trust.certificate import Pair
from tulle.gateway.trust.identity import Identity
from tulle.gateway.trust.keeper import Keeper
from tulle.gateway.trust.sidecar import sidecars_of
from tulle.serving.traffic import Share, Traffic, single, split
from tulle.state.db import open_database

ME = as_client("app-a")
V1 = "run/s/offers-v1.sock"
pytestmark = pytest.mark.system


def worker(mesh: Trusted, path: str = PATH, **headers: str) -> str:
    reply = mesh.ask(path, {**ME, **headers}, method="POST", body="{}")
    assert reply.status == 200, reply
    return str(reply.json()["worker"])


class Load:
    """Callers that ask one after another, and what they got."""

    def __init__(self, mesh: Trusted, callers: int = 4) -> None:
        self.answers: Counter[int] = Counter()
        self._stop = threading.Event()
        self._mesh = mesh
        self._threads = [threading.Thread(target=self._ask) for _ in range(callers)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        while not self._stop.is_set():
            self.answers[self._mesh.ask(PATH, ME, method="POST", body="{}").status] += 1


def test_a_request_comes_through_by_mutual_tls(trusted: Trusted) -> None:
    reply = trusted.ask(PATH + "?a=1", ME, method="POST", body="{}")
    said = reply.json()
    assert (reply.status, said["worker"][:5], said["target"]) == (200, "first", PATH + "?a=1")
    assert said["headers"]["x-tulle-client"] == "app-a"
    assert said["headers"]["x-request-id"] == reply.headers["x-request-id"]
    assert not {"authorization", "x-forwarded-client-cert", "client_secret"} & set(said["headers"])
    # the gateway has no other way to the workers
    clusters = json.loads(trusted.admin.get("/clusters?format=json"))["cluster_statuses"]
    hosts = [h["address"]["pipe"]["path"] for c in clusters for h in c.get("host_statuses", [])]
    assert [host for host in hosts if "processor" not in host] == [V1]
    stats = trusted.admin.stats(r"^cluster\.offers/v1\.ssl\.handshake$")
    assert int(stats["cluster.offers/v1.ssl.handshake"]) > 0


def test_who_is_not_of_the_mesh_is_not_talked_to(trusted: Trusted, tmp_path: Path) -> None:
    with pytest.raises((ConnectionError, HTTPException)):  # plain HTTP to a door that takes TLS
        trusted.directly(V1, None, plain=True)
    with pytest.raises(ssl.SSLError):  # no certificate
        trusted.directly(V1, None)
    strange = Authorities(open_database(f"sqlite:///{tmp_path}/s.db"), tmp_path / "key")
    strange.keep("Shop", time.time())
    with pytest.raises(ssl.SSLError):  # the right name by a wrong authority
        trusted.directly(V1, strange.issue(Identity(trusted.domain)))
    day = trusted.keeper.authorities.lives.leaf
    for begins in (-2 * day, day):  # ended, not begun
        with pytest.raises(ssl.SSLError):
            trusted.directly(V1, trusted.pair(at=time.time() + begins))
    with pytest.raises(ssl.SSLCertVerificationError):  # and who asks sees whom it asks
        trusted.directly(V1, trusted.pair(), roots=strange.known()[0].root)
    wait_until(lambda: worker(trusted).startswith("first"), "answering on")


def test_another_part_of_the_mesh_is_refused_in_words_and_in_the_log(trusted: Trusted) -> None:
    assert trusted.directly(V1, trusted.pair()).status == 200  # the gateway's own
    for service in ("thief", "offers"):
        refused = trusted.directly(V1, trusted.pair(service))
        body = refused.json()
        assert (refused.status, body["errorType"]) == (403, "CallerNotAllowed")
        assert set(body) == {"errorType", "message", "detailedMessage", "requestId"}
        assert body["requestId"] == "r-1"
    thief = Identity(trusted.domain, "thief", "prod").uri

    def logged() -> bool:
        return any(
            (line["caller"], line["identity"], line["code"])
            == (thief, Identity(trusted.domain, "offers", "prod").uri, 403)
            for line in trusted.sidecar_lines()
        )

    wait_until(logged, "writing the log")


def test_the_gateway_talks_to_nobody_else_behind_a_services_socket(trusted: Trusted) -> None:
    """A process with the certificate of another service takes the place of a sidecar."""
    trusted.keeper.keep({("offers", ""), ("thief", "")})
    own = trusted.pair("thief")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    file = trusted.settings.state_folder / "thief.pem"
    file.write_text(own.certificate + own.key)
    server.load_cert_chain(file)
    service = trusted.service(single("v1"))
    stolen = next(iter(sidecars_of(trusted.keeper.entrusted([service])).values()))
    trusted.stop_sidecars()
    (trusted.settings.state_folder / stolen.socket).unlink(missing_ok=True)
    heard: list[bytes] = []
    with socket.socket(socket.AF_UNIX) as listening:
        folder = os.open(trusted.settings.state_folder, os.O_RDONLY)
        listening.bind(f"/proc/self/fd/{folder}/{stolen.socket}")
        os.close(folder)
        listening.listen()
        listening.settimeout(0.2)
        done = threading.Event()

        def take() -> None:
            while not done.is_set():
                try:
                    wire, _ = listening.accept()
                    heard.append(server.wrap_socket(wire, server_side=True).recv(100))
                except OSError:
                    continue

        thread = threading.Thread(target=take)
        thread.start()
        try:
            reply = trusted.ask(PATH, ME, method="POST", body="{}")
        finally:
            done.set()
            thread.join()
    check_error(reply, 503, "ServiceUnavailable")
    assert b"".join(heard) == b""


def test_generations_are_split_forced_sticky_and_shadowed_through_sidecars(trusted: Trusted) -> None:
    trusted.publish(trusted.service(split({"v1": 0.5, "v2": 0.5})))
    met = Counter(worker(trusted)[:5] for _ in range(100))
    assert set(met) == {"first", "secon"}
    assert worker(trusted, **{"forced-generation": "v2"}) == "second-1"
    trusted.publish(trusted.service(split({"v1": 0.5, "v2": 0.5}, sticky=True)))
    assert len({worker(trusted, **{"dispatch-key": "user-7"})[:5] for _ in range(10)}) == 1
    shadowed = Traffic("single", single("v1").shares, shadow=Share("v2", 10_000))
    trusted.publish(trusted.service(shadowed))

    def asked() -> int:
        name = "cluster.offers/v2.upstream_rq_200"
        return int(trusted.sidecar_admin.stats(rf"^{name}$".replace(".", "\\.")).get(name, 0))

    before = asked()
    assert worker(trusted).startswith("first")
    wait_until(lambda: asked() > before, "the shadow's copy")


def test_a_switch_of_generations_loses_nothing(trusted: Trusted) -> None:
    with Load(trusted) as load:
        for version in ("v2", "v1") * 3:
            other = "v1" if version == "v2" else "v2"
            trusted.publish(trusted.service(single(version), other))
            time.sleep(0.1)
            trusted.publish(trusted.service(single(version)))
    assert set(load.answers) == {200}
    assert load.answers[200] > 50


def test_certificates_are_changed_under_load_and_nothing_is_lost(trusted: Trusted) -> None:
    service = trusted.service(single("v1"))
    at = time.time()
    life = trusted.keeper.authorities.lives
    with Load(trusted) as load:
        for step in range(3):  # as if a third of a life had passed, each time
            assert set(trusted.keeper.keep({("offers", "")}, at + step)) <= {"gateway", "service-offers@prod"}
            (trusted.settings.state_folder / "run/trust/gateway.json").unlink()
            (trusted.settings.state_folder / "run/trust/service-offers@prod.json").unlink()
            trusted.keeper._files._looked = None
            assert trusted.keeper.keep({("offers", "")}, at + step) == ("gateway", "service-offers@prod")
            before = _shown(trusted)
            trusted.keeper.put_before((), [service])
            assert _shown(trusted)["serialNumber"] != before["serialNumber"]
        trusted.keeper.authorities.rotate(at=at)
        assert trusted.keeper.keep({("offers", "")}, at) == ("bundle",)
        time.sleep(0.1)
        assert "gateway" in trusted.keeper.keep({("offers", "")}, at + life.spread)
        trusted.keeper.put_before((), [service])
        wait_until(
            lambda: _issuer_shown(trusted) == trusted.keeper.authorities.known()[0].id, "the new authority"
        )
        time.sleep(0.2)
    assert set(load.answers) == {200}
    assert load.answers[200] > 20


def _shown(mesh: Trusted) -> dict[str, Any]:
    """The sidecar's certificate."""
    with mesh.wire(V1) as wire, context(mesh.pair(), mesh.roots).wrap_socket(wire) as tls:
        about = tls.getpeercert()
    assert about is not None
    return dict(about)


def _issuer_shown(mesh: Trusted) -> str:
    """The authority that the sidecar's certificate is by."""
    about = _shown(mesh)
    return str(dict(pair for (pair,) in about["issuer"])["commonName"]).split()[-1]  # type: ignore[misc,arg-type]


def test_at_once_the_old_authority_opens_nothing(trusted: Trusted) -> None:
    old = trusted.pair()
    assert trusted.directly(V1, old).status == 200
    trusted.keeper.authorities.rotate(at_once=True)
    assert "bundle" in trusted.keeper.keep({("offers", "")})
    trusted.keeper.put_before((), [trusted.service(single("v1"))])

    def refused() -> bool:
        try:
            trusted.directly(V1, old)
        except OSError:
            return True
        return False

    wait_until(refused, "refusing what the old one signed", 10)
    assert trusted.directly(V1, trusted.pair()).status == 200
    assert worker(trusted).startswith("first")


def test_sidecars_that_are_killed_under_load_are_back_and_nothing_is_lost(trusted: Trusted) -> None:
    with Load(trusted) as load:
        wait_until(lambda: load.answers[200] > 20, "the load")
        trusted.stop_sidecars(hard=True)
        began = time.monotonic()
        trusted.start_sidecars()
        back = time.monotonic() - began
        count = load.answers[200]
        wait_until(lambda: load.answers[200] > count + 20, "answering again")
    assert set(load.answers) == {200}
    assert back < 5  # well below one second; machines that are busy get more


def test_a_worker_that_dies_is_asked_no_more(trusted: Trusted) -> None:
    with Load(trusted) as load:
        wait_until(lambda: load.answers[200] > 20, "the load")
        trusted.kill_worker("first-1")
        count = load.answers[200]
        wait_until(lambda: load.answers[200] > count + 50, "answering on")
    assert set(load.answers) == {200}


def test_nobody_behind_a_sidecar_is_said_in_the_usual_words(trusted: Trusted) -> None:
    service = trusted.service(single("v1"), backends=(Backend("v1", ("run/w/nobody.sock",)),))
    trusted.publish(service)
    body = check_error(trusted.ask(PATH, ME, method="POST", body="{}"), 503, "ServiceUnavailable")
    assert "nobody" not in json.dumps(body)


def test_sidecars_stay_as_they_were_when_new_ones_are_refused(trusted: Trusted) -> None:
    folder = trusted.settings.state_folder / "run/sidecars"
    files = {name: (folder / f"{name}.json").read_bytes() for name in ("clusters", "listeners")}
    (one,) = sidecars_of(trusted.keeper.entrusted([trusted.service(single("v1"))])).values()
    callers = [Identity(trusted.domain)]
    strange = replace(one, identity=Identity(trusted.domain, "no-such", "prod"))
    with pytest.raises(Broken, match="has no certificate"):  # never without, whatever happens
        trusted.keeper.sidecars.publish([strange], callers, {})
    damaged = {strange.identity.file_name: Pair("no certificate", "no key")}
    with pytest.raises(Broken, match="refused its new listeners"):
        trusted.keeper.sidecars.publish([strange], callers, damaged)
    for name, content in files.items():
        assert (folder / f"{name}.json").read_bytes() == content
    assert worker(trusted).startswith("first")
    both = trusted.service(single("v1"), "v2")
    assert trusted.keeper.without_sidecar([trusted.service(single("v1")), both]) == [both]


def test_more_workers_take_part_and_fewer_lose_nothing(trusted: Trusted) -> None:
    one = trusted.service(single("v1"), backends=(Backend("v1", ("run/w/first-1.sock",)),))
    with Load(trusted) as load:
        for service in (one, trusted.service(single("v1"))) * 2:
            trusted.publish(service)
            time.sleep(0.1)
        met = {worker(trusted) for _ in range(30)}
    assert met == {"first-1", "first-2"}
    assert set(load.answers) == {200}


def test_a_certificate_that_ended_closes_the_way_until_there_is_another(trusted: Trusted) -> None:
    """As when nobody could make it anew for a day: nothing goes through without."""
    service = trusted.service(single("v1"))
    (one,) = sidecars_of(trusted.keeper.entrusted([service])).values()
    ended = trusted.pair("offers", at=time.time() - 2 * trusted.keeper.authorities.lives.leaf)
    callers = [Identity(trusted.domain)]
    trusted.stop_sidecars()
    trusted.keeper.sidecars.publish([one], callers, {one.identity.file_name: ended})
    trusted.start_sidecars()
    check_error(trusted.ask(PATH, ME, method="POST", body="{}"), 503, "ServiceUnavailable")
    trusted.keeper.sidecars.publish([one], callers, {one.identity.file_name: trusted.pair("offers")})
    assert worker(trusted).startswith("first")


def test_what_ended_while_the_mesh_was_down_is_made_good_before_it_starts(trusted: Trusted) -> None:
    (one,) = sidecars_of(trusted.keeper.entrusted([trusted.service(single("v1"))])).values()
    ended = trusted.pair("offers", at=time.time() - 2 * trusted.keeper.authorities.lives.leaf)
    trusted.stop_sidecars()
    trusted.keeper.sidecars.publish([one], [Identity(trusted.domain)], {one.identity.file_name: ended})
    Keeper(trusted.settings, open_database(trusted.settings.database_url)).prepare({("offers", "")})
    trusted.start_sidecars()
    assert worker(trusted).startswith("first")
    damaged = trusted.settings.state_folder / "run/sidecars/listeners.json"
    damaged.write_bytes(damaged.read_bytes()[:1000])
    trusted.stop_sidecars()
    trusted.keeper.prepare({("offers", "")})
    trusted.start_sidecars()  # with none, until they are published
    trusted.publish(trusted.service(single("v1")))
    assert worker(trusted).startswith("first")


def test_there_may_be_more_services_than_a_user_may_have_watchers(trusted: Trusted) -> None:
    many = [replace(trusted.service(single("v1")), name=f"offers-{number}") for number in range(150)]
    trusted.keeper.keep({(one.name, "") for one in many})
    trusted.keeper.put_before((), many)
    stats = trusted.sidecar_admin.stats(r"^listener_manager\.total_listeners_active$")
    assert stats == {"listener_manager.total_listeners_active": "150"}
    trusted.publish(trusted.service(single("v1")))
    assert worker(trusted).startswith("first")


def test_the_log_of_refusals_is_bounded(trusted: Trusted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_log, "LARGEST", 100)
    log = trusted.settings.log_folder / "sidecars-access.jsonl"
    assert trusted.directly(V1, trusted.pair("thief")).status == 403
    wait_until(lambda: log.stat().st_size > 100, "writing the log")
    trusted.publish(trusted.service(single("v1")))
    assert log.with_name("sidecars-access.1.jsonl").exists()
    assert trusted.directly(V1, trusted.pair("thief")).status == 403
    wait_until(lambda: log.exists() and log.stat().st_size > 0, "beginning a new one")


def test_an_api_leads_to_the_sidecar_of_the_service_that_answers(trusted: Trusted) -> None:
    service = trusted.service(single("v1"))
    front = Front(version="v1", path="/sales/v1", serves="offers")
    api = replace(service, name="sales", front=front)
    trusted.keeper.keep({("offers", "")})
    trusted.keeper.put_before((), [service, api])
    trusted.gateway.publish(
        GatewayPolicy.of(
            services=trusted.keeper.entrusted([service, api]),
            clients=[Client("app-a", hash_secret(SECRETS["app-a"]))],
            contracts=[Contract("app-a", name, PLENTY) for name in ("offers", "sales", "sales@v1")],
        )
    )
    reply = trusted.ask("/sales/v1/x/predict", ME, method="POST", body="{}")
    assert reply.status == 200, reply
    assert worker(trusted).startswith("first")
    stats = trusted.sidecar_admin.stats(r"^listener_manager\.total_listeners_active$")
    assert stats == {"listener_manager.total_listeners_active": "1"}


def test_no_key_stays_where_mutual_tls_is_off(tmp_path: Path) -> None:
    settings = replace(Settings(folder=tmp_path), mutual_tls=True)
    database = open_database(settings.database_url)
    Keeper(settings, database).prepare({("offers", "")})
    folders = [settings.state_folder / "run" / name for name in ("trust", "sidecars")]
    assert all(folder.is_dir() for folder in folders)
    Keeper(replace(settings, mutual_tls=False), database).prepare({("offers", "")})
    assert not any(folder.exists() for folder in folders)
