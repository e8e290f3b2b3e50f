"""Annotations of the API document: laid over every version, and told when they find nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest
from openapi_spec_validator import OpenAPIV2SpecValidator, OpenAPIV31SpecValidator
from tests.serving.conftest import LOOKUPS, Mesh, Product

from tulle.errors import Invalid, Place
from tulle.serving.overlay import Action, Overlay, laid_over
from tulle.serving.service import load_service, load_services
from tulle.serving.swagger import swagger

OVERLAY = """\
overlay: 1.0.0
info: {title: What the shop says, version: "1"}
actions:
  - target: $.info
    update: {contact: {email: shop@example.org}, x-team: shop}
  - target: $.paths['/profile/lookup'].post
    update: {summary: Who a customer is, tags: [customers], x-cost: 1}
  - target: $.paths['/by-day/lookup-multi']
    remove: true
  - target: $.paths.*.post.responses['429']
    update: {description: Slow down}
"""


@dataclass(frozen=True)
class Owner(Product):
    """A product that was read from a document."""

    place: Place | None = None


@pytest.fixture
def product(tmp_path: Path) -> Owner:
    services = tmp_path / "product/services"
    services.mkdir(parents=True)
    (services / "lookups.yaml").write_text(
        LOOKUPS.replace("customer-features\nendpoints", "annotated\nendpoints")
    )
    (services / "annotated.openapi.yaml").write_text(OVERLAY)
    return Owner(folder=tmp_path / "product")


def test_annotations_survive_every_version(mesh: Mesh, product: Owner) -> None:
    (service,) = load_services(product)
    for number, description in enumerate(("first", "second"), start=1):
        file = product.folder / "services/lookups.yaml"
        file.write_text(f"description: {description}\n" + file.read_text().split("\n", number - 1)[-1])
        (service,) = load_services(product)
        built = mesh.build_service(service, product=product)
        document = msgspec.json.decode((mesh.unpacked(built) / "openapi.json").read_bytes())
        assert (document["info"]["version"], document["info"]["description"]) == (f"v{number}", description)
        assert document["info"]["contact"] == {"email": "shop@example.org"}
        operation = document["paths"]["/profile/lookup"]["post"]
        assert (operation["summary"], operation["tags"], operation["x-cost"]) == (
            "Who a customer is",
            ["customers"],
            1,
        )
        assert operation["operationId"] == "profile-lookup"  # what is not annotated stays
        assert "/by-day/lookup-multi" not in document["paths"]
        OpenAPIV31SpecValidator(document).validate()
        old = swagger(document)
        assert old["paths"]["/profile/lookup"]["post"]["tags"] == ["customers"]
        assert old["info"]["contact"] == {"email": "shop@example.org"}


@pytest.mark.parametrize(
    ("old", "new", "message", "line"),
    [
        ("/profile/lookup'", "/profil/lookup'", "$.paths['/profil/lookup'].post' finds nothing", 6),
        ("$.info", "$.info[", "is no JSONPath", 4),
        ("    remove: true\n", "", "neither updates nor removes", 8),
        ("overlay: 1.0.0", "overlay: 2.0.0", "a version such as 1.0.0", 1),
        ("    update: {description: Slow down}", "    upd: 1", "upd", 11),
    ],
)
def test_what_is_wrong_with_annotations_is_told_with_its_place(
    product: Owner, old: str, new: str, message: str, line: int
) -> None:
    file = product.folder / "services/annotated.openapi.yaml"
    file.write_text(OVERLAY.replace(old, new))
    with pytest.raises(Invalid) as caught:
        load_services(product)
    problem = caught.value.problems[0]
    assert message in problem.message
    assert problem.place is not None
    assert (Path(problem.place.file).name, problem.place.line) == (file.name, line)


def test_what_finds_nothing_deeper_is_told_when_it_is_packaged(mesh: Mesh, product: Owner) -> None:
    file = product.folder / "services/annotated.openapi.yaml"
    file.write_text(OVERLAY.replace("responses['429']", "responses['499']"))
    (service,) = load_services(product)
    with pytest.raises(Invalid, match=r"responses\['499'\]' finds nothing in the OpenAPI document"):
        mesh.build_service(service, product=product)


def test_annotations_of_no_service_are_told(product: Owner) -> None:
    file = product.folder / "services/annotated.openapi.yaml"
    file.rename(file.with_name("anotated.openapi.yaml"))
    with pytest.raises(Invalid) as caught:
        load_services(product)
    problem = caught.value.problems[0]
    assert (problem.message, problem.hint) == ("there is no service 'anotated'", "did you mean 'annotated'?")


def test_actions_are_carried_out_in_their_order_and_lists_keep_theirs() -> None:
    document = {"paths": {}, "tags": [{"name": "a"}, {"name": "b"}, {"name": "c"}], "info": {"x": [1]}}
    actions = (
        Action("$.tags[?@.name != 'b']", remove=True),
        Action("$.info.x", update=[2, 3]),
        Action("$.info", update={"x": 4}),
        Action("$", update={"externalDocs": {"url": "https://example.org"}}),
    )
    made = laid_over(document, Overlay(actions))
    assert made == {
        "paths": {},
        "tags": [{"name": "b"}],
        "info": {"x": [1, 2, 3, 4]},
        "externalDocs": {"url": "https://example.org"},
    }
    assert document["info"] == {"x": [1]}


def test_a_services_file_read_from_text_has_no_annotations() -> None:
    assert load_service(LOOKUPS, name="s.yaml").overlay == Overlay()


def test_a_place_that_is_found_twice_or_in_any_order_is_removed_once() -> None:
    document = {"paths": {}, "tags": ["a", "b", "c", "d"], "info": {"x": 1, "y": {"x": 2}}}
    actions = (Action("$.tags[0, 2, 0]", remove=True), Action("$..x", remove=True))
    assert laid_over(document, Overlay(actions)) == {"paths": {}, "tags": ["b", "d"], "info": {"y": {}}}


def test_what_may_be_said_of_a_path_is_no_operation(mesh: Mesh, product: Owner) -> None:
    """It must not keep a worker from making the document for older tools."""
    file = product.folder / "services/annotated.openapi.yaml"
    file.write_text(
        OVERLAY + "  - target: $.paths['/profile/lookup']\n"
        "    update: {summary: Customers, description: all, parameters: [], x-team: shop}\n"
    )
    (service,) = load_services(product)
    folder = mesh.unpacked(mesh.build_service(service, product=product))
    document = msgspec.json.decode((folder / "openapi.json").read_bytes())
    assert list(OpenAPIV31SpecValidator(document).iter_errors()) == []
    old = swagger(document)
    OpenAPIV2SpecValidator(old).validate()
    assert list(old["paths"]["/profile/lookup"]) == ["post", "x-team"]
    assert old["paths"]["/profile/lookup"]["post"]["x-cost"] == 1


@pytest.mark.parametrize(
    ("target", "change"),
    [
        ("$.paths['/profile/lookup'].post.responses", "remove: true"),
        ("$.info", "remove: true"),
        ("$.paths", "remove: true"),
        ("$.paths['/profile/lookup'].post", "update: [1]"),
        ("$.paths['/profile/lookup'].post.requestBody", "update: 5"),
    ],
)
def test_changes_that_leave_no_document_are_refused_at_their_place(
    mesh: Mesh, product: Owner, target: str, change: str
) -> None:
    file = product.folder / "services/annotated.openapi.yaml"
    file.write_text(f"{OVERLAY}  - target: {target}\n    {change}\n")
    (service,) = load_services(product)
    with pytest.raises(Invalid) as caught:
        mesh.build_service(service, product=product)
    (problem,) = caught.value.problems
    assert problem.message == f"what '{target}' leaves is no OpenAPI document"
    assert problem.place is not None
    assert problem.place.line == OVERLAY.count("\n") + 1
