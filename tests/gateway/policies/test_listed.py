"""Lists of policies as people write them: values, and every problem with its place."""

from __future__ import annotations

import json

import jsonschema_rs
import pytest
import yaml

from tulle.errors import Broken, Invalid
from tulle.gateway.policies.entry import Operation, Policy
from tulle.gateway.policies.kind import known_kinds
from tulle.gateway.policies.listed import (
    MOST_POLICIES,
    list_schema,
    parse_policies,
    policies_in,
    written_of,
)

BETWEEN = """\
- {policy: rate-limit, limits: 1/1s}
- {policy: ip-deny, addresses: [10.0.0.1]}
- {policy: rate-limit, limits: 5/1m}
"""
LIST = """\
- policy: cors
  origins: ['https://app.example.com']
- policy: ip-allow
  addresses: [10.0.0.0/8]
  environments: [prod]
- policy: rate-limit
  limits: 5/1s
  operations: [{method: POST, path: '/fraud/predict'}]
"""


def problems(text: str) -> list[str]:
    with pytest.raises(Invalid) as told:
        parse_policies(text, name="list.yaml")
    return [str(one) for one in told.value.problems]


def test_a_list_is_read_and_kept_as_written() -> None:
    found = parse_policies(LIST)
    assert [one.policy.kind for one in found] == ["cors", "ip-allow", "rate-limit"]
    assert found[2].policy == Policy("rate-limit", {"limits": "5/1s"}, (Operation("POST", "/fraud/predict"),))
    assert written_of(json.loads(json.dumps([one.as_plain() for one in found]))) == found
    assert parse_policies(json.dumps([one.as_plain() for one in found])) == found


def test_a_policy_holds_in_the_environments_it_names() -> None:
    found = parse_policies(LIST)
    assert [one.kind for one in policies_in(found, "prod")] == ["cors", "ip-allow", "rate-limit"]
    assert [one.kind for one in policies_in(found, "dev")] == ["cors", "rate-limit"]


def test_every_problem_is_told_with_its_place() -> None:
    text = """\
- policy: rate-limt
- policy: ip-allow
- policy: ip-deny
  addresses: [10.0.0.1/8, nonsense]
- policy: cors
  origins: ['https://app.example.com/path']
  maxage: 3
- policy: cors
  origins: ['*']
  credentials: true
- policy: rate-limit
  limits: 5 per second
  operations: [{method: HEAD}, {path: fraud}]
- policy: compression
  forms: [lzma]
"""
    told = problems(text)
    assert told[0].startswith("list.yaml:1:11: there is no policy 'rate-limt' (did you mean 'rate-limit'")
    assert any(one.startswith("list.yaml:2") and "addresses" in one for one in told)
    assert "list.yaml:4:15: '10.0.0.1/8' is no address or network (the network of it is 10.0.0.0/8)" in told
    assert any(one.startswith("list.yaml:7") and "maxage" in one and "max_age" in one for one in told)
    assert any(one.startswith("list.yaml:9") and "any page could act" in one for one in told)
    assert any(one.startswith("list.yaml:12") and "5 per second" in one for one in told)
    assert any("'HEAD' is no method" in one for one in told)
    assert any("does not begin with a slash" in one for one in told)
    assert any("lzma" in one for one in told)


@pytest.mark.parametrize(
    ("written", "hint"),
    [
        ("policy: rate-limit, limits: 3", "for example [100/1s, 10000/1d]"),
        ("policy: rate-limit, limits: {requests: 3}", "for example [100/1s, 10000/1d]"),
        ("policy: rate-limit, limits: [3]", "for example 100/1s"),
        ("policy: rate-limit, limits: 5/400d", "for example 10000/7d"),
        ("policy: rate-limit, limits: 5/75ms", "for example 5/100ms"),
        ("policy: rate-limit, limits: 99999999999/1s", "leave the limit out"),
        ("policy: rate-limit, limits: 5/1s, by: 7", "for example client"),
        ("policy: quota, limits: 3", "for example [1000/1d]"),
        ("policy: quota, key: [client]", "limits: requests/period, such as 10000/1d"),
        ("policy: quota, limits: 5/1d, key: client", "write a list: ['client']"),
        ("policy: spike-control, limit: 50", "for example 100/1s"),
        ("policy: basic-auth, limit: 5", "for example 100/1s"),
        ("policy: public, limit: 5", "for example 100/1s"),
        ("policy: jwt, issuer: a, jwks_uri: 'https://a.example', limit: 5", "for example 100/1s"),
        ("policy: cors, origins: '*'", "write a list: ['*']"),
        ("policy: cors, origins: [3]", "for example https://app.example.com"),
        ("policy: ip-allow, addresses: [10]", "for example 10.0.0.0/8"),
        ("policy: mirror, to: 5", "for example https://shadow.example.com"),
        ("policy: body-limit, max_bytes: 64KB", "write the number alone, without a unit"),
        ("policy: redaction, fields: [$.a]", "write a mapping: {path: '$.a'}"),
        ("policy: redaction, fields: {path: $.a}", "write a list: each entry begins with a dash"),
        ("policy: compression, operations: {path: /a}", "write a list: each entry begins with a dash"),
        ("policy: compression, operations: [{path: 5}]", "for example /items/{id}"),
        ("policy: compression, environments: prod", "write a list: ['prod']"),
        ("policy: redaction, fields: [{path: $.a, action: constant}]", "say what is to be there as `value`"),
        ("policy: json-limits, max_depth: 0", "leave `max_depth` out"),
    ],
)
def test_what_is_to_be_done_can_be_typed_in(written: str, hint: str) -> None:
    (told,) = problems(f"- {{{written}}}")
    assert hint in told, told
    assert "put it in quotes" not in told


KEYS = "{keys: [{kty: OKP, crv: Ed25519, x: 11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo}]}"


@pytest.mark.parametrize(
    ("written", "place", "said"),
    [
        (
            "rate-limit, limits: [100/1s, 50/1m]",
            "1:33",
            "'100/1s' never refuses anybody, as '50/1m' lets no more pass in a longer time (leave '100/1s' out",
        ),
        ("quota, limits: [5/1d, 9/24h]", "1:34", "'9/24h' and '5/1d' are limits for the same period"),
        (
            "quota, tiers: {gold: [10/1s, 5/1d]}",
            "1:34",
            "'10/1s' never refuses anybody, as '5/1d' lets no more",
        ),
        ("quota, limits: 5/1d, key: [tier, tier]", "1:45", "'tier' is in the key twice (leave one out)"),
        ("spike-control, limit: 5/1s, delay_ms: 50", "1:50", "nobody waits, as 'queue' is 0 (say `queue`"),
        (
            "cors, origins: ['*'], methods: [get]",
            "1:44",
            "no page asks by the method 'get' (write 'GET')",
        ),
        ("caching, key: {body: [$.a]}", "1:33", "only a POST has a body that is part of the key"),
        ("caching, invalidate: {header: x-no, clients: []}", "1:57", "nobody may have an answer forgotten"),
        (
            "redaction, fields: [{path: $.a, keep_last: 4}]",
            "1:55",
            "'keep_last' is for what is done by 'mask', and this is done by 'remove' (say `action: mask`",
        ),
        ("redaction, fields: [{path: $.a, value: x}]", "1:51", "'value' is for what is done by 'constant'"),
        (f"jwt, issuer: a, jwks: {KEYS}, refresh: 60", "", "'refresh' does nothing without 'jwks_uri'"),
        (
            f"jwt, issuer: a, jwks: {KEYS}, scope_claim: scp",
            "",
            "'scope_claim' does nothing without 'scopes'",
        ),
        ("ldap, connection: a, base: b, group_base: c", "1:54", "'group_base' does nothing without 'groups'"),
        (
            "ldap, connection: a, user_dn: 'cn={user}', filter: '(uid={user})'",
            "1:63",
            "nobody is looked for where 'user_dn' says what a caller is called",
        ),
    ],
)
def test_what_does_nothing_is_refused_where_it_is_said_and_carried_out_where_it_was(
    written: str, place: str, said: str
) -> None:
    text = f"- {{policy: {written}}}"
    (told,) = problems(text)
    assert told.startswith(f"list.yaml:{place}")
    assert said in told, told
    assert len(parse_policies(text, is_recorded=True)) == 1


def test_a_limit_of_thousands_of_digits_is_told_in_few() -> None:
    (told,) = problems(f"- {{policy: rate-limit, limits: {'9' * 5000}/1s}}")
    assert "is not understood (write requests/period" in told
    assert len(told) < 300


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{}", "a list of up to"),
        ("- cors", "a mapping"),
        ("- {origins: ['*']}", "policy"),
        ("- {policy: cors, origins: ['*'], operations: [{path: /a}]}", "operations"),
        ("[" + ", ".join(["{policy: compression}"] * (MOST_POLICIES + 1)) + "]", "a list of up to"),
        ("- {policy: compression}\n- {policy: compression}", "holds twice"),
        (BETWEEN, "'ip-deny' stands between"),
    ],
)
def test_what_is_no_list_of_policies_is_refused(text: str, said: str) -> None:
    assert any(said in one for one in problems(text))


def test_what_is_apart_may_be_said_twice() -> None:
    apart = "- {policy: compression, environments: [dev]}\n- {policy: compression, environments: [prod]}"
    assert len(parse_policies(apart)) == 2
    assert problems(apart + "\n- {policy: compression}")
    parts = (
        "- {policy: header-limit, max_count: 10, operations: [{method: GET}]}\n"
        "- {policy: header-limit, max_count: 20, operations: [{method: POST}]}"
    )
    assert len(parse_policies(parts)) == 2


@pytest.mark.parametrize("kind", list(known_kinds()), ids=lambda kind: kind.name)
def test_every_kind_has_an_example_that_its_schema_and_the_lists_take(kind) -> None:  # type: ignore[no-untyped-def]
    raw = yaml.safe_load(kind.example)
    assert raw["policy"] == kind.name
    (found,) = parse_policies(json.dumps([raw]))
    assert found.as_plain() == raw
    assert jsonschema_rs.Draft202012Validator(list_schema()).is_valid([raw])
    assert not jsonschema_rs.Draft202012Validator(list_schema()).is_valid([raw | {"nonsense": 1}])


def test_every_setting_says_what_it_is() -> None:
    for kind in known_kinds():
        assert kind.summary.endswith(".")
        assert all("description" in one for one in kind.properties.values()), kind.name


def test_what_was_kept_and_is_damaged_is_told() -> None:
    for damaged in ([{"origins": ["*"]}], [{"policy": "cors", "operations": [{"path": "x"}]}], ["cors"]):
        with pytest.raises(Broken, match="cannot be read"):
            written_of(damaged)  # type: ignore[arg-type]


def test_a_claim_of_words_is_named_for_claims_as_well() -> None:
    said = f"policy: jwt, issuer: a, jwks: {KEYS}, claims: {{perm: [a]}}, scope_claim: perm"
    assert parse_policies(f"- {{{said}}}")


def test_a_fixed_window_may_hold_what_a_longer_one_lets_pass_twice() -> None:
    """Once at the end of a longer one, and once at the beginning of the next."""
    assert parse_policies("- {policy: quota, limits: [100/1m, 100/1h]}")
