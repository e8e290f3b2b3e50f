"""Each step of a contract is told on a channel, to a real server, and never a secret."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest
from sqlalchemy import select, update
from tests.control.test_apply import PRICES
from tests.observe.test_alerts import Receiver
from tests.pipeline.conftest import Mesh

from tulle.control.access_requests import Asked, Said, ask, decide
from tulle.control.apply import apply_plan
from tulle.control.contract_notices import ContractNotices, follow, keep
from tulle.control.workspace import Workspace
from tulle.gateway import contract
from tulle.gateway.policy import RateLimit
from tulle.server.app import open_workspace
from tulle.server.lake_doors import lake_access
from tulle.spec.mesh import load_settings
from tulle.state.db import now
from tulle.state.tables import contracts as rows
from tulle.state.tables import tasks as task_rows


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.stop()


@pytest.fixture
def told(mesh: Mesh, receiver: Receiver) -> Iterator[Workspace]:
    """A mesh with a channel for all of access, one for another domain, and one for something else."""
    url = f"url: 'http://127.0.0.1:{receiver.port}/hook'"
    mesh.write(
        "mesh.yaml",
        f"""
        name: test
        warehouse: {{threads: 1, memory: 256MB}}
        alert_addresses: ['127.0.0.1:{receiver.port}']
        alerts:
          people: {{{url}, on: [access]}}
          others: {{{url}, on: [access], domains: [people]}}
          runs: {{{url}, on: [failed]}}
        """,
    )
    mesh.sales("services/sold.yaml", PRICES)
    workspace = open_workspace(load_settings(mesh.folder, {}))
    apply_plan(workspace)
    follow(workspace)
    yield workspace
    workspace.database.close()


def tell(workspace: Workspace, receiver: Receiver, many: int) -> list[dict[str, object]]:
    while follow(workspace):
        pass
    notices = ContractNotices(workspace)
    notices.start()
    try:
        deadline = time.monotonic() + 30
        while len(receiver.got) < many and time.monotonic() < deadline:
            time.sleep(0.02)
    finally:
        notices.stop()
    with workspace.database.read() as cx:
        left = (
            cx.execute(select(task_rows.c.status).where(task_rows.c.kind == "contract-notice"))
            .scalars()
            .all()
        )
    assert set(left) <= {"done"}
    assert len(left) == many
    return sorted(receiver.got, key=lambda one: float(one["at"]))


def test_every_step_is_told_once(told: Workspace, receiver: Receiver) -> None:
    access = lake_access(told.settings, told.database)
    made = contract.register(told.database, "till", owner="tom")
    contract.register(told.database, contract.PORTAL, services={"sold": RateLimit.parse("1/1s")})
    asked = ask(told, access, Asked("till", "sold", purpose="to <b>sell</b>"), by="tom")
    decide(told, access, asked.id, "approve", Said(expires="3d"), by="olga")
    keep(told)  # it ends within the week
    decide(told, access, asked.id, "revoke", Said(reason="too loud"), by="olga")
    rotated = contract.rotate(told.database, "till", overlap=60, actor="tom")
    got = tell(told, receiver, 5)
    assert [one["step"] for one in got] == [
        "contract.requested",
        "contract.approved",
        "contract.expiring",
        "contract.revoked",
        "application.rotated",
    ]
    requested, approved, expiring, revoked, fresh = got
    assert requested["title"] == "application 'till' asks for access to service 'sold'"
    assert (requested["by"], requested["purpose"], requested["product"]) == ("tom", "to <b>sell</b>", "sales")
    assert str(requested["link"]).endswith("/applications/requests")
    assert (approved["by"], approved["tier"], approved["after"]) == ("olga", "standard", "50/1s")
    assert expiring["until"] == approved["until"]
    assert revoked["reason"] == "too loud"
    assert fresh["former_until"] == rotated.former_until
    assert len(set(receiver.keys)) == 5
    for secret in (made.client_secret, rotated.client_secret):
        assert secret not in json.dumps(got)
    assert tell(told, receiver, 5) == got  # nothing is told again


def test_an_end_is_told_though_nobody_did_anything(told: Workspace, receiver: Receiver) -> None:
    contract.register(told.database, "till", services={"sold": RateLimit.parse("1/1s")})
    with told.database.write() as cx:
        cx.execute(update(rows).values(until=now() - 1))
    keep(told)
    keep(told)
    assert [one["step"] for one in tell(told, receiver, 2)] == ["contract.changed", "contract.expired"]
