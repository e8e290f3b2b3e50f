"""Lists of policies that nobody can mean: refused alike by a services file, by `policies --set` and by mesh.yaml.

Each kind has one at least. What is told names the value and the place, and says what to do.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from textwrap import indent

import pytest
from tests.control.logged import LoggedMesh

from tulle.control import service_policies
from tulle.control.check_mesh import check_mesh
from tulle.errors import Invalid
from tulle.gateway.policies.kind import built_in_kinds
from tulle.spec.mesh import load_settings

# an entry, what is told of it, and what to do
BAD = (
    ("api-key, header: X-Key", "'X-Key' is no header for a key", "in lower case, such as x-api-key"),
    ("basic-auth, limit: often", "rate limit 'often' is not understood", "write requests/period"),
    ("body-limit, max_bytes: 64KB", "is the text '64KB', expected a whole number", "without a unit"),
    ("body-log, hide: [a.b], request: [$]", "'a.b' is no JSON path", "write for example $."),
    ("caching, methods: POST", "is the text 'POST', expected a list", "write a list: ['POST']"),
    ("circuit-breaker, conections: 5", "unknown property 'conections'", "did you mean 'connections'?"),
    ("client-id, query: yes", "is the text 'yes', expected true or false", "write true or false"),
    ("compression, forms: [gzp]", "is the text 'gzp', expected one of", "did you mean 'gzip'?"),
    ("concurrency-limit, queue: 5", "'requests' is missing", "requests: requests at once"),
    ("cors, origins: [app.example.com]", "'app.example.com' is no origin", "scheme and host"),
    ("custom, plugins: a", "unknown property 'plugins'", "did you mean 'plugin'?"),
    ("fault-injection, delay_ms: 300", "'delay_percent' is missing", "delay_percent: the part"),
    (
        "header-injection, request: {x-a: '${clent}'}",
        "nothing is known as ${clent}",
        "did you mean 'client'?",
    ),
    ("header-limit", "policy 'header-limit' says nothing", "say some of: max_count"),
    ("header-removal, response: x-a", "is the text 'x-a', expected a list", "write a list: ['x-a']"),
    ("ip-allow, addresses: [10.0.0.1/8]", "'10.0.0.1/8' is no address", "the network of it is 10.0.0.0/8"),
    ("ip-deny, addresses: [localhost]", "'localhost' is no address", "write 192.0.2.7"),
    ("json-limits, max_dept: 5", "unknown property 'max_dept'", "did you mean 'max_depth'?"),
    ("jwt, issuer: a", "the issuer's public keys are not said", "give `jwks_uri` or `jwks`"),
    ("ldap, connection: staff", "how callers are found is said twice, or not at all", "give `base`"),
    ("message-log, request: [authorization]", "'authorization' may hold a secret", "note what tells of it"),
    ("mirror, to: https://a.example/path", "is no place to mirror to", "https://host or http://host:port"),
    ("oauth2-introspection, conection: a", "unknown property 'conection'", "did you mean 'connection'?"),
    ("outlier-ejection, seconds: 10m", "is the text '10m', expected a number", "without a unit"),
    ("public, limit: 5", "is the number 5, expected requests/period", "for example 100/1s"),
    ("quota, limits: 5/1d, key: [cleint]", "key part 'cleint' is not known", "did you mean 'client'?"),
    ("rate-limit, limits: 99999999999/1s", "rate limit of 99999999999 requests", "leave the limit out"),
    ("redaction, fields: [$.a]", "is the text '$.a', expected a mapping", "write a mapping: {path: '$.a'}"),
    ("retry, cases: [conection]", "is the text 'conection', expected one of", "did you mean 'connection'?"),
    ("schema-validation, document: {}", "is of version ''", "convert it"),
    ("spike-control, limit: 5/1s, delay_ms: 50", "nobody waits, as 'queue' is 0", "say `queue`"),
    ("timeout, second: 5", "unknown property 'second'", "did you mean 'seconds'?"),
    ("token-once, longest: 5m", "is the text '5m', expected a number", "without a unit"),
    ("without, sets: walls", "is the text 'walls', expected a list", "write a list: ['walls']"),
)
LIST = "".join(f"  - {{policy: {entry}}}\n" for entry, _, _ in BAD)


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoggedMesh]:
    made = LoggedMesh(tmp_path_factory.mktemp("bad"))
    yield made
    made.workspace.database.close()


def test_every_kind_has_one() -> None:
    assert [entry.partition(",")[0] for entry, _, _ in BAD] == sorted(kind.name for kind in built_in_kinds())


def test_each_is_told_alike_at_every_door(logged: LoggedMesh) -> None:
    workspace, folder = logged.workspace, logged.mesh.folder
    file, of_mesh = folder / "products/shop/scores/services/scores.yaml", folder / "mesh.yaml"
    text = file.read_text()
    begun = f"{text}\npolicies:\n"
    file.write_text(begun + LIST)
    told = {"file": (begun, check_mesh(workspace).problems)}
    file.write_text(text)
    with pytest.raises(Invalid) as caught:
        service_policies.set_policies(workspace, "scores", LIST)
    told["set"] = ("", caught.value.problems)
    begun = f"{of_mesh.read_text()}\npolicies:\n  all:\n    policies:\n"
    of_mesh.write_text(begun + indent(LIST, "    "))
    told["mesh"] = (begun, check_mesh(replace(workspace, settings=load_settings(folder, {}))).problems)
    for door, (before, problems) in told.items():
        lines = [one.place.line if one.place else 0 for one in problems]
        assert lines == [before.count("\n") + 1 + number for number in range(len(BAD))], door
        for (entry, message, hint), problem in zip(BAD, problems, strict=True):
            assert message in problem.message, (door, entry, problem)
            assert hint in (problem.hint or ""), (door, entry, problem)
