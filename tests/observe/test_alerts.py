"""Alerts end to end: real runs that fail, a real server that is told, masked rows, once, and no secret anywhere."""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import update
from tests.pipeline.conftest import ROWS, Mesh

from tulle.cli.main import cli
from tulle.config import AlertChannel
from tulle.control.alerts import Alerts, deliveries_of
from tulle.control.apply import apply_plan
from tulle.control.workspace import Workspace
from tulle.errors import Denied, Invalid, NotFound, Unavailable
from tulle.events import DATA_LATE, SERVICE_DRIFT, Event
from tulle.observe import incidents
from tulle.observe.channels import Channels, Message
from tulle.observe.incidents import takes
from tulle.pipeline import run as runs
from tulle.pipeline.execute import execute
from tulle.server.app import open_workspace
from tulle.spec.mesh import load_settings
from tulle.state import log, tasks
from tulle.state.tables import tasks as task_table

SECRET = "T0PS3CRET"


class Receiver:
    """A real server that takes alerts, or answers as it is told to."""

    def __init__(self) -> None:
        self.got: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self.status = 200
        self.location = ""
        self.may_answer = threading.Event()
        self.may_answer.set()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                outer.got.append(json.loads(body))
                outer.keys.append(self.headers["idempotency-key"])
                outer.may_answer.wait(30)
                self.send_response(outer.status)
                if outer.location:
                    self.send_header("location", outer.location)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.stop()


class Told:
    """A mesh whose alerts go to a receiver."""

    def __init__(self, mesh: Mesh, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OPS_URL", f"http://127.0.0.1:{receiver.port}/hook?token={SECRET}")
        mesh.write(
            "mesh.yaml",
            f"""
            name: test
            warehouse: {{threads: 1, memory: 256MB}}
            alert_addresses: ['127.0.0.1:{receiver.port}']
            alerts:
              ops: {{url_variable: OPS_URL}}
            """,
        )
        file = mesh.folder / "products/shop/sales/product.yaml"
        text = file.read_text()
        file.write_text(
            text.replace("{name: customer, type: string,", "{name: customer, type: string, pii: direct,")
        )
        mesh.sales("checks/sales.yaml", "checks:\n- {type: range, data_set: sales, column: amount, min: 0}\n")
        self.mesh, self.receiver = mesh, receiver
        self.workspace: Workspace = open_workspace(load_settings(mesh.folder))
        apply_plan(self.workspace)
        incidents.follow(self.workspace.settings, self.workspace.database)
        self.alerts = Alerts(self.workspace)

    def run(self, rows: str = "") -> runs.Run:
        self.mesh.sales("data/sales.csv", ROWS + rows)
        run_id = runs.request(self.workspace.database, "sales")
        return execute(self.workspace.database, self.workspace.lake, self.workspace.spec(), run_id)

    def tell(self) -> list[dict[str, Any]]:
        """Let everything that is due be told; what arrived."""
        self.receiver.got.clear()
        database = self.workspace.database
        while incidents.follow(self.workspace.settings, database):
            pass
        while tasks.run_one(database, {incidents.TASK: self.alerts.send}, "me"):
            pass
        return list(self.receiver.got)


@pytest.fixture
def told(mesh: Mesh, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> Iterator[Told]:
    made = Told(mesh, receiver, monkeypatch)
    yield made
    made.workspace.database.close()


def test_a_failed_check_is_told_once_with_masked_rows_and_then_that_it_is_good_again(told: Told) -> None:
    assert told.run().status == "succeeded"
    assert told.tell() == []
    failed = told.run("4,dora,04.02.2020,-7.00\n")
    (message,) = told.tell()
    assert message["event"] == "checks"
    assert message["title"] == "sales: checks failed, nothing was published"
    assert message["link"].endswith(f"/runs/{failed.id}")
    (check,) = message["checks"]
    assert check["failing_count"] == 1
    assert check["masked"] == ["customer"]
    assert check["rows"] == [{"id": 4, "customer": None, "day": "2020-02-04", "amount": "-7.00"}]
    assert "dora" not in json.dumps(message)
    told.run("4,dora,04.02.2020,-8.00\n")
    assert told.tell() == []  # it is open still
    (incident,) = incidents.recent(told.workspace.database, is_open=True)
    assert (incident.times, incident.cause) == (2, "checks")
    good = told.run()
    (message,) = told.tell()
    assert (message["event"], message["run"]) == ("recovered", good.id)
    assert incidents.recent(told.workspace.database, is_open=True) == ()
    told.run("4,dora,04.02.2020,-7.00\n")
    assert [m["event"] for m in told.tell()] == ["checks"]


def test_who_only_looks_at_what_is_published_ends_nothing_that_a_run_began(told: Told) -> None:
    def look() -> runs.Run:
        database = told.workspace.database
        run_id = runs.request(database, "sales", options={"only": "checks"})
        return execute(database, told.workspace.lake, told.workspace.spec(), run_id)

    assert told.run().status == "succeeded"
    told.run("9,eve,09.02.2020,-4\n")
    assert [message["event"] for message in told.tell()] == ["checks"]
    assert look().status == "unchanged"
    assert told.tell() == []
    assert told.run().status == "unchanged"
    assert [message["event"] for message in told.tell()] == ["recovered"]


def test_a_run_that_fails_and_data_that_is_late(told: Told) -> None:
    failed = told.run("not a row\n")
    assert failed.status == "failed"
    (message,) = told.tell()
    assert (message["event"], message["checks"]) == ("failed", [])
    with told.workspace.database.write() as cx:
        log.append(
            cx, Event(DATA_LATE, "sales", {"environment": "main", "good_at": None, "late_after": 7200})
        )
    (message,) = told.tell()
    assert (message["event"], message["message"]) == (
        "late",
        "what is published was last confirmed more than 2h ago",
    )
    told.run()
    assert sorted((m["event"], m["cause"]) for m in told.tell()) == [
        ("recovered", "late"),
        ("recovered", "run"),
    ]


def test_drift_is_told_and_no_run_ends_it(told: Told) -> None:
    def note(message: str) -> list[dict[str, Any]]:
        with told.workspace.database.write() as cx:
            log.append(cx, Event(SERVICE_DRIFT, "sales", {"drifted": bool(message), "message": message}))
        return told.tell()

    assert note("") == []
    (message,) = note("service 'x', buys v1: recency")
    assert (message["event"], message["title"]) == ("drift", "sales: what its services are asked has moved")
    assert message["message"] == "service 'x', buys v1: recency"
    assert note("service 'x', buys v1: recency") == []
    assert told.run().status == "succeeded"
    assert told.tell() == []
    (message,) = note("")
    assert (message["event"], message["cause"]) == ("recovered", "drift")


def test_a_run_that_somebody_stopped_is_not_told(told: Told) -> None:
    from tulle.pipeline import worker

    run_id = runs.request(told.workspace.database, "sales")
    worker.stop(told.workspace.database, run_id)
    assert told.tell() == []


def test_what_is_not_taken_is_sent_again_and_says_no_secret(
    told: Told, caplog: pytest.LogCaptureFixture
) -> None:
    told.receiver.status = 503
    told.run("not a row\n")
    with caplog.at_level(logging.DEBUG):
        assert len(told.tell()) == 1
        (task,) = tasks.recent(told.workspace.database, incidents.TASK)
        assert (task.status, task.attempts) == ("waiting", 1)
        assert task.error is not None
        assert task.error["message"] == "alert channel 'ops' answered 503"
        told.receiver.status = 200
        with told.workspace.database.write() as cx:
            cx.execute(update(task_table).values(due_at=0.0))
        assert len(told.tell()) == 1
    assert tasks.get(told.workspace.database, task.id).status == "done"
    assert told.receiver.keys[0] == told.receiver.keys[1]
    state = b"".join(f.read_bytes() for f in told.workspace.settings.state_folder.glob("state.db*"))
    assert SECRET.encode() not in state
    assert SECRET not in caplog.text


def test_what_is_over_before_it_was_taken_is_told_as_recovered_alone(told: Told) -> None:
    told.receiver.status = 503
    told.run("not a row\n")
    assert [message["event"] for message in told.tell()] == ["failed"]
    told.receiver.status = 200
    told.run()
    assert [message["event"] for message in told.tell()] == ["recovered"]
    with told.workspace.database.write() as cx:
        cx.execute(update(task_table).values(due_at=0.0))
    assert told.tell() == []
    over = {task.request["event"]: task for task in tasks.recent(told.workspace.database, incidents.TASK)}
    assert (over["failed"].status, over["failed"].result) == ("done", {"sent": False, "over": True})
    told_of = {one["event"]: one["status"] for one in deliveries_of(told.workspace)}
    assert told_of == {"failed": "over", "recovered": "done"}


def test_a_receiver_that_is_slow_holds_up_no_other(
    told: Told, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tulle.control.alerts.PAUSE_SECONDS", 0.05)
    slow = Receiver()
    slow.may_answer.clear()
    try:
        monkeypatch.setenv("SLOW_URL", f"http://127.0.0.1:{slow.port}/")
        file = told.mesh.folder / "mesh.yaml"
        text = file.read_text().replace("alert_addresses: [", f"alert_addresses: ['127.0.0.1:{slow.port}', ")
        file.write_text(text + "  slow: {url_variable: SLOW_URL}\n")
        workspace = open_workspace(load_settings(told.mesh.folder))
        alerts = Alerts(workspace)
        alerts.start()
        for number in (1, 2):  # what opens and what closes, of which the slow one took none yet
            for drifted in (True, False):
                with workspace.database.write() as cx:
                    said = {"drifted": drifted, "message": f"moved {number}"}
                    log.append(cx, Event(SERVICE_DRIFT, "sales", said))
                until(lambda: len(receiver.got) == 2 * number - drifted)  # noqa: B023  called at once
        until(lambda: len(slow.got) == 1)
        slow.may_answer.set()
        until(lambda: len(slow.got) == 4)
        assert sorted(slow.keys) == sorted(receiver.keys)
        alerts.stop()
        workspace.database.close()
    finally:
        slow.stop()


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_an_answer_that_will_not_change_ends_it(told: Told) -> None:
    told.receiver.status = 404
    told.run("not a row\n")
    told.tell()
    (task,) = tasks.recent(told.workspace.database, incidents.TASK)
    assert (task.status, task.attempts) == ("failed", 1)


def test_a_url_is_kept_encrypted_and_never_shown(mesh: Mesh, receiver: Receiver) -> None:
    mesh.write(
        "mesh.yaml",
        f"name: t\nalert_addresses: ['127.0.0.1:{receiver.port}']\nalerts: {{chat: {{type: slack}}}}\n",
    )
    url = f"http://127.0.0.1:{receiver.port}/services/{SECRET}"

    def tulle(*words: str, text: str | None = None) -> str:
        result = CliRunner().invoke(cli, ["--mesh", str(mesh.folder), "alerts", *words], input=text)
        if result.exception is not None:
            raise result.exception
        return result.output

    assert json.loads(tulle("list", "--json"))[0]["url"] == "missing"
    with pytest.raises(Invalid, match="alert channel 'chat' has no URL yet") as caught:
        tulle("test", "chat")
    assert caught.value.hint == "`tulle alerts set chat`"
    with pytest.raises(Invalid, match="does not send to file://"):
        tulle("set", "chat", text="file:///etc/passwd\n")
    assert SECRET not in tulle("set", "chat", text=url + "\n")
    assert "encrypted" in tulle("list")
    assert SECRET not in tulle("list", "--json")
    assert "took it" in tulle("test", "chat")
    assert receiver.got[0]["text"].startswith("*t: a test of the alert channel 'chat'*")
    with pytest.raises(NotFound) as missing:
        tulle("test", "chatt")
    assert missing.value.hint == "did you mean 'chat'?"
    settings = load_settings(mesh.folder)
    for file in settings.state_folder.rglob("*"):
        if file.is_file():
            assert SECRET.encode() not in file.read_bytes(), file
    assert "nothing is wrong" in tulle("incidents", "--open")
    assert "no alert was sent yet" in tulle("sent")


def message() -> Message:
    return Message("t", "x", {}, "k")


def test_private_addresses_are_refused_unless_allowed(mesh: Mesh, receiver: Receiver) -> None:
    mesh.write("mesh.yaml", f"name: t\nalerts: {{ops: {{url: 'http://127.0.0.1:{receiver.port}/'}}}}\n")
    workspace = open_workspace(load_settings(mesh.folder))
    with pytest.raises(Denied, match=r"alert channel 'ops': alerts may not reach 127\.0\.0\.1") as caught:
        Channels(workspace.settings, workspace.database).send("ops", message())
    assert "alert_addresses" in (caught.value.hint or "")
    assert receiver.got == []
    workspace.database.close()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # apprise's own
def test_apprise_sends_and_its_private_addresses_are_refused_too(
    mesh: Mesh, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAIL_URL", f"json://127.0.0.1:{receiver.port}/{SECRET}")
    mesh.write("mesh.yaml", "name: t\nalerts: {mail: {type: apprise, url_variable: MAIL_URL}}\n")
    workspace = open_workspace(load_settings(mesh.folder))
    with pytest.raises(Denied, match="alerts may not reach"):
        Channels(workspace.settings, workspace.database).send("mail", message())
    workspace.database.close()
    file = mesh.folder / "mesh.yaml"
    file.write_text(file.read_text() + f"alert_addresses: ['127.0.0.1:{receiver.port}']\n")
    workspace = open_workspace(load_settings(mesh.folder))
    channels = Channels(workspace.settings, workspace.database)
    channels.send("mail", message())
    assert receiver.got[0]["message"] == "x"
    receiver.status = 500
    with pytest.raises(Unavailable, match="json did not take the message") as refused:
        channels.send("mail", message())
    assert SECRET not in str(refused.value.as_dict())
    monkeypatch.setenv("MAIL_URL", "syslog://localhost")
    with pytest.raises(Invalid, match="does not send to syslog://"):
        channels.send("mail", message())
    monkeypatch.delenv("MAIL_URL")
    with pytest.raises(Invalid, match="MAIL_URL, which is not set"):
        channels.send("mail", message())
    workspace.database.close()


@pytest.fixture
def mail(
    mesh: Mesh, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str, str], None]]:
    """Sends a text by apprise to a URL; the receiver's address is the only private one that is allowed."""
    mesh.write(
        "mesh.yaml",
        f"""
        name: t
        alert_addresses: ['127.0.0.1:{receiver.port}']
        alerts: {{mail: {{type: apprise, url_variable: MAIL_URL}}}}
        """,
    )
    workspace = open_workspace(load_settings(mesh.folder))
    channels = Channels(workspace.settings, workspace.database)

    def send(url: str, text: str) -> None:
        monkeypatch.setenv("MAIL_URL", url)
        channels.send("mail", Message("t", text, {}, "k"))

    yield send
    workspace.database.close()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # apprise's own
@pytest.mark.parametrize(
    "url",
    [
        "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ,json://127.0.0.1:{port}/",
        "mailtos://user:T0PS3CRET/more@mail.example.org?to=a@example.org",
    ],
)
def test_a_url_of_apprise_is_one_server_or_none(
    mail: Callable[[str, str], None], receiver: Receiver, url: str
) -> None:
    with pytest.raises(Invalid, match="none that apprise understands") as refused:
        mail(url.format(port=receiver.port), "x")
    assert SECRET not in str(refused.value.as_dict())
    assert receiver.got == []


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # apprise's own
@pytest.mark.parametrize(
    "url", ["workflows://127.0.0.1/workflow/signature", f"zulip://bot@127.0.0.1/{'a' * 32}"]
)
def test_services_that_stand_in_a_network_of_ones_own_are_judged_by_their_address(
    mail: Callable[[str, str], None], url: str
) -> None:
    with pytest.raises(Denied, match=r"alerts may not reach 127\.0\.0\.1"):
        mail(url, "x")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # apprise's own
@pytest.mark.parametrize(
    "url",
    [
        "json://moves.example.org:{port}/",
        "mailto://u:p@example.org:{port}?smtp=moves.example.org&to=a@example.org&mode=insecure",
    ],
)
def test_a_name_that_leads_elsewhere_a_moment_later_is_not_followed(
    mail: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    private = Receiver()
    look_up, asked = socket.getaddrinfo, []

    def moving(host: Any, *more: Any, **named: Any) -> Any:
        if host != "moves.example.org":
            return look_up(host, *more, **named)
        asked.append(host)
        return look_up("93.184.215.14" if len(asked) == 1 else "127.0.0.1", *more, **named)

    monkeypatch.setattr(socket, "getaddrinfo", moving)
    try:
        with pytest.raises(Denied, match=r"alerts may not reach moves\.example\.org:\d+ \(127\.0\.0\.1\)"):
            mail(url.format(port=private.port), "x")
        assert len(asked) > 1
        assert private.got == []
    finally:
        private.stop()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # apprise's own
def test_rows_are_no_markup_and_nobody_is_sent_elsewhere(
    mail: Callable[[str, str], None], receiver: Receiver
) -> None:
    mail(f"json://127.0.0.1:{receiver.port}/?format=html", "<img src=//evil>")
    assert "<img" not in receiver.got[0]["message"]
    elsewhere = Receiver()
    try:
        receiver.status, receiver.location = 307, f"http://127.0.0.1:{elsewhere.port}/"
        with pytest.raises(Unavailable, match="json did not take the message"):
            mail(f"json://127.0.0.1:{receiver.port}/?redirect=yes", "x")
        assert elsewhere.got == []
    finally:
        elsewhere.stop()


@pytest.mark.parametrize(
    ("channel", "named", "taken"),
    [
        (AlertChannel(), False, True),
        (AlertChannel(on=("late",)), False, False),
        (AlertChannel(environments=("test",)), False, False),
        (AlertChannel(domains=("shop",)), False, True),
        (AlertChannel(domains=("other",)), False, False),
        (AlertChannel(products=("sales",)), False, True),
        (AlertChannel(products=()), False, False),
        (AlertChannel(products=()), True, True),
    ],
)
def test_which_channel_is_told(channel: AlertChannel, named: bool, taken: bool) -> None:
    assert takes(channel, "failed", "sales", "shop", "main", is_named=named) is taken


def test_a_product_names_channels_that_there_are(mesh: Mesh) -> None:
    file = mesh.folder / "products/shop/sales/product.yaml"
    text = file.read_text()
    file.write_text(
        text.replace("{definition: what was sold}", "{definition: what was sold, alerts: [opps]}")
    )
    mesh.write("mesh.yaml", "name: t\nalerts: {ops: {url: 'https://example.com/'}}\n")
    with pytest.raises(Invalid) as caught:
        mesh.spec()
    (problem,) = caught.value.problems
    assert (problem.message, problem.hint) == ("there is no alert channel 'opps'", "did you mean 'ops'?")
    assert problem.place
    assert problem.place.line == 6


@pytest.mark.parametrize(
    ("says", "said"),
    [
        ("{ops: {typ: slack}}", "unknown setting 'typ'"),
        ("{ops: {type: slak}}", "'alerts.ops.type' is 'slak'"),
        ("{ops: {on: [fail]}}", "'alerts.ops.on' has 'fail'"),
        ("{ops: {type: slack, url: 'https://hooks.slack.com/services/x'}}", "may hold a secret"),
        ("{ops: {url: 'https://me:pw@example.com/'}}", "may hold a secret"),
        ("{ops: {url: 'ftp://example.com/'}}", "is no web address"),
        ("{ops: {url: 'https://example.com/', url_variable: X}}", "has both"),
        ("{'Ops!': {}}", "is no name of a channel"),
    ],
)
def test_channels_that_make_no_sense_are_refused_at_their_place(mesh: Mesh, says: str, said: str) -> None:
    mesh.write("mesh.yaml", f"name: t\nalerts: {says}\n")
    with pytest.raises(Invalid) as caught:
        load_settings(mesh.folder)
    (problem,) = caught.value.problems
    assert said in problem.message
    assert problem.place
    assert problem.place.line == 2
