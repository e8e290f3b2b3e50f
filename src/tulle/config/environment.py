"""Environments: what each is bound to, in which order releases go, and how mesh.yaml says them.

Knows no product and no deployment.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tulle.config.reading import demand_one_of, expect, known_items, setting, texts
from tulle.errors import Invalid, did_you_mean

_ENVIRONMENT = re.compile(r"(?!(?:run|ingest|preview)-)[a-z0-9]+(?:[-_][a-z0-9]+){0,8}")
_LONGEST_ENVIRONMENT = 63  # characters: it is a part of addresses and of file names
STAGES = ("development", "test", "production")
TEST_QUERIES = ("tell", "rollback", "skip")


@dataclass(frozen=True, slots=True)
class Environment:
    """A long-lived branch of every product's repository, and what runs on it are bound to."""

    name: str = setting("", "what people call it")
    branch: str = setting("", "the branch of every repository that it is; empty means its name")
    after: str = setting("", "a release must have been in that environment before it is promoted to this one")
    approvers: tuple[str, ...] = setting(
        (), "who may approve that a release is promoted to it, or a service deployed"
    )
    approvals: int = setting(-1, "how many of them must; by default one where approvers are named, else none")
    fallback: str = setting(
        "", "the environment whose data of other products is read where this one has none"
    )
    connections: str = setting("", "the environment whose connections its runs use; empty means its own")
    deployers: tuple[str, ...] = setting((), "who may deploy services to it; empty: everybody")
    before_deploy: tuple[str, ...] = setting((), "addresses that are asked first; one that refuses stops it")
    after_deploy: tuple[str, ...] = setting((), "addresses that are told when a service answers anew")
    schedules: bool = setting(False, "whether the clock and the age of data start runs in it")
    stage: str = setting("", "what it is for; pages and commands show it")
    test_queries: str = setting(
        "tell",
        "what test queries that fail after a deployment lead to: it is told, or what answered before answers again "
        "(rollback); with skip none are asked",
    )


PRODUCTION = Environment("prod", "main", approvals=0, connections="prod", schedules=True, stage="production")


def environments(name: str, value: Any) -> dict[str, Environment]:
    """Those that mesh.yaml names, and production, which is there in any case. Invalid."""
    if not isinstance(value, Mapping):
        raise Invalid(f"mesh.yaml: '{name}' must map names to what each environment is bound to")
    found = {key: _environment(f"{name}.{key}", key, item) for key, item in value.items()}
    if not any(environment.branch == PRODUCTION.branch for environment in found.values()):
        if PRODUCTION.name in found:
            raise Invalid(
                f"mesh.yaml: '{name}.{PRODUCTION.name}' has the branch '{found[PRODUCTION.name].branch}', "
                "and no environment has 'main', on which consumers read",
                hint=f"leave out its branch, or give 'main' to another environment than '{PRODUCTION.name}'",
            )
        found[PRODUCTION.name] = PRODUCTION
    branches: dict[str, str] = {}
    for key, environment in found.items():
        if environment.branch in branches:
            raise Invalid(
                f"mesh.yaml: '{name}.{key}' has the branch '{environment.branch}' of "
                f"'{branches[environment.branch]}'; give each environment its own"
            )
        branches[environment.branch] = key
        for what in ("after", "fallback", "connections"):
            other = getattr(environment, what)
            if other and other not in found:
                raise Invalid(
                    f"mesh.yaml: '{name}.{key}.{what}' is '{other}', which is no environment",
                    hint=did_you_mean(other, found),
                )
        seen = [key]
        while seen[-1] in found and (before := found[seen[-1]].after):
            if before in seen:
                raise Invalid(
                    f"mesh.yaml: '{name}.{key}.after' leads in a circle: {' → '.join([*seen, before])}"
                )
            seen.append(before)
    return found


def _environment(path: str, name: Any, value: Any) -> Environment:
    if not isinstance(name, str) or not _ENVIRONMENT.fullmatch(name) or len(name) > _LONGEST_ENVIRONMENT:
        raise Invalid(
            f"mesh.yaml: '{path[:200]}' is no name of an environment",
            hint=f"at most {_LONGEST_ENVIRONMENT} lower-case letters, digits and single hyphens; "
            "run, ingest and preview begin other branches",
        )
    if value is not None and not isinstance(value, Mapping):
        raise Invalid(f"mesh.yaml: '{path}' must be a mapping of bindings")
    given: dict[str, Any] = {}
    for key, item, default in known_items(path, value or {}, Environment, without="name"):
        if key in {"approvers", "deployers", "before_deploy", "after_deploy"}:
            given[key] = texts(f"{path}.{key}", item)
            continue
        expect(f"{path}.{key}", item, type(default))
        given[key] = item
    is_production = name == PRODUCTION.name
    branch = given.get("branch") or (PRODUCTION.branch if is_production else name)
    if branch != PRODUCTION.branch and not _ENVIRONMENT.fullmatch(branch):
        raise Invalid(
            f"mesh.yaml: '{path}.branch' is '{branch}', which is no name for an environment's branch",
            hint="lower-case letters, digits and single hyphens; run, ingest and preview begin other branches",
        )
    for key, choices in (("stage", STAGES), ("test_queries", TEST_QUERIES)):
        demand_one_of(f"{path}.{key}", given.get(key), choices)
    approvers = given.get("approvers", ())
    approvals = given.get("approvals", 1 if approvers else 0)
    if not 0 <= approvals <= len(set(approvers)):
        raise Invalid(
            f"mesh.yaml: '{path}.approvals' is {approvals}, and {len(set(approvers))} people may approve",
            hint="name as many under 'approvers' at least",
        )
    for key in ("before_deploy", "after_deploy"):
        for url in given.get(key, ()):
            if not url.startswith(("https://", "http://")) or "@" in url:
                raise Invalid(
                    f"mesh.yaml: '{path}.{key}' has '{url}', which is no plain web address",
                    hint="https://… without a user name; `hook_addresses` opens private ones",
                )
    is_main = branch == PRODUCTION.branch
    defaults = {
        "schedules": is_main,
        "stage": PRODUCTION.stage if is_main else "",
        # Who says so wants more than a word; a mesh that says nothing goes on as it did.
        "test_queries": "rollback" if given.get("stage") == PRODUCTION.stage else PRODUCTION.test_queries,
    }
    rest = {"branch": branch, "approvals": approvals, "connections": given.get("connections") or name}
    return Environment(**{"name": name, **defaults, **given, **rest})
