"""The generated workflows: sound YAML of the shape the services want; and their steps, run as they stand."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from tests.control.released import MESH, sales_at
from tests.pipeline.conftest import FEATURES, ROWS, Mesh

from tulle.cli.main import cli
from tulle.spec.workflow import Pipeline, github, gitlab

MADE = Pipeline(["sales", "features"], ["sales"], "dev", "tulle==1.0.0")


def shell_of(service: str, text: str) -> dict[str, tuple[list[str], str]]:
    """Per job, the shell scripts that the service would run one after another, and where."""
    document: dict[Any, Any] = yaml.safe_load(text)
    found = {}
    if service == "github":
        for name, job in document["jobs"].items():
            where = job.get("defaults", {}).get("run", {}).get("working-directory", ".")
            found[name] = [step["run"] for step in job["steps"] if "run" in step], where
    else:
        for name in document["stages"]:
            job = document[name]
            scripts = ["\n".join(job["script"])]
            scripts += ["\n".join(job["after_script"])] if "after_script" in job else []
            found[name] = scripts, "."
    return found


def folder_of(tmp_path: Path, below: str = "") -> Path:
    """A fresh checkout with a mesh in it."""
    root = tmp_path / "checkout"
    mesh = Mesh(root / below)
    mesh.write("mesh.yaml", MESH)
    mesh.sales("product.yaml", sales_at("1.0.0"))
    mesh.sales("data/sales.csv", ROWS)
    mesh.sales("transform/sales.sql", "SELECT id, customer, day, amount FROM till_rows\n")
    mesh.features("product.yaml", FEATURES)
    mesh.features(
        "transform/features.sql", "SELECT customer, sum(amount) AS total FROM sold GROUP BY customer\n"
    )
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    return root


def test_github_gets_what_it_wants() -> None:
    document = yaml.safe_load(github(MADE))
    assert document[True] == {"pull_request": None, "push": {"branches": ["main"]}}  # YAML 1.1 reads `on` so
    assert document["permissions"] == {"contents": "read"}
    assert set(document["jobs"]) == {"change", "release"}
    for job in document["jobs"].values():
        assert job["runs-on"]
        assert all(("uses" in step) != ("run" in step) for step in job["steps"])
    assert document["jobs"]["release"]["needs"] == "change"
    assert document["jobs"]["release"]["steps"][0]["with"]["clean"] is False


def test_gitlab_gets_what_it_wants() -> None:
    document = yaml.safe_load(gitlab(MADE))
    assert document["stages"] == ["change", "release"]
    for name in ("change", "release"):
        assert document[name]["stage"] == name
        assert all(isinstance(line, str) for line in document[name]["script"])
        assert document[name]["rules"]


@pytest.mark.parametrize("make", [github, gitlab])
def test_only_products_with_a_version_are_released_upstream_first(make: Any) -> None:
    text = make(MADE)
    assert "tulle release sales --environment dev --by ci" in text
    assert "tulle release features" not in text
    assert "tulle run sales features --environment dev" in text
    assert yaml.safe_load(make(Pipeline([], [], "prod", "tulle")))


@pytest.mark.parametrize("package", ["tulle'; rm -rf /", "a: b #", 'x"y', "${HOME}"])
@pytest.mark.parametrize(("service", "make"), [("github", github), ("gitlab", gitlab)])
def test_what_is_installed_is_one_word_of_the_shell(service: str, make: Any, package: str) -> None:
    scripts, _ = shell_of(service, make(Pipeline(["sales"], [], "prod", package)))["change"]
    (line,) = [line for script in scripts for line in script.splitlines() if "pip install" in line]
    said = line.replace("python -m pip install", "printf %s", 1)
    assert subprocess.run(["bash", "-c", said], capture_output=True, text=True, check=True).stdout == package


def test_it_is_written_where_the_service_looks_and_not_over_another(tmp_path: Path) -> None:
    root = folder_of(tmp_path, "meshes/shop")
    words = ["--mesh", str(root / "meshes/shop"), "ci", "github", "--write"]
    assert CliRunner().invoke(cli, words, catch_exceptions=False).exit_code == 0
    target = root / ".github/workflows/tulle.yml"
    assert (
        yaml.safe_load(target.read_text())["jobs"]["change"]["defaults"]["run"]["working-directory"]
        == "meshes/shop"
    )
    assert CliRunner().invoke(cli, words).exception is None
    target.write_text("name: mine\n")
    assert "exists and is another one" in str(CliRunner().invoke(cli, words).exception)
    assert CliRunner().invoke(cli, [*words, "--force"]).exception is None


def test_a_folder_without_a_mesh_has_no_workflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    refused = CliRunner().invoke(cli, ["ci", "github", "--write"]).exception
    assert "there is no mesh.yaml in" in str(refused)
    assert "tulle init" in str(getattr(refused, "hint", ""))
    assert list(tmp_path.iterdir()) == []


def test_gitlab_runs_the_lines_that_github_runs() -> None:
    """Line by line, so that the test which runs GitHub's is about both; only annotations of problems differ."""
    theirs, ours = shell_of("github", github(MADE)), shell_of("gitlab", gitlab(MADE))
    for job, (scripts, _) in theirs.items():
        lines = [line for script in scripts for line in script.splitlines()]
        said = [line for script in ours[job][0] for line in script.splitlines()]
        assert [line.replace(" --format github", "") for line in lines] == said


@pytest.mark.system
@pytest.mark.timeout(600)
def test_every_step_passes_in_a_fresh_checkout(tmp_path: Path) -> None:
    """The shell lines as the service runs them: bash that stops at the first failure, one shell a step."""
    service, below = "github", "meshes/shop"
    root = folder_of(tmp_path, below)
    text = (
        CliRunner().invoke(cli, ["--mesh", str(root / below), "ci", service], catch_exceptions=False).output
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TULLE_")} | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PIP_NO_INDEX": "1",  # this very version is installed already
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PREVIEW": "change-4711",
    }
    told = ""
    for job, (scripts, where) in shell_of(service, text).items():
        if job == "release":
            shutil.rmtree(root / below / ".tulle")  # another machine
        for script in scripts:
            done = subprocess.run(
                ["bash", "-e", "-o", "pipefail", "-c", script],
                cwd=root / where,
                env=environment,
                capture_output=True,
                text=True,
                timeout=300,
                check=False,
            )
            assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
            told += done.stdout
    assert "preview 'change-4711' of 'features' is gone" in told
    assert "sales 1.0.0 is released" in told
