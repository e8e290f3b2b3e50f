"""Policies of services files: told with their place where files are validated, saved and packaged; and how they travel."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests.control.logged import LoggedMesh

from tulle.control import release, service_file
from tulle.control.check_mesh import check_mesh
from tulle.control.idle_policies import IdlePolicies
from tulle.control.policy_names import PolicyNames
from tulle.control.policy_problems import demand_reached, policies_judged
from tulle.control.workspace import Workspace
from tulle.deploy.generations import managed
from tulle.errors import Invalid, TulleError
from tulle.gateway.policies.entry import Operation, Policy
from tulle.gateway.service_keys import set_access
from tulle.serving.access import parse_access
from tulle.serving.generation import Deployment
from tulle.serving.needs import Needs
from tulle.serving.traffic import single
from tulle.spec.mesh import load_settings

BAD = """
policies:
  - policy: ip-allow
    addresses: [nonsense]
  - policy: rate-limit
    limits: 5/1s
    environments: [nowhere]
"""
GOOD = """
policies:
  - policy: ip-allow
    addresses: [10.0.0.0/8]
    environments: [prod]
  - {policy: rate-limit, limits: 5/1s, operations: [{method: POST, path: /buys/predict}]}
"""


@pytest.fixture
def logged(tmp_path: Path) -> Iterator[LoggedMesh]:
    made = LoggedMesh(tmp_path)
    yield made
    made.workspace.database.close()


def add(logged: LoggedMesh, text: str) -> Path:
    file = logged.mesh.folder / "products/shop/scores/services/scores.yaml"
    file.write_text(file.read_text() + text)
    return file


def test_every_problem_is_told_where_the_mesh_is_validated(logged: LoggedMesh) -> None:
    assert check_mesh(logged.workspace).problems == ()
    lines = add(logged, BAD).read_text().splitlines()
    (problem,) = check_mesh(logged.workspace).problems
    assert "'nonsense' is no address" in problem.message
    assert problem.place is not None
    assert problem.place.file == "products/shop/scores/services/scores.yaml"
    assert "nonsense" in lines[problem.place.line - 1]


def test_environments_that_are_not_there_are_told(logged: LoggedMesh) -> None:
    add(logged, BAD.replace("nonsense", "10.0.0.1"))
    (problem,) = check_mesh(logged.workspace).problems
    assert "there is no environment 'nowhere'" in problem.message


NAMING = """
tiers: [{name: gold, limits: [5/1s]}]
policies:
  - {policy: basic-auth, groups: [Nobody], operations: [{path: /person/lookup}]}
  - {policy: quota, tiers: {gold: 5/1d, standard: 3/1d, silver: 1/1d}}
  - {policy: body-limit, max_bytes: 9, operations: [{path: /buys/predict}, {path: /by/predict}]}
"""


def test_names_that_are_not_there_are_told_with_their_line(logged: LoggedMesh) -> None:
    file = add(logged, NAMING)
    before = len(file.read_text().removesuffix(NAMING).splitlines())
    found = check_mesh(logged.workspace)
    assert [(one.place.line - before if one.place else 0, one.message) for one in found.problems] == [
        (6, "service 'scores' has no operation '/by/predict', so this is for no request that it answers"),
        (5, "there is no tier 'silver'"),
    ]
    assert [one.hint for one in found.problems] == [
        "did you mean '/buys/predict'?",
        "known: gold, standard",
    ]
    (doubt,) = found.warnings
    assert (doubt.place.line - before if doubt.place else 0, doubt.message) == (
        4,
        "there is no group 'Nobody'",
    )
    with pytest.raises(Invalid) as told:
        release.build_package(logged.workspace, "scores")
    assert told.value.problems == found.problems


def test_what_does_nothing_by_who_may_call_is_told(logged: LoggedMesh) -> None:
    file = add(logged, "policies:\n  - {policy: token-once}\n")
    text = file.read_text()
    (problem,) = check_mesh(logged.workspace).problems
    assert "'token-once' does nothing here: nobody who may call comes with a token" in problem.message
    assert problem.place is not None
    assert problem.place.line == len(text.splitlines())
    with pytest.raises(Invalid) as told:
        release.build_package(logged.workspace, "scores")
    assert told.value.problems == (problem,)
    tokens = {"jwt": {"issuer": "a", "jwks_uri": "https://a.example/keys"}}
    set_access(logged.workspace.database, "scores", parse_access(json.dumps(tokens)))
    assert check_mesh(logged.workspace).problems == ()  # there its deployment lets tokens in
    of_mesh = "policies:\n  all: {policies: [{policy: client-id}, {policy: token-once}]}\n"
    file.write_text(text.partition("policies:")[0])
    (problem,) = check_mesh(with_mesh_policies(logged, of_mesh)).problems
    assert str(problem).startswith("mesh.yaml:")
    assert "'token-once' does nothing here" in problem.message


def test_a_set_of_the_mesh_may_name_tiers_of_any_service(logged: LoggedMesh) -> None:
    workspace = with_mesh_policies(
        logged, "policies:\n  all: {policies: [{policy: quota, tiers: {gold: 5/1d, glod: 5/1d}}]}\n"
    )
    add(logged, NAMING.partition("policies:")[0])
    (problem,) = check_mesh(workspace).problems
    assert str(problem).endswith("there is no tier 'glod' (did you mean 'gold'?)")
    assert str(problem).startswith("mesh.yaml:")


def test_a_file_with_bad_policies_is_neither_saved_nor_packaged(logged: LoggedMesh) -> None:
    known = service_file.read(logged.workspace, "scores")
    with pytest.raises(Invalid) as told:
        service_file.save(logged.workspace, "scores", known.text + BAD, before=known.digest)
    assert "nonsense" in str(told.value.problems[0])
    add(logged, BAD)
    with pytest.raises(Invalid) as told:
        release.build_package(logged.workspace, "scores")
    assert "nonsense" in str(told.value.problems[0])
    declared = release.declared_service(logged.workspace, "scores")
    names, idle = PolicyNames(logged.workspace), IdlePolicies(logged.workspace)
    assert policies_judged(names, idle, declared.service, declared.product).problems


def test_a_package_brings_its_policies_along(logged: LoggedMesh) -> None:
    workspace = logged.workspace
    before = release.build_package(workspace, "scores")[0]
    add(logged, GOOD)
    package, is_new = release.build_package(workspace, "scores")
    assert is_new
    assert package.version != before.version
    limit = Policy("rate-limit", {"limits": "5/1s"}, (Operation("POST", "/buys/predict"),))
    allow = Policy("ip-allow", {"addresses": ["10.0.0.0/8"]})
    needs = Needs(policies=package.manifest.policies)
    for environment, expected in (("", (allow, limit)), ("dev", (limit,))):
        one = Deployment("scores", environment, "scores", single("v1"), None, None, "starting", "", 0.0)
        assert managed(workspace.settings, one, single("v1"), needs, 0.0).policies == expected


def with_mesh_policies(logged: LoggedMesh, text: str) -> Workspace:
    file = logged.mesh.folder / "mesh.yaml"
    file.write_text(file.read_text() + text)
    return replace(logged.workspace, settings=load_settings(logged.mesh.folder, {}))


def test_policies_of_the_mesh_are_validated_with_it(logged: LoggedMesh) -> None:
    workspace = with_mesh_policies(
        logged,
        """
policies:
  walls:
    mandatory: true
    environments: [prd]
    policies:
      - {policy: ip-deny, addresses: [192.0.2.7]}
      - {policy: rate-limit, limits: often}
""",
    )
    add(logged, "policies: [{policy: without, sets: [walls, wals]}]\n")
    told = [str(one) for one in check_mesh(workspace).problems]
    assert any("scores.yaml" in one and "'walls' of the mesh are mandatory" in one for one in told)
    assert any("no set of policies 'wals' (did you mean 'walls'" in one for one in told)
    assert any(one.startswith("mesh.yaml:") and "'often' is not understood" in one for one in told)
    assert any("there is no environment 'prd' (did you mean 'prod'" in one for one in told)
    assert len(told) == 4


def test_what_cannot_be_joined_with_the_sets_is_told_before_it_is_applied(logged: LoggedMesh) -> None:
    told = (
        "policies:\n  keep: {services: [scores, mix], policies: [{policy: caching, ttl: 5, shared: true}]}\n"
    )
    workspace = with_mesh_policies(logged, told)
    hiding = "policies: [{policy: redaction, fields: [{path: $.ssn, action: remove}]}]"
    add(logged, f"{hiding}\n")
    api = "api: mix\nversions:\n- {version: v1, upstream: 'https://mix.example.com', undeclared: allow}\n"
    api += f"- {{version: v2, upstream: 'https://mix.example.com', undeclared: allow, {hiding}}}\n"
    file = logged.mesh.folder / "products/shop/scores/apis/mix.yaml"
    file.parent.mkdir()
    file.write_text(api)
    told = [str(one) for one in check_mesh(workspace).problems]
    assert len(told) == 2, told
    assert "services/scores.yaml" in told[0]
    assert "mix.yaml:4" in told[1]
    for one in told:
        assert (
            "cannot be joined with set 'keep' of mesh.yaml in 'prod': 'redaction' stands after 'caching'"
            in one
        )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("policies: []\n", "must map names"),
        ("policies: {A: {policies: [{policy: cors}]}}\n", "no name of a set"),
        ("policies: {a: {polices: []}}\n", "unknown setting 'polices'"),
        ("policies: {a: {policies: {}}}\n", "must be a list of policies"),
        ("policies: {a: {mandatory: true}}\n", "has no policies"),
        ("policies: {a: {mandatory: 3, policies: [{policy: cors}]}}\n", "mandatory"),
    ],
)
def test_what_is_no_set_is_told_with_the_settings(logged: LoggedMesh, text: str, said: str) -> None:
    with pytest.raises(Invalid) as told:
        with_mesh_policies(logged, text)
    assert said in str(told.value.problems[0])


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("http://169.254.169.254", "without TLS"),
        ("https://169.254.169.254", "not a public address"),
        ("https://localhost:8080", "not a public address"),
        ("http://shadow.example.com", "without TLS"),
    ],
)
def test_nothing_is_sent_where_the_gateway_may_not_reach(logged: LoggedMesh, place: str, said: str) -> None:
    add(logged, f"policies: [{{policy: mirror, to: '{place}'}}]\n")
    (problem,) = check_mesh(logged.workspace).problems
    assert said in problem.message
    assert "source_addresses" in (problem.hint or "")
    listed = urlsplit(place).netloc
    settings = replace(logged.workspace.settings, source_addresses=(listed,))
    assert check_mesh(replace(logged.workspace, settings=settings)).problems == ()
    with pytest.raises(TulleError, match=said):  # nor of a package that came from elsewhere
        demand_reached(logged.workspace.settings, [Policy("mirror", {"to": place})])
