"""The page of releases: what is where, what waits, what was released, with everything a person wrote as text."""

from __future__ import annotations

import html
import re
from pathlib import Path

import httpx
import pytest
from tests.control.released import MESH, Team
from tests.control.test_promotion import released

from tulle.cli.connect import InProcess
from tulle.control import environments, promotion, retirement
from tulle.server.app import application

EVIL = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A mesh with a release in test, one that waits for production, a preview and an end; its pages."""
    team = Team(tmp_path_factory.mktemp("releases") / "mesh", MESH)
    workspace = team.workspace
    released(team, "1.0.0")
    team.wait(promotion.promote(workspace, "sales", "1.0.0", to="test", by="ann", note=EVIL))
    taken_back = promotion.promote(workspace, "sales", "1.0.0", to="prod", by="ann")
    promotion.withdraw(workspace, taken_back.id, by="ann")
    refused = promotion.promote(workspace, "sales", "1.0.0", to="prod", by="ann")
    promotion.decide(workspace, refused.id, by="bob", approved=False)
    asked = promotion.promote(workspace, "sales", "1.0.0", to="prod", by="ann", note=EVIL)
    promotion.decide(workspace, asked.id, by="bob", note=EVIL)
    environments.create_preview(workspace, "sales", "refunds", by=EVIL)
    retirement.deprecate(workspace, "features", sunset="2099-01-31", reason=EVIL, successor="sales", by="ann")
    workspace.database.close()
    return pages_of(team.mesh.folder, "/releases", "/products/sales/releases", "/products/features/releases")


def pages_of(folder: Path, *paths: str) -> dict[str, str]:
    from tulle.spec.mesh import load_settings

    app = application(load_settings(folder))
    with httpx.Client(transport=InProcess(app), base_url="http://127.0.0.1:8080") as client:
        found = {path: client.get(path, headers={"accept": "text/html"}).text for path in paths}
    app.state.close()
    return found


def words(text: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", text))


def test_what_waits_comes_first_with_who_must_agree(pages: dict[str, str]) -> None:
    shown = words(pages["/releases"])
    assert shown.index("Waiting for approval") < shown.index("Where no release is named")
    assert "1 of eve to agree" in shown
    assert "approved by bob" in shown
    assert re.search(r"tulle approve 20\S+ --key FILE", shown)


def test_who_may_approve_does_so_in_the_page(pages: dict[str, str]) -> None:
    (form,) = re.findall(r'<form data-lake="/mesh/v1/promotions/20.*?</form>', pages["/releases"], re.DOTALL)
    assert "hidden>" in form  # until there is a script that can send it
    assert html.unescape(form).count('data-body=\'{"approved":') == 2
    assert 'data-body="{&#34;breaking&#34;: []}"' in form
    assert "/static/lake.js" in pages["/releases"]
    assert "/static/lake.js" not in pages["/products/features/releases"]  # nothing waits there


def test_how_a_promotion_ended_is_said_in_its_own_word(pages: dict[str, str]) -> None:
    ended = re.findall(r'<span class="state (\w*)">(\w+)</span>', pages["/releases"])
    assert [one for one in ended if one[1] != "waiting"] == [
        ("bad", "refused"),
        ("", "withdrawn"),
        ("ok", "succeeded"),
    ]


def test_what_is_where_is_a_table_of_products_and_environments(pages: dict[str, str]) -> None:
    text = pages["/releases"]
    row = text[text.index('<th scope="row"><a href="/products/sales">') :].split("</tr>")[0]
    assert [("1.0.0" in cell) for cell in row.split("<td>")[1:]] == [False, True, False]
    assert "2 to approve" in text


def test_a_product_has_a_page_of_its_own(pages: dict[str, str]) -> None:
    assert "preview-refunds" in pages["/products/sales/releases"]
    assert "Nothing is released yet" in pages["/products/features/releases"]
    assert "features ends on 2099-01-31" in words(pages["/products/features/releases"])


def test_what_people_write_is_text(pages: dict[str, str]) -> None:
    for text in pages.values():
        assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)" in pages["/releases"]


def test_a_mesh_without_releases_says_what_to_do(tmp_path: Path) -> None:
    team = Team(tmp_path / "mesh", "name: plain\n")
    team.workspace.database.close()
    found = pages_of(team.mesh.folder, "/releases", "/products/nobody/releases")
    assert "Nothing is released yet" in found["/releases"]
    assert "its folder" in found["/releases"]
    assert "product &#39;nobody&#39; is not applied" in found["/products/nobody/releases"]
