"""A whole mesh whose hops are by mutual TLS, and its front by TLS: deployed, called, called by one another, changed and
hurt while it runs.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.system.conftest import Mesh, free_port
from tests.system.test_services_call import BOOK, OFFERS

from tulle.spec.skeleton import mesh_files, product_files

ORDER = {"order": "O-1002"}
# What Envoy lacks is done by the processor, behind which the sidecar is as it is without.
LIMITED = BOOK + "policies:\n  - {policy: json-limits, max_string_length: 40}\n"


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    folder = tmp_path_factory.mktemp("trust")
    files = {folder / path: text for path, text in mesh_files("shop").items()}
    for name, domain, service in (("orders", "sales", LIMITED), ("campaigns", "marketing", OFFERS)):
        home = folder / f"products/{domain}/{name}"
        made = product_files(name, domain=domain, kind="source-aligned")
        files |= {home / path: text for path, text in made.items()}
        files[home / "services/service.yaml"] = service
    files[folder / "mesh.yaml"] += "mutual_tls: true\ngateway_tls: {self_signed: true}\n"
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    made = Mesh(folder, free_port(), free_port(), free_port())
    made.tulle("up", "--detach")  # first: what asks a mesh that is up starts sooner
    try:
        made.tulle("apply")
        made.tulle("run", "orders")
        for service in ("order-book", "offers"):
            made.tulle("service", "package", service)
        made.tulle("service", "deploy", "order-book")
        made.tulle(
            "service", "deploy", "offers", check=False
        )  # its identity is there now, and no contract yet
        made.tulle("app", "grant", "of-service-offers", "order-book", "--limit", "1000/1s")
        made.tulle("service", "deploy", "offers")
        made.tulle(
            "app", "create", "shop", "--service", "offers=10000/1s", "--service", "order-book=10000/1s"
        )
        yield made
    finally:
        made.tulle("down", check=False)


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 40.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} took longer than {seconds} s"
        time.sleep(0.05)


def process(mesh: Mesh, name: str) -> dict[str, Any]:
    return dict(mesh.json("status")["processes"][name])


class Load:
    """Calls one after another, and how they were answered: of the service that calls the other one, or of the other."""

    def __init__(self, mesh: Mesh, path: str = "offers/offer/run", body: object = ORDER) -> None:
        self.answers: Counter[int] = Counter()
        self._mesh, self._own, self._asked = mesh, mesh.credentials("shop"), (path, body)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _ask(self) -> None:
        while not self._stop.is_set():
            self.answers[self._mesh.call(*self._asked, self._own).status_code] += 1


def test_a_service_calls_another_and_nothing_is_without_tls(mesh: Mesh) -> None:
    answer = mesh.call("offers/offer/run", ORDER, {**mesh.credentials("shop"), "tulle-steps": "1"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["response"] == {"customer": "C-02", "price": 108.0}
    assert process(mesh, "sidecars")["state"] == "running"
    clusters = json.loads((mesh.folder / ".tulle/run/gateway/clusters.json").read_text())["resources"]
    names = {one["name"]: one for one in clusters}
    assert all(names[one]["transport_socket"]["name"] == "tls" for one in ("offers/v1", "order-book/v1"))
    plain = [name for name, one in names.items() if "transport_socket" not in one]
    assert all(name.startswith("processor.") for name in plain)
    logged = (mesh.folder / ".tulle/log/gateway-access.jsonl").read_text
    caller = "spiffe://shop/env/prod/service/offers"
    wait_until(lambda: f'"caller":"{caller}"' in logged(), "writing the log")


def test_a_policy_of_the_processor_holds_between_services_too(mesh: Mesh) -> None:
    own, long = mesh.credentials("shop"), "O" * 41
    answer = mesh.call("order-book/order/lookup", {"data": {"order_id": long}}, own)
    assert answer.status_code == 400, answer.text
    assert mesh.call("order-book/order/lookup", {"data": {"order_id": "O-1002"}}, own).status_code == 200
    refused = mesh.call("offers/offer/run", {"order": long}, own)
    assert refused.status_code == 400, refused.text
    assert "step 'order.row': service 'order-book'" in refused.json()["message"]


def test_who_they_are_is_shown_and_who_may_call_whom(mesh: Mesh) -> None:
    found = mesh.json("trust", "show")
    uris = [
        f"spiffe://shop/{one}"
        for one in ("gateway", "env/prod/service/offers", "env/prod/service/order-book")
    ]
    assert [one["identity"] for one in found["certificates"]] == uris
    assert {one["state"] for one in found["certificates"]} == {"valid"}
    assert found["calls"] == [{"caller": uris[1], "callee": uris[2], "limit": "1000/1s"}]
    said = mesh.tulle("trust", "show").stdout
    assert "trust domain shop" in said
    assert "signs; its root ends in 3650 days" in said
    for file in (mesh.folder / ".tulle/run/trust").iterdir():
        assert file.stat().st_mode & 0o777 == 0o600


def test_the_secret_of_a_service_opens_nothing_without_its_certificate(mesh: Mesh) -> None:
    kept = json.loads((mesh.folder / ".tulle/run/outside/offers.json").read_text())
    stolen = {name: kept[name] for name in ("client_id", "client_secret")}
    answer = mesh.call("order-book/order/lookup", {"data": {"order_id": "O-1002"}}, stolen)
    assert (answer.status_code, answer.json()["errorType"]) == (403, "WrongIdentity")


def test_the_authority_is_replaced_while_requests_come(mesh: Mesh) -> None:
    before = mesh.json("trust", "show")["certificates"]
    with Load(mesh) as load:
        made = mesh.json("trust", "rotate")
        refused = mesh.tulle("trust", "rotate", check=False)
        assert refused.returncode == 1
        assert "does not sign yet" in refused.stderr

        def changed() -> bool:
            now = mesh.json("trust", "show")["certificates"]
            return not {one["serial"] for one in now} & {one["serial"] for one in before}

        wait_until(changed, "making all certificates anew")
        count = load.answers[200]
        wait_until(lambda: load.answers[200] > count + 20, "answering on")
    assert set(load.answers) == {200}
    known = mesh.json("trust", "show")["authorities"]
    assert [one["signs"] for one in known] == [True, False]
    assert known[0]["id"] == made["id"]
    assert all(one["is_trusted"] for one in known)


def test_at_once_the_old_authority_is_forgotten(mesh: Mesh) -> None:
    made = mesh.json("trust", "rotate", "--at-once")
    assert made["in_force"] is True
    assert [one["id"] for one in mesh.json("trust", "show")["authorities"]] == [made["id"]]
    wait_until(
        lambda: mesh.call("offers/offer/run", ORDER, mesh.credentials("shop")).status_code == 200, "answering"
    )


def test_sidecars_that_are_killed_come_back_and_no_request_is_lost(mesh: Mesh) -> None:
    """Of a look-up, that is, which may be made again; what calls others may have done so already when it breaks off."""
    before = process(mesh, "sidecars")
    with Load(mesh, "order-book/order/lookup", {"data": {"order_id": "O-1002"}}) as load:
        wait_until(lambda: load.answers[200] > 5, "the load")
        psutil.Process(before["pid"]).kill()
        wait_until(lambda: process(mesh, "sidecars")["restarts"] > before["restarts"], "starting again")
        count = load.answers[200]
        wait_until(lambda: load.answers[200] > count + 20, "answering on")
    assert set(load.answers) == {200}


def test_without_a_control_plane_services_go_on(mesh: Mesh) -> None:
    supervised = psutil.Process(process(mesh, "control_plane")["pid"])
    supervised.suspend()
    try:
        with Load(mesh) as load:
            wait_until(lambda: load.answers[200] > 10, "answering")
        assert set(load.answers) == {200}
    finally:
        supervised.resume()


def test_a_mesh_that_was_down_begins_with_certificates_that_hold(mesh: Mesh) -> None:
    mesh.tulle("down")
    trust = mesh.folder / ".tulle/run/trust"
    for file in (trust / "gateway.json", trust / "service-offers@prod.json"):
        file.unlink()
    mesh.tulle("up", "--detach")
    wait_until(
        lambda: mesh.call("offers/offer/run", ORDER, mesh.credentials("shop")).status_code == 200, "answering"
    )
    assert mesh.json("status")["certificates"] == []
    assert Path(trust / "gateway.json").exists()
