"""Policies of somebody's own through the real Envoy, in processes beside the processor."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest
from tests.gateway.conftest import check_error
from tests.gateway.processing.conftest import Processed

from tulle.errors import Broken
from tulle.gateway.policies.entry import Policy

pytestmark = pytest.mark.system


def install(folder: Path) -> None:
    """The package of these policies, where there is none."""
    about = folder / "acme-1.0.dist-info"
    if not about.exists():
        shutil.copy(Path(__file__).with_name("acme_policies.py"), folder)
        about.mkdir()
        (about / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
        names = {
            "acme": "Acme",
            "unmade": "Unmade",
            "missing": "Nobody",
            "other": "Other",
            "greedy": "Greedy",
        }
        names |= {"slow": "Slow", "busy": "Busy", "like": "Like", "quits": "Quits"}
        lines = [f"{name} = acme_policies:{found}\n" for name, found in names.items()]
        lines.append("gone = acme_gone:Policy\n")
        (about / "entry_points.txt").write_text("[tulle.processor_policies]\n" + "".join(lines))


@pytest.fixture
def acme(processed: Processed, monkeypatch: pytest.MonkeyPatch) -> Processed:
    """With a package that brings two policies, where the processor and whoever publishes find it."""
    folder = processed.mesh.settings.state_folder
    install(folder)
    monkeypatch.syspath_prepend(str(folder))
    return processed


def custom(plugin: str = "acme", **settings: object) -> Policy:
    return Policy("custom", {"plugin": plugin, "timeout": 5, **settings})


def test_it_lets_on_refuses_replies_and_changes(acme: Processed) -> None:
    acme.put(custom())
    assert acme.ask("/x/echo", b'{"a": 1}').body == b'{"a": 1}'
    said = check_error(acme.ask("/x/echo", b'{"do": "refuse"}'), 418, "Teapot")
    assert said["detailedMessage"] == "This is no coffee. Ask for tea"
    reply = acme.ask("/x/echo", b'{"do": "reply"}')
    assert (reply.status, reply.headers["x-from"], reply.body) == (203, "acme", b'{"from": "acme"}')
    changed = acme.ask("/x/said", b'{"do": "change"}', x_mine="0").json()
    assert changed["body"] == '{"changed": true}'
    assert dict(changed["headers"])["x-added"] == "1"
    assert "x-mine" not in dict(changed["headers"])


def test_it_is_told_who_asks_and_what_its_settings_are_and_no_secret(acme: Processed) -> None:
    acme.put(custom(settings={"limit": 3}))
    told = acme.ask("/x/said?a=1&b=%20", b'{"do": "tell"}', client="app-b", x_team="t").json()
    headers = told.pop("headers")
    assert told == {
        "method": "POST",
        "path": "/public/api/v1/api/x/said",
        "query": [["a", "1"], ["b", " "]],
        "client": "app-b",
        "tier": "gold",
        "settings": {"limit": 3},
    }
    assert headers["x-team"] == "t"
    assert not [name for name in headers if name.startswith("x-tulle-") or name == "authorization"]


def test_it_sees_answers_and_changes_them(acme: Processed) -> None:
    acme.put(custom(settings={"shout": True}))
    reply = acme.ask("/x/echo", b'{"a": 1}')
    assert (reply.body, reply.headers["x-shout"]) == (b'{"A": 1}', "app-a")
    check_error(acme.ask("/x/echo", b'{"a": 2}'), 502, "TooQuiet")


@pytest.mark.parametrize(
    "body",
    [
        {"do": "raise"},
        {"do": "die"},
        {"do": "nonsense"},
        {"do": "header", "name": "x-a\r\nx-b", "value": "1"},
        {"do": "header", "name": "x-a", "value": "1\r\nx-b: 2"},
        {"do": "header", "name": "x-tulle-client", "value": "app-b"},
        {"do": "header", "name": "Content-Length", "value": "0"},
        {"do": "header", "name": "x-a", "value": "\u4e2d"},
    ],
)
def test_whatever_goes_wrong_in_it_ends_the_request_alone(acme: Processed, body: dict[str, str]) -> None:
    acme.put(custom())
    reply = acme.ask("/x/echo", json.dumps(body))
    check_error(reply, 503, "PolicyUnavailable")
    assert b"secret words" not in reply.body
    assert acme.ask("/x/echo", b'{"a": 1}').status == 200


def test_one_that_takes_too_long_is_ended(acme: Processed) -> None:
    acme.put(custom(timeout=0.5))
    acme.ask("/x/echo", b'{"a": 1}')  # its process is there now
    began = time.monotonic()
    check_error(acme.ask("/x/echo", b'{"do": "sleep"}'), 503, "PolicyUnavailable")
    assert time.monotonic() - began < 5
    assert acme.ask("/x/echo", b'{"a": 1}').status == 200


@pytest.mark.parametrize("name", ["unmade", "missing"])
def test_a_class_that_cannot_be_made_lets_nothing_past(acme: Processed, name: str) -> None:
    """As it was said when it could be."""
    acme.put(custom(name))
    check_error(acme.ask("/x/echo", b"{}"), 503, "PolicyUnavailable")


def test_one_that_no_package_brings_is_refused_when_it_is_published(acme: Processed) -> None:
    with pytest.raises(Broken, match="no installed package brings the policy 'acne'") as raised:
        acme.put(custom("acne"))
    assert "acme" in (raised.value.hint or "")
