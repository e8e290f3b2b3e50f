"""What policies allow and deny, against a plain model; and which are refused."""

import fnmatch
import re
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tulle.errors import Invalid
from tulle.lake.access.policy import _matches, parse, rules_for


def statement(effect="allow", action=("fs:ReadObject",), resource="*", **more):
    return {"effect": effect, "action": list(action), "resource": resource, **more}


def decide(statements, action, *resources, user="ann", client=""):
    return rules_for(user, [parse("p", statements)]).decide(action, resources, client)


def matches_by_definition(pattern, text):
    """One character at a time, as a glob is defined."""
    reached = {0}
    for position, c in enumerate(pattern + "\0"):
        del position
        if c == "\0":
            return len(text) in reached
        if c == "*":
            reached = set(range(min(reached), len(text) + 1)) if reached else set()
        else:
            reached = {at + 1 for at in reached if at < len(text) and c in {"?", text[at]}}
    return False


short = st.text(alphabet="ab/*?.\n", max_size=12)


@given(short, st.text(alphabet="ab/.\n", max_size=12))
@example("a*b*c", "abbc")
@example("*a", "a\n")
@example("**", "")
@example("a*a", "a")
def test_a_glob_matches_what_its_definition_says(pattern, text):
    assert _matches(pattern, text) == (matches_by_definition(pattern, text) or pattern == text)


@given(st.text(alphabet="ab*?", max_size=8), st.text(alphabet="ab", max_size=8))
def test_a_glob_is_what_the_shell_has(pattern, text):
    assert _matches(pattern, text) == bool(re.match(fnmatch.translate(pattern), text))


def test_a_hostile_pattern_costs_little():
    began = time.thread_time()
    assert not _matches("*a" * 500 + "b", "a" * 5000)
    assert time.thread_time() - began < 2


EFFECTS = st.sampled_from(["allow", "deny"])
ACTIONS = st.sampled_from(["fs:*", "fs:Read*", "fs:ReadObject", "fs:WriteObject", "*", "auth:*"])
RESOURCES = st.sampled_from(
    [
        "*",
        "arn:lakefs:fs:::repository/a",
        "arn:lakefs:fs:::repository/a*",
        "arn:lakefs:fs:::repository/${user}",
    ]
)
STATEMENTS = st.lists(
    st.builds(statement, EFFECTS, st.lists(ACTIONS, min_size=1, max_size=2), RESOURCES),
    min_size=1,
    max_size=5,
)


@given(
    STATEMENTS,
    st.sampled_from(["fs:ReadObject", "fs:WriteObject", "auth:ReadUser"]),
    st.lists(st.sampled_from(["a", "ab", "ann", "b"]), min_size=1, max_size=2),
)
def test_default_is_deny_and_deny_wins(statements, action, names):
    resources = [f"arn:lakefs:fs:::repository/{name}" for name in names]

    def holds(each):
        pattern = each["resource"].replace("${user}", "ann")
        return any(fnmatch.fnmatchcase(action, a) for a in each["action"]) and any(
            fnmatch.fnmatchcase(resource, pattern) for resource in resources
        )

    effects = {each["effect"] for each in statements if holds(each)}
    decision = decide(statements, action, *resources)
    assert decision.allowed == (effects == {"allow"})
    assert decision.reason


def test_the_reason_names_the_policy():
    assert decide([statement()], "fs:ReadObject", "x").reason == "policy 'p' allows it"
    assert decide([statement(), statement("deny")], "fs:ReadObject", "x").reason == "policy 'p' denies it"
    assert decide([statement()], "fs:WriteObject", "x").reason == "no policy of the user allows it"


def test_several_resources_as_a_json_list():
    names = '["arn:lakefs:fs:::repository/a", "arn:lakefs:fs:::repository/b*"]'
    for name, allowed in {"a": True, "bb": True, "c": False}.items():
        found = decide([statement(resource=names)], "fs:ReadObject", f"arn:lakefs:fs:::repository/{name}")
        assert found.allowed is allowed


def test_a_resource_may_have_blanks_and_be_per_branch():
    rule = statement(resource="arn:lakefs:fs:::repository/sales/branch/main/object/my orders/*")
    both = ["arn:lakefs:fs:::repository/sales/object/my orders/1"]
    assert not decide([rule], "fs:ReadObject", *both).allowed
    both.append("arn:lakefs:fs:::repository/sales/branch/main/object/my orders/1")
    assert decide([rule], "fs:ReadObject", *both).allowed


def condition(*networks):
    return {"IpAddress": {"SourceIp": list(networks)}}


@pytest.mark.parametrize(
    ("client", "inside"),
    [
        ("10.1.2.3", True),
        ("::ffff:10.1.2.3", True),
        ("11.0.0.1", False),
        ("192.168.0.1", True),
        ("2001:db8::1", True),
        ("2001:db9::1", False),
    ],
)
def test_a_condition_on_where_from(client, inside):
    networks = condition("10.0.0.0/8", "192.168.0.1", "2001:db8::/32")
    assert decide([statement(condition=networks)], "fs:ReadObject", "x", client=client).allowed is inside
    both = [statement(), statement("deny", condition=networks)]
    assert decide(both, "fs:ReadObject", "x", client=client).allowed is not inside


@pytest.mark.parametrize("client", ["", "nonsense"])
def test_who_hides_where_from_is_neither_let_in_nor_past_a_deny(client):
    networks = condition("10.0.0.0/8")
    assert not decide([statement(condition=networks)], "fs:ReadObject", "x", client=client).allowed
    both = [statement(), statement("deny", condition=networks)]
    assert not decide(both, "fs:ReadObject", "x", client=client).allowed


@pytest.mark.parametrize(
    ("statements", "message"),
    [
        (None, "has no statement"),
        ([], "has no statement"),
        ("text", "has no statement"),
        (["text"], "is no mapping"),
        ([statement(effect="maybe")], "effect is 'maybe'"),
        ([statement(effect=[])], "effect is"),
        ([statement(action=())], "has no list of actions"),
        ([{**statement(), "action": "fs:*"}], "has no list of actions"),
        ([statement(action=["read"])], "'read' is no action"),
        ([statement(action=[7])], "7 is no action"),
        ([statement(resource="")], "is no resource"),
        ([statement(resource=None)], "is no resource"),
        ([statement(resource="repository/a")], "is no resource"),
        ([statement(resource="arn:lakefs:fs:::a\nb")], "is no resource"),
        ([statement(resource="[]")], "has no resource"),
        ([statement(resource="[1]")], "1' is no resource"),
        ([statement(resource="[nonsense")], "no JSON list"),
        ([statement(resource="[" * 200_000)], "no JSON list"),
        ([statement(resource='["*"' + ',"*"' * 1000 + "]")], "at most 1000"),
        ([statement(resource="arn:lakefs:" + "x" * 2048)], "is no resource"),
        ([statement(condition={"StringEquals": {"a": ["b"]}})], "'StringEquals' is not known"),
        ([statement(condition={"IpAddress": {"Other": ["10.0.0.0/8"]}})], "is not known"),
        ([statement(condition={"IpAddress": {"SourceIp": ["10.0.0.0/33"]}})], "is no network"),
        ([statement(condition={"IpAddress": {"SourceIp": [None]}})], "is no network"),
        ([statement(condition={"IpAddress": {"SourceIp": [5]}})], "is no network"),
        ([statement(condition={"IpAddress": {"SourceIp": []}})], "names no network"),
        ([statement(condition={"IpAddress": {"SourceIp": 5}})], "names no network"),
        ([statement(condition={"IpAddress": {}})], "cannot be read"),
        ([statement(condition="x")], "cannot be read"),
        ([statement(condition=False)], "cannot be read"),
        ([statement(condition={"IpAddress": {"SourceIp": ["::/0"]}, "X": {}})], "several conditions"),
        ([statement()] * 101, "at most 100"),
    ],
)
def test_what_is_no_policy_is_refused(statements, message):
    with pytest.raises(Invalid, match=re.escape(message)):
        parse("p", statements)


@pytest.mark.parametrize("name", ["", "a b", "a/b", "x" * 128, "a\n"])
def test_names_that_are_none(name):
    with pytest.raises(Invalid, match="name of a policy"):
        parse(name, [statement()])


@given(STATEMENTS)
def test_a_policy_is_written_as_it_was_read(statements):
    policy = parse("p", statements)
    assert parse("p", [each.as_dict() for each in policy.statements]) == policy


@given(
    st.lists(
        st.builds(
            statement,
            EFFECTS,
            st.just(["fs:ReadObject"]),
            st.text(alphabet="ab/*?.", max_size=12).map("arn:lakefs:".__add__),
        ),
        min_size=1,
        max_size=4,
    ),
    st.text(alphabet="ab/", max_size=4),
    st.lists(st.text(alphabet="ab/.", max_size=5), min_size=1, max_size=20),
)
def test_what_is_allowed_below_a_name_is_allowed_for_all_that_begins_so(statements, beginning, ends):
    rules = rules_for("ann", [parse("p", statements)])
    name = f"arn:lakefs:{beginning}"
    if rules.decide_below("fs:ReadObject", [name]).allowed:
        for end in ends:
            assert rules.decide("fs:ReadObject", [name + end]).allowed


@pytest.mark.parametrize(
    ("statements", "allowed"),
    [
        ([statement(resource="*")], True),
        ([], False),
        ([statement(resource="arn:lakefs:a/*")], True),
        ([statement(resource="arn:lakefs:a/b*")], True),
        ([statement(resource="arn:lakefs:a/b/*")], False),
        ([statement(resource="arn:lakefs:a/?")], False),
        ([statement(resource="arn:lakefs:*"), statement("deny", resource="arn:lakefs:a/b/secret/*")], False),
        ([statement(resource="arn:lakefs:*"), statement("deny", resource="arn:lakefs:*/secret")], False),
        ([statement(resource="arn:lakefs:*"), statement("deny", resource="arn:lakefs:a/c")], True),
        ([statement(resource="*", condition={"IpAddress": {"SourceIp": ["10.0.0.0/8"]}})], False),
    ],
)
def test_all_below_a_name(statements, allowed):
    policies = [parse("p", statements)] if statements else []
    decision = rules_for("ann", policies).decide_below("fs:ReadObject", ["arn:lakefs:a/b"])
    assert decision.allowed == allowed, decision.reason


@given(
    st.lists(
        st.builds(
            statement,
            EFFECTS,
            st.just(["fs:ReadObject"]),
            st.text(alphabet="ab/*?", max_size=8).map("arn:lakefs:".__add__),
        ),
        min_size=1,
        max_size=4,
    ),
    st.tuples(*[st.text(alphabet="ab", max_size=2)] * 3),
    st.lists(st.text(alphabet="ab/", max_size=4), min_size=1, max_size=20),
)
def test_what_is_shown_could_be_seen_before(statements, names, paths):
    rules = rules_for("ann", [parse("p", statements)])
    both, hidden, shown = (f"arn:lakefs:{name}/" for name in names)
    if rules.decide_shown("fs:ReadObject", [both, hidden], [both, shown]).allowed:
        for path in paths:
            if rules.decide("fs:ReadObject", [both + path, shown + path]).allowed:
                assert rules.decide("fs:ReadObject", [both + path, hidden + path]).allowed


TOP = "arn:lakefs:fs:::repository/r"


@pytest.mark.parametrize(
    ("statements", "allowed"),
    [
        ([statement(resource="*")], True),
        ([statement(resource=f"{TOP}/*")], True),
        ([statement(resource=f"{TOP}/object/raw/*")], True),
        ([statement(resource=f"{TOP}/branch/*/object/raw/*")], True),
        (
            [statement(resource=f"{TOP}/branch/main/object/*")],
            True,
        ),  # the other cannot be read, so shows nothing
        ([statement(resource=f"{TOP}/branch/dev/object/*")], False),
        ([statement(resource=f"{TOP}/branch/d*")], False),
        ([statement(resource=f"{TOP}/branch/d*"), statement(resource=f"{TOP}/branch/main/object/*")], True),
        ([statement(resource="*"), statement("deny", resource=f"{TOP}/branch/main/object/pay/*")], False),
        ([statement(resource="*"), statement("deny", resource=f"{TOP}/branch/dev/object/pay/*")], True),
        ([statement(resource="*"), statement("deny", resource=f"{TOP}/object/pay/*")], True),
        ([statement(resource="*"), statement("deny", resource=f"{TOP}/branch/*/object/pay/*")], True),
    ],
)
def test_a_branch_from_another(statements, allowed):
    names = [(f"{TOP}/object/", f"{TOP}/branch/{branch}/object/") for branch in ("main", "dev")]
    decision = rules_for("ann", [parse("p", statements)]).decide_shown("fs:ReadObject", *names)
    assert decision.allowed == allowed, decision.reason
