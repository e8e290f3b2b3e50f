"""A dbt project as it stands, run as part of a product: real dbt, in the environment of the tests' clients."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from tests.pipeline.conftest import Mesh, World

from tulle.pipeline import run as runs
from tulle.pipeline import run_end, worker
from tulle.pipeline.dbt_told import placed
from tulle.pipeline.execute import execute
from tulle.pipeline.graph import load_code
from tulle.pipeline.inspect import CHECKS
from tulle.pipeline.run import Run, Step

ROOT = Path(__file__).parents[2]
CLIENTS = ROOT / ".venv-clients"
PROJECT = Path(__file__).parent / "dbt_shop"
HOME = "products/shop/store"

PRODUCT = """
apiVersion: core.oam.dev/v1beta1
kind: DataProduct
spec:
  components:
  - {name: shop, type: domain}
  - {name: store, type: data-product, properties: {definition: what the store sells}}
  - name: store models
    type: transformation
    properties:
      type: dbt
      project: dbt
      environment: dbt
      sources: {till.customers: people}
  - name: customers
    type: data-set
    properties:
      description: One row a customer, and what they spent
      columns:
      - {name: customer_id, type: integer, key: true, description: "the customer's number."}
      - {name: name, type: string}
      - {name: orders, type: integer}
      - {name: spent, type: 'decimal(18,2)'}
  - name: payment_log
    type: data-set
    properties: {description: every payment once}
  - name: order_states
    type: data-set
    properties: {description: every state an order had}
  - {name: people rows, type: input-port, properties: {description: x, data_set: people,
      source: {type: file, path: data/people.csv, columns: [{name: customer_id, type: integer}, {name: name}]}}}
  - {name: order rows, type: input-port, properties: {description: x, data_set: orders,
      source: {type: file, path: data/orders.csv, columns: [{name: order_id, type: integer},
        {name: customer_id, type: integer}, {name: ordered_on, type: date}, {name: status}]}}}
  - {name: payment rows, type: input-port, properties: {description: x, data_set: payments,
      source: {type: file, path: data/payments.csv, columns: [{name: payment_id, type: integer},
        {name: order_id, type: integer}, {name: method}, {name: cents, type: integer}]}}}
"""
PEOPLE = "customer_id,name\n1, ann\n2,bob\n"
ORDERS = "order_id,customer_id,ordered_on,status\n1,1,2024-01-01,placed\n2,1,2024-01-02,shipped\n3,2,2024-01-03,placed\n"
PAYMENTS = "payment_id,order_id,method,cents\n1,1,card,1050\n2,9,cash,99\n"


def store(mesh: Mesh) -> Path:
    """The product with its project, as a team would put it there."""
    mesh.write(
        "mesh.yaml",
        f"name: test\nwarehouse: {{threads: 1, memory: 256MB}}\nhook_environments: {{dbt: {CLIENTS}}}\n",
    )
    mesh.write(f"{HOME}/product.yaml", PRODUCT)
    mesh.write(f"{HOME}/data/people.csv", PEOPLE)
    mesh.write(f"{HOME}/data/orders.csv", ORDERS)
    mesh.write(f"{HOME}/data/payments.csv", PAYMENTS)
    folder = mesh.folder / HOME / "dbt"
    shutil.copytree(PROJECT, folder)
    mesh.write(f"{HOME}/transform/spent.sql", "SELECT sum(spent) AS spent FROM customers")
    return folder


def problems(mesh: Mesh) -> list[str]:
    spec = mesh.spec()
    return [str(problem) for problem in load_code(spec.product("store"), spec=spec).problems]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One store for all tests that build: a build takes dbt seconds, and each goes on from the one before."""
    if not (CLIENTS / "bin/python").exists():
        pytest.skip("the clients' environment is not made: `make test` makes it")
    mesh = Mesh(tmp_path_factory.mktemp("dbt") / "mesh")
    store(mesh)
    world = World(mesh)
    world.lake.create_repository("store")
    yield world
    world.database.close()


def steps(run: Run) -> dict[str, Step]:
    return {step.name: step for step in run.steps}


def files(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


ORPHAN = """
import ctypes, os, subprocess, sys
child = '''
import ctypes, os, sys, time
from tulle.pipeline import dbt_child
{how}
dbt_child.end_with(os.getppid())
print(os.getpid(), flush=True)
time.sleep(60)
'''
process = subprocess.Popen([sys.executable, "-c", child], stdout=subprocess.PIPE)
print(process.stdout.readline().decode(), flush=True)
"""
REFUSED = "ctypes.CDLL = lambda _name: type('libc', (), {'prctl': lambda *_: -1})()"
NONE = "ctypes.CDLL = lambda _name: object()"


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.Error:
        return True


@pytest.mark.parametrize("how", ["", REFUSED, NONE], ids=["kernel", "not allowed", "another system"])
def test_dbts_process_ends_with_the_run_wherever_it_runs(how: str) -> None:
    said = subprocess.run(
        [sys.executable, "-c", ORPHAN.replace("{how}", how)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    child = int(said.stdout)
    deadline = time.monotonic() + 20
    while not is_gone(child):
        assert time.monotonic() < deadline
        time.sleep(0.05)


# ── built by dbt ─────────────────────────────────────────────────────────────────────────────────────────


def test_1_a_project_is_built_as_it_is(shop: World) -> None:
    project = shop.mesh.folder / HOME / "dbt"
    before = files(project)
    run = shop.run("store")
    assert run.status == "succeeded", run.error
    assert files(project) == before, "nothing is written into the project"

    customers = shop.rows("store", "customers")
    assert [tuple(map(str, row.values())) for row in customers] == [
        ("1", "ann", "2", "10.50"),
        ("2", "bob", "1", "0.00"),
    ]
    assert str(shop.rows("store", "spent")[0]["spent"]) == "10.50", "other models read what dbt made"
    made = {row["node"]: row for row in shop.rows("store", "store_models")}
    assert made["model.shop.customers"]["row_count"] == 2
    assert made["model.shop.customers"]["file"] == f"{HOME}/dbt/models/customers.sql"

    checks = {check.name: check for check in steps(run)["store_models"].checks}
    relation = next(check for name, check in checks.items() if name.startswith("source_relationships"))
    assert (relation.severity, relation.passed, relation.data_set) == ("warn", False, "payments")
    assert relation.failing_rows == ({"from_field": "9"},)
    assert checks["unique_orders_order_id"].passed
    alike = checks["documented alike in dbt and product.yaml"]
    assert (alike.data_set, alike.severity) == ("customers", "warn")
    assert alike.message == "the data set is described differently"

    lineage = steps(run)["customers"].lineage
    assert lineage["name"] == [["people", "name"]]
    assert lineage["spent"] == [["payments", "cents"]]


def test_2_what_is_as_it_was_is_not_built_again(shop: World, capfd: pytest.CaptureFixture[str]) -> None:
    run = shop.run("store")
    assert {step.status for step in run.steps} == {"unchanged"}
    assert "dbt:" not in capfd.readouterr().out


def check(shop: World, *tags: str) -> Run:
    asked = runs.request(shop.database, "store", options={"only": CHECKS, "tags": list(tags)})
    return execute(shop.database, shop.lake, shop.mesh.spec(), asked)


def test_2_its_tests_are_carried_out_on_what_is_published(shop: World) -> None:
    repository = shop.lake.repository("store")
    published = repository.resolve("main")
    built = steps(shop.run("store", full=True))["store_models"].checks
    run = check(shop)
    assert (run.status, run.error) == ("unchanged", None)
    told = {(c.name, c.data_set, c.passed, c.failing_count) for c in steps(run)["store_models"].checks}
    assert told >= {(c.name, c.data_set, c.passed, c.failing_count) for c in built if c.kind == "dbt"}

    folder = shop.mesh.folder / HOME / "dbt/tests"
    (folder / "nobody.sql").write_text("{{ config(tags=['daily']) }} SELECT name FROM {{ ref('customers') }}")
    (folder / "staged.sql").write_text("SELECT 1 FROM {{ ref('stg_orders') }} WHERE order_id IS NULL")
    try:
        failed, tagged, other = check(shop), check(shop, "daily"), check(shop, "weekly")
    finally:
        (folder / "nobody.sql").unlink()
        (folder / "staged.sql").unlink()
    checks = {c.name: c for c in steps(failed)["store_models"].checks}
    assert failed.status == "failed"
    assert "nobody" in str(failed.error)
    assert checks["nobody"].failing_rows == ({"name": "ann"}, {"name": "bob"})
    assert checks["staged"].passed, "of a model that is kept nowhere"
    assert [c.name for c in steps(tagged)["store_models"].checks] == ["nobody"]
    assert "is tagged weekly" in str(other.error)
    assert [branch.name for branch in repository.branches()] == ["main"]
    assert repository.resolve("main") != published, "only the run with --full has published"


def test_2_killed_while_dbt_builds_nothing_of_it_stays(shop: World) -> None:
    repository = shop.lake.repository("store")
    published = repository.resolve("main")
    asked = runs.request(shop.database, "store", options={"full": True})
    pid = worker.start(shop.settings, asked)
    deadline = time.monotonic() + 60
    while "START sql table model" not in worker.log_file(shop.settings, asked).read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    under_way = psutil.Process(pid).children()
    assert any("dbt_child.py" in " ".join(process.cmdline()) for process in under_way)
    psutil.Process(pid).kill()
    while not all(is_gone(process.pid) for process in under_way):
        assert time.monotonic() < deadline, "dbt's process goes on"
        time.sleep(0.02)
    while not runs.get(shop.database, asked).ended:
        assert time.monotonic() < deadline
        run_end.recover(shop.database)
    killed = runs.get(shop.database, asked)
    assert (killed.status, killed.cause, steps(killed)["store_models"].status) == (
        "stopped",
        "lost",
        "failed",
    )
    assert repository.resolve("main") == published
    again = shop.run("store")
    assert {step.status for step in again.steps} == {"unchanged"}, "what dbt goes on from is as it was"
    scratch = shop.settings.run_folder / "tmp"
    assert not [folder for folder in scratch.iterdir() if folder.name == asked], "nor is a file of it left"


def test_3_a_failing_test_publishes_nothing_and_leaves_no_state(shop: World) -> None:
    shop.mesh.write(f"{HOME}/data/orders.csv", ORDERS.replace("2,1,2024-01-02,shipped", "2,1,2024-01-02,odd"))
    shop.mesh.write(f"{HOME}/data/payments.csv", f"{PAYMENTS}3,2,cash,500\n")
    run = shop.run("store")
    assert run.status == "failed"
    step = steps(run)["store_models"]
    (failed,) = [check for check in step.checks if check.stops]
    assert failed.name.startswith("accepted_values_orders_status")
    assert (failed.data_set, failed.failing_rows) == ("orders", ({"value_field": "odd", "n_records": "1"},))
    assert failed.kept.startswith("_tulle/failing/")
    store = shop.lake.repository("store")
    assert store.files(str(step.branch), failed.kept), "the failing rows are kept on the run's branch"
    assert len(shop.rows("store", "payment_log")) == 2
    assert not store.files("main", "_tulle/failing/")


def test_4_incremental_models_and_snapshots_go_on_from_what_is_published(shop: World) -> None:
    (first,) = {row["taken_by"] for row in shop.rows("store", "payment_log")}
    shop.mesh.write(
        f"{HOME}/data/orders.csv", ORDERS.replace("3,2,2024-01-03,placed", "3,2,2024-01-03,returned")
    )
    run = shop.run("store")
    assert run.status == "succeeded", run.error
    log = shop.rows("store", "payment_log")
    assert [row["payment_id"] for row in log] == [1, 2, 3]
    assert [row["taken_by"] == first for row in log] == [True, True, False]
    states = [
        (row["order_id"], row["status"], row["dbt_valid_to"] is None)
        for row in shop.rows("store", "order_states")
    ]
    assert sorted(states) == [
        (1, "placed", True),
        (2, "shipped", True),
        (3, "placed", False),
        (3, "returned", True),
    ]


def test_5_a_model_that_fails_is_told_at_its_line(shop: World) -> None:
    model = shop.mesh.folder / HOME / "dbt/models/customers.sql"
    text = model.read_text()
    model.write_text(text.replace("    c.name,\n", "    c.nmae,\n", 1))
    try:
        run = shop.run("store")
    finally:
        model.write_text(text)
    assert run.status == "failed"
    (problem,) = run.error["problems"]
    assert problem["place"] == {"file": f"{HOME}/dbt/models/customers.sql", "line": 3, "column": 5}
    assert "dbt could not make 'customers'" in problem["message"]
    assert 'does not have a column named "nmae"' in problem["message"]
    assert problem["source_line"] == "    c.nmae,"
    assert len(shop.rows("store", "payment_log")) == 3


def test_6_an_environment_without_dbt_is_told(shop: World) -> None:
    mesh = shop.mesh.folder / "mesh.yaml"
    text = mesh.read_text()
    mesh.write_text(text.replace(str(CLIENTS), str(ROOT / ".venv")))
    shop.mesh.write(f"{HOME}/data/payments.csv", PAYMENTS)
    try:
        run = shop.run("store")
    finally:
        mesh.write_text(text)
    assert run.error["kind"] == "unavailable"
    assert run.error["message"] == "there is no dbt in the Python environment dbt: No module named 'dbt'"


# ── read, not built ──────────────────────────────────────────────────────────────────────────────────────


def test_the_store_is_valid(mesh: Mesh) -> None:
    store(mesh)
    assert problems(mesh) == []
    spec = mesh.spec()
    code = load_code(spec.product("store"), spec=spec)
    assert code.job("store_models").inputs == ("orders", "people", "payments")
    assert code.job("store_models").tables == ("customers", "order_states", "payment_log")
    assert code.digest == load_code(spec.product("store")).digest, "where dbt is says nothing about the code"
    mesh.write(f"{HOME}/dbt/macros/in_currency.sql", "{% macro in_currency(c) %}{{ c }}{% endmacro %}")
    assert load_code(spec.product("store")).digest != code.digest


BROKEN = {
    "no project": (
        ("product.yaml", PRODUCT.replace("project: dbt", "project: dtb")),
        f"there is no dbt project in {HOME}/dtb: dbt_project.yml is missing (did you mean 'dbt'?)",
    ),
    "unknown environment": (
        ("product.yaml", PRODUCT.replace("environment: dbt", "environment: dbtt")),
        "this mesh has no Python environment 'dbtt' (did you mean 'dbt'?)",
    ),
    "unknown source": (
        ("dbt/models/staging/stg_more.sql", "select *\nfrom {{ source('till', 'ordres') }}"),
        (
            f"{HOME}/dbt/models/staging/stg_more.sql:2:9: the project reads the source 'till.ordres', which is no data "
            "set of the product (did you mean 'orders'?"
        ),
    ),
    "a commented source": (("dbt/models/x.sql", "select 1 as a {# source('a', 'b') #}"), None),
    "mapped and not read": (
        ("product.yaml", PRODUCT.replace("till.customers: people", "till.customers: people, till.order: x")),
        "'sources' names 'till.order', which the project does not read (did you mean 'till.orders'?)",
    ),
    "packages": (
        ("dbt/packages.yml", "packages:\n- {package: dbt-labs/dbt_utils, version: 1.3.0}\n"),
        (
            "the project needs 1 packages of packages.yml, 0 are in dbt_packages/ (nothing is downloaded by a run: call "
            "`dbt deps`"
        ),
    ),
    "no YAML": (
        ("dbt/dbt_project.yml", "name: shop\nmodels: [a, b\n"),
        f"{HOME}/dbt/dbt_project.yml:3:1: this is not YAML that can be read",
    ),
    "no mapping": (("dbt/dbt_project.yml", "- shop\n"), "dbt_project.yml is no mapping of names to values"),
    "two of one name": (
        ("dbt/models/staging/orders.sql", "select 1 as a"),
        "dbt makes 'orders' twice: models/orders.sql makes it already",
    ),
    "made by two": (("transform/customers.sql", "SELECT 1 AS a"), "data set 'customers' is made twice"),
    "called like a model": (
        ("dbt/models/store_models.sql", "select 1 as a"),
        "the transformation 'store_models' is called like what models/store_models.sql makes",
    ),
    "a circle": (
        ("dbt/models/staging/more.sql", "select * from {{ source('own', 'spent') }}"),
        "data sets are made from each other: store_models → customers → spent → store_models",
    ),
}


@pytest.mark.parametrize(("file", "said"), BROKEN.values(), ids=BROKEN)
def test_what_is_wrong_is_told_before_anything_runs(
    mesh: Mesh, file: tuple[str, str], said: str | None
) -> None:
    store(mesh)
    path, text = file
    mesh.write(f"{HOME}/{path}", text)
    found = problems(mesh)
    if said is None:
        assert found == []
    else:
        assert any(said in problem for problem in found), found


def test_a_file_that_leads_elsewhere_is_refused(mesh: Mesh, tmp_path: Path) -> None:
    folder = store(mesh)
    (tmp_path / "secret.csv").write_text("a\n1\n")
    (folder / "seeds/secret.csv").symlink_to(tmp_path / "secret.csv")
    assert any("seeds/secret.csv leads out of the product's folder" in found for found in problems(mesh))


JINJA = """Compilation Error in model customers (models/customers.sql)
  expected token 'end of statement block', got 'x'
    line 2
      {% if x x %}"""
REF = (
    "Model 'model.shop.customers' (models/customers.sql) depends on a node named 'ordrs' which was not found"
)
VARIABLE = "Env var required but not provided: 'HOST'"
WRITTEN_BY_JINJA = """Runtime Error in model stg_payments (models/staging/stg_payments.sql)
  Binder Error: Values list "p" does not have a column named "method"

  LINE 11: ... join "warehouse"."main"."payment_methods" as m on m.method = p.method
                                                                            ^"""
SAID = {
    "a line that Jinja wrote in part": (
        WRITTEN_BY_JINJA,
        'models/staging/stg_payments.sql:7:59: Binder Error: Values list "p" does not have a column named "method"',
    ),
    "jinja": (JINJA, "models/customers.sql:2: expected token 'end of statement block', got 'x'"),
    "ref": (f"Compilation Error\n  {REF}", f"models/customers.sql: {REF}"),
    "elsewhere": (VARIABLE, f"dbt_project.yml: {VARIABLE}"),
}


@pytest.mark.parametrize(("text", "said"), SAID.values(), ids=SAID)
def test_dbts_words_have_a_place(mesh: Mesh, text: str, said: str) -> None:
    store(mesh)
    project = load_code(mesh.spec().product("store")).job("store_models").dbt
    assert project is not None
    assert str(placed(project, text)).startswith(f"{HOME}/dbt/{said}")
