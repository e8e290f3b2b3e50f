"""What services look up, on real processes: followed in place while it is published, trained with, and asked in batches."""

from __future__ import annotations

import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tests.pipeline.conftest import ROWS, SALES
from tests.system.conftest import Mesh, free_port

pytestmark = pytest.mark.system

SERVICE = """
service: sold
endpoints:
- {name: sale, type: lookup, data_set: sales, key: id, columns: [customer, amount], source: latest}
"""


@pytest.fixture(scope="module")
def sold(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """A mesh that is up, with a service that follows what is published."""
    mesh = Mesh(tmp_path_factory.mktemp("system") / "mesh", free_port(), free_port(), free_port())
    product = mesh.folder / "products" / "shop" / "sales"
    for file, text in (
        ("transform/sales.sql", "SELECT id, customer, day, amount FROM till_rows\n"),
        ("data/sales.csv", ROWS),
        ("product.yaml", textwrap.dedent(SALES)),
        ("services/sold.yaml", SERVICE),
    ):
        (product / file).parent.mkdir(parents=True, exist_ok=True)
        (product / file).write_text(text)
    (mesh.folder / "mesh.yaml").write_text("name: test\ndefault_rate_limit: 100000/1s\n")
    try:
        mesh.tulle("up", "--detach")  # first: what asks a mesh that is up starts sooner
        for command in ("apply", "run sales", "service package sold", "app create caller --service sold"):
            mesh.tulle(*command.split())
        mesh.tulle("service", "deploy", "sold")
        yield mesh
    finally:
        mesh.tulle("down", check=False)
    assert mesh.processes() == []


def ask(mesh: Mesh, number: int) -> httpx.Response:
    return mesh.call("sold/sale/lookup", {"data": {"id": number}}, mesh.credentials("caller"))


def test_what_a_run_publishes_answers_seconds_later_without_a_gap(sold: Mesh) -> None:
    first = ask(sold, 1)
    assert first.json()["results"][0]["data"] == {"customer": "ann", "amount": 10.5}
    stop, wrong = threading.Event(), list[str]()

    def call() -> None:
        while not stop.is_set():
            answer = ask(sold, 1)
            if answer.status_code != 200:
                wrong.append(answer.text)

    caller = threading.Thread(target=call)
    caller.start()
    try:
        data: Path = sold.folder / "products/shop/sales/data/sales.csv"
        data.write_text(ROWS.replace("10.50", "99.75"))
        sold.tulle("run", "sales")
        deadline = time.monotonic() + 60
        while ask(sold, 1).json()["results"][0]["data"]["amount"] != 99.75:
            assert time.monotonic() < deadline
            time.sleep(0.1)
    finally:
        stop.set()
        caller.join()
    assert wrong == []
    answer = ask(sold, 1)
    (told,) = sold.json("features", "status", "sold")["look_ups"]
    assert answer.headers["x-tulle-data-commit"] == f"sales/sales@{told['commit']}"
    assert answer.headers["x-tulle-data-commit"] != first.headers["x-tulle-data-commit"]
    assert (told["rows"], told["behind"], told["message"]) == (3, False, "")


def test_a_data_set_is_answered_and_joined_by_the_commands(sold: Mesh) -> None:
    printed = sold.tulle(
        *("service", "score", "sold/sale", "--in", "sales", "--out", "answers", "--keep", "id,day")
    ).stdout
    assert "sales/answers: 3 rows" in printed
    command = "features training-set sold/sale --entities answers --time day --out learned --json"
    refused = sold.tulle(*command.split(), check=False)
    assert "have a column 'customer', and so has what is looked up" in refused.stdout + refused.stderr
    printed = sold.tulle(
        *(
            "service",
            "score",
            "sold/sale",
            "--in",
            "sales",
            "--out",
            "days",
            "--keep",
            "id,day,customer,nobody",
        ),
        check=False,
    )
    assert "no column 'nobody'" in printed.stdout + printed.stderr
