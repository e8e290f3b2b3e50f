"""The workflow by which a CI service checks every change of a mesh's folder and releases what is merged.

Pure: what the mesh has in, the text of a YAML file out. Every step is a shell line that anybody can type: a change is
validated, planned, built and checked on previews in a mesh of its own; what is merged is applied, run and released
where the mesh's state is.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

BY = "ci"  # who asks
_PREVIEW = '"$PREVIEW"'


@dataclass(frozen=True, slots=True)
class Pipeline:
    """What a workflow is made for: products in the order they are run, and where.

    `released` are those with a version; `environment` is the first that releases go through, `folder` the mesh's
    in its Git repository (empty: its root), `package` what is installed.
    """

    products: Sequence[str]
    released: Sequence[str]
    environment: str
    package: str
    folder: str = ""


def github(made: Pipeline) -> str:
    """`.github/workflows/tulle.yml`."""
    place = (
        f"    defaults:\n      run:\n        working-directory: {json.dumps(made.folder)}\n"
        if made.folder
        else ""
    )
    checks = _steps(
        ("Install", _install(made)),
        ("Validate", ["tulle validate --format github"]),
        ("Plan", ["tulle plan"]),
        ("Build and check on previews", _build(made)),
    )
    release = _steps(
        ("Install", _install(made)),
        ("Apply", _apply()),
        ("Build and check", _run(made)),
        *([("Release", _release(made))] if made.released else []),
    )
    return f"""\
# Made by `tulle ci github`. Make it again when products come or go.
name: tulle
on:
  pull_request:
  push:
    branches: [main]
permissions:
  contents: read
jobs:
  # In a mesh of its own, which is thrown away: nothing of a change that is not merged reaches the real one.
  change:
    runs-on: ubuntu-latest
    env:
      PREVIEW: change-${{{{ github.run_id }}}}
{place}    steps:
      - uses: actions/checkout@v4
        with:
          persist-credentials: false
      - uses: actions/setup-python@v5
        with:
          python-version: "3.11"
{checks}\
      - name: Remove the previews
        if: always()
        run: |
{_lines(_remove(made), 10)}
  # On a runner of yours that keeps the mesh's state, `.tulle/`, beside what is checked out.
  release:
    needs: change
    if: github.event_name == 'push'
    runs-on: [self-hosted, tulle]
    concurrency:
      group: tulle-release
{place}    steps:
      - uses: actions/checkout@v4
        with:
          clean: false
          persist-credentials: false
{release}"""


def gitlab(made: Pipeline) -> str:
    """`.gitlab-ci.yml`."""
    enter = [f"cd {_quoted(made.folder)}"] if made.folder else []
    change = [*enter, *_install(made), "tulle validate", "tulle plan", *_build(made)]
    release = [*enter, *_install(made), *_apply(), *_run(made), *_release(made)]
    return f"""\
# Made by `tulle ci gitlab`. Make it again when products come or go.
stages: [change, release]

# In a mesh of its own, which is thrown away: nothing of a change that is not merged reaches the real one.
change:
  stage: change
  image: python:3.11
  variables:
    PREVIEW: change-$CI_PIPELINE_ID
  rules:
    - if: $CI_PIPELINE_SOURCE == "merge_request_event"
    - if: $CI_COMMIT_BRANCH == $CI_DEFAULT_BRANCH
  script:
{_items(change)}
  after_script:
{_items([*enter, *_remove(made)])}

# On a runner of yours that keeps the mesh's state, `.tulle/`, beside what is checked out.
release:
  stage: release
  tags: [tulle]
  variables:
    GIT_STRATEGY: fetch
    GIT_CLEAN_FLAGS: none
  rules:
    - if: $CI_COMMIT_BRANCH == $CI_DEFAULT_BRANCH
  resource_group: tulle-release
  script:
{_items(release)}
"""


# ── the shell lines ──────────────────────────────────────────────────────────────────────────────────────


def _install(made: Pipeline) -> list[str]:
    return [f"python -m pip install {_quoted(made.package)}"]


def _build(made: Pipeline) -> list[str]:
    """Previews of all products, run upstream first: each reads what the others made in the same preview."""
    return [
        "tulle apply",
        *(f"tulle preview create {name} {_PREVIEW} --by {BY}" for name in made.products),
        *_all(made, _PREVIEW),
    ]


def _remove(made: Pipeline) -> list[str]:
    return [
        f"tulle preview remove {name} {_PREVIEW} --by {BY} || true" for name in reversed(made.products)
    ] or ["true"]


def _apply() -> list[str]:
    return ["tulle plan", "tulle apply"]


def _run(made: Pipeline) -> list[str]:
    return _all(made, made.environment) or ["tulle status"]


def _all(made: Pipeline, environment: str) -> list[str]:
    """One run of every product; the first that fails ends it."""
    return [f"tulle run {' '.join(made.products)} --environment {environment}"] if made.products else []


def _release(made: Pipeline) -> list[str]:
    return [f"tulle release {name} --environment {made.environment} --by {BY}" for name in made.released]


# ── their YAML ───────────────────────────────────────────────────────────────────────────────────────────


def _steps(*steps: tuple[str, Sequence[str]]) -> str:
    return "".join(f"      - name: {name}\n        run: |\n{_lines(lines, 10)}\n" for name, lines in steps)


def _lines(lines: Sequence[str], indent: int) -> str:
    return "\n".join(" " * indent + line for line in lines)


def _items(lines: Sequence[str]) -> str:
    return "\n".join(f"    - {json.dumps(line, ensure_ascii=False)}" for line in lines)


def _quoted(text: str) -> str:
    """A word for the shell."""
    return "'" + text.replace("'", "'\"'\"'") + "'"
