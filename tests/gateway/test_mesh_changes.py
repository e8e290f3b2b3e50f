"""What of mesh.yaml differs from what is in force, and which of it can be taken up while the mesh runs."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from tulle.config import TAKEN_UP, Settings, settings_from
from tulle.gateway.mesh_changes import at_next_start, changes, taken_up

BEFORE = """
gateway_port: 8000
tiers:
- {name: free, limits: [5/1s]}
- {name: gold, limits: [50/1s]}
default_rate_limit: 20/1s
watches: {fails: {measure: errors, above: 0.1}}
alerts: {ops: {url: 'http://127.0.0.1:9/secret-one'}}
policies:
  walls: {mandatory: true, policies: [{policy: ip-deny, addresses: [192.0.2.1]}]}
  slow: {policies: [{policy: timeout, seconds: 5}]}
"""


def read(text: str, **more: Any) -> Settings:
    return settings_from(Path("/mesh"), {**yaml.safe_load(text), **more}, {})


def test_every_setting_that_can_be_taken_up_is_one() -> None:
    assert set(TAKEN_UP) <= {one.name for one in fields(Settings)}


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("[5/1s]", "[6/1s, 100/1d]", ['tier \'free\' changed: limits ["5/1s"] → ["6/1s","100/1d"]']),
        ("- {name: gold, limits: [50/1s]}\n", "", ["tier 'gold' removed"]),
        ("20/1s", "30/1s", ["setting 'default_rate_limit' changed: default_rate_limit 20/1s → 30/1s"]),
        ("above: 0.1", "above: 0.2, minutes: 1", ["watch 'fails' changed: above 0.1 → 0.2; minutes 5 → 1"]),
        ("secret-one", "secret-two", ["channel 'ops' changed: url is another"]),
        (
            "192.0.2.1",
            "192.0.2.2",
            [
                'set of policies \'walls\' changed: policy 1 (ip-deny): addresses ["192.0.2.1"] → ["192.0.2.2"]'
            ],
        ),
        ("mandatory: true, ", "", ["set of policies 'walls' changed: mandatory true → false"]),
        (
            "  slow:",
            "  more: {policies: [{policy: compression}], mandatory: true}\n  slow:",
            ["set of policies 'more' added: policies compression; mandatory"],
        ),
    ],
)
def test_what_differs_is_told_by_its_name(old: str, new: str, told: list[str]) -> None:
    now, wanted = read(BEFORE), read(BEFORE.replace(old, new))
    assert [one.sentence for one in changes(now, wanted)] == told
    assert at_next_start(now, wanted) == ()
    assert taken_up(now, wanted) == wanted


def test_the_order_of_sets_and_tiers_counts() -> None:
    raw = yaml.safe_load(BEFORE)
    turned = read(BEFORE, policies=dict(reversed(raw["policies"].items())), tiers=raw["tiers"][::-1])
    assert [one.sentence for one in changes(read(BEFORE), turned)] == [
        "setting 'policies' changed: the order is now slow, walls",
        "setting 'tiers' changed: the order is now gold, free",
    ]


def test_what_is_read_at_the_start_stays_as_it_is() -> None:
    now = read(BEFORE)
    wanted = read(BEFORE, gateway_port=8001, mutual_tls=True, default_rate_limit="1/1s")
    assert at_next_start(now, wanted) == ("gateway_port", "mutual_tls")
    after = taken_up(now, wanted)
    assert (after.gateway_port, after.mutual_tls, after.default_rate_limit) == (8000, False, "1/1s")
    assert changes(now, now) == ()
