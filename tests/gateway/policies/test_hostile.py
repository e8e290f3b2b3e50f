"""Lists of policies that nobody can mean: each is told, or is carried out; nothing else comes of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tulle.errors import Invalid
from tulle.gateway import envoy_files
from tulle.gateway.envoy_values import Door
from tulle.gateway.policies.kind import known_kinds
from tulle.gateway.policies.listed import parse_policies, policies_in
from tulle.gateway.policy import GatewayPolicy, ManagedService

KINDS = sorted(known_kinds(), key=lambda kind: kind.name)
ODD = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 2**40)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
    | st.sampled_from(
        ["*", "5/1s", "x-a", "10.0.0.0/8", "https://a.example", "client", "", "%REQ(x)%", "${client}"]
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def entries(draw: st.DrawFn) -> dict[str, Any]:
    """An entry of some kind that is almost right: its example, with some settings changed."""
    kind = draw(st.sampled_from(KINDS))
    entry = dict(yaml.safe_load(kind.example))
    for name in draw(st.lists(st.sampled_from([*kind.properties, "operations", "environments"]), max_size=2)):
        entry[name] = draw(ODD)
    return entry


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(entries(), max_size=3))
def test_whatever_a_list_says_it_is_told_or_rendered(listed: list[dict[str, Any]]) -> None:
    try:
        written = parse_policies(json.dumps(listed))
        service = ManagedService("first", ("run/w/a.sock",), 1000, policies=policies_in(written, "prod"))
        files = envoy_files.render(GatewayPolicy.of(services=[service]), Door())
    except Invalid as told:
        assert told.problems or told.message
        return
    assert json.dumps({name: files[name] for name in ("routes", "limits", "clusters")})


@pytest.mark.parametrize(
    "text",
    [
        "[" * 200 + "]" * 200,
        "- &a {policy: cors, origins: [*a]}",
        "- {policy: cors, origins: ['*'], policy: cors}",
        "- {policy: [cors]}",
        "- {policy: cors, origins: [" + "'https://a.example', " * 200 + "]}",
        "- {policy: rate-limit, limits: 99999999999999999999999/1s}",
        "- {policy: rate-limit, limits: 1/99999999999d}",
        "- {policy: ip-deny, addresses: ['10.0.0.1%eth0', '1.2.3', '::ffff:1.2.3.4/200']}",
        "- {policy: header-injection, response: {'x-a': \"a\\r\\nset-cookie: b\"}}",
        "- {policy: mirror, to: 'http://169.254.169.254@evil.example'}",
        "- {policy: timeout, seconds: .inf}",
        "- {policy: body-limit, max_bytes: true}",
        "- {policy: message-log, request: ['x-a,authorization']}",
        "- {policy: without, sets: [[]]}",
        "- {policy: compression, environments: ['" + "a" * 100 + "']}",
        "\x00",
        "- !!python/object:os.system {}",
    ],
)
def test_what_nobody_can_mean_is_told(text: str) -> None:
    with pytest.raises(Invalid) as told:
        parse_policies(text)
    assert told.value.problems
