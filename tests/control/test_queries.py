"""Test queries made from data, a package refused for those that fail, and two versions compared: with the real thing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml
from click.testing import CliRunner

from tulle.cli.connect import InProcess
from tulle.cli.main import cli as command
from tulle.errors import Conflict, Invalid, NotFound, TulleError
from tulle.sdk.client import Client
from tulle.sdk.services import ServiceClient
from tulle.server.app import application
from tulle.server.token import read_token
from tulle.spec.mesh import load_settings
from tulle.spec.skeleton import mesh_files, product_files

SERVICE = """\
service: order-book  # asked by the shop
endpoints:
  - {name: order, type: lookup, data_set: orders, key: [order_id], columns: [customer_id, amount]}
  - name: of-customer
    type: query
    sql: SELECT count(*) AS orders, sum(amount) AS amount FROM orders WHERE customer_id = $customer
    test_queries: [{name: nobody, parameters: {customer: nobody}, expect: {rows: [['0', null]]}}]
  - {name: double, type: function, file: double.py}
"""
CODE = "def double(amount: float) -> dict:\n    return {'twice': amount * %s}\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    mesh = tmp_path_factory.mktemp("mesh")
    product = mesh / "products/sales/orders"
    files = {mesh / path: text for path, text in mesh_files("shop").items()}
    made = product_files("orders", domain="sales", kind="source-aligned")
    files |= {product / path: text for path, text in made.items()}
    files[product / "services/order-book.yaml"] = SERVICE
    files[product / "functions/double.py"] = CODE % "2"
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return product


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[Client]:
    settings = load_settings(folder.parents[2])
    app = application(settings)
    headers = {"authorization": f"Bearer {read_token(settings)}"}
    with InProcess(app) as transport:
        base = f"http://{settings.host}:{settings.control_plane_port}"
        found = Client(httpx.Client(transport=transport, base_url=base, headers=headers))
        found.apply(found.plan()["digest"])
        run_id = found.start_run("orders")
        deadline = time.monotonic() + 60
        while (run := found.run(run_id))["status"] not in {"succeeded", "failed"}:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert run["status"] == "succeeded", run
        yield found
    app.state.close()


def test_the_whole_way(client: Client, folder: Path) -> None:
    services = ServiceClient(client)
    first = services.package("order-book")
    assert first["version"] == "v1"

    # drawn by a seed: equal data, equal rows; the services file stays as it was
    made = services.make_queries("order-book", "order", "orders", rows=3, seed=7, expect=True)
    assert made["file"] == "services/queries/order-book/order.yaml"
    assert made["version"] == "v1"
    assert len(made["queries"]) == 3
    assert made["queries"] == yaml.safe_load((folder / made["file"]).read_text())
    assert set(made["queries"][0]["expect"]) == {"customer_id", "amount"}
    again = services.make_queries("order-book", "order", "orders", rows=3, seed=7, write=False)
    assert [one["data"] for one in again["queries"]] == [one["data"] for one in made["queries"]]
    other = services.make_queries("order-book", "order", "orders", rows=3, seed=8, write=False)
    assert [one["data"] for one in other["queries"]] != [one["data"] for one in made["queries"]]
    assert (folder / "services/order-book.yaml").read_text() == SERVICE
    services.make_queries("order-book", "double", "orders", rows=2, expect=True)
    with pytest.raises(Invalid, match="no column for customer of endpoint 'of-customer'"):
        services.make_queries("order-book", "of-customer", "orders", rows=2)
    services.make_queries(
        "order-book", "of-customer", "orders", rows=2, columns={"customer": "customer_id"}, expect=True
    )

    # they are in the next package, and pass
    second = services.package("order-book")
    assert second["version"] == "v2"
    tested = services.test("order-book", "v2")["verdicts"]
    assert {v["endpoint"]: v["passed"] for v in tested} == {
        "order": True,
        "of-customer": True,
        "double": True,
    }
    assert len(tested) == 8

    # one that fails refuses the package
    (folder / "functions/double.py").write_text(CODE % "3")
    with pytest.raises(
        Conflict, match=r"2 of 8 test queries of service 'order-book' fail: double, 'orders 1'"
    ):
        services.package("order-book")
    assert [v["version"] for v in services.service("order-book")["versions"]] == ["v1", "v2"]
    third = services.package("order-book", allow_failing=True)
    assert third["version"] == "v3"

    # the same asked of two versions
    found = services.compare("order-book", "v2", "v3")
    assert (found["asked"], found["equal"], found["different"]) == (8, 6, 2)
    wrong = [one for one in found["questions"] if not one["equal"]]
    assert {one["endpoint"] for one in wrong} == {"double"}
    assert wrong[0]["differences"][0]["path"] == "response.twice"
    assert found["milliseconds"]["left"] > 0
    asked = [
        {"endpoint": "double", "body": {"amount": 0}},
        {"endpoint": "double", "body": {"amount": "x"}},
        {"endpoint": "nothing"},
    ]
    found = services.compare("order-book", "v2", "v3", queries=asked)
    assert [one["equal"] for one in found["questions"]] == [True, True, True]
    assert [one["statuses"] for one in found["questions"]] == [[200, 200], [400, 400], [404, 404]]


def test_the_same_by_commands(client: Client, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def tulle(*words: str) -> str:
        done = CliRunner().invoke(command, ["--mesh", str(folder.parents[2]), "service", *words])
        assert done.exit_code == 0, done.output
        return done.output

    made = tulle("queries", "make", "order-book/order", "--from", "orders", "--rows", "2", "--print")
    assert made.startswith("# Test queries of order-book/order")
    assert len(yaml.safe_load(made)) == 2
    told = tulle(
        "queries", "make", "order-book/of-customer", "--from", "orders", "--column", "customer=customer_id"
    )
    assert "test queries in services/queries/order-book/of-customer.yaml" in told
    asked = tulle("test", "order-book", "--version", "v2")
    assert asked.count("✓") == 8
    assert "no time" not in asked
    verdict = {"endpoint": "order", "name": "one", "passed": True, "message": ""}
    answered = {"environment": "prod", "version": "v2", "saved": 3, "verdicts": [verdict]}
    with monkeypatch.context() as patched:  # what a slow generation answers, of which none runs here
        patched.setattr(ServiceClient, "test_generation", lambda *_, **__: answered)
        assert "there was no time for 2 more" in tulle("test", "order-book", "-e", "prod")
    compared = tulle("compare", "order-book", "v2", "v3")
    assert "response.twice: " in compared
    assert "6 of 8 equal; median" in compared
    snippet = tulle("snippet", "order-book/order", "--language", "python")
    compile(snippet, "snippet", "exec")
    assert "order-book/order/lookup" in snippet
    assert tulle("snippet", "order-book/order").startswith("curl")


@pytest.mark.parametrize(
    ("error", "message", "body"),
    [
        (NotFound, "has no endpoint 'ordr'", {"endpoint": "ordr", "data_set": "orders"}),
        (NotFound, "has no data set 'ordres'", {"endpoint": "order", "data_set": "ordres"}),
        (
            NotFound,
            "has no data set 'orders'",
            {"endpoint": "order", "data_set": "orders", "product": "none"},
        ),
        (Invalid, "takes no 'x'", {"endpoint": "order", "data_set": "orders", "columns": {"x": "amount"}}),
        (
            Invalid,
            "has no column 'x'",
            {"endpoint": "order", "data_set": "orders", "columns": {"order_id": "x"}},
        ),
    ],
)
def test_what_cannot_be_made_is_told(
    client: Client, error: type[TulleError], message: str, body: dict[str, object]
) -> None:
    endpoint, data_set = str(body.pop("endpoint")), str(body.pop("data_set"))
    with pytest.raises(error, match=message):
        ServiceClient(client).make_queries("order-book", endpoint, data_set, **body)


def test_one_query_is_asked_as_it_is_filled_in(client: Client) -> None:
    path = "/services/order-book/endpoints/order/attempt"
    (made,) = ServiceClient(client).make_queries("order-book", "order", "orders", rows=1, write=False)[
        "queries"
    ]
    sent = made["data"]
    asked = client.call("POST", path, json={"sent": sent, "expect": {"amount": -1}})
    assert asked["verdict"]["passed"] is False
    assert asked["verdict"]["message"].endswith(", expected -1")
    again = client.call("POST", path, json={"sent": sent, "expect": asked["expectation"]})
    assert (again["verdict"]["passed"], again["version"]) == (True, asked["version"])
    gone = client.call("POST", path, json={"sent": {"order_id": "none"}})
    assert gone["expectation"] == {"error": "NoMatch"}
    with pytest.raises(NotFound, match="has no endpoint 'ordr'"):
        client.call("POST", path.replace("order/", "ordr/"), json={"sent": {}})
    with pytest.raises(Invalid):
        client.call("POST", path, json={"sent": 7})


def test_what_cannot_be_compared_or_asked_is_told(client: Client) -> None:
    services = ServiceClient(client)
    with pytest.raises(NotFound, match="no version 'v9'"):
        services.compare("order-book", "v1", "v9")
    with pytest.raises(NotFound, match="generation 'v1' of service 'order-book' does not run"):
        services.test_generation("order-book", "v1")


def test_a_file_of_queries_says_how_it_is_made_anew(client: Client) -> None:
    made = ServiceClient(client).make_queries(
        "order-book",
        "of-customer",
        "orders",
        product="orders",
        rows=2,
        seed=3,
        tolerance=0.5,
        columns={"customer": "customer_id"},
        write=False,
    )
    command_line = made["text"].splitlines()[1].removeprefix("#   ")
    assert command_line == (
        "tulle service queries make order-book/of-customer --from orders/orders --rows 2 --seed 3 "
        "--tolerance 0.5 --column customer=customer_id"
    )
    assert made["text"].endswith(yaml.safe_dump(made["queries"], sort_keys=False, allow_unicode=True))


def test_queries_of_an_endpoint_that_is_not_there_are_a_problem(client: Client, folder: Path) -> None:
    wrong = folder / "services/queries/order-book/oder.yaml"
    wrong.write_text("- {name: a, data: {order_id: 1}}\n")
    try:
        told = client.validate()["problems"]
        assert [(one["message"], one["hint"]) for one in told] == [
            ("there is no endpoint 'oder'", "did you mean 'order'?")
        ]
        wrong.rename(wrong.with_name("order.yml"))
        (folder / "services/queries/order-book/order.yaml").write_text("- {name: a}\n")
        assert "data" in client.validate()["problems"][0]["message"]
    finally:
        wrong.unlink(missing_ok=True)
