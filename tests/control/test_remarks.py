"""Ratings and questions through the doors: who may say what, and that nobody speaks for another."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner
from tests.control.bazaar import Bazaar

from tulle.cli import connect
from tulle.cli.connect import key_of
from tulle.cli.main import cli
from tulle.control import contract_notices
from tulle.control import remarks as control
from tulle.errors import LimitExceeded
from tulle.gateway.apis import remarks
from tulle.sdk.client import Client
from tulle.state import log


@pytest.fixture(scope="module")
def bazaar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bazaar]:
    made = Bazaar(tmp_path_factory.mktemp("bazaar") / "mesh")
    yield made
    made.close()


@pytest.fixture(autouse=True)
def clean(bazaar: Bazaar) -> Iterator[None]:
    yield
    with bazaar.workspace.database.write() as cx:
        remarks.remove_of(cx, "orders")


def test_people_rate_in_their_own_name_and_owners_reply(bazaar: Bazaar) -> None:
    said = {"stars": 4, "text": "<i>good</i>"}
    assert bazaar.call("PUT", "/apis/orders/rating", said, as_="kim").json()["user"] == "kim"
    assert bazaar.call("PUT", "/apis/orders/rating", {"stars": 2}, as_="kim").status_code == 200
    assert bazaar.call("PUT", "/apis/orders/rating", {"stars": 6}, as_="kim").status_code == 422
    assert (
        bazaar.call("PUT", "/apis/orders/rating", {"stars": 3, "user": "ann"}, as_="kim").status_code == 422
    )
    nobody = bazaar.call("PUT", "/apis/orders/rating", said)
    assert nobody.status_code == 403
    assert "the mesh's token is nobody's" in nobody.text
    assert (
        bazaar.call("PUT", "/apis/orders/ratings/kim/reply", {"text": "thanks"}, as_="vic").status_code == 403
    )
    found = bazaar.call("PUT", "/apis/orders/ratings/kim/reply", {"text": "thanks"}, as_="ann").json()
    assert (found["ratings"][0]["reply"], found["ratings"][0]["replied_by"]) == ("thanks", "ann")
    assert bazaar.call("DELETE", "/apis/orders/ratings/kim", as_="ann").status_code == 403
    assert bazaar.call("DELETE", "/apis/orders/rating", as_="kim").json()["count"] == 0
    assert bazaar.call("DELETE", "/apis/orders/rating", as_="kim").status_code == 404


def test_questions_are_answered_and_only_ones_own_is_taken_back(bazaar: Bazaar) -> None:
    asked = bazaar.call("POST", "/apis/orders/questions", {"text": "How?"}, as_="kim")
    assert asked.status_code == 201
    path = f"/apis/orders/questions/{asked.json()['id']}"
    assert bazaar.call("POST", f"{path}/answers", {"text": "I wonder too"}, as_="vic").status_code == 201
    answers = bazaar.call("POST", f"{path}/answers", {"text": "So."}, as_="ann").json()["answers"]
    assert [(one["user"], one["by_owner"]) for one in answers] == [("vic", False), ("ann", True)]
    assert bazaar.call("DELETE", f"{path}/answers/{answers[1]['id']}", as_="vic").status_code == 403
    assert bazaar.call("DELETE", path, as_="vic").status_code == 403
    left = bazaar.call("DELETE", f"{path}/answers/{answers[0]['id']}", as_="vic").json()["questions"]
    assert [one["text"] for one in left[0]["answers"]] == ["So."]
    assert bazaar.call("DELETE", f"{path}/answers/{answers[0]['id']}", as_="ann").status_code == 404
    assert bazaar.call("DELETE", path, as_="ann").json()["questions"] == []  # an owner may


def test_of_an_api_that_one_does_not_see_nothing_is_told(bazaar: Bazaar) -> None:
    remark = remarks.ask(bazaar.workspace.database, "payroll", "vic", "Whose?")
    for method, path, body in [
        ("GET", "/apis/payroll/ratings", None),
        ("GET", "/apis/payroll/questions", None),
        ("PUT", "/apis/payroll/rating", {"stars": 1}),
        ("POST", "/apis/payroll/questions", {"text": "?"}),
        ("POST", f"/apis/payroll/questions/{remark.id}/answers", {"text": "!"}),
        ("DELETE", f"/apis/payroll/questions/{remark.id}", None),
    ]:
        assert (
            bazaar.call(method, path, body, as_="kim").json()["error"]["message"]
            == "there is no API 'payroll'"
        )
    # nor by way of another API
    answer = bazaar.call("POST", f"/apis/orders/questions/{remark.id}/answers", {"text": "!"}, as_="kim")
    assert answer.json()["error"]["message"] == f"there is no question '{remark.id}'"
    assert len(bazaar.call("GET", "/apis/payroll/questions", as_="vic").json()["questions"]) == 1


def test_nobody_writes_without_end(bazaar: Bazaar, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "MOST_AN_HOUR", 2)
    it = control.Remarks(bazaar.workspace, None)  # type: ignore[arg-type]  whose who sees what is not asked
    for _ in range(2):
        it.ask("orders", "How?", user="kim")
    with pytest.raises(LimitExceeded, match="wrote remarks 2 times within the last hour"):
        it.ask("orders", "How?", user="kim")
    it.rate("orders", 5, "", user="vic")


def test_owners_are_told_of_questions_answers_and_ratings(bazaar: Bazaar) -> None:
    database = bazaar.workspace.database
    asked = remarks.ask(database, "orders", "kim", "How <b>so</b>?")
    remarks.answer(database, asked.id, "ann", "So.", by_owner=True)
    remarks.rate(database, "orders", "kim", 3)
    remarks.unrate(database, "orders", "kim", by="kim")
    told = [one for one in log.read(database, limit=10_000) if contract_notices._is_told(one)][-3:]
    messages = [
        contract_notices.compose(
            bazaar.workspace,
            {
                "kind": one.kind,
                "subject": one.subject,
                "actor": one.actor,
                "at": one.at,
                "event": one.id,
                "product": contract_notices._product_of(bazaar.workspace, one),
                "data": one.data,
            },
        )
        for one in told
    ]
    assert [one.title for one in messages] == [
        "there is a question about API 'orders'",
        "there is an answer to a question about API 'orders'",
        "there is a rating of API 'orders'",
    ]
    assert "How <b>so</b>?" in messages[0].text
    assert "3 of 5 stars" in messages[2].text
    assert messages[0].text.endswith("/exchange/apis/orders#questions")


def test_the_commands_say_and_show_it(bazaar: Bazaar, monkeypatch: pytest.MonkeyPatch) -> None:
    # the same application for all of them: opening it for each takes its time
    @contextmanager
    def client(mesh: Path, key: Path | None) -> Iterator[Client]:
        assert mesh == bazaar.mesh.folder
        headers = {"authorization": bazaar.token if key is None else key_of(key)}
        yield Client(
            httpx.Client(transport=bazaar.transport, base_url="http://127.0.0.1:8080", headers=headers)
        )

    monkeypatch.setattr(connect, "mesh_client", client)

    def tulle(*args: str, key: str = "") -> str:
        said = ["--key", bazaar.key_file(key)] if key else []
        done = CliRunner().invoke(cli, ["--mesh", str(bazaar.mesh.folder), "api", *args, *said])
        assert done.exit_code == 0, (done.output, done.exception)
        return done.output

    assert "nobody has rated orders yet" in tulle("ratings", "orders")
    assert "orders has 4 of 5 stars from kim" in tulle("rate", "orders", "4", "--text", "good", key="kim")
    assert "kim is replied to" in tulle("reply", "orders", "kim", "thanks", key="ann")
    shown = tulle("ratings", "orders")
    assert "4.0 of 5 stars, 1 in all" in shown
    assert "ann replies:" in shown
    assert json.loads(tulle("ratings", "orders", "--json"))["by_stars"]["4"] == 1
    assert "is taken back" in tulle("unrate", "orders", "--user", "kim")
    assert "nobody has asked anything" in tulle("questions", "orders")
    question = tulle("ask", "orders", "How?", key="kim").split()[-1]
    assert f"{question} is answered" in tulle("answer", "orders", question, "So.", key="ann")
    assert "ann, an owner" in tulle("questions", "orders")
    (found,) = json.loads(tulle("questions", "orders", "--json"))
    assert f"{found['answers'][0]['id']} is removed" in tulle(
        "remove", "orders", question, found["answers"][0]["id"]
    )
    assert f"{question} is removed" in tulle("remove", "orders", question, key="kim")
