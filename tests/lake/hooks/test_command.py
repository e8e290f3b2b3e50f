import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tulle.config import Warehouse
from tulle.engine.duck import DuckEngine
from tulle.errors import Vetoed
from tulle.lake.hooks import record
from tulle.lake.hooks.built_in import built_in_kinds
from tulle.lake.hooks.run import Hooks
from tulle.lake.hooks.sandbox import Bounds, Sandbox
from tulle.quality.hook import check_kind


@pytest.fixture
def sales(lake, tmp_path):
    sandbox = Sandbox(Bounds(memory_bytes=2 << 30))
    kinds = {
        **built_in_kinds(sandbox=sandbox),
        "check": check_kind(DuckEngine(Warehouse(), tmp_path / "engine"), sandbox),
    }
    lake.hooks = Hooks(lake, kinds)
    return lake.create_repository("sales")


def commit(repository, kind, properties):
    hook = {"id": "it", "type": kind, "properties": properties}
    action = {"name": "a", "on": {"pre-commit": None}, "hooks": [hook]}
    repository.put("main", "_lakefs_actions/a.yaml", json.dumps(action).encode())
    return repository.commit("main", "message")


def output(lake, repository):
    run = record.list_runs(lake.database, repository.record.id)[0]
    return record.hooks_of(lake.database, run.id)[0].output


def rows(tmp_path, amounts):
    file = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"id": list(range(len(amounts))), "amount": amounts}), file)
    return file.read_bytes()


SCRIPT = b"""
import json, os
print(sorted(os.listdir('data')), open('data/in/a').read(), json.load(open('event.json'))['event_type'])
print(os.environ['MINE'], os.access('data/in/a', os.W_OK))
"""


def test_a_command_gets_what_it_asks_for(lake, sales):
    sales.put("main", "in/a", b"content")
    sales.put("main", "other", b"x")
    sales.put("main", "scripts/see.py", SCRIPT)
    commit(
        sales,
        "command",
        {
            "command": ["python", "data/scripts/see.py"],
            "paths": ["in/", "scripts/see.py"],
            "env": {"MINE": "m"},
        },
    )
    assert output(lake, sales) == "['in', 'scripts'] content pre-commit\nm False\n"


@pytest.mark.parametrize(
    ("properties", "said"),
    [
        ({"command": ["sh", "-c", "echo no amount; exit 4"]}, "(?s)no amount.*exit code 4"),
        ({"command": ["sleep", "20"], "timeout": "300ms"}, "time was up"),
        (
            {"command": ["python", "-c", "bytearray(1 << 30)"], "memory_mb": 256},
            "had 256 MB of address space, `memory_mb` gives it more",
        ),
        ({"command": ["true"], "environment": "/usr"}, "no Python environment '/usr' for hooks"),
        ({"command": ["true"], "paths": ["not/there"]}, "not/there"),
        ({"command": ["true"], "paths": ["nothing/"]}, "nothing/"),
        ({"command": ["true"], "paths": ["up/"]}, "cannot be a file's name"),
    ],
)
def test_a_command_refuses(sales, properties, said):
    sales.put("main", "up/../../x", b"x")
    with pytest.raises(Vetoed, match=said):
        commit(sales, "command", properties)


def test_checks_are_carried_out_on_the_commit(lake, sales, tmp_path):
    check = {"data_set": "orders", "type": "range", "column": "amount", "min": 0}
    properties = {"data_sets": {"orders": "tables/orders/"}, "checks": [check]}
    sales.put("main", "tables/orders/part-0.parquet", rows(tmp_path, [1, -5]))
    with pytest.raises(Vetoed, match=r"FAILED  orders: .*"):
        commit(sales, "check", properties)
    assert '"amount": -5' in output(lake, sales)
    sales.put("main", "tables/orders/part-0.parquet", rows(tmp_path, [1, 5]))
    commit(sales, "check", properties)
    assert output(lake, sales).startswith("passed  orders")


def test_checks_may_be_in_a_file_and_only_warn(sales, tmp_path):
    sales.put("main", "orders/part-0.parquet", rows(tmp_path, [1, -5]))
    text = "checks:\n- {data_set: orders, type: range, column: amount, min: 0, severity: warn}\n"
    sales.put("main", "quality.yaml", text.encode())
    commit(sales, "check", {"file": "quality.yaml"})
    sales.put("main", "quality.yaml", text.replace("range", "rnge").encode())
    with pytest.raises(Vetoed, match=r"quality\.yaml:2"):
        commit(sales, "check", {"file": "quality.yaml"})


@pytest.mark.parametrize(
    ("properties", "said"),
    [
        ({}, "needs 'checks', 'file' or 'suite'"),
        (
            {"checks": [{"data_set": "nothing", "type": "row_count", "min": 1}]},
            "there is no data set 'nothing'",
        ),
    ],
)
def test_checks_that_cannot_be_carried_out_refuse(sales, properties, said):
    with pytest.raises(Vetoed, match=said):
        commit(sales, "check", properties)


SUITE = b"""
import pyarrow.parquet as pq
amounts = pq.read_table('data/orders')['amount'].to_pylist()
print('least', min(amounts))
assert min(amounts) >= 0
"""


def test_a_suite_fails_by_its_exit_code(lake, sales, tmp_path):
    sales.put("main", "suite.py", SUITE)
    sales.put("main", "orders/part-0.parquet", rows(tmp_path, [1, -5]))
    properties = {"suite": "suite.py", "data_sets": {"orders": "orders/"}}
    with pytest.raises(Vetoed, match="least -5"):
        commit(sales, "check", properties)
    sales.put("main", "orders/part-0.parquet", rows(tmp_path, [1, 5]))
    commit(sales, "check", properties)
    assert output(lake, sales) == "least 1\n"
