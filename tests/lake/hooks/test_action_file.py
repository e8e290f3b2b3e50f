import pytest

from tulle.errors import Invalid
from tulle.lake.hooks.action_file import EVENTS, parse, repeated, validate
from tulle.lake.hooks.properties import seconds_of

GOOD = """
name: Good one
on:
  pre-commit: {branches: [main, 'rel-*', 'x[^a-c]?']}
  post-create-tag:
hooks:
- id: first
  type: webhook
  properties: {url: 'http://x/', timeout: 1m30s, query_params: {a: [1, b]}, headers: {X-A: y}}
- {id: second, type: command, if: failure(), properties: {command: ['true']}}
- {id: third, type: command, if: true, properties: {command: ['true']}}
"""


def test_an_action_file_is_read():
    action = parse(GOOD, "a.yaml")
    assert (action.name, [hook.id for hook in action.hooks]) == ("Good one", ["first", "second", "third"])
    assert [hook.condition for hook in action.hooks] == ["success()", "failure()", "true"]
    assert [hook.wanted(failed=True) for hook in action.hooks] == [False, True, True]
    assert [hook.wanted(failed=False) for hook in action.hooks] == [True, False, True]


@pytest.mark.parametrize(
    ("event", "branch", "matches"),
    [
        ("pre-commit", "main", True),
        ("pre-commit", "main2", False),
        ("pre-commit", "rel-1", True),
        ("pre-commit", "rel-1/2", False),
        ("pre-commit", "xdz", True),
        ("pre-commit", "xaz", False),
        ("post-commit", "main", False),
        ("post-create-tag", "", True),
    ],
)
def test_what_an_action_is_for(event, branch, matches):
    assert parse(GOOD, "a.yaml").matches(event, branch) is matches


def test_there_are_seventeen_events():
    assert len(EVENTS) == 17


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ("name: Good one\n", "", 2, "name"),
        ("Good one", "no/slash", 2, "name"),
        ("pre-commit", "pre-comit", 4, "pre-comit"),
        ("post-create-tag:", "post-create-tag: {branches: [a]}", 5, "tag"),
        ("rel-*", "rel-[", 4, "rel-["),
        ("id: second", "id: first", 10, "first"),
        ("id: second", "id: 2nd", 10, "2nd"),
        ("type: webhook", "type: lua", 8, "Lua"),
        ("type: webhook", "type: web", 8, "web"),
        ("if: failure()", "if: maybe()", 10, "maybe"),
        ("url: 'http://x/', ", "", 9, "url"),
        ("1m30s", "soon", 9, "soon"),
        ("  type: webhook\n", "", 7, "type"),
        ("hooks:", "hooks: [", 7, ""),
    ],
)
def test_what_is_wrong_is_told_with_its_line(old, new, line, said):
    assert GOOD.count(old) == 1
    problems = validate(GOOD.replace(old, new), "a.yaml")
    assert problems
    assert problems[0].place is not None
    assert problems[0].place.file == "a.yaml"
    assert abs(problems[0].place.line - line) <= 1
    assert said in str(problems[0])


def test_unusable_text_raises():
    with pytest.raises(Invalid):
        parse("[", "a.yaml")
    with pytest.raises(Invalid):
        parse(b"\xff", "a.yaml")


def test_two_actions_of_one_name_are_a_problem():
    assert len(repeated([parse(GOOD, "a.yaml"), parse(GOOD, "b.yaml")])) == 1


def test_durations():
    assert seconds_of("1m30s") == 90
    assert seconds_of("500ms") == 0.5
    with pytest.raises(Invalid):
        seconds_of("5")
