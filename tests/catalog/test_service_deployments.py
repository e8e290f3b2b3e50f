"""The page of a service's deployments: what answers, what waits, and the form that asks for another traffic."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html import unescape

import pytest
from sqlalchemy import insert
from tests.catalog.conftest import Browser, World

from tulle.catalog.page_values import ProcessView
from tulle.catalog.service_deployments import command_of
from tulle.errors import NotFound
from tulle.gateway.faults import Fault, write_faults
from tulle.serving import generation
from tulle.serving.generation import Ending
from tulle.serving.tested import FailedQuery, Tested
from tulle.serving.traffic import single, split
from tulle.state.tables import deployment_requests

NAME = "customer-totals"
HOME = f"/services/{NAME}/deployments"


def again(world: World) -> str:
    """Another version of the service."""
    file = world.settings.folder / "products/crm/people/services/customer-totals.yaml"
    file.write_text(file.read_text().replace("What a customer spent", "What a customer spent in all"))
    world.apply()
    return world.build().version


def test_what_answers_and_what_runs_is_told(world: World, browser: Browser) -> None:
    again(world)
    wanted = split({"v1": 0.9, "v2": 0.1}, sticky=True)
    generation.request(world.database, NAME, wanted)
    world.processes[:] = [
        ProcessView(f"{NAME}/v1/0", "worker", "running", None, 0),
        ProcessView(f"{NAME}/v1/1", "worker", "restarting", None, 2, "the index is cut <short>"),
        ProcessView(f"{NAME}@test/v1/0", "worker", "running", None, 0),
        ProcessView("gateway", "gateway", "running", None, 0),
    ]
    page = browser.get(HOME)
    assert "<strong>v1 90%, v2 10% (sticky)</strong> is being started; v1 answers until it does" in page
    assert "1 running, 1 restarting, started again 2 times: the index is cut &lt;short&gt;" in page
    assert "none of" in page  # v2
    assert "to be 90 %" in page
    assert "to be 10 %" in page
    generation.activate(world.database, NAME, wanted)
    state = world.reader().deployments.state(NAME)
    assert state.mode == "split by a key"
    assert [(one.version, one.share, one.wanted) for one in state.generations] == [
        ("v1", 90.0, None),
        ("v2", 10.0, None),
    ]


def test_every_version_that_answers_is_told_on_the_page_of_the_service(world: World) -> None:
    again(world)
    generation.request(world.database, NAME, split({"v1": 0.5, "v2": 0.5}))
    generation.activate(world.database, NAME, split({"v1": 0.5, "v2": 0.5}))
    found = world.reader().services.one(NAME)
    assert [(one.version, one.role) for one in found.versions] == [("v2", "active"), ("v1", "active")]
    generation.request(world.database, NAME, split({"v2": 1}, shadow=("v1", 1)))
    generation.activate(world.database, NAME, split({"v2": 1}, shadow=("v1", 1)))
    generation.request(world.database, NAME, split({"v2": 1}, preloaded=["v1"]))
    generation.activate(world.database, NAME, split({"v2": 1}, preloaded=["v1"]))
    found = world.reader().services.one(NAME)
    assert [(one.version, one.role) for one in found.versions] == [("v2", "active"), ("v1", "beside")]
    assert found.active is not None
    assert found.active.version == "v2"


def test_the_part_that_changes_is_fetched_apart_and_tells_what_is_wanted(
    world: World, browser: Browser
) -> None:
    again(world)
    generation.request(world.database, NAME, "v2")
    generation.fail(world.database, NAME, "v2", "it <b>broke</b>")
    part = browser.get(f"{HOME}/state")
    assert "<html" not in part
    assert "<strong>v2 does not answer.</strong> it &lt;b&gt;broke&lt;/b&gt;" in part
    assert "v1 goes on answering" in part
    told = re.search(r'data-desired="([^"]*)"', part)
    assert told is not None
    assert json.loads(unescape(told[1])) == single("v2").as_plain()


def test_how_test_queries_went_is_told_also_of_what_answered_before(world: World, browser: Browser) -> None:
    again(world)
    failed = Tested(
        "failed", 1.0, 3, 1, 3, (FailedQuery("total", "<i>ann</i>", "total is 1"),), "it goes back to v1"
    )
    tested = {"v1": Tested("passed", 1.0, 2, 2, 2), "v2": failed}
    with world.database.write() as cx:
        generation.note_tested(cx, NAME, "", tested)
    part = browser.get(f"{HOME}/state")
    assert '<span class="badge ok">2 of 2 pass</span>' in part
    assert "Test queries of v2 fail, which answered before." in part
    assert "total, &#39;&lt;i&gt;ann&lt;/i&gt;&#39;: total is 1; it goes back to v1" in part
    assert f"tulle service test {NAME} --version v2" in part
    assert "test queries of v2 fail" in unescape(re.findall(r'data-said="([^"]*)"', part)[0])
    with world.database.write() as cx:
        generation.note_tested(cx, NAME, "", {"v1": failed}, anew=True)
    part = browser.get(f"{HOME}/state")
    assert '<span class="badge bad">1 of 3 pass</span>' in part
    assert f"tulle service test {NAME} -e prod --generation v1" in part
    with world.database.write() as cx:
        generation.note_tested(
            cx, NAME, "", {"v1": Tested("unasked", 1.0, saved=2, message="<b>no</b> answer")}
        )
    part = browser.get(f"{HOME}/state")
    assert '<span class="badge warn">could not be asked</span>' in part
    assert "<strong>Test queries of v1 could not be asked.</strong>" in part
    assert "could not be asked: &lt;b&gt;no&lt;/b&gt; answer" in part
    page = browser.get(f"{HOME}?share.v1=100&test_queries=rollback")
    assert f"tulle service traffic {NAME} v1=100% --test-queries rollback" in page
    assert '<option value="rollback" selected>' in page
    assert '<span class="badge">production</span>' in page


def test_what_is_disabled_or_ends_is_told(world: World, browser: Browser) -> None:
    generation.enable(world.database, NAME, False)
    generation.end(world.database, NAME, Ending(1.0, 32503680000.0, "/public/api/v1/newer/"))
    assert "is disabled</strong> and answers 503" in browser.get(f"/services/{NAME}")
    assert '<span class="state warn">disabled</span>' in browser.get("/services")
    page = browser.get(HOME)
    assert "It is disabled" in page
    assert "not as it is wanted" not in page
    assert "It ends at 3000-01-01 00:00:00 UTC" in page
    generation.end(world.database, NAME, Ending(1.0, 2.0))
    assert "It has ended" in browser.get(f"{HOME}/state")
    write_faults(world.settings, [Fault(NAME, "", "no <such> address", 1.0, is_kept=True)])
    told = "<strong>It is not as it is wanted:</strong> the gateway does not take what is wanted of it"
    for page in (browser.get(f"{HOME}/state"), browser.get(f"/services/{NAME}")):
        assert told in page
        assert "it answers as before: no &lt;such&gt; address" in page
    assert '<span class="state bad">ended</span>' in browser.get(f"/services/{NAME}")
    generation.end(world.database, NAME, Ending(1.0, 32503680000.0))
    generation.enable(world.database, NAME, True)
    assert "It ends at 3000-01-01 00:00:00 UTC" in browser.get(f"/services/{NAME}")


def test_what_waits_names_who_is_missing(world: World, browser: Browser) -> None:
    world.settings = replace(world.settings, environments=with_approval(world))
    with world.database.write() as cx:
        cx.execute(
            insert(deployment_requests).values(
                id="20260101-000000-abc",
                service=NAME,
                environment="",
                traffic=split({"v1": 0.5, "v2": 0.5}).as_plain(),
                before=single("v1").as_plain(),
                status="waiting",
                requested_by="bob",
                credential="bob",
                requested_at=1.0,
                note="<i>please</i>",
                changed_at=1.0,
            )
        )
    (waits,) = world.reader().deployments.page(NAME).waiting
    assert (waits.traffic, waits.before, waits.missing, waits.may) == ("v1 50%, v2 50%", "v1", 1, ("ann",))
    with Browser(world) as guarded:
        page = guarded.get(HOME)
    assert "1 of ann to agree · asked for by bob: &lt;i&gt;please&lt;/i&gt;" in page
    assert 'data-lake="/mesh/v1/deployment-requests/20260101-000000-abc"' in page


def with_approval(world: World) -> dict[str, object]:
    known = world.settings.environments
    prod = replace(known["prod"], approvers=("ann", "bob"), approvals=1)
    return {**known, "prod": prod}  # type: ignore[return-value]


def test_without_scripts_the_form_shows_the_command_or_what_is_wrong(world: World, browser: Browser) -> None:
    again(world)
    page = browser.get(f"{HOME}?share.v1=90&share.v2=10&sticky=on")
    assert f"tulle service traffic {NAME} v1=90% v2=10% --sticky" in page
    page = browser.get(f"{HOME}?share.v1=90&share.v2=&preload.v2=on&shadow=v2")
    assert "the shares of the generations are 0.9, which is not 1" in page
    page = browser.get(f"{HOME}?share.v1=100&share.v2=nan&shadow=v2&shadow_share=25")
    assert f"tulle service traffic {NAME} v1=100% --shadow v2=25%" in page


def test_a_command_names_all_that_is_asked_for() -> None:
    traffic = split({"v1": 1}, shadow=("v2", 0.5), preloaded=["v3"])
    assert (
        command_of("a", traffic, "test")
        == "tulle service traffic a v1=100% --shadow v2=50% --preload v3 --environment test"
    )


def test_what_is_not_there_is_not_found(world: World, browser: Browser) -> None:
    assert "there is no environment" in browser.get(f"{HOME}?environment=nowhere", 404)
    assert "there is no service" in browser.get("/services/no-such/load", 404)
    with pytest.raises(NotFound, match="has no package yet"):
        world.reader().deployments.state("no-such")
