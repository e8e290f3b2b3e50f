"""By which ways the parts of a service may be called."""

from __future__ import annotations

from tulle.gateway.policies.listed import parse_policies, policies_in
from tulle.gateway.policies.opening import access_where, accesses
from tulle.serving.access import Access, Keys, Public

LIST = policies_in(
    parse_policies("""
- policy: client-id
- {policy: api-key, limit: 3/1s, operations: [{path: /a}]}
- {policy: public, limit: 5/1s, operations: [{path: /b}]}
- {policy: cors, origins: ['*']}
"""),
    "",
)
USUAL = Access(public=Public("1/1s"))


def test_without_a_word_it_is_as_the_service_says() -> None:
    assert access_where(LIST, (3,), USUAL) is USUAL
    assert accesses((), USUAL) == [USUAL]


def test_any_one_of_the_ways_is_enough() -> None:
    assert access_where(LIST, (0, 1), USUAL) == Access(api_keys=Keys("3/1s"))
    assert access_where(LIST, (2,), USUAL) == Access(contracts=False, public=Public("5/1s"))
    assert accesses(LIST, USUAL) == [Access(api_keys=Keys("3/1s")), Access(public=Public("5/1s")), Access()]
