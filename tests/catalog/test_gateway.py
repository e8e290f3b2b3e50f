"""The page of the gateway: versions with what came before them, a pin, and no name that somebody may not see."""

from __future__ import annotations

from dataclasses import replace

from tests.catalog.conftest import Browser

from tulle.config import GatewayTls
from tulle.events import CONTRACT_APPROVED, Event
from tulle.gateway.door_certificate import DoorCertificate, shown
from tulle.gateway.mesh_changes import taken_up
from tulle.gateway.policy import GatewayPolicy, ManagedService
from tulle.gateway.versions import pin
from tulle.gateway.versions.recorded import Versions
from tulle.spec.mesh import load_settings
from tulle.state import log


def test_it_tells_what_was_published_and_names_nobody(browser: Browser) -> None:
    database = browser.world.database
    assert "Nothing was published yet" in browser.get("/gateway")
    keeper = Versions(database)
    keeper.note(GatewayPolicy())
    with database.write() as cx:
        log.append(cx, Event(CONTRACT_APPROVED, "till for hidden-orders"), actor="ann")
        log.append(cx, Event(CONTRACT_APPROVED, "desk for hidden-orders"), actor="ann")
    keeper.note(GatewayPolicy((ManagedService("hidden-orders", (), 10),)))
    page = browser.get("/gateway")
    assert "contract.approved ×2" in page
    assert "ann" in page
    assert "hidden-orders" not in page
    assert "does not answer" in page  # no Envoy runs here
    assert "rolled back" not in browser.get("/")


def test_a_pin_is_shown_there_and_on_the_first_page(browser: Browser) -> None:
    database = browser.world.database
    Versions(database).note(GatewayPolicy())
    pin.put(database, 1, [], reason="orders are refused", by="ann")
    page = browser.get("/gateway")
    assert "rolled back to version 1 by ann: orders are refused" in page
    assert '<span class="badge warn">pinned</span>' in page
    assert "the gateway is rolled back to version 1" in browser.get("/")


def test_the_certificate_is_shown_where_there_is_one(browser: Browser) -> None:
    world = browser.world
    assert "Certificate" not in browser.get("/gateway")
    world.settings = replace(
        world.settings, gateway_tls=GatewayTls(self_signed=True, names=("mesh.example.com",))
    )
    DoorCertificate(world.settings).keep()
    with Browser(world) as other:
        page = other.get("/gateway")
    assert "mesh.<wbr>example.<wbr>com" in page or "mesh.example.com" in page
    assert "https://" in page


def test_why_files_cannot_be_used_is_not_told_to_everybody(browser: Browser) -> None:
    """It names where the private key is, and may say that others can read it."""
    world = browser.world
    tls = GatewayTls(certificate="kept/mesh.pem", key="kept/mesh.key")
    made = replace(world.settings, gateway_tls=GatewayTls(self_signed=True))
    DoorCertificate(made).keep()
    world.settings = replace(world.settings, gateway_tls=tls)
    trouble = shown(world.settings)
    assert trouble is not None
    assert "kept/mesh" in trouble.trouble
    with Browser(world) as other:
        page = other.get("/gateway")
    assert "mesh.pem" not in page.replace("<wbr>", "")
    assert "kept" not in page
    assert "cannot be used" in page
    assert "tulle gateway status" in page


def test_a_mesh_file_that_says_otherwise_is_told_until_it_is_taken_up(browser: Browser) -> None:
    file = browser.world.settings.folder / "mesh.yaml"
    first = file.read_text()
    assert "tulle gateway reload" not in browser.get("/gateway")
    file.write_text(first + "default_rate_limit: 7/1s\ngateway_port: 8123\n")
    page = browser.get("/gateway")
    assert "default_rate_limit: <" in page
    assert "takes that up. " in page
    assert "gateway_port: at the next start" in page
    settings = browser.world.settings
    browser.reader.take_up(taken_up(settings, load_settings(settings.folder)))
    page = browser.get("/gateway")
    assert "tulle gateway reload" not in page
    assert "gateway_port: at the next start" in page
    file.write_text(first + "default_rate_limits: 7/1s\n")
    page = browser.get("/gateway")
    assert "does not hold" in page
    assert "default_rate_limits" not in page
    assert "tulle gateway check" in page
