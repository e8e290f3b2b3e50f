import pytest

from tulle.errors import Invalid
from tulle.lake.door import Outgoing
from tulle.lake.rest.call import Call
from tulle.lake.rest.router import Route, Router


def nothing(call: Call) -> Outgoing:
    return Outgoing()


ROUTES = [
    Route("GET", "/repositories", nothing, "list"),
    Route("GET", "/repositories/{repository}", nothing, "get"),
    Route("PUT", "/repositories/{repository}", nothing, "set"),
    Route("GET", "/repositories/{repository}/refs/{ref}/objects", nothing, "object"),
    Route("GET", "/repositories/{repository}/refs/{ref}/objects/ls", nothing, "ls"),
    Route("GET", "/repositories/known/special", nothing, "special"),
    Route("GET", "/repositories/{repository}/{part}", nothing, "part"),
]


@pytest.mark.parametrize(
    ("path", "operation", "parameters"),
    [
        (b"/repositories", "list", {}),
        (b"/repositories/", "list", {}),
        (b"/repositories/a", "get", {"repository": "a"}),
        (b"/repositories/a/refs/x%2Fy/objects", "object", {"repository": "a", "ref": "x/y"}),
        (b"/repositories/refs/refs/objects/objects/ls", "ls", {"repository": "refs", "ref": "objects"}),
        (b"/repositories/known/special", "special", {}),
        (b"/repositories/known/other", "part", {"repository": "known", "part": "other"}),
        (b"/repositories/%C3%A9", "get", {"repository": "é"}),
        (b"/nothing", None, {}),
        (b"/repositories//refs", None, {}),
    ],
)
def test_a_path_leads_to_its_route(path, operation, parameters):
    found = Router(ROUTES).find("GET", path)
    assert (found and (found[0].operation, found[1])) == (operation and (operation, parameters))


def test_other_methods_of_a_path_are_told():
    router = Router(ROUTES)
    assert router.find("DELETE", b"/repositories/a") is None
    assert router.methods(b"/repositories/a") == ("GET", "PUT")
    assert router.methods(b"/nothing") == ()


@pytest.mark.parametrize("path", [b"/repositories/%ff", b"/repositories/%00", b"/repositories/a%80"])
def test_a_parameter_that_is_no_text_is_refused(path):
    with pytest.raises(Invalid, match="path"):
        Router(ROUTES).find("GET", path)


def test_two_routes_at_one_place_are_refused():
    with pytest.raises(Invalid, match="twice"):
        Router([*ROUTES, Route("GET", "/repositories/{other}", nothing, "again")])
