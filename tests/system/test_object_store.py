"""A repository whose data is in an S3 store: everything a user does with it, through the doors.

The store is moto's server, a process of its own, and boto3 looks at what is in it.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import obstore
import pytest
from obstore.store import S3Store
from tests.system.clients.conftest import CLIENTS
from tests.system.lake_server import LakeServer, free_port, lake_server

pytestmark = pytest.mark.system

LARGE = os.urandom(1024) * 9 * 1024  # 9 MiB: more than goes up at once


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of an S3 server with the buckets `lake` and `outside`."""
    port = free_port()
    log = (tmp_path_factory.mktemp("moto") / "log").open("wb")
    argv = [str(CLIENTS / "python"), "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(argv, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 150
        while True:
            try:
                for bucket in ("lake", "outside"):
                    assert httpx.put(f"{url}/{bucket}").status_code == 200
                break
            except httpx.TransportError:
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.1)
        yield url
    finally:
        process.kill()
        process.wait()
        log.close()


@pytest.fixture(scope="module")
def server(store: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LakeServer]:
    """The doors of a mesh that may use both buckets, with the credentials in its environment."""
    settings = {"object_stores": ["s3://lake/here", "s3://outside"]}
    found = {
        "AWS_ACCESS_KEY_ID": "k",
        "AWS_SECRET_ACCESS_KEY": "s",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT": store,
        "AWS_ALLOW_HTTP": "true",
    }
    with pytest.MonkeyPatch.context() as patched:
        for name, value in found.items():
            patched.setenv(name, value)
        with lake_server(tmp_path_factory.mktemp("far") / "mesh", settings) as opened:
            yield opened


@pytest.fixture(scope="module")
def api(server: LakeServer) -> Iterator[httpx.Client]:
    """Signed in, at a repository over the bucket."""
    with server.client() as client:
        body = {"name": "far", "storage_namespace": "s3://lake/here", "default_branch": "main"}
        assert client.post("/repositories", json=body).status_code == 201
        body["storage_namespace"] = "s3://lake/elsewhere"
        assert client.post("/repositories", json={**body, "name": "not-here"}).status_code == 403
        client.base_url = f"{server.api}/repositories/far"
        yield client


@pytest.fixture(scope="module")
def mine(server: LakeServer) -> S3Store:
    """The S3 door, as a client sees it."""
    return S3Store(
        "far",
        endpoint=server.s3,
        access_key_id=server.key,
        secret_access_key=server.secret,
        region="us-east-1",
        virtual_hosted_style_request=False,
        client_options={"allow_http": True},
    )


def bucket(store: str, name: str) -> S3Store:
    return S3Store(
        name,
        endpoint=store,
        access_key_id="k",
        secret_access_key="s",
        region="us-east-1",
        virtual_hosted_style_request=False,
        client_options={"allow_http": True},
    )


def names(store: S3Store, prefix: str = "") -> list[str]:
    return [item["path"] for batch in obstore.list(store, prefix=prefix or None) for item in batch]


def ended(api: httpx.Client, path: str, done: str = "completed") -> dict[str, Any]:
    deadline = time.monotonic() + 150
    while True:
        told: dict[str, Any] = api.get(path).raise_for_status().json()
        if told.get(done) is True or told.get("status") == "done":
            return told
        assert not told.get("error"), told
        assert time.monotonic() < deadline, told
        time.sleep(0.1)


def test_its_life(api: httpx.Client, mine: S3Store, store: str, tmp_path: Path) -> None:
    lake, outside = bucket(store, "lake"), bucket(store, "outside")

    # Written at the S3 door, in one piece and in parts; the bytes are in the bucket and nowhere else.
    obstore.put(mine, "main/a/ü +%.txt", b"small", mode="overwrite")
    (tmp_path / "large").write_bytes(LARGE)
    obstore.put(mine, "main/large", tmp_path / "large", use_multipart=True, chunk_size=5 * 1024 * 1024)
    assert obstore.get(mine, "main/large").bytes() == LARGE
    assert (
        bytes(obstore.get_range(mine, "main/large", start=5_000_000, end=5_000_010))
        == LARGE[5_000_000:5_000_010]
    )
    assert len([name for name in names(lake, "here") if "/data/" in name]) >= 2

    # Committed, branched, changed, merged; no byte is copied for it.
    assert api.post("/branches/main/commits", json={"message": "one"}).status_code == 201
    assert api.post("/branches", json={"name": "dev", "source": "main"}).status_code == 201
    obstore.put(mine, "dev/a/more", b"more")
    assert api.post("/branches/dev/commits", json={"message": "two"}).status_code == 201
    before = sum("/data/" in name for name in names(lake, "here"))
    assert api.post("/refs/dev/merge/main", json={}).status_code == 200
    assert obstore.get(mine, "main/a/more").bytes() == b"more"
    assert sum("/data/" in name for name in names(lake, "here")) == before

    # Addresses of the store itself: signed ones to read, and one to write to and link.
    about = api.get("/refs/main/objects/stat", params={"path": "large", "presign": True}).json()
    assert httpx.get(about["physical_address"]).content == LARGE
    asked = {"path": "direct", "presign": True}
    place = api.get("/branches/main/staging/backing", params=asked).json()
    assert httpx.put(place["presigned_url"], content=b"straight").status_code == 200
    linked = {"staging": place, "checksum": "c", "size_bytes": 8}
    assert (
        api.put("/branches/main/staging/backing", params={"path": "direct"}, json=linked).status_code == 200
    )
    assert obstore.get(mine, "main/direct").bytes() == b"straight"

    # Imported without copying, and exported, large objects too.
    for number in range(3):
        obstore.put(outside, f"raw/{number}", b"%d" % number)
    obstore.put(outside, "raw/large", LARGE)
    assert api.post("/branches/main/commits", json={"message": "direct"}).status_code == 201
    body = {
        "paths": [{"type": "common_prefix", "path": "s3://outside/raw/", "destination": "raw/"}],
        "commit": {"message": "import"},
    }
    started = api.post("/branches/main/import", json=body)
    assert started.status_code == 202, started.text
    assert ended(api, f"/branches/main/import?id={started.json()['id']}")["ingested_objects"] == 4
    assert obstore.get(mine, "main/raw/large").bytes() == LARGE
    started = api.post("/refs/main/export", json={"destination": "s3://outside/out"})
    assert started.status_code == 202, started.text
    ended(api, f"/exports/{started.json()['id']}")
    assert obstore.get(outside, "out/large").bytes() == LARGE
    assert obstore.get(outside, "out/a/ü +%.txt").bytes() == b"small"

    # Verified, and what is gone is told.
    assert api.post("/verify", json={"data": True}).json()["damages"] == []
    obstore.delete(outside, "raw/1")
    gone = api.get("/refs/main/objects", params={"path": "raw/1"})
    assert gone.status_code in {404, 410}, gone.text


def test_a_store_that_does_not_answer_is_told(api: httpx.Client, store: str) -> None:
    refused = api.post(
        "/branches/main/import",
        json={
            "paths": [{"type": "common_prefix", "path": "s3://nobody/x/", "destination": "x/"}],
            "commit": {"message": "m"},
        },
    )
    assert refused.status_code == 403
    assert "object_stores" in refused.json()["message"]
