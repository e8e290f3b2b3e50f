"""Operations and the parts that overlapping ones make of a service's requests."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tulle.errors import Invalid
from tulle.gateway.policies.entry import MOST_PARTS, Operation, Policy, split

SEGMENTS = st.sampled_from(["a", "b", "{x}", "{y}"])
PATHS = st.lists(SEGMENTS, max_size=3).map(lambda parts: "/" + "/".join(parts) if parts else "")
OPERATIONS = st.builds(Operation, st.sampled_from(["", "GET", "POST"]), PATHS)
POLICIES = st.lists(
    st.builds(lambda found: Policy("x", operations=tuple(found)), st.lists(OPERATIONS, max_size=3)),
    max_size=4,
)
REQUESTS = st.tuples(
    st.sampled_from(["GET", "POST", "PUT"]), st.lists(st.sampled_from(["a", "b", "c"]), max_size=3)
)


def is_of(operation: Operation, method: str, path: str) -> bool:
    """Whether a request is one of an operation, told as a route tells it."""
    fits = not operation.path or re.fullmatch(operation.regex(), path) is not None
    return fits and operation.method in {"", method}


@settings(max_examples=300, deadline=None)
@given(POLICIES, REQUESTS)
def test_the_first_part_of_a_request_has_exactly_the_policies_for_it(
    policies: list[Policy], request_: tuple[str, list[str]]
) -> None:
    method, path = request_[0], "/" + "/".join(request_[1])
    held = next(held for part, held in split(policies) if is_of(part, method, path))
    assert held == tuple(
        number
        for number, policy in enumerate(policies)
        if not policy.operations or any(is_of(one, method, path) for one in policy.operations)
    )


def test_without_operations_there_is_one_part() -> None:
    assert split([]) == [(Operation(), ())]
    assert split([Policy("a"), Policy("b")]) == [(Operation(), (0, 1))]


@pytest.mark.parametrize(
    ("method", "path", "said"),
    [
        ("HEAD", "", "GET is for HEAD too"),
        ("get", "", "one of GET"),
        ("", "fraud", "write '/fraud'"),
        ("", "/a//b", "'' is no part"),
        ("", "/a/../b", "'..' is no part"),
        ("", "/a/x{id}", "'x{id}' is no part"),
        ("", "/a%2fb", "'a%2fb' is no part"),
        ("", "/a?b=1", "no part"),
        ("", "/" + "a" * 400, "401 characters"),
    ],
)
def test_what_no_request_is_told_by_is_refused(method: str, path: str, said: str) -> None:
    with pytest.raises(Invalid) as told:
        Operation(method, path)
    assert said in f"{told.value.message} {told.value.hint}"


def test_a_slash_at_the_end_leads_around_no_policy() -> None:
    for path in ("/fraud/predict", "/fraud/predict/"):
        assert re.fullmatch(Operation("POST", path).regex(), "/fraud/predict")
        assert re.fullmatch(Operation("POST", path).regex(), "/fraud/predict/")
    assert not re.fullmatch(Operation(path="/a.b").regex(), "/axb")


def test_what_comes_after_a_question_mark_is_no_part_of_a_path() -> None:
    for path in ("/{a}/b", "/a/{b}"):
        assert not re.fullmatch(Operation(path=path).regex(), "/a?x=/b")
        assert not re.fullmatch(Operation(path=path).likeness(), "/a?x=/b")


@pytest.mark.parametrize(
    ("path", "alike", "other"),
    [
        (
            "/a:b/c",
            ["/a%3Ab/c", "/a%3ab/C", "/a:b;x/c;y=1", "/a:b/;/c", "/.;/a:b/c/", "/a:b%3B/c"],
            ["/a:bc"],
        ),
        (
            "/a:b/c",
            [
                *("/a%253Ab/c", "/%2561:b/c", "/%252541:b/c", "/a:b%252fc", "/a:b%255Cc", "/a:b%253bx/c"),
                *("/a:b/c%20", "/a:b/c.", "/a:b/c..%20", "/a:b./c", "/a:b/c%2520", "/a:b/c%252e;x"),
                *("/a:b/c%3f", "/a:b/c%3Fx=1", "/a:b/c/%23", "/a:b/c%2523/x", "/a:b/%43"),
            ],
            ["/a:b/%253f", "/a:b%25/c", "/a:b/c/x%3f", "/a:b/x%20", "/a:b/cc.", "/a:b%253f/c", "/a%25:b/c"],
        ),
        (
            "/tags/{tag}",
            ["/TAGS/c%23", "/tags/c/%23", "/tags/c/%253Fq"],
            ["/tags/c%23/posts", "/tags/what%3F/posts"],
        ),
        ("/ask/9", ["/a%C5%BFk/9", "/as%e2%84%aa/9", "/as%256B/9", "/as%254b/9", "/ask/%2539"], ["/atk/9"]),
        ("/a.b/{x}", ["/a%2eb/1", "/A.b/1", "/a.b;x/1"], ["/axb/1", "/a.b", "/a.b/1/2", "/a.b%2f1"]),
        ("/$(x)+[]"[:5] + "~", ["/%24(X)~", "/$%28x%29%7e"], ["/x~"]),
    ],
)
def test_what_some_take_for_the_same_path_is_known(path: str, alike: list[str], other: list[str]) -> None:
    operation = Operation(path=path)
    assert all(re.fullmatch(operation.likeness(), one) for one in alike)
    assert not any(re.fullmatch(operation.regex(), one) for one in alike if "{" not in path)
    assert not any(re.fullmatch(operation.likeness(), one) for one in other)


def test_operations_that_overlap_in_too_many_ways_are_refused() -> None:
    many = [
        Policy(
            "x", operations=tuple(Operation(path="/{x}" * n + f"/{m}" + "/{x}" * (7 - n)) for n in range(8))
        )
        for m in "abc"
    ]
    with pytest.raises(Invalid, match=f"more than {MOST_PARTS} ways"):
        split(many)


def test_a_policy_reads_as_it_was_written() -> None:
    policy = Policy("cors", {"origins": ["*"]}, (Operation("GET", "/a"), Operation(path="/b")))
    assert policy.as_plain() == {
        "policy": "cors",
        "origins": ["*"],
        "operations": [{"method": "GET", "path": "/a"}, {"path": "/b"}],
    }
