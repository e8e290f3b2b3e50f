"""The real Envoy under the one who publishes policies: nothing is lost, a bad one changes nothing, it comes back."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.gateway.conftest import (
    API,
    CONTRACTS,
    PLENTY,
    SECRETS,
    WORKERS,
    Load,
    Mesh,
    as_client,
    basic,
    check_error,
    files_of,
    folder_of,
    policy,
    wait_until,
)

from tulle.errors import Broken, Unavailable
from tulle.gateway import envoy_files, envoy_validation
from tulle.gateway.envoy import Gateway
from tulle.gateway.envoy_values import Door, Json, file_name
from tulle.gateway.policy import Client, Contract, GatewayPolicy, RateLimit
from tulle.gateway.secret import hash_secret

pytestmark = pytest.mark.system


def test_publishing_the_same_policy_again_does_nothing(mesh: Mesh) -> None:
    folder = mesh.settings.run_folder / "gateway"
    before = {p.name: p.stat().st_mtime_ns for p in folder.glob("*.[jp]*")}
    result = mesh.gateway.publish(policy(WORKERS, CONTRACTS))
    assert (result.changed, result.confirmed) == ((), True)
    again = Gateway(mesh.settings).publish(policy(WORKERS, CONTRACTS))
    assert (again.changed, again.digest) == ((), result.digest)
    assert {p.name: p.stat().st_mtime_ns for p in folder.glob("*.[jp]*")} == before


def test_files_are_for_their_owner_only(mesh: Mesh) -> None:
    folder = mesh.settings.run_folder / "gateway"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for path in folder.iterdir():
        if path.suffix in {".json", ".pb", ".sock"}:
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
        assert not [s for s in SECRETS.values() if path.is_file() and s.encode() in path.read_bytes()]


def test_a_revoked_application_is_refused_at_once(mesh: Mesh) -> None:
    before = policy(WORKERS, CONTRACTS)
    gone = GatewayPolicy.of(
        services=before.services,
        clients=(c for c in before.clients if c.client_id != "app-a"),
        contracts=(c for c in before.contracts if c.client_id != "app-a"),
    )
    assert mesh.ask(API + "first/x", as_client("app-a")).status == 200
    result = mesh.gateway.publish(gone)
    deadline = time.monotonic() + 5
    while mesh.ask(API + "first/x", as_client("app-a")).status != 401:
        assert time.monotonic() < deadline
    assert set(result.changed) == {"auth", "routes"}
    assert result.confirmed
    assert mesh.ask(API + "second/x", as_client("app-b")).status == 200


def test_no_request_is_lost_while_everything_changes(mesh: Mesh) -> None:
    with Load(mesh) as load:
        for turn in range(3):
            more = {("app-c", "first"): RateLimit(100 + turn, 1000)}
            assert mesh.gateway.publish(policy(WORKERS, CONTRACTS | more)).confirmed  # limits and contracts
            # a new generation: other workers; the old ones end when the gateway has confirmed
            name = f"generation-{turn}"
            mesh.start_worker(name, f"run/w/{name}.sock")
            workers = WORKERS | {"first": (f"run/w/{name}.sock",), f"extra-{turn}": WORKERS["second"]}
            assert mesh.gateway.publish(policy(workers, CONTRACTS | more)).confirmed
            wait_until(lambda name=name: load.seen(name) > 20, f"answers of {name}")  # type: ignore[misc]
            assert mesh.gateway.publish(policy(WORKERS, CONTRACTS)).confirmed
            time.sleep(0.1)
            mesh.kill_worker(name)
    assert not load.lost
    assert len(load.answers) > 200


def test_a_killed_worker_is_passed_over_and_comes_back(mesh: Mesh) -> None:
    with Load(mesh) as load:
        mesh.kill_worker("first-1")
        down = "run/w/first-1.sock"

        def healthy() -> bool:
            return mesh.health("first")[down]

        wait_until(lambda: not healthy(), "noticing the dead worker", 4)
        before = load.seen("first-2")
        wait_until(lambda: load.seen("first-2") > before + 20, "answers of the other worker")
        mesh.start_worker("first-1", down)
        wait_until(healthy, "noticing that it lives again", 4)
        before = load.seen("first-1")
        wait_until(lambda: load.seen("first-1") > before + 20, "answers of the worker that came back")
    assert not load.lost


def test_the_only_worker_answers_as_soon_as_it_is_back(mesh: Mesh) -> None:
    mesh.kill_worker("second-1")
    wait_until(lambda: not any(mesh.health("second").values()), "noticing the dead worker", 4)
    check_error(mesh.ask(API + "second/x", as_client("app-b")), 503, "ServiceUnavailable")
    mesh.start_worker("second-1", *WORKERS["second"])
    # before a health check has seen it: with nobody healthy everybody is tried
    assert mesh.ask(API + "second/x", as_client("app-b")).status == 200


@pytest.mark.parametrize("hard", [False, True])
def test_it_comes_back_with_the_policy_it_had(mesh: Mesh, hard: bool) -> None:
    mesh.stop(hard=hard)
    assert not mesh.gateway.ready()
    more = CONTRACTS | {("app-c", "first"): PLENTY}
    result = mesh.gateway.publish(policy(WORKERS, more))  # while it is away
    assert not result.confirmed
    mesh.start()
    assert mesh.ask(API + "first/x", as_client("app-c")).status == 200
    check_error(mesh.ask(API + "second/x", as_client("app-a")), 403, "NoContract")


DAMAGE = [b"", b"{", b"{}", b"\xff", b'"\xff"', b'{"version_info":"a","resources":null}']


@pytest.mark.parametrize("content", [*DAMAGE, None])
@pytest.mark.parametrize("name", [*envoy_files.FILES, "bootstrap", "digest"])
def test_a_damaged_file_heals_with_the_next_publishing(
    gateway: Gateway, name: str, content: bytes | None
) -> None:
    wanted = policy(WORKERS, CONTRACTS)
    gateway.publish(wanted)
    good = files_of(gateway)
    path = folder_of(gateway) / (name if name == "digest" else file_name(name))
    for prepares in (False, True):
        if content is None:
            path.unlink()
        else:
            path.write_bytes(content)
        if prepares:
            gateway.prepare()
            lasting = name in {"listeners", "bootstrap", "digest"}  # the policy is in the other files
            assert (files_of(gateway) == good) == lasting
        changed = gateway.publish(wanted).changed
        same = name in {"jwt", "spikes", "processing"}  # no service here has anything in them
        healed = prepares and (lasting or same)
        assert (name in changed) == (name not in {"bootstrap", "digest"} and not healed)
        assert files_of(gateway) == good
        assert gateway.publish(wanted).changed == ()


@pytest.mark.parametrize("name", ["clusters", "limits", "routes"])
def test_envoy_starts_with_a_damaged_file_and_is_right_after_publishing(mesh: Mesh, name: str) -> None:
    mesh.stop()
    (folder_of(mesh.gateway) / file_name(name)).write_bytes(b"")
    mesh.gateway.prepare()
    mesh.start()
    check_error(mesh.ask(API + "first/x", as_client("app-a")), 401, "InvalidClient")
    result = mesh.gateway.publish(policy(WORKERS, CONTRACTS))
    assert name in result.changed
    assert result.confirmed
    assert mesh.ask(API + "first/x", as_client("app-a")).status == 200


def test_a_contract_of_many_holds_as_that_of_a_few(mesh: Mesh) -> None:
    """Beyond some clients of one service a route has a map of them; limits are each client's in both."""
    few = policy(WORKERS, {("app-a", "first"): RateLimit(2, 60_000), ("app-b", "first"): PLENTY})
    others = [f"other-{number}" for number in range(40)]
    many = GatewayPolicy.of(
        services=few.services,
        clients=[*few.clients, *(Client(one, hash_secret(one)) for one in others)],
        contracts=[*few.contracts, *(Contract(one, "first", PLENTY) for one in others)],
    )
    for made in (few, many):
        mesh.gateway.publish(made)
        assert mesh.ask(API + "first/x", as_client("app-b")).status == 200
        check_error(mesh.ask(API + "first/x", as_client("app-c")), 403, "NoContract")
    assert mesh.ask(API + "first/x", basic("other-39", "other-39")).status == 200
    # the bucket is the same one: it is found by client and limit, whichever way the client was
    assert [mesh.ask(API + "first/x", as_client("app-a")).status for _ in range(3)] == [200, 200, 429]
    mesh.gateway.publish(few)
    assert mesh.ask(API + "first/x", as_client("app-a")).status == 429


def test_a_file_damaged_under_a_running_envoy_heals(mesh: Mesh) -> None:
    path = folder_of(mesh.gateway) / "clusters.json"
    path.write_bytes(b"")
    result = mesh.gateway.publish(policy(WORKERS, CONTRACTS))
    assert (result.changed, result.confirmed) == (("clusters",), True)
    assert mesh.ask(API + "first/x", as_client("app-a")).status == 200


def test_an_older_file_put_in_place_admits_nobody_it_should_not(gateway: Gateway) -> None:
    gateway.publish(policy(WORKERS, CONTRACTS | {("app-c", "first"): PLENTY}))
    routes = folder_of(gateway) / "routes.pb"
    older = routes.read_bytes()
    assert b"app-c" in older
    gateway.publish(policy(WORKERS, CONTRACTS))
    routes.write_bytes(older)
    gateway.prepare()
    assert b"app-c" not in routes.read_bytes()
    assert "routes" in gateway.publish(policy(WORKERS, CONTRACTS)).changed


def test_a_folder_in_the_place_of_a_file_is_told(gateway: Gateway) -> None:
    gateway.publish(policy(WORKERS, CONTRACTS))
    (folder_of(gateway) / "clusters.json").unlink()
    (folder_of(gateway) / "clusters.json").mkdir()
    for attempt in (gateway.prepare, lambda: gateway.publish(policy(WORKERS, CONTRACTS))):
        with pytest.raises(Unavailable, match=r"clusters\.json") as caught:
            attempt()
        assert caught.value.hint


def test_an_envoy_that_cannot_be_run_is_told(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tulle.gateway.envoy_validation.binary", lambda: Path("/nowhere/envoy"))
    with pytest.raises(Unavailable, match=r"could not be run: .*/nowhere/envoy"):
        gateway.prepare()


def test_a_changed_port_is_in_force_at_the_next_start(mesh: Mesh, free_port: Callable[[], int]) -> None:
    mesh.stop()
    before = mesh.settings, mesh.gateway
    mesh.settings = replace(mesh.settings, gateway_port=free_port())
    mesh.gateway = Gateway(mesh.settings)
    try:
        mesh.gateway.prepare()
        mesh.start()
        assert mesh.ask(API + "first/x", as_client("app-a")).status == 200
    finally:
        mesh.stop()
        mesh.settings, mesh.gateway = before
        mesh.gateway.prepare()
        mesh.start()


def test_a_second_gateway_on_the_same_port_is_never_ready(mesh: Mesh, tmp_path: Any) -> None:
    twin = Gateway(replace(mesh.settings, folder=tmp_path))
    twin.prepare()
    command = twin.command()
    process = subprocess.Popen(command.argv, cwd=command.cwd, stderr=subprocess.PIPE, text=True)
    try:
        wait_until(twin.is_running, "starting the second gateway")
        time.sleep(0.2)
        assert not twin.ready()
        assert mesh.ask(API + "first/x", as_client("app-a")).status == 200
    finally:
        os.kill(process.pid, signal.SIGTERM)
        said = process.communicate(timeout=10)[1]
        twin.process.forget()
    assert "Address already in use" in said


def test_without_a_policy_nobody_is_admitted(mesh: Mesh) -> None:
    mesh.gateway.publish(GatewayPolicy())
    for headers in (as_client("app-a"), basic(" nobody", ""), {}):
        check_error(mesh.ask(API + "first/x", headers), 401, "InvalidClient")
    assert mesh.ask("/isAlive/").status == 200


# ── what has not changed, and what ends ──────────────────────────────────────────────────────────────────


def test_only_what_is_new_is_read_again(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[GatewayPolicy] = []
    twin = envoy_files.static_twin

    def noted(policy: GatewayPolicy, door: Door, *more: Any) -> Json:
        read.append(policy)
        return twin(policy, door, *more)

    first = policy(WORKERS, {("app-a", "first"): PLENTY})
    gateway.publish(first)
    monkeypatch.setattr(envoy_files, "static_twin", noted)
    gateway.publish(policy(WORKERS, {("app-a", "first"): PLENTY, ("app-b", "second"): PLENTY}))
    ((contract,),) = [one.contracts for one in read]
    assert (contract.client_id, contract.service) == ("app-b", "second")
    assert [one.client_id for one in read[0].clients] == ["app-b"]
    assert [one.name for one in read[0].services] == ["second"]
    others = WORKERS | {"first": WORKERS["first"][:1]}
    gateway.publish(policy(others, {("app-a", "first"): PLENTY}))
    # what ends comes first and has nothing new; a service that is otherwise is read again, with who may call it
    assert (read[1].services, read[1].contracts, read[1].clients) == ((), (), ())
    assert [one.name for one in read[2].services] == ["first"]
    assert [one.client_id for one in read[2].clients] == ["app-a"]
    assert len(read[2].contracts) == 1
    fewer = {name: sockets for name, sockets in others.items() if name != "down"}
    gateway.publish(policy(fewer, {("app-a", "first"): PLENTY}))
    assert (read[3].services, read[3].contracts, read[3].clients) == ((), (), ())


def test_what_was_looked_at_is_not_read_again_when_it_is_published(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    validate = envoy_validation.validate

    def noted(folder: Path, file: str) -> None:
        read.append(file)
        validate(folder, file)

    monkeypatch.setattr(envoy_validation, "validate", noted)
    wanted = policy(WORKERS, {("app-a", "first"): PLENTY})
    gateway.check(wanted)
    gateway.publish(wanted)
    assert len(read) == 1
    gateway.check(policy(WORKERS, {("app-a", "first"): PLENTY, ("app-b", "second"): PLENTY}))
    assert len(read) == 2


def test_whoever_has_nothing_to_do_has_an_envoy_wait_for_the_next_change(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, then = policy(WORKERS, {("app-a", "first"): PLENTY}), policy(WORKERS, {("app-b", "first"): PLENTY})
    gateway.publish(first)
    before = envoys()
    gateway.publish(first)
    assert len(envoys() - before) == 1

    def never(*_: object) -> None:
        raise AssertionError("another one was started")

    monkeypatch.setattr("tulle.gateway.envoy_validation.validate", never)
    assert gateway.publish(then).changed
    assert envoys() == before


def envoys() -> set[psutil.Process]:
    """Those that this process has started and that wait for what they are to look at."""
    return {one for one in psutil.Process().children() if "/dev/fd/" in " ".join(one.cmdline())}


def test_a_new_client_that_envoy_refuses_is_found_all_the_same(gateway: Gateway) -> None:
    """The credentials of whoever is new are read by Envoy before they are published."""
    first = policy(WORKERS, {("app-a", "first"): PLENTY})
    gateway.publish(first)
    bad = Client("app-z", hash_secret("x"))
    object.__setattr__(bad, "secret_hash", "no hash")
    with pytest.raises(Broken, match="Envoy refuses"):
        gateway.publish(replace(first, clients=(*first.clients, bad)))
    assert gateway.publish(first).changed == ()


def test_what_is_in_place_is_seen_by_its_files_alone(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = policy(WORKERS, {("app-a", "first"): PLENTY})
    gateway.publish(first)
    with monkeypatch.context() as patch:
        patch.setattr(envoy_files, "render", None)  # what is not asked need not work
        patch.setattr(GatewayPolicy, "digest", None)
        assert gateway.publish(policy(WORKERS, {("app-a", "first"): PLENTY})).changed == ()
    file = gateway.command().cwd / "run/gateway/auth.json"
    file.write_bytes(file.read_bytes().replace(b"app-a", b"app-x"))
    assert gateway.publish(first).changed == ("auth",)  # whoever touches one is found out


def test_what_is_in_place_is_rendered_before_it_is_changed(gateway: Gateway) -> None:
    """A control plane that starts again finds everything in place, and gets ready for the first change."""
    wanted = policy(WORKERS, {("app-a", "first"): PLENTY})
    gateway.publish(wanted)
    again = Gateway(gateway._settings)
    assert again.publish(wanted).changed == ()
    assert not again._is_warm
    wait_until(lambda: not again.publish(wanted).changed and again._is_warm, "rendering")
    assert set(again._routes._front.made) == {one.path for one in wanted.services}


@pytest.mark.system
def test_nobody_s_bucket_is_filled_by_who_comes_and_goes(mesh: Mesh) -> None:
    few = {("app-a", "first"): RateLimit(2, 3_600_000), ("app-b", "second"): PLENTY}
    mesh.gateway.publish(policy(WORKERS, few))
    path = API + "first/x"
    assert [mesh.ask(path, as_client("app-a")).status for _ in range(3)] == [200, 200, 429]
    for contracts in (
        few | {("app-b", "first"): RateLimit(2, 3_600_000)},
        {("app-a", "first"): RateLimit(2, 3_600_000)},  # the last one under a limit
        {},
        few,
    ):
        assert "limits" not in mesh.gateway.publish(policy(WORKERS, contracts)).changed
    assert mesh.ask(path, as_client("app-a")).status == 429
    bob = mesh.gateway.publish(policy(WORKERS, few | {("app-b", "first"): RateLimit(2, 3_600_000)}))
    assert bob.changed == ("routes",)
    assert mesh.ask(path, as_client("app-b")).status == 200  # of the same size, and his own
