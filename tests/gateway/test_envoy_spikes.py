"""The chain of spike control: whose buckets are in it; that Envoy does so is in `policies/test_spike.py`."""

from __future__ import annotations

from tests.gateway.policies.conftest import policy_of

from tulle.gateway.envoy_spikes import spikes


def test_each_service_has_its_buckets_and_only_who_may_wait_those_of_waiting() -> None:
    first = "- {policy: spike-control, limit: 3/1s, queue: 7, delay_ms: 500}"
    chain = spikes(policy_of(first).services)["default_filter_chain"]["filters"]
    found = {one["name"]: one["typed_config"].get("descriptors") for one in chain}
    assert list(found) == ["above", "full", "wait", "tidy", "limit"]
    assert [d["entries"] for d in found["full"]] == [
        [{"key": "spike", "value": "first#0"}, {"key": "above", "value": "1"}]
    ]
    assert found["full"][0]["token_bucket"]["max_tokens"] == 7
    assert found["limit"][0]["token_bucket"]["max_tokens"] == 3
    alone = spikes(policy_of("- {policy: spike-control, limit: 3/1s}").services)
    found = {
        f["name"]: f["typed_config"].get("descriptors") for f in alone["default_filter_chain"]["filters"]
    }
    assert (found["above"], found["full"], len(found["limit"])) == ([], [], 1)
