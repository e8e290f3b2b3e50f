"""Each step of a contract is told on a channel, to a real server, and never a secret."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from sqlalchemy import select, update
from tests.control.test_application_people import MailServer
from tests.control.test_apply import PRICES
from tests.gateway.apis.conftest import read
from tests.observe.test_alerts import Receiver
from tests.pipeline.conftest import Mesh

from tulle.control import applications, contract_notices
from tulle.control.access_requests import Asked, Said, ask, decide
from tulle.control.application_hooks import set_hook
from tulle.control.apply import apply_plan
from tulle.control.contract_notices import ContractNotices, compose, follow, keep
from tulle.control.pace import Pace
from tulle.control.workspace import Workspace
from tulle.errors import LimitExceeded
from tulle.gateway import application_secret
from tulle.gateway import applications as registered
from tulle.gateway.apis import records
from tulle.gateway.policy import RateLimit
from tulle.lake.access import people
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
        webhook_addresses: ['127.0.0.1:{receiver.port}']
        alerts:
          people: {{{url}, on: [access]}}
          others: {{{url}, on: [access], domains: [people]}}
          runs: {{{url}, on: [failed]}}
          mail: {{type: apprise, url_variable: MAIL_URL, on: []}}
        contact_channel: mail
        contact_domains: [example.org]
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
    made = registered.register(told.database, "till", owner="tom")
    registered.register(told.database, registered.PORTAL, services={"sold": RateLimit.parse("1/1s")})
    asked = ask(told, access, Asked("till", "sold", purpose="to <b>sell</b>"), by="tom")
    decide(told, access, asked.id, "approve", Said(expires="3d"), by="olga")
    keep(told)  # it ends within the week
    decide(told, access, asked.id, "revoke", Said(reason="too loud"), by="olga")
    rotated = application_secret.rotate(told.database, "till", overlap=60, actor="tom")
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
    assert str(requested["link"]).endswith("/access/requests")
    assert (approved["by"], approved["tier"], approved["after"]) == ("olga", "standard", "50/1s")
    assert expiring["until"] == approved["until"]
    assert revoked["reason"] == "too loud"
    assert fresh["former_until"] == rotated.former_until
    assert len(set(receiver.keys)) == 5
    for secret in (made.client_secret, rotated.client_secret):
        assert secret not in json.dumps(got)
    assert tell(told, receiver, 5) == got  # nothing is told again


def test_an_end_is_told_though_nobody_did_anything(told: Workspace, receiver: Receiver) -> None:
    registered.register(told.database, "till", services={"sold": RateLimit.parse("1/1s")})
    with told.database.write() as cx:
        cx.execute(update(rows).values(until=now() - 1))
    keep(told)
    keep(told)
    assert [one["step"] for one in tell(told, receiver, 2)] == ["contract.changed", "contract.expired"]


def to_people(workspace: Workspace) -> dict[tuple[str, str], list[tuple[str, str]]]:
    """By way and whom the messages that people of applications are to be sent, each its title and its key."""
    while follow(workspace):
        pass
    found: dict[tuple[str, str], list[tuple[str, str]]] = {}
    with workspace.database.read() as cx:
        query = select(task_rows.c.request).where(task_rows.c.kind == "contract-notice")
        for request in cx.execute(query.order_by(task_rows.c.created_at)).scalars():
            if "of" in request:
                whom = ("mail", request["to"]) if "to" in request else ("hook", request["hook"])
                message = compose(workspace, request)
                found.setdefault(whom, []).append((message.title, message.key))
    return found


def test_the_people_of_an_application_hear_of_it_themselves(told: Workspace, receiver: Receiver) -> None:
    access = lake_access(told.settings, told.database)
    about = registered.About(("tom", "eve@elsewhere.net"), contact="tills@example.org")
    made = registered.register(told.database, "till", about=about)
    registered.register(told.database, "quiet", owner="bob")
    set_hook(told, "till", f"http://127.0.0.1:{receiver.port}/hook")
    asked = ask(told, access, Asked("till", "sold", purpose="to sell"), by="tom")
    ask(told, access, Asked("quiet", "sold", purpose="to sell"), by="bob")
    decide(told, access, asked.id, "approve", Said(expires="3d"), by="olga")
    keep(told)
    application_secret.rotate(told.database, "till", overlap=60)
    decide(told, access, asked.id, "revoke", Said(reason="too loud"), by="olga")
    registered.revoke(told.database, "till")
    found = to_people(told)
    assert found.keys() == {("mail", "tills@example.org"), ("hook", made.client_id)}
    titles = [title for title, _ in found["mail", "tills@example.org"]]
    assert titles == [
        "application 'till' asks for access to service 'sold'",
        "application 'till' may call service 'sold'",
        "application 'till' will soon no longer be let in at service 'sold'",
        "application 'till' has a new secret",
        "application 'till' may no longer call service 'sold'",
        "application 'till' is revoked",
    ]
    assert [title for title, _ in found["hook", made.client_id]] == titles
    keys = [key for some in found.values() for _, key in some]
    assert len(set(keys)) == len(keys) == 12


def test_whoever_may_call_an_api_is_told_that_it_ends(told: Workspace) -> None:
    about = registered.About(("tom",), contact="tills@example.org")
    registered.register(told.database, "till", about=about, services={"orders": RateLimit.parse("1/1s")})
    api = "api: orders\nversions: [{version: v1, path: /o, publish: true}, {version: v2, path: /p}]\n"
    with told.database.write() as cx:
        records.save(cx, "sales", [read(api)])
    follow(told)
    before = records.find(told.database, "orders").lives["v1"]
    ends = records.Life("deprecated", 1.0, 2_000_000_000.0, "v2")
    records.set_life(told.database, "orders", "v1", ends, before=before, actor="olga")
    title = "API 'orders' v1 is deprecated, and ends on 2033-05-18 03:33 UTC"
    assert to_people(told)["mail", "tills@example.org"][-1][0] == title
    before = records.find(told.database, "orders").lives["v1"]
    records.set_life(told.database, "orders", "v1", records.Life("retired", 1.0), before=before)
    assert to_people(told)["mail", "tills@example.org"][-1][0] == "API 'orders' v1 has ended"


def test_a_webhook_is_told_and_a_broken_one_is_asked_again(told: Workspace, receiver: Receiver) -> None:
    made = registered.register(told.database, "till", owner="tom")
    set_hook(told, "till", f"http://127.0.0.1:{receiver.port}/hook")
    ask(told, lake_access(told.settings, told.database), Asked("till", "sold", purpose="to sell"), by="tom")
    got = tell(told, receiver, 2)  # on the channel, and at the webhook
    assert [one["step"] for one in got] == ["contract.requested"] * 2
    links = {str(one["link"]).split("/", 3)[3] for one in got}
    assert links == {"access/requests", "applications/till"}
    assert made.client_secret not in json.dumps(got)


def test_what_people_write_is_not_in_mail_to_whom_they_name(told: Workspace, receiver: Receiver) -> None:
    access = lake_access(told.settings, told.database)
    about = registered.About(("tom",), contact="colleague@example.org")
    registered.register(told.database, "till", about=about)
    set_hook(told, "till", f"http://127.0.0.1:{receiver.port}/hook")
    asked = ask(told, access, Asked("till", "sold", purpose="buy at evil.example"), by="tom")
    decide(told, access, asked.id, "reject", Said(reason="why so?"), by="olga")
    asked = ask(told, access, Asked("till", "sold", purpose="buy at evil.example"), by="tom")
    decide(told, access, asked.id, "delete", Said(reason="see evil.example"), by="tom")
    while follow(told):
        pass
    with told.database.read() as cx:
        query = select(task_rows.c.request).where(task_rows.c.kind == "contract-notice")
        requests = list(cx.execute(query).scalars())
    mails, others = [
        [compose(told, one) for one in requests if ("to" in one) is is_mail] for is_mail in (True, False)
    ]
    assert len(mails) == 4
    assert not any("evil.example" in f"{one.title}{one.text}{one.data}" for one in mails)
    assert any("why so?" in one.text for one in mails)  # which an owner of the service wrote
    assert sum("buy at evil.example" in one.text for one in others) == 4  # the channel, and their own webhook


def test_nobody_takes_steps_without_end(told: Workspace) -> None:
    access = lake_access(told.settings, told.database)
    access.change("", "access.user.created", "user/tom", lambda cx: people.add_user(cx, "tom"))
    slow = replace(told, steps=Pace(5))
    applications.create(slow, "till", services={}, user="tom")
    for _ in range(2):
        asked = ask(slow, access, Asked("till", "sold", purpose="to sell"), by="tom", user="tom")
        decide(slow, access, asked.id, "delete", by="tom", user="tom")
    steps: list[Callable[[], object]] = [
        lambda: ask(slow, access, Asked("till", "sold", purpose="to sell"), by="tom", user="tom"),
        lambda: applications.create(slow, "another", services={}, user="tom"),
        lambda: applications.change(slow, "till", {"contact": "a@example.org"}, user="tom"),
        lambda: applications.rotate(slow, "till", user="tom"),
    ]
    for step in steps:
        with pytest.raises(
            LimitExceeded, match="user 'tom' changed applications or what they ask for 5 times"
        ):
            step()
    ask(slow, access, Asked("till", "sold", purpose="to sell"), by="root")  # with the mesh's token
    applications.revoke(slow, "till", user="tom")  # what keeps somebody out is never too much


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # apprise's own
def test_an_address_is_written_to_so_often_in_an_hour(
    told: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contract_notices, "MAILS_AN_HOUR", 2)
    server = MailServer()
    monkeypatch.setenv(
        "MAIL_URL",
        f"mailto://127.0.0.1:{server.port}/?from=mesh@example.org&to=ops@example.org&mode=insecure",
    )
    settings = replace(
        told.settings,
        alerts={"mail": told.settings.alerts["mail"]},
        alert_addresses=(f"127.0.0.1:{server.port}",),
    )
    workspace = replace(told, settings=settings)
    for name in ("till", "other"):
        registered.register(told.database, name, about=registered.About(contact=f"{name}@example.org"))
    for name in ("till", "till", "till", "other"):
        application_secret.rotate(told.database, name)
    while follow(workspace):
        pass
    notices = ContractNotices(workspace)
    notices.start()
    try:
        deadline = time.monotonic() + 30
        while len(done := _results(workspace)) < 4 and time.monotonic() < deadline:
            time.sleep(0.02)
    finally:
        notices.stop()
        server.stop()
    assert sorted(one["sent"] for one in done) == [False, True, True, True]
    assert sorted(to for (to,), _ in server.got) == [
        "other@example.org",
        "till@example.org",
        "till@example.org",
    ]


def _results(workspace: Workspace) -> list[dict[str, bool]]:
    """Of the messages that are done."""
    query = select(task_rows.c.result).where(
        task_rows.c.kind == "contract-notice", task_rows.c.status == "done"
    )
    with workspace.database.read() as cx:
        return list(cx.execute(query).scalars())
