"""How the watched files are replaced under the real Envoy, and what happens when it does not take them."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Mapping
from dataclasses import replace

import pytest
from tests.gateway.conftest import (
    API,
    CONTRACTS,
    PLENTY,
    WORKERS,
    Load,
    Mesh,
    as_client,
    check_error,
    files_of,
    folder_of,
    policy,
)

from tulle.errors import Broken, LimitExceeded, TulleError, Unavailable
from tulle.gateway import envoy_clusters
from tulle.gateway.admin import Taken
from tulle.gateway.envoy import Gateway
from tulle.gateway.envoy_validation import Validation
from tulle.gateway.policy import RateLimit

pytestmark = pytest.mark.system


def test_what_envoy_refuses_changes_nothing(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    before = files_of(mesh.gateway)
    more = CONTRACTS | {("app-c", "first"): PLENTY}
    other = WORKERS | {"second": ("127.0.0.1:9",)}
    monkeypatch.setattr(
        envoy_clusters, "host_and_port", lambda upstream: ("not-an-address", 9)
    )  # a mistake of the renderer
    with Load(mesh) as load:
        with pytest.raises(Broken, match="malformed IP address: not-an-address"):
            mesh.gateway.publish(policy(other, more))
        assert files_of(mesh.gateway) == before
        # and a mistake that validation does not see, but the running Envoy does
        monkeypatch.setattr(Validation, "look", lambda _self, _content: None)
        with pytest.raises(Broken, match=r"refused its new clusters: .*not-an-address"):
            mesh.gateway.publish(policy(other, more))
        assert files_of(mesh.gateway) == before
        check_error(mesh.ask(API + "first/x", as_client("app-c")), 403, "NoContract")
    assert not load.lost
    monkeypatch.undo()
    assert mesh.gateway.publish(policy(WORKERS, more)).confirmed
    assert mesh.ask(API + "first/x", as_client("app-c")).status == 200


@pytest.mark.parametrize(
    ("error", "told", "says"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), LimitExceeded, "disk full"),
        (OSError(errno.EIO, "Input/output error"), Unavailable, "could not be read or written"),
        (KeyboardInterrupt("stopped"), KeyboardInterrupt, "stopped"),
    ],
)
# four steps: limits, clusters with those that leave, routes, clusters; file and folder are synced in each
@pytest.mark.parametrize("at", range(8))
def test_whatever_interrupts_publishing_the_old_files_are_back(
    gateway: Gateway,
    monkeypatch: pytest.MonkeyPatch,
    at: int,
    error: BaseException,
    told: type[BaseException],
    says: str,
) -> None:
    monkeypatch.setattr(Validation, "look", lambda _self, _content: None)
    gateway.publish(policy(WORKERS, CONTRACTS))
    before = files_of(gateway)
    kept = {who: limit for who, limit in CONTRACTS.items() if who[1] == "first"}
    wanted = policy({"first": WORKERS["first"]}, kept | {("app-c", "first"): RateLimit(7, 1000)})
    calls, sync = iter(range(1000)), os.fsync

    def fsync(handle: int) -> None:
        if next(calls) == at:
            raise error
        sync(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(told, match=says) as caught:
        gateway.publish(wanted)
    assert files_of(gateway) == before
    assert not list(folder_of(gateway).glob(".*"))
    assert not isinstance(caught.value, TulleError) or caught.value.hint
    assert gateway.publish(wanted).changed == ("limits", "clusters", "inner", "routes")
    assert gateway.publish(wanted).changed == ()


def test_an_envoy_that_did_not_answer_once_is_waited_for_all_the_same(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be starting, or busy: what was published counts as taken when it has taken it."""
    asked = mesh.gateway._admin.in_force
    answers = iter([None])
    monkeypatch.setattr(mesh.gateway._admin, "in_force", lambda said: next(answers, asked(said)))
    assert mesh.gateway.publish(policy(WORKERS, CONTRACTS | {("app-c", "first"): PLENTY})).confirmed
    assert mesh.ask(API + "first/x", as_client("app-c")).status == 200


def test_an_envoy_that_does_not_answer_is_reported_and_the_files_put_back(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = mesh.settings.run_folder / "gateway"
    before = {p.name: p.read_bytes() for p in folder.glob("*.json")}
    assert mesh.process is not None
    # It takes a file when it comes to it; what counts is that it is not waited for for ever.
    monkeypatch.setattr("tulle.gateway.envoy_replacement.CONFIRM_SECONDS", 0.0)
    with pytest.raises(Unavailable, match="has not taken its new limits"):
        mesh.gateway.publish(policy(WORKERS, CONTRACTS | {("app-c", "first"): RateLimit(11, 1000)}))
    assert {p.name: p.read_bytes() for p in folder.glob("*.json")} == before


def test_who_is_refused_is_refused_first(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    put = mesh.gateway._replacement._put

    def noted(name: str, content: bytes, before: Mapping[str, Taken] | None) -> bool:
        written.append(name)
        return put(name, content, before)

    monkeypatch.setattr(mesh.gateway._replacement, "_put", noted)
    whole = policy(WORKERS, CONTRACTS)
    without = replace(
        whole,
        clients=tuple(c for c in whole.clients if c.client_id != "app-b"),
        contracts=tuple(c for c in whole.contracts if c.client_id != "app-b"),
    )
    mesh.gateway.publish(without)
    assert written == ["auth", "routes"]
    assert mesh.ask(API + "first/x", as_client("app-b")).status == 401
    assert mesh.ask(API + "first/x", as_client("app-a")).status == 200
    written.clear()
    mesh.gateway.publish(whole)
    assert written == ["auth", "routes"]


@pytest.mark.parametrize("fails", ["limits", "clusters"])
def test_nothing_that_goes_wrong_later_brings_back_who_was_revoked(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    """An application that is revoked and a contract that is withdrawn, together with a change that is not taken."""
    whole = policy(WORKERS, CONTRACTS)
    mesh.gateway.publish(whole)
    put = mesh.gateway._replacement._put

    def refused(name: str, content: bytes, before: Mapping[str, Taken] | None) -> bool:
        if name == fails:
            raise Unavailable(f"the gateway has not taken its new {name}")
        return put(name, content, before)

    monkeypatch.setattr(mesh.gateway._replacement, "_put", refused)
    wanted = policy(
        WORKERS | {"second": ("127.0.0.1:9",)},
        {who: limit for who, limit in CONTRACTS.items() if who != ("app-a", "first")}
        | {("app-c", "first"): RateLimit(13, 1000)},
    )
    wanted = replace(
        wanted,
        clients=tuple(c for c in wanted.clients if c.client_id != "app-b"),
        contracts=tuple(c for c in wanted.contracts if c.client_id != "app-b"),
    )
    try:
        with contextlib.suppress(Unavailable):
            mesh.gateway.publish(wanted)
        assert mesh.ask(API + "first/x", as_client("app-b")).status == 401
        assert mesh.ask(API + "first/x", as_client("app-a")).status == 403
    finally:
        monkeypatch.undo()
        mesh.gateway.publish(whole)
    assert mesh.ask(API + "first/x", as_client("app-a")).status == 200
