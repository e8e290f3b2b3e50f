"""Whatever is sent is answered, and never by a failure of ours."""

import base64
import json
import random
import string

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.lake.rest.calling import Client, exchange

from tulle.lake.access import ensure_administrator, open_access
from tulle.lake.door import application
from tulle.lake.repository import open_lake
from tulle.lake.rest.application import RestDoor
from tulle.lake.rest.router import all_routes
from tulle.state.db import open_database

# What would end the story for all examples that follow.
FINAL = {"deleteRepository", "tulle.setReadOnly", "tulle.setQuota", "setBranchProtectionRules"}
ROUTES = [route for route in all_routes() if route.operation not in FINAL]

WORDS = """main|sales|a/1.txt|main@|main~1|main^2|main~999999999|@|%00|%FF%FE|%|%zz|+|..|../..|*|$|a%2Fb|null|true|
-1|99999999999999999999""".replace("\n", "").split("|")
NASTY = st.one_of(
    st.sampled_from([*WORDS, "", "a" * 1025, "é" * 600, "\ud7ff"]),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    st.binary(max_size=20).map(lambda raw: "".join(f"%{byte:02x}" for byte in raw)),
)
KNOWN = {"{repository}": "sales", "{branch}": "main", "{ref}": "main", "{destinationBranch}": "main"}
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), NASTY),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NASTY, inner, max_size=3)),
    max_leaves=6,
)
FIELDS = [
    *("name", "source", "id", "ref", "type", "path", "message", "metadata", "parent_number", "date", "paths"),
    *(
        "src_path",
        "src_ref",
        "set",
        "strategy",
        "choices",
        "physical_address",
        "checksum",
        "size_bytes",
        "staging",
    ),
    *(
        "parts",
        "copy_source",
        "pattern",
        "max_bytes",
        "keys",
        "storage_namespace",
        "commit_overrides",
        "allow_empty",
    ),
]
BODIES = st.one_of(
    st.binary(max_size=60),
    JSON.map(lambda value: json.dumps(value).encode()),
    st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=8).map(lambda value: json.dumps(value).encode()),
)
QUERIES = [
    "path",
    "prefix",
    "after",
    "amount",
    "delimiter",
    "presign",
    "since",
    "stop_at",
    "objects",
    "type",
    "ref",
    "force",
]


TYPES = ["application/json", "multipart/form-data; boundary=b", "text/x", "multipart/form-data"]


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """One door for all examples, over a repository they do to what they like."""
    folder = tmp_path_factory.mktemp("hostile")
    database = open_database(f"sqlite:///{folder / 'state.db'}")
    lake = open_lake(database, f"local://{folder / 'objects'}")
    access = open_access(database, folder / "key")
    ensure_administrator(access, folder, "http://lake.test/api/v1")
    repository = lake.create_repository("sales")
    repository.put("main", "a/1.txt", b"one")
    repository.commit("main", "First")
    door = RestDoor(lake, access, is_mesh_token=lambda token: token == "mesh")
    yield Client(door, application(door.answer, threads=2, name="hostile"), "mesh")
    database.close()


def quoted(text):
    """As a client might write it: percent signs stay, what no line can hold is quoted."""
    plain = string.ascii_letters + string.digits + "%@~^.+-_*$"
    return "".join(c if c in plain else "".join(f"%{byte:02x}" for byte in c.encode()) for c in text)


def segment(data, part):
    if not part.startswith("{"):
        return part
    known = st.just(KNOWN.get(part, "main"))
    return quoted(data.draw(st.one_of(known, known, known, NASTY)))


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_no_request_makes_the_door_fail(one, data):
    route = data.draw(st.sampled_from(ROUTES))
    path = "/".join(segment(data, part) for part in route.path.split("/"))
    names = data.draw(st.lists(st.sampled_from(QUERIES), max_size=4))
    query = "&".join(f"{name}={quoted(data.draw(NASTY))}" for name in names)
    headers = {
        "host": "lake.test",
        "authorization": "Bearer mesh",
        "content-type": data.draw(
            st.sampled_from(
                ["application/json", "multipart/form-data; boundary=b", "text/x", "multipart/form-data"]
            )
        ),
        "range": data.draw(st.sampled_from(["", "bytes=0-", "bytes=-1", "bytes=9-2", "bytes=99-", "x"])),
        "if-none-match": data.draw(st.sampled_from(["", "*", '"x"'])),
    }
    answer = exchange(
        one.app,
        route.method,
        f"/api/v1{path}".encode("ascii"),
        query.encode("ascii"),
        headers,
        [data.draw(BODIES)],
    )
    assert answer.status < 500 or answer.status == 501, (route, path, query, answer.body)
    if answer.status >= 400 and route.method != "HEAD":
        assert json.loads(answer.body)["message"]


def test_a_bad_encoding_is_the_callers_fault(client, sales):
    objects = "/repositories/sales/refs/main/objects"
    for query in (b"path=%FF", b"path=%C3%28", b"path=a%00b", b"path=\xff"):
        answer = exchange(client.app, "GET", f"/api/v1{objects}".encode(), query, _signed(client), [b""])
        assert answer.status == 400, query
    for path in (b"/api/v1/repositories/%FF", b"/api/v1/repositories/sales/refs/%00/objects"):
        assert exchange(client.app, "GET", path, b"path=x", _signed(client), [b""]).status == 400


def _signed(client):
    token = base64.b64encode(":".join(client.credentials).encode()).decode()
    return {"authorization": f"Basic {token}"}


def test_random_bytes_as_a_signed_address(client, sales):
    rng = random.Random(1)
    for _ in range(50):
        token = "".join(
            rng.choice(string.ascii_letters + string.digits + "-_%=") for _ in range(rng.randrange(1, 60))
        )
        for method in ("GET", "PUT"):
            answer = client.url(
                f"http://lake.test:8080/api/v1/signed/{token}?expires=99999999999&signature=x", method
            )
            assert answer.status in {400, 403}


def test_a_well_signed_address_of_nonsense(client, access):
    for token in ("AA", "!!", "bm9uc2Vuc2U", "e30", "W10"):
        url = access.signer.sign("GET", f"/api/v1/signed/{token}", 60)
        assert client.url("http://lake.test:8080" + url).status == 400
