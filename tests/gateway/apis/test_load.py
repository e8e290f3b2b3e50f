"""Files of APIs: what is read of them, and that everything wrong is told with its place."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from tests.gateway.apis.conftest import OPENAPI, ORDERS, Folder, read
from tests.gateway.external import Authority

from tulle.errors import Invalid
from tulle.gateway.apis.declared import Override, Page, Target, api_of, as_plain
from tulle.gateway.front import External, Upstream
from tulle.serving.access import Public
from tulle.spec.tier import Terms


def problems(text: str, folder: Folder | None = None) -> list[str]:
    with pytest.raises(Invalid) as caught:
        if folder is None:
            read(text)
        else:
            folder.write("orders.yaml", text)
            folder.load()
    return [str(problem) for problem in caught.value.problems]


def test_an_api_is_read_whole_and_kept_whole(folder: Folder) -> None:
    folder.write("orders.yaml", ORDERS)
    (loaded,) = folder.load()
    api = loaded.api
    assert (api.name, api.product, api.title, api.tags) == ("orders", "sales", "Orders", ("orders", "shop"))
    assert api.pages == (Page("guide.md", "# How"),)
    assert api.offer.terms == Terms("1", "Be kind.")
    assert [(tier.name, tier.words, tier.approval) for tier in api.offer.tiers] == [
        ("free", "1/1s + 100/1d", "automatic")
    ]
    assert (api.visibility, api.visible_to) == ("restricted", ("domain:shop", "role:Analysts"))
    v1, v2 = api.versions
    assert (v1.path, v1.is_published, v1.allows_undeclared) == ("/orders/v1", True, False)
    assert [(one.method, one.path) for one in v1.operations] == [
        ("GET", "/items"),
        ("POST", "/items"),
        ("GET", "/items/{id}"),
    ]
    assert v1.target.external == External((Upstream("https://orders.example.com/base"),))
    assert json.loads(loaded.documents["v1"])["info"]["title"] == "Orders"
    assert (v2.target, v2.path, v2.hosts) == (Target("orders"), "/orders-next", ("api.example.com",))
    assert v2.access.public == Public("5/1s")
    assert v2.environments == {"test": Override(Target("orders-test"), "/o"), "dev": Override()}
    assert api_of(json.loads(json.dumps(as_plain(api)))) == api


def test_an_external_service_in_all_its_words(folder: Folder, tmp_path: Path) -> None:
    ca = Authority(tmp_path).ca
    folder.write("keys/ca.pem", ca)
    folder.write(
        "orders.yaml",
        """
api: orders
versions:
- version: v1
  undeclared: allow
  upstream:
    urls: [https://a.example/base, {url: 'https://b.example/base', weight: 3}]
    ca_file: keys/ca.pem
    connect_timeout: 1
    timeout: 5
    idle_timeout: 7
    health: {path: /alive, interval: 2}
""",
    )
    ((version,),) = [one.api.versions for one in folder.load()]
    both = (Upstream("https://a.example/base"), Upstream("https://b.example/base", 3))
    assert version.target.external == External(both, ca, 1.0, 5.0, 7.0, "/alive", 2.0)
    assert version.allows_undeclared


def test_an_openapi_document_may_be_written_out() -> None:
    inner = "".join(f"    {line}\n" for line in OPENAPI.splitlines())
    text = f"api: orders\nversions:\n- version: v1\n  upstream: https://a.example\n  openapi:\n{inner}"
    (version,) = read(text).api.versions
    assert len(version.operations) == 3
    assert not version.allows_undeclared


START = "api: orders\nversions:\n- version: v1\n"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("api: Orders\nversions: [{version: v1}]\n", "2 to 63 small letters"),
        ("api: orders\n", "'versions' is missing"),
        (START + "  servce: orders\n", "did you mean 'service'?"),
        (START + "  path: orders\n", "a path such as /orders/v1"),
        (START + "  path: /\n", "the path '/' needs `hosts` of its own"),
        (START + "  hosts: ['api.example.com:80']\n", "without a port"),
        (START + "  service: orders\n  upstream: https://a.example\n", "both a service and an external one"),
        (START + "  generation: v3\n", "a generation is named without its service"),
        (START + "  upstream: https://a.example\n", "it is not said which operations"),
        (START + "  undeclared: refuse\n", "no operations are declared"),
        (START + "  undeclared: allow\n  upstream: a.example\n", "no address of an HTTP service"),
        (START + "  undeclared: allow\n  upstream: {timeout: 3}\n", "no address is given"),
        (
            START + "  undeclared: allow\n  upstream: {urls: [https://a.example/x, https://b.example/y]}\n",
            "differ in their path",
        ),
        (
            START + "  undeclared: allow\n  upstream: {urls: [https://a.example, http://b.example]}\n",
            "differ in their scheme",
        ),
        (
            START + "  undeclared: allow\n  upstream: {urls: [https://a.example, https://127.0.0.1]}\n",
            "differ in their kind of host",
        ),
        (
            START + "  undeclared: allow\n  upstream: {urls: [https://a.example, https://a.example]}\n",
            "is given twice",
        ),
        (
            START + "  undeclared: allow\n  upstream: {connection: shop-api, urls: [https://a.example]}\n",
            "both addresses and a connection are given",
        ),
        (START + "  undeclared: allow\n  upstream: {connection: Shop Api}\n", "the name of a connection"),
        (
            START + "  service: orders\n  policies: [{policy: api-key, header: authorization}]\n",
            "'authorization' is no header for a key",
        ),
        (START + "  service: orders\n  access: {public: {limit: often}}\n", "rate limit 'often'"),
        (START + "- version: v1\n", "version 'v1' is declared twice"),
        (START + "  service: orders\n  policies: [{policy: compresion}]\n", "did you mean 'compression'?"),
        ("api: orders\nvisibility: nobody\nversions: [{version: v1}]\n", "nobody"),
        (START + "  openapi: {openapi: 3.0.0}\n", "'info' is missing"),
        (START + "  openapi: orders.openapi.yaml\n", "a file cannot be named here"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(text: str, told: str) -> None:
    found = problems(text)
    assert any(told in one for one in found), found
    assert all(re.match(r"sales\.yaml:\d+:\d+: ", one) for one in found)


@pytest.mark.parametrize(
    ("was", "becomes", "told"),
    [
        ("file: terms.md", "file: missing.md", "'missing.md' cannot be read: No such file or directory"),
        ("terms.md}", "terms.md, text: a}", "a version, with a text or the name of a file"),
        ("limits: [1/1s, 100/1d]", "limits: [often]", "rate limit 'often'"),
        ("guide.md", "missing.md", "'missing.md' cannot be read: No such file or directory"),
        ("guide.md", "../../../etc/passwd", "the name of a file below `apis/`"),
        ("guide.md", "a/../../product.yaml", "'a/../../product.yaml' is not below `apis/`"),
        ("orders.openapi.yaml", "other.yaml", "there is no file 'other.yaml' below `apis/`"),
        (
            "https://orders.example.com/base",
            "{urls: [https://a.example], ca_file: guide.md}",
            "no certificates",
        ),
        (
            "https://orders.example.com/base",
            "{urls: [http://a.example], ca_file: ca.pem}",
            "of no use without https",
        ),
    ],
)
def test_what_is_wrong_with_other_files_is_told_where_they_are_named(
    folder: Folder, tmp_path: Path, was: str, becomes: str, told: str
) -> None:
    folder.write("ca.pem", Authority(tmp_path).ca)
    found = problems(ORDERS.replace(was, becomes, 1), folder)
    assert any(told in one and one.startswith("products/sales/apis/orders.yaml:") for one in found), found


def test_what_is_wrong_with_an_openapi_document_is_told_in_it(folder: Folder) -> None:
    folder.write("orders.openapi.yaml", OPENAPI.replace("/items:", "items:"))
    (told,) = problems(ORDERS, folder)
    assert told.startswith("products/sales/apis/orders.openapi.yaml:5:")


def test_the_problems_of_all_files_are_told_at_once(folder: Folder) -> None:
    folder.write("a.yaml", "api: a-a\nversions: []\n")
    folder.write("b.yml", "api: orders\nversions: [{version: v1}]\n")
    found = problems(ORDERS, folder)
    assert {one.split(":")[0].rpartition("/")[2] for one in found} == {"a.yaml", "orders.yaml"}
    assert any("the API 'orders' is also declared in products/sales/apis/b.yml" in one for one in found)


MOCKED = """
api: orders
versions:
- version: v1
  openapi: orders.openapi.yaml
  mock: true
  environments:
    dev: {service: orders}
    test: {mock: true}
- {version: v2, openapi: orders.openapi.yaml, upstream: 'https://a.example'}
"""


def test_a_version_may_be_answered_by_the_examples_of_its_document(folder: Folder) -> None:
    folder.write("orders.yaml", MOCKED)
    (loaded,) = folder.load()
    v1, v2 = loaded.api.versions
    assert (v1.target, str(v1.target)) == (Target(mock=True), "examples")
    assert v1.environments["dev"].target == Target("orders")
    assert [(one.method, one.path, one.status) for one in v1.mocks] == [
        ("GET", "/items", 200),
        ("POST", "/items", 200),
        ("GET", "/items/{id}", 200),
    ]
    assert v2.mocks == ()
    assert api_of(json.loads(json.dumps(as_plain(loaded.api)))) == loaded.api


@pytest.mark.parametrize(
    "text", ["a: [", "", "[]", "3", "paths: []", "{openapi: 3.1.0, paths: {/a: 3, /b: {get: []}}}"]
)
def test_a_document_that_cannot_be_read_has_no_examples_and_is_told(folder: Folder, text: str) -> None:
    folder.write("orders.openapi.yaml", text)
    assert any("orders.openapi.yaml" in one for one in problems(MOCKED, folder))
    (folder.product.folder / "apis/orders.openapi.yaml").unlink()
    assert any("there is no file 'orders.openapi.yaml'" in one for one in problems(MOCKED, folder))


def test_what_cannot_be_answered_by_examples_is_told(folder: Folder) -> None:
    (told,) = problems("api: orders\nversions: [{version: v1, mock: true}]")
    assert "there is no OpenAPI document with examples to answer by" in told
    told = problems(MOCKED.replace("mock: true\n  env", "mock: true\n  service: orders\n  env"), folder)[0]
    assert "both examples and a service are to answer" in told
    large = '"responses": {"200": {"content": {"text/plain": {"example": "' + "x" * 70_000 + '"}}}}'
    paths = ", ".join(f'"/p{number}": {{"get": {{{large}}}}}' for number in range(15))
    folder.write(
        "orders.openapi.yaml",
        f'{{"openapi": "3.1.0", "info": {{"title": "t", "version": "1"}}, "paths": {{{paths}}}}}',
    )
    found = problems(MOCKED, folder)
    assert "the example of GET /p0 has 70000 bytes, at most 65536 are answered" in found[0]
    assert "its examples have 1050000 characters together" in found[-1]
    for media in (
        "application/json; x=%ENVIRONMENT(HOME)%",
        "application/json\\r\\nx: y",
        "json",
        "a/" + "b" * 99,
    ):
        content = f'{{"200": {{"content": {{"{media}": {{"example": 1}}}}}}}}'
        folder.write(
            "orders.openapi.yaml",
            '{"openapi": "3.1.0", "info": {"title": "t", "version": "1"}, "paths": {"/a": {"get": {"responses": '
            + content
            + "}}}}",
        )
        assert "of GET /a is none" in problems(MOCKED, folder)[0]
