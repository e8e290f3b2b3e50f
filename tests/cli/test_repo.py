"""`tulle repo` and `tulle user` as a person types them, on a mesh that is not up."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from tulle.cli.connect import key_of
from tulle.cli.main import cli
from tulle.errors import AlreadyExists, Conflict, Denied, Invalid, NotFound
from tulle.spec.skeleton import mesh_files

Tulle = Callable[..., Result]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mesh")
    for path, text in mesh_files("shop").items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    settings = folder / "mesh.yaml"
    settings.write_text(settings.read_text() + f'\nobject_stores: ["local://{folder}/outside/"]\n')
    (folder / "outside" / "in").mkdir(parents=True)
    (folder / "outside" / "in" / "x.csv").write_text("a,b\n1,2\n")
    return folder


@pytest.fixture
def tulle(folder: Path) -> Tulle:
    runner = CliRunner()

    def run(*args: str, input: str | None = None) -> Result:  # noqa: A002  click's word
        done = runner.invoke(cli, ["--mesh", str(folder), *args], input=input)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done

    return run


@pytest.fixture
def asked(tulle: Tulle) -> Callable[..., Any]:
    return lambda *args: json.loads(tulle(*args, "--json").stdout)


def test_a_repository_from_nothing_to_a_merge(tulle: Tulle, asked: Callable[..., Any], folder: Path) -> None:
    assert "repository sales in local://" in tulle("repo", "create", "sales").output
    assert [r["id"] for r in asked("repo", "list")] == ["sales"]
    file = folder / "up" / "deep" / "a.txt"
    file.parent.mkdir(parents=True)
    file.write_text("hello")
    assert "staged on main" in tulle("repo", "put", "sales", "main", str(folder / "up"), "docs").output
    assert [o["path"] for o in asked("repo", "ls", "sales", "main", "-r")] == ["docs/deep/a.txt"]
    assert tulle("repo", "cat", "sales", "main", "docs/deep/a.txt").output == "hello"
    assert "docs/deep/a.txt" in tulle("diff", "sales", "main").output
    assert tulle("repo", "commit", "sales", "main", "-m", "docs", "--meta", "k=v").exit_code == 0
    tulle("branch", "create", "sales", "try")
    tulle("repo", "mv", "sales", "try", "docs/deep/a.txt", "docs/b.txt")
    tulle("repo", "cp", "sales", "try", "docs/b.txt", "docs/c.txt")
    tulle("repo", "commit", "sales", "try", "-m", "moved")
    assert "- docs/deep/a.txt" in tulle("repo", "diff", "sales", "main", "try").output
    assert "no conflict" in tulle("repo", "conflicts", "sales", "try", "main").output
    assert asked("merge", "sales", "try", "main", "--ff", "only")["changed"]
    assert "already has everything" in tulle("merge", "sales", "try", "main").output
    log = asked("log", "sales", "--prefix", "docs/deep/")
    assert [c["message"] for c in log] == ["moved", "docs"]
    assert log[1]["metadata"] == {"k": "v"}
    into = folder / "got.txt"
    tulle("repo", "get", "sales", "main", "docs/b.txt", str(into))
    assert into.read_text() == "hello"
    tulle("repo", "rm", "sales", "main", "docs/", "-r")
    assert "- docs/b.txt" in tulle("repo", "diff", "sales", "main").output
    tulle("repo", "reset", "sales", "main")
    tulle("repo", "amend", "sales", "main", "-m", "moved, better")
    assert asked("log", "sales")[0]["message"] == "moved, better"
    tulle("repo", "revert", "sales", "main", "main")
    assert "docs/deep/a.txt" in tulle("repo", "ls", "sales", "main", "-r").output
    tulle("repo", "tag", "create", "sales", "v1.0")
    tulle("repo", "reset", "sales", "main", "--to", "main~1")
    assert [m["operation"] for m in asked("repo", "reflog", "sales")][:2] == ["hard reset", "revert"]
    assert [t["name"] for t in asked("repo", "tag", "list", "sales")] == ["v1.0"]


def test_conflicts_are_named_and_settled(tulle: Tulle, asked: Callable[..., Any], folder: Path) -> None:
    tulle("repo", "create", "torn")
    tulle("branch", "create", "torn", "try")
    for branch in ("main", "try"):
        (folder / "same.txt").write_text(branch)
        tulle("repo", "put", "torn", branch, str(folder / "same.txt"))
        tulle("repo", "commit", "torn", branch, "-m", branch)
    with pytest.raises(Conflict) as refused:
        tulle("merge", "torn", "try", "main")
    assert [problem.message for problem in refused.value.problems] == ["same.txt"]
    tulle("merge", "torn", "try", "main", "--choose", "same.txt=source")
    assert tulle("repo", "cat", "torn", "main", "same.txt").output == "try"


def test_import_export_collection_and_check(tulle: Tulle, asked: Callable[..., Any], folder: Path) -> None:
    tulle("repo", "create", "flows")
    said = tulle("repo", "import", "flows", "main", f"local://{folder}/outside/in/", "raw/").output
    assert "1 objects" in said
    assert tulle("repo", "cat", "flows", "main", "raw/x.csv").output == "a,b\n1,2\n"
    with pytest.raises(Denied, match="not among the places"):
        tulle("repo", "import", "flows", "main", "local:///etc/", "etc/")
    assert "copied" in tulle("repo", "export", "flows", "main", f"local://{folder}/outside/out").output
    assert (folder / "outside" / "out" / "raw" / "x.csv").read_text() == "a,b\n1,2\n"
    assert "commits kept" in tulle("repo", "gc", "run", "flows", "--dry-run").output
    tulle("repo", "gc", "rules", "flows", "--days", "7", "--branch", "main=30")
    assert asked("repo", "gc", "rules", "flows")["branches"] == [{"branch_id": "main", "retention_days": 30}]
    tulle("repo", "gc", "rules", "flows", "--remove")
    assert "everything that was committed is kept" in tulle("repo", "gc", "rules", "flows").output
    assert tulle("repo", "verify", "flows", "--data").exit_code == 0


def test_branches_that_failed_runs_left(tulle: Tulle, asked: Callable[..., Any], folder: Path) -> None:
    tulle("repo", "create", "littered")
    for name in ("run-1", "run-2", "run-3"):
        tulle("branch", "create", "littered", name)
    with sqlite3.connect(folder / ".tulle" / "state.db") as database:
        database.execute("UPDATE lake_reflog SET at = at - 691200 WHERE branch IN ('run-1', 'run-2')")
    database.close()
    tulle("repo", "pull", "create", "littered", "run-2", "main", "-t", "please")
    listed = {branch["id"]: branch["kept"] for branch in asked("branch", "stale", "littered")}
    assert listed.pop("run-2").startswith("pull request")
    assert listed == {"run-1": ""}
    assert "no stale branches" in tulle("branch", "stale", "littered", "--for", "2w").output
    said = tulle("repo", "branch", "stale", "littered", "--for", "1w", "--delete").output
    assert re.search(r"run-1, on [0-9a-f]{12}: removed", said)
    assert re.search(r"run-2, on [0-9a-f]{12}: left, pull request", said)
    assert [b["name"] for b in asked("branch", "list", "littered")] == ["main", "run-2", "run-3"]
    assert "run-2" in tulle("branch", "stale", "littered").output
    assert tulle("branch", "stale", "littered", "--for", "soon").exit_code == 2


def test_what_deleted_repositories_left(tulle: Tulle, asked: Callable[..., Any], folder: Path) -> None:
    tulle("repo", "create", "short-lived")
    file = folder / "short.txt"
    file.write_text("hello")
    tulle("repo", "put", "short-lived", "main", str(file))
    tulle("repo", "commit", "short-lived", "main", "-m", "x")
    assert "gc --deleted" in tulle("repo", "delete", "short-lived", "--yes").output
    data = folder / ".tulle" / "objects"
    kept = [path for path in data.glob("short-lived-*/**/*") if path.is_file()]
    assert kept
    old = time.time() - 3 * 86_400
    for path in kept:
        os.utime(path, (old, old))
    said = tulle("repo", "gc", "--deleted", "--dry-run").output
    assert "waiting: 1 data, 5 bytes" in said
    assert "waiting: 1 data" in tulle("repo", "gc", "--deleted").output  # removed by one of another day
    assert all(path.exists() for path in kept)
    report = asked("repo", "gc", "--deleted")
    assert (report["status"], report["removed"], report["left"]) == ("done", {}, {})
    assert "rules" in tulle("repo", "gc").output
    assert tulle("repo", "gc", "--dry-run").exit_code == 2
    assert tulle("repo", "gc", "--deleted", "run", "sales").exit_code == 2


def test_settings_and_pull_requests(tulle: Tulle, asked: Callable[..., Any], folder: Path) -> None:
    tulle("repo", "create", "asked")
    (folder / "p.txt").write_text("p")
    tulle("branch", "create", "asked", "try")
    tulle("repo", "protect", "asked", "main")
    with pytest.raises(Denied, match="protected"):
        tulle("repo", "put", "asked", "main", str(folder / "p.txt"))
    tulle("repo", "put", "asked", "try", str(folder / "p.txt"))
    tulle("repo", "commit", "asked", "try", "-m", "p")
    assert "pull request" in tulle("repo", "pull", "create", "asked", "try", "-t", "Take p").output
    (pull,) = asked("repo", "pull", "list", "asked")
    assert "+ p.txt" in tulle("repo", "pull", "show", "asked", pull["id"]).output
    tulle("repo", "pull", "merge", "asked", pull["id"])
    assert asked("repo", "pull", "list", "asked") == []
    tulle("repo", "quota", "asked", "--max-bytes", "1")
    assert "1 of 1 bytes" in tulle("repo", "quota", "asked").output
    tulle("repo", "quota", "asked", "--max-bytes", "-1")
    assert "no quota" in tulle("repo", "quota", "asked").output
    tulle("repo", "read-only", "asked", "on")
    assert asked("repo", "show", "asked")["read_only"]
    tulle("repo", "read-only", "asked", "off")
    assert tulle("repo", "delete", "asked", input="n\n").exit_code != 0
    tulle("repo", "delete", "asked", "--yes")
    with pytest.raises(NotFound):
        tulle("repo", "show", "asked")


def test_a_hook_that_refuses_is_read_with_its_output(
    tulle: Tulle, asked: Callable[..., Any], folder: Path
) -> None:
    tulle("repo", "create", "watched")
    action = folder / "action.yaml"
    action.write_text(
        "name: refuse\non: {pre-commit: {branches: [main]}}\n"
        "hooks: [{id: no_way, type: webhook, properties: {url: 'http://127.0.0.1:9/'}}]\n"
    )
    assert "action 'refuse' with 1 hook(s)" in tulle("repo", "hooks", "validate", str(action)).output
    tulle("repo", "put", "watched", "main", str(action), "_lakefs_actions/action.yaml")
    with pytest.raises(Exception, match="no_way") as refused:
        tulle("repo", "commit", "watched", "main", "-m", "x")
    assert "127.0.0.1" in str(refused.value)
    (run,) = asked("repo", "hooks", "runs", "watched")
    assert run["status"] == "failed"
    assert "no_way" in tulle("repo", "hooks", "runs", "watched", run["run_id"]).output
    action.write_text("name: [")
    with pytest.raises(Invalid):
        tulle("repo", "hooks", "validate", str(action))


def test_users_keys_policies_and_the_trail(tulle: Tulle, asked: Callable[..., Any], folder: Path) -> None:
    said = tulle("user", "create", "ann", "--group", "Developers").output
    assert "shown once" in said
    (ann,) = (one for one in asked("user", "list") if one["id"] == "ann")
    assert ann["groups"] == ["Developers"]
    rules = folder / "rules.json"
    rules.write_text('[{"effect": "allow", "action": ["fs:Read*"], "resource": "*"}]')
    assert json.loads(tulle("user", "policy", "reads", "--file", str(rules), "--attach", "ann").output)
    tulle("user", "group", "ann", "Developers", "--remove")
    tulle("user", "key", "ann", "--revoke", ann["keys"][0])
    assert ann["keys"][0] not in str(asked("user", "list"))
    kinds = [entry["kind"] for entry in asked("audit")]
    assert {"access.user_created", "access.key_deleted", "access.policy_attached"} <= set(kinds)
    secret = said.split("secret:")[1].split()[0]
    assert secret not in tulle("audit", "--json").output
    assert "the trail holds" in tulle("audit", "--verify").output
    tulle("user", "delete", "ann")
    with pytest.raises(NotFound):
        tulle("user", "key", "ann")


def test_a_key_is_kept_in_a_file_of_its_own(tulle: Tulle, asked: Callable[..., Any], folder: Path) -> None:
    file = folder / "cleo.yaml"
    said = tulle("user", "create", "cleo", "--key-file", str(file)).output
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    written = yaml.safe_load(file.read_text())
    (cleo,) = (one for one in asked("user", "list") if one["id"] == "cleo")
    assert cleo["keys"] == [written["credentials"]["access_key_id"]]
    assert written["credentials"]["secret_access_key"] not in said
    assert key_of(file).startswith("Basic ")
    for words in (["key", "cleo"], ["create", "bob"]):
        with pytest.raises(AlreadyExists, match="exists already"):
            tulle("user", *words, "--key-file", str(file))
    assert {one["id"]: one["keys"] for one in asked("user", "list")}.items() >= {"cleo": cleo["keys"]}.items()
    assert "bob" not in [one["id"] for one in asked("user", "list")]
    assert yaml.safe_load(file.read_text()) == written


def test_a_user_of_no_group_is_not_half_made(tulle: Tulle, asked: Callable[..., Any], folder: Path) -> None:
    file = folder / "dora.yaml"
    with pytest.raises(NotFound, match="there is no group 'Develpers'"):
        tulle("user", "create", "dora", "--group", "Viewers", "--group", "Develpers", "--key-file", str(file))
    assert "dora" not in [one["id"] for one in asked("user", "list")]
    assert not file.exists()
