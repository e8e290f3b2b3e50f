import json
from types import SimpleNamespace

import pytest

from tulle.errors import Invalid, NotFound, Vetoed
from tulle.lake.hooks.kind import HookKind, Outcome
from tulle.lake.hooks.run import Hooks
from tulle.lake.rest.actions import ROUTES
from tulle.lake.rest.call import Call
from tulle.lake.rest.router import Router


class Access:
    """Allows all, and notes what was demanded."""

    def __init__(self):
        self.demanded = []

    def resource_repository(self, name):
        return f"arn:lakefs:fs:::repository/{name}"

    def demand(self, user, action, *resources, client):
        self.demanded.append((action, *resources))


@pytest.fixture
def get(lake):
    access = Access()

    def ask(path, query=""):
        route, parameters = Router(ROUTES).find("GET", path.encode())
        request = SimpleNamespace(raw_query=query.encode(), is_hurried=False, client="")
        return route.handler(Call(request, lake, access, "ann", parameters))

    ask.access = access
    return ask


@pytest.fixture
def sales(lake):
    def run(call):
        return Outcome(call.hook != "bad", f"{call.hook} said", final=True)

    lake.hooks = Hooks(lake, {"probe": HookKind(run, {"type": "object"})})
    repository = lake.create_repository("sales")
    for branch in ("main", "try"):
        if branch == "try":
            repository.create_branch("try")
        hooks = ["bad", "after"] if branch == "try" else ["good"]
        text = {"name": "a", "on": {"pre-commit": None}, "hooks": [{"id": h, "type": "probe"} for h in hooks]}
        repository.put(branch, "_lakefs_actions/a.yaml", json.dumps(text).encode())
        if branch == "try":
            with pytest.raises(Vetoed):
                repository.commit(branch, "x")
        else:
            repository.commit(branch, "x")
    return repository


def value(answer):
    return json.loads(answer.body)


RUNS = "/repositories/sales/actions/runs"


def test_runs_are_listed_newest_first_and_page_by_page(get, sales):
    page = value(get(RUNS))
    assert [(run["branch"], run["status"]) for run in page["results"]] == [
        ("try", "failed"),
        ("main", "completed"),
    ]
    assert set(page["results"][0]) == {
        "run_id", "branch", "start_time", "end_time", "event_type", "status", "commit_id",
    }  # fmt: skip
    first = value(get(RUNS, "amount=1"))
    assert first["pagination"]["has_more"] is True
    rest = value(get(RUNS, f"amount=1&after={first['pagination']['next_offset']}"))
    assert first["results"] + rest["results"] == page["results"]
    assert [run["branch"] for run in value(get(RUNS, "branch=main"))["results"]] == ["main"]
    head = sales.branch("main").commit_id
    assert [run["commit_id"] for run in value(get(RUNS, f"commit={head}"))["results"]] == [head]
    with pytest.raises(Invalid):
        get(RUNS, f"commit={head}&branch=main")
    assert set(get.access.demanded) == {("ci:ReadAction", "arn:lakefs:fs:::repository/sales")}


def test_a_run_its_hooks_and_their_outputs(get, sales):
    run = value(get(RUNS))["results"][0]
    assert value(get(f"{RUNS}/{run['run_id']}")) == run
    hooks = value(get(f"{RUNS}/{run['run_id']}/hooks"))["results"]
    assert [(hook["hook_id"], hook["status"]) for hook in hooks] == [("bad", "failed"), ("after", "failed")]
    assert {"hook_run_id", "action", "hook_id", "start_time", "status"} <= set(hooks[1])
    answer = get(f"{RUNS}/{run['run_id']}/hooks/{hooks[0]['hook_run_id']}/output")
    assert answer.body == b"bad said"
    assert ("content-type", "application/octet-stream") in answer.headers
    with pytest.raises(NotFound):
        get(f"{RUNS}/{run['run_id']}/hooks/0009_0000/output")
    with pytest.raises(NotFound):
        get(f"{RUNS}/nothing")
