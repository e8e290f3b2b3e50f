"""An API made of an OpenAPI document: what is written validates, and nothing is written over."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tulle.cli.main import cli
from tulle.errors import Invalid
from tulle.gateway.apis.load import load_api
from tulle.gateway.apis.scaffold import new_api

DOCUMENT: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {"title": "Weather: \n of #towns", "version": "2.3.1", "description": "What comes. " + "x" * 300},
    "servers": [
        {"url": "/relative"},
        {"url": "https://{town}.example.com"},
        {"url": "https://w.example.com/v2/"},
    ],
    "paths": {"/towns/{id}": {"get": {"operationId": "town", "responses": {"200": {"description": "it"}}}}},
}


def made(tmp_path: Path, **changed: Any) -> Path:
    found = new_api("weather", json.dumps({**DOCUMENT, **changed}), source="w.json")
    for name, text in found.files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path / "apis/weather.yaml"


def test_what_is_made_is_an_api(tmp_path: Path) -> None:
    api = load_api(made(tmp_path), product="p").api
    (version,) = api.versions
    assert (api.name, api.title, api.summary) == ("weather", "Weather: of #towns", "What comes")
    assert (version.version, version.is_published) == ("v2", True)
    assert version.target.external is not None
    assert [one.url for one in version.target.external.upstreams] == ["https://w.example.com/v2"]
    assert [one.id for one in version.operations] == ["town"]


def test_without_a_server_nothing_answers_yet(tmp_path: Path) -> None:
    file = made(tmp_path, servers=[], info={"title": "t", "version": "draft"})
    (version,) = load_api(file, product="p").api.versions
    assert (version.version, version.is_published, version.target.external) == ("v1", False, None)
    assert "# upstream: https://" in file.read_text()


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("My API", json.dumps(DOCUMENT), "'My API' is no name of an API"),
        ("weather", '{"openapi": "2.0"}', "expected an OpenAPI version of 3.0 or 3.1"),
        ("weather", "{", "w.json"),
    ],
)
def test_what_is_no_api_is_refused_with_its_place(name: str, text: str, told: str) -> None:
    with pytest.raises(Invalid) as refused:
        new_api(name, text, source="w.json")
    assert told in " ".join([refused.value.message, *map(str, refused.value.problems)])


def test_the_command_writes_what_validates_and_never_over_anything(tmp_path: Path) -> None:
    (tmp_path / "mesh.yaml").write_text("name: test\n")

    def tulle(*args: str, piped: str = "") -> str:
        result = CliRunner().invoke(cli, ["--mesh", str(tmp_path), *args], input=piped)
        error = result.exception
        return f"{result.exit_code} {result.output} {error if not isinstance(error, SystemExit) else ''}"

    assert tulle("new", "product", "towns", "--domain", "world").startswith("0")
    new = ("new", "api", "weather", "--openapi", "-", "--product")
    told = tulle(*new, "towns", piped=json.dumps(DOCUMENT))
    assert told.startswith("0")
    assert "version v2 leads to https://w.example.com/v2" in told
    assert tulle("validate").startswith("0")
    before = (tmp_path / "products/world/towns/apis/weather.yaml").read_text()
    assert "has an API 'weather' already" in tulle(*new, "towns", piped=json.dumps(DOCUMENT))
    assert "'twons'" in tulle(*new, "twons", piped=json.dumps(DOCUMENT))
    assert "no-such.json" in tulle(
        *new[:3], "--product", "towns", "--openapi", str(tmp_path / "no-such.json")
    )
    assert (tmp_path / "products/world/towns/apis/weather.yaml").read_text() == before
    there = ("towns", "--upstream", "http://127.0.0.1:9")
    told = tulle(*new[:2], "storms", *new[3:], *there, piped=json.dumps(DOCUMENT))
    assert told.startswith("0")
    assert "write '127.0.0.1:9' under `source_addresses:` in mesh.yaml" in told


@pytest.mark.parametrize(
    "upstream", ["ftp://a.example", "not a url", "https://a:b@c.example", "https://c.example/?a=1"]
)
def test_where_it_leads_is_looked_at_before_anything_is_written(upstream: str) -> None:
    with pytest.raises(Invalid, match="no address of an HTTP service"):
        new_api("weather", json.dumps(DOCUMENT), source="w.json", upstream=upstream)
