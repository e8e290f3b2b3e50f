import threading
import time

import pytest

from tulle.errors import Invalid, Vetoed
from tulle.lake.hooks import record
from tulle.lake.hooks.kind import HookKind, Outcome
from tulle.lake.hooks.run import TASK, Hooks
from tulle.lake.repository import open_lake
from tulle.state import tasks
from tulle.state.tables import lake_action_runs


class Kinds:
    """A type of hook that does what the test says for a hook's id, and notes what it was called with."""

    def __init__(self):
        self.calls = []
        self.does = {}

    def run(self, call):
        self.calls.append(call)
        done = self.does.get(call.hook, Outcome(True, f"{call.hook} ran"))
        return done(call) if callable(done) else done


@pytest.fixture
def kinds():
    return Kinds()


@pytest.fixture
def hooked(database, tmp_path, kinds):
    lake = open_lake(database, f"local://{tmp_path / 'objects'}")
    lake.hooks = Hooks(
        lake, {"probe": HookKind(kinds.run, {"type": "object"})}, retry_seconds=(0.0, 0.0), total_seconds=20
    )
    return lake


@pytest.fixture
def sales(hooked):
    return hooked.create_repository("sales")


def action(name, on, *hooks):
    lines = [f"name: {name}", "on:", *(f"  {event}:" for event in on), "hooks:"]
    for hook in hooks:
        id_, _, condition = hook.partition(" if ")
        lines.append(f"- {{id: {id_}, type: probe, if: {condition or 'success()'}}}")
    return "\n".join(lines).encode()


def put_actions(repository, **files):
    for name, text in files.items():
        repository.put("main", f"_lakefs_actions/{name}.yaml", text)


def ended(lake, repository):
    return record.list_runs(lake.database, repository.record.id)


def work(lake):
    done = 0
    while tasks.run_one(lake.database, lake.hooks.handlers(), "tests"):
        done += 1
    return done


def test_without_actions_nothing_is_recorded(hooked, sales, kinds):
    sales.put("main", "a", b"1")
    sales.commit("main", "one")
    assert (ended(hooked, sales), kinds.calls, work(hooked)) == ([], [], 0)


def test_a_refusal_vetoes_and_its_output_can_be_read(hooked, sales, kinds):
    put_actions(sales, a=action("guard", ["pre-commit"], "one", "two", "three if failure()", "four if true"))
    kinds.does["one"] = Outcome(False, "column 'amount' is missing\nmore")
    before = sales.branch("main").commit_id
    with pytest.raises(
        Vetoed, match=r"(?s)'one' of action 'guard' \(run .*column 'amount' is missing"
    ) as refused:
        sales.commit("main", "adds actions")
    assert sales.branch("main").commit_id == before
    (run,) = ended(hooked, sales)
    assert run.id in refused.value.message
    assert (run.status, run.event, run.branch) == ("failed", "pre-commit", "main")
    hooks = record.hooks_of(hooked.database, run.id)
    assert [(hook.id, hook.hook, hook.status) for hook in hooks] == [
        ("0000_0000", "one", "failed"),
        ("0000_0001", "two", "skipped"),
        ("0000_0002", "three", "completed"),
        ("0000_0003", "four", "completed"),
    ]
    assert hooks[0].output == "column 'amount' is missing\nmore"
    assert [call.hook for call in kinds.calls] == ["one", "three", "four"]


def test_the_commit_can_be_read_before_it_is_published(hooked, sales, kinds):
    put_actions(sales, a=action("guard", ["pre-commit"], "reads"))
    sales.put("main", "data", b"content")
    kinds.does["reads"] = lambda call: Outcome(call.repository.get(call.ref, "data") == b"content", "")
    commit = sales.commit("main", "one")
    payload = kinds.calls[0].payload()
    assert payload["commit_id"] == commit.id
    assert (payload["event_type"], payload["branch_id"], payload["repository_id"]) == (
        "pre-commit",
        "main",
        "sales",
    )
    assert (payload["action_name"], payload["hook_id"]) == ("guard", "reads")


def test_unusable_files_veto_with_their_place(sales):
    put_actions(sales, broken=b"name: x\non: {pre-comit: }\nhooks: []\n")
    with pytest.raises(Vetoed) as refused:
        sales.commit("main", "one")
    assert "_lakefs_actions/broken.yaml:2" in "\n".join(map(str, refused.value.problems))
    put_actions(sales, broken=action("mended", ["pre-commit"], "one"))
    sales.commit("main", "mended")


def test_actions_run_side_by_side(sales, kinds):
    met = threading.Barrier(2, timeout=10)

    def meet(call):
        met.wait()
        return Outcome(True, "")

    kinds.does.update(one=meet, two=meet)
    put_actions(sales, a=action("a", ["pre-commit"], "one"), b=action("b", ["pre-commit"], "two"))
    sales.commit("main", "both")
    assert len(kinds.calls) == 2


def test_a_hook_that_does_not_end_is_left_alone(database, tmp_path, kinds, monkeypatch):
    monkeypatch.setattr("tulle.lake.hooks.run.GRACE_SECONDS", 0.1)
    lake = open_lake(database, f"local://{tmp_path / 'objects'}")
    lake.hooks = Hooks(lake, {"probe": HookKind(kinds.run, {"type": "object"})}, total_seconds=0.3)
    repository = lake.create_repository("slow")
    release = threading.Event()
    kinds.does["one"] = lambda call: Outcome(release.wait(10), "")
    put_actions(repository, a=action("a", ["pre-commit"], "one"))
    began = time.monotonic()
    with pytest.raises(Vetoed, match="did not end in time"):
        repository.commit("main", "x")
    assert time.monotonic() - began < 8
    release.set()


def test_a_defect_in_a_type_refuses(sales, kinds):
    def defect(call):
        raise KeyError("secret detail")

    kinds.does["one"] = defect
    put_actions(sales, a=action("a", ["pre-commit"], "one"))
    with pytest.raises(Vetoed, match="a defect in tulle: KeyError"):
        sales.commit("main", "x")


def test_hooks_after_the_fact_run_later_and_once(hooked, sales, kinds):
    put_actions(sales, a=action("tell", ["post-commit"], "one", "two"))
    commit = sales.commit("main", "x")
    assert kinds.calls == []
    assert work(hooked) == 1
    assert [call.hook for call in kinds.calls] == ["one", "two"]
    (run,) = ended(hooked, sales)
    assert (run.status, run.commit_id, run.event) == ("completed", commit.id, "post-commit")
    assert work(hooked) == 0


def test_only_what_failed_is_tried_again(hooked, sales, kinds):
    answers = iter([Outcome(False, "no"), Outcome(True, "yes")])
    kinds.does["two"] = lambda call: next(answers)
    put_actions(sales, a=action("tell", ["post-commit"], "one", "two", "three"))
    sales.commit("main", "x")
    assert work(hooked) == 2
    assert [call.hook for call in kinds.calls] == ["one", "two", "two", "three"]
    (run,) = ended(hooked, sales)
    assert run.status == "completed"
    assert [hook.attempts for hook in record.hooks_of(hooked.database, run.id)] == [1, 2, 1]


def test_trying_again_ends(hooked, sales, kinds):
    kinds.does["one"] = Outcome(False, "no")
    put_actions(sales, a=action("tell", ["post-commit"], "one", "two", "three if failure()"))
    commit = sales.commit("main", "x")
    assert work(hooked) == 3
    assert [call.hook for call in kinds.calls] == ["one", "one", "one", "three"]
    (run,) = ended(hooked, sales)
    assert run.status == "failed"
    assert sales.branch("main").commit_id == commit.id


def test_what_cannot_help_is_not_tried_again(hooked, sales, kinds):
    kinds.does["one"] = Outcome(False, "no", final=True)
    put_actions(sales, a=action("tell", ["post-commit"], "one"))
    sales.commit("main", "x")
    assert work(hooked) == 1
    assert len(kinds.calls) == 1


def test_a_crash_between_hooks_repeats_none_that_ended(hooked, sales, kinds):
    class Killed(BaseException):
        pass

    put_actions(sales, a=action("tell", ["post-commit"], "one", "two"))
    sales.commit("main", "x")
    task = tasks.take(hooked.database, [TASK], "a worker that dies")

    running = tasks.Running(hooked.database, task)
    real = running.report
    hold = threading.Event()
    kinds.does["two"] = lambda call: Outcome(hold.wait(5), "late")

    def dies(progress):
        real(progress)
        raise Killed

    running.report = dies
    hooked.hooks._renew = 0.2
    with pytest.raises(Killed):
        hooked.hooks.handlers()[TASK](running)
    kinds.does["two"] = Outcome(True, "now")
    hooked.hooks.handlers()[TASK](tasks.Running(hooked.database, task))
    hold.set()
    assert [call.hook for call in kinds.calls] == ["one", "two", "two"]
    (run,) = ended(hooked, sales)
    assert run.status == "completed"


def test_a_run_whose_process_died_is_marked_and_never_run_again(hooked, sales, kinds):
    with hooked.database.write() as cx:
        said = {"event_type": "pre-commit", "branch_id": "main"}
        record.begin(cx, "r1", sales.record.id, said, [("0000_0000", "a", "h")], ends_by=time.time() + 999)
    assert hooked.hooks.recover() == 0  # it is ours, and we live
    owner = record.this_process().rpartition("/")[0] + "/1.5"
    with hooked.database.write() as cx:
        cx.execute(lake_action_runs.update().values(owner=owner))
    assert hooked.hooks.recover() == 1
    (run,) = ended(hooked, sales)
    assert run.status == "failed"
    (hook,) = record.hooks_of(hooked.database, "r1")
    assert "interrupted" in hook.output
    assert (work(hooked), kinds.calls) == (0, [])


def test_every_event_is_told(hooked, sales, kinds):
    from tulle.lake.hooks.action_file import EVENTS

    put_actions(sales, a=action("all", EVENTS, "probe"))
    sales.commit("main", "actions")
    sales.create_branch("try", "main")
    sales.put("try", "x", b"1")
    first = sales.commit("try", "one")
    sales.put("try", "y", b"1")
    second = sales.commit("try", "two")
    sales.merge("try", "main")
    sales.revert("try", second.id)
    sales.create_branch("other", first.id)
    sales.cherry_pick("other", second.id)
    sales.create_tag("v1", "main")
    sales.delete_tag("v1")
    sales.delete_branch("try")
    work(hooked)
    assert {call.event.kind for call in kinds.calls} == set(EVENTS)
    merge = next(call for call in kinds.calls if call.event.kind == "pre-merge").payload()
    assert (merge["branch_id"], merge["merge_source"]) == ("main", "try")
    tag = next(call for call in kinds.calls if call.event.kind == "post-create-tag").payload()
    assert tag["tag_id"] == "v1"


def test_secrets_stay_out_of_outputs(hooked, sales, kinds, monkeypatch):
    monkeypatch.setenv("TULLE_ACTION_KEY", "hush hush")
    kinds.does["one"] = lambda call: Outcome(False, f"sent {call.properties['key']} hush+hush")
    text = action("a", ["pre-commit"], "one").replace(
        b"}", b", properties: {key: '{{ ENV.TULLE_ACTION_KEY }}'}}"
    )
    put_actions(sales, a=text)
    with pytest.raises(Vetoed, match=r"sent \*\*\* \*\*\*"):
        sales.commit("main", "x")
    assert kinds.calls[0].properties["key"] == "hush hush"


@pytest.mark.parametrize("name", ["PATH", "TULLE_ACTION_NOT_SET"])
def test_other_variables_are_refused(sales, kinds, name):
    text = action("a", ["pre-commit"], "one").replace(
        b"}", b", properties: {key: '{{ ENV.%s }}'}}" % name.encode()
    )
    put_actions(sales, a=text)
    with pytest.raises(Vetoed, match=name):
        sales.commit("main", "x")
    assert kinds.calls == []


def test_a_type_that_is_not_there_is_told(sales):
    put_actions(sales, a=action("a", ["pre-commit"], "one").replace(b"probe", b"lua"))
    with pytest.raises(Vetoed) as refused:
        sales.commit("main", "x")
    assert "no Lua here" in str(refused.value.problems[0])
    assert isinstance(refused.value, Vetoed)
    assert not isinstance(refused.value, Invalid)
