"""What differs between two policies of the gateway, said in the words of the model."""

from __future__ import annotations

from dataclasses import replace

from tulle.gateway.front import Front
from tulle.gateway.policies.entry import Operation, Policy
from tulle.gateway.policy import Backend, Client, Contract, GatewayPolicy, ManagedService, RateLimit
from tulle.gateway.secret import hash_secret
from tulle.gateway.versions.difference import difference
from tulle.serving.access import Access, Public
from tulle.serving.traffic import single

LIMIT = Policy("rate-limit", {"limits": "5/1s"})
CORS = Policy("cors", {"origins": ["https://a.example.com"]})
ONE = ManagedService("one", (), 10_000, policies=(LIMIT, CORS))
API = ManagedService("orders", (), 10_000, front=Front("v1", "/orders/v1", serves="one"))


def said(before: GatewayPolicy, after: GatewayPolicy) -> list[str]:
    return [one.sentence for one in difference(before, after)]


def changed(service: ManagedService) -> list[str]:
    (one,) = difference(GatewayPolicy((ONE,)), GatewayPolicy((service,)))
    assert (one.what, one.name, one.how) == ("service", "one", "changed")
    return list(one.details)


def test_services_that_come_and_go() -> None:
    assert said(GatewayPolicy((ONE,)), GatewayPolicy((API,))) == [
        "service one removed",
        "api orders@v1 added: at /orders/v1",
    ]
    assert said(GatewayPolicy(), GatewayPolicy((ONE,))) == [
        "service one added: at /public/api/v1/one; policies rate-limit, cors"
    ]
    assert said(GatewayPolicy((ONE,)), GatewayPolicy((ONE,))) == []


def test_policies_by_their_places() -> None:
    faster = replace(LIMIT, settings={"limits": "9/1s"})
    assert changed(replace(ONE, policies=(faster, CORS))) == ["policy 1 (rate-limit): limits 5/1s → 9/1s"]
    assert changed(replace(ONE, policies=(CORS,))) == ["policy 1 (rate-limit) removed"]
    assert changed(replace(ONE, policies=(LIMIT, Policy("compression"), CORS))) == [
        "policy 2 (compression) added"
    ]
    narrow = replace(LIMIT, operations=(Operation("GET", "/x"),))
    assert changed(replace(ONE, policies=(narrow, CORS))) == [
        'policy 1 (rate-limit): operations none → [{"method":"GET","path":"/x"}]'
    ]


def test_hidden_values_of_policies_stay_so() -> None:
    def having(**request: str) -> GatewayPolicy:
        injection = Policy("header-injection", {"request": request})
        return GatewayPolicy((replace(ONE, policies=(injection,)),))

    (change,) = difference(having(**{"x-api-key": "hush-1"}), having(**{"x-api-key": "hush-2"}))
    assert change.details == ("policy 1 (header-injection): a hidden value of request is another",)
    (change,) = difference(having(**{"x-api-key": "hush-1"}), having(**{"x-api-key": "hush-1", "x-a": "b"}))
    assert "hush" not in change.sentence
    assert '"x-a":"b"' in change.sentence


def test_all_else_of_a_service_by_its_name() -> None:
    assert changed(replace(ONE, max_request_bytes=5)) == ["max_request_bytes 10000 → 5"]
    assert changed(replace(ONE, access=Access(public=Public("5/1s")))) == [
        "access.public.by none → all",
        "access.public.limit none → 5/1s",
    ]
    moved = replace(API, front=replace(API.front, path="/orders/v2"))  # type: ignore[type-var]
    (one,) = difference(GatewayPolicy((API,)), GatewayPolicy((moved,)))
    assert (one.what, one.details) == ("api", ("front.path /orders/v1 → /orders/v2",))
    long = replace(LIMIT, settings={"limits": "9" * 500})
    (told,) = changed(replace(ONE, policies=(long, CORS)))
    assert told.endswith("… (500 characters)")


def test_who_answers() -> None:
    one = replace(ONE, traffic=None)
    after = replace(ONE, traffic=single("v2"), backends=(Backend("v2", ("run/w/x.sock",)),))
    (told,) = difference(GatewayPolicy((one,)), GatewayPolicy((after,)))
    assert told.details == (f"answered by nothing → {single('v2')}",)
    elsewhere = replace(after, backends=(Backend("v2", ("run/w/y.sock",)),))
    assert (
        difference(GatewayPolicy((after,)), GatewayPolicy((elsewhere,))) == []
    )  # where workers listen is nobody's


def test_clients_and_contracts() -> None:
    ann, bob = Client("ann", hash_secret("1" * 40)), Client("bob", hash_secret("2" * 40))
    rotated = replace(ann, second_hash=hash_secret("3" * 40))
    held = Contract("ann", "one", RateLimit.parse("5/1s"))
    more = replace(held, limit=RateLimit.parse("9/1s"), tier="gold")
    before, after = GatewayPolicy((), (ann, bob), (held,)), GatewayPolicy((), (rotated,), (more,))
    assert said(before, after) == [
        "client ann changed: 2 secrets open, one of them is another",
        "client bob removed",
        "contract ann for one changed: limit 5/1s → 9/1s; tier none → gold",
    ]
    assert said(after, GatewayPolicy((), (ann,), ()))[-1] == "contract ann for one removed"
    assert hash_secret("1" * 40) not in " ".join(said(before, after))
