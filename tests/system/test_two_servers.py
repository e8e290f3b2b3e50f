"""Two servers on one PostgreSQL serve one repository: what one acknowledged the other one shows, and branches
stay linearizable whichever door of whichever server is used.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import httpx
import obstore
import pytest
from obstore.exceptions import AlreadyExistsError
from obstore.store import S3Store
from tests.lake.databases import Postgres
from tests.lake.hammer import BRANCHES, Hammer
from tests.lake.linearizable import Branch, Operation, told, unexplained
from tests.system.lake_server import LakeServer, lake_server

from tulle.errors import AlreadyExists, Conflict, Invalid, NotFound, PreconditionFailed

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def settings(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """One database and one store."""
    url = postgres.make()
    yield {"database": url, "storage": f"local://{tmp_path_factory.mktemp('store')}"}
    postgres.drop(url)


@pytest.fixture(scope="module")
def servers(
    settings: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[LakeServer, LakeServer]]:
    """Two meshes' doors on them."""
    folder = tmp_path_factory.mktemp("two")
    with (
        lake_server(folder / "one", settings) as one,
        lake_server(folder / "two", settings, beside=one) as two,
    ):
        yield one, two


class Remote:
    """A repository behind a server's doors, with as much of the lake's own interface as the hammer uses."""

    def __init__(self, server: LakeServer, name: str) -> None:
        self.name = name
        self.http = httpx.Client(
            base_url=f"{server.api}/repositories/{name}", auth=(server.key, server.secret), timeout=60
        )
        self.s3 = S3Store(
            name,
            endpoint=server.s3,
            access_key_id=server.key,
            secret_access_key=server.secret,
            region="us-east-1",
            virtual_hosted_style_request=False,
            client_options={"allow_http": True},
        )
        self.turn = 0

    def ask(self, method: str, path: str, **more: Any) -> Any:
        answer = self.http.request(method, path, **more)
        kinds = {400: Invalid, 404: NotFound, 409: Conflict, 412: AlreadyExists}
        if answer.status_code in kinds:
            raise kinds[answer.status_code](answer.text)
        assert answer.is_success, answer.text
        return answer.json() if answer.content and "json" in answer.headers["content-type"] else answer.text

    def put(
        self, branch: str, path: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None
    ) -> SimpleNamespace:
        if if_match is not None:
            asked = {"params": {"path": path}, "content": data, "headers": {"if-match": f'"{if_match}"'}}
            try:
                made = self.ask("POST", f"/branches/{branch}/objects", **asked)
            except AlreadyExists as exc:  # what 412 is taken for
                raise PreconditionFailed(str(exc)) from None
            return SimpleNamespace(path=path, checksum=made["checksum"])
        self.turn += 1
        if self.turn % 2:  # now by this door, now by that
            headers = {"if-none-match": "*"} if if_absent else {}
            made = self.ask(
                "POST", f"/branches/{branch}/objects", params={"path": path}, content=data, headers=headers
            )
            return SimpleNamespace(path=path, checksum=made["checksum"])
        try:
            put = obstore.put(
                self.s3,
                f"{branch}/{path}",
                data,
                mode="create" if if_absent else "overwrite",
                use_multipart=False,
            )
        except AlreadyExistsError as exc:
            raise AlreadyExists(str(exc)) from None
        assert put["e_tag"] == f'"{hashlib.md5(data).hexdigest()}"'
        return SimpleNamespace(path=path, checksum=hashlib.md5(data).hexdigest())

    def move(self, branch: str, src: str, dest: str) -> SimpleNamespace:
        paths = {"src_path": src, "dest_path": dest}
        moved = self.ask("POST", f"/branches/{branch}/objects/move", json=paths)
        return SimpleNamespace(path=dest, checksum=moved["checksum"])

    def delete(self, branch: str, path: str) -> None:
        self.ask("DELETE", f"/branches/{branch}/objects", params={"path": path})

    def stat(self, ref: str, path: str) -> SimpleNamespace:
        found = self.ask("GET", f"/refs/{ref}/objects/stat", params={"path": path})
        return SimpleNamespace(path=path, checksum=found["checksum"], etag=found["checksum"])

    def list(self, ref: str) -> SimpleNamespace:
        self.turn += 1
        if self.turn % 2:
            page = self.ask("GET", f"/refs/{ref}/objects/ls", params={"amount": 1000})
            entries = [SimpleNamespace(path=e["path"], checksum=e["checksum"]) for e in page["results"]]
            return SimpleNamespace(entries=entries)
        rows = [row for batch in obstore.list(self.s3, prefix=f"{ref}/") for row in batch]
        return SimpleNamespace(
            entries=[
                SimpleNamespace(path=row["path"].removeprefix(f"{ref}/"), checksum=row["e_tag"].strip('"'))
                for row in rows
            ]
        )

    def entries(self, ref: str) -> list[SimpleNamespace]:
        return list(self.list(ref).entries)

    def branch(self, name: str) -> SimpleNamespace:
        return SimpleNamespace(commit_id=self.ask("GET", f"/branches/{name}")["commit_id"])

    def create_branch(self, name: str, source: str) -> None:
        self.ask("POST", "/branches", json={"name": name, "source": source})

    def commit(self, branch: str, message: str) -> SimpleNamespace:
        made = self.ask("POST", f"/branches/{branch}/commits", json={"message": message})
        return SimpleNamespace(id=made["id"], parents=made["parents"])

    def merge(self, source: str, dest: str) -> SimpleNamespace:
        merged = self.ask("POST", f"/refs/{source}/merge/{dest}", json={})["reference"]
        parents = self.ask("GET", f"/commits/{merged}")["parents"]
        return SimpleNamespace(commit=SimpleNamespace(id=merged, parents=parents))

    def fold(self, _ref: str) -> None:
        """Servers fold by themselves."""


@dataclass(frozen=True)
class Pair:
    """One repository as each server shows it."""

    one: Remote
    two: Remote


@pytest.fixture
def pair(servers: tuple[LakeServer, LakeServer], request: pytest.FixtureRequest) -> Iterator[Pair]:
    """A repository of its own for each test."""
    name = quote(request.node.name.replace("_", "-").lower())[:60].strip("-")
    servers[0].make_repository(name)
    made = Pair(*(Remote(server, name) for server in servers))
    yield made
    made.one.http.close()
    made.two.http.close()


def test_what_one_acknowledged_the_other_one_shows(pair: Pair) -> None:
    for number in range(10):
        source, target = (pair.one, pair.two) if number % 2 else (pair.two, pair.one)
        put = source.put("main", f"a/{number}", str(number).encode())
        assert target.stat("main", f"a/{number}").checksum == put.checksum
        assert [e.path for e in target.list("main").entries] == [f"a/{n}" for n in range(number + 1)]
    commit = pair.one.commit("main", "ten")
    assert pair.two.branch("main").commit_id == commit.id
    pair.two.delete("main", "a/0")
    with pytest.raises(NotFound):
        pair.one.stat("main", "a/0")
    with pytest.raises(AlreadyExists):
        pair.one.put("main", "a/1", b"x", if_absent=True)


def test_branches_stay_linearizable(pair: Pair) -> None:
    first = pair.one.branch("main").commit_id
    pair.one.create_branch("trunk", "main")
    parts = [Hammer(remote, name, 20) for remote, name in ((pair.one, "one"), (pair.two, "two"))]  # type: ignore[arg-type]
    failures: list[BaseException] = []

    def run(part: Hammer) -> None:
        try:
            part.run()
        except BaseException as exc:  # noqa: BLE001  raised in the main thread
            failures.append(exc)

    threads = [threading.Thread(target=run, args=(part,)) for part in parts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    done: list[Operation] = [operation for part in parts for operation in part.done]
    for branch in BRANCHES:
        history = [operation for operation in done if operation.who.startswith(f"{branch} ")]
        assert {"list", "head", "publish"} <= {operation.kind for operation in history}
        found = unexplained(history, Branch(head=first))
        assert found is None, f"no order explains what {branch} did:\n{told(found)}"


def test_a_server_that_is_killed_holds_nobody_up(
    servers: tuple[LakeServer, LakeServer], settings: dict[str, str], tmp_path: Path
) -> None:
    name = servers[0].make_repository("held-up")
    with lake_server(tmp_path / "third", settings, beside=servers[0]) as third:
        stop = threading.Event()
        acknowledged: list[str] = []

        remote, other = Remote(third, name), Remote(servers[1], name)

        def write() -> None:
            number = 0
            while not stop.is_set():
                try:
                    remote.put("main", f"k/{number}", b"x")
                    acknowledged.append(f"k/{number}")
                    if number % 5 == 0:
                        remote.commit("main", "some")
                except Exception:  # noqa: BLE001  it is killed under our hands
                    return
                number += 1

        writer = threading.Thread(target=write)
        writer.start()
        while len(acknowledged) < 12:
            assert writer.is_alive()
        third.kill()
        stop.set()
        writer.join()
    other.put("main", "after", b"x")
    other.commit("main", "after")
    assert {*acknowledged, "after"} <= {e.path for e in other.list("main").entries}
    remote.http.close()
    other.http.close()
