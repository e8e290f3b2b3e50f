"""Look-ups that follow what is published, and those that are pinned: what answers, from which commit, and when not."""

from __future__ import annotations

import asyncio
import decimal
import json
import os
import re
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest
from tests.serving.asking import InProcess
from tests.serving.conftest import Mesh, customers, parquet
from tests.serving.test_worker import first_line, start

from tulle.errors import Broken, Invalid
from tulle.serving import live, refresh
from tulle.serving.app import App
from tulle.serving.live import Following
from tulle.serving.loaded import Loaded, load
from tulle.serving.refresh import KEEP_SECONDS, Refresher, live_folder

LATEST = """
service: newest
endpoints:
- {name: it, type: lookup, product: customer-features, data_set: stock, key: item, columns: [left], source: latest}
- {name: bundled, type: lookup, product: customer-features, data_set: stock, key: item, columns: [left]}
- name: both
  type: compose
  input: {item: {}}
  steps:
  - {name: one, call: it, with: {item: $input.item}}
  output: $one
"""
PREDICTS = """
service: newest-predictor
endpoints:
- name: it
  type: predict
  model: high_value
  enrich: [{product: customer-features, data_set: customer_features, key: customer_id, source: latest}]
"""


def publish(
    mesh: Mesh, left: int, items: tuple[str, ...] = ("a", "b"), kind: pa.DataType | None = None
) -> str:
    """Publish how much is left of each item; the commit."""
    features = mesh.lake.repository("customer-features")
    table = pa.table({"item": list(items), "left": pa.array([left] * len(items), kind or pa.int64())})
    features.put("main", "stock/part-0000.parquet", parquet(table))
    return features.commit("main", f"{left} left").id


def following(mesh: Mesh, text: str) -> tuple[Loaded, App, Following]:
    loaded = load(mesh.unpacked(mesh.build(text)))
    app = App(loaded, max_request_bytes=10_000)
    found = Following(loaded, live_folder(mesh.settings))
    found.begin()
    return loaded, app, found


def refreshed(mesh: Mesh, one: Following) -> None:
    """What the refresher does, and then the worker, in this thread."""
    refresher = Refresher(
        mesh.settings, mesh.lake, lambda home: refresh.refresh(home, mesh.lake, mesh.settings) and None
    )
    refresher.look()
    refresher.stop()
    assert one


def ask(app: App, path: str, body: Any) -> httpx.Response:
    async def once() -> httpx.Response:
        async with httpx.AsyncClient(transport=InProcess(app)) as client:
            return await client.post(f"http://worker{app.home}/{path}", content=json.dumps(body))

    return asyncio.run(once())


def homes(mesh: Mesh) -> list[Path]:
    return [file.parent for file in live_folder(mesh.settings).glob("*/*/wanted.json")]


def recorded(home: Path) -> live.State:
    state = live.read_state(home)
    assert state is not None
    return state


def test_what_is_published_answers_in_place_and_says_from_which_commit(mesh: Mesh) -> None:
    old = publish(mesh, 1)
    _, app, follows = following(mesh, LATEST)
    first = ask(app, "it/lookup", {"data": {"item": "a"}})
    assert first.json()["results"][0]["data"] == {"left": 1}
    assert first.headers["x-tulle-data-commit"] == f"customer-features/stock@{old}"
    new = publish(mesh, 2)
    refreshed(mesh, follows)
    app.renew(follows.look())
    second = ask(app, "it/lookup", {"data": {"item": "a"}})
    assert second.json()["results"][0]["data"] == {"left": 2}
    assert second.json()["apiContext"]["dataCommits"] == {"customer-features/stock": new}
    assert second.headers["x-tulle-data-commit"] == f"customer-features/stock@{new}"
    # What calls it names the same commit; what is bundled stays as it was.
    composed = ask(app, "both/run", {"item": "a"})
    assert composed.json()["response"] == {"left": 2}
    assert composed.headers["x-tulle-data-commit"] == f"customer-features/stock@{new}"
    bundled = ask(app, "bundled/lookup", {"data": {"item": "a"}})
    assert bundled.json()["results"][0]["data"] == {"left": 1}
    assert bundled.headers["x-tulle-data-commit"] == f"customer-features@{old}"
    assert ask(app, "it/lookup", {"data": {"item": "z"}}).headers["x-tulle-data-commit"].endswith(new)


def test_a_commit_that_leaves_the_data_set_as_it_is_builds_nothing_and_is_named(mesh: Mesh) -> None:
    publish(mesh, 1)
    _, app, follows = following(mesh, LATEST)
    refreshed(mesh, follows)
    follows.look()
    (home,) = homes(mesh)
    built = recorded(home)
    features = mesh.lake.repository("customer-features")
    features.put("main", "other/part-0000.parquet", parquet(pa.table({"x": [1]})))
    commit = features.commit("main", "something else").id
    refreshed(mesh, follows)
    state = recorded(home)
    assert (state.file, state.built_at) == (built.file, built.built_at)
    app.renew(follows.look())
    assert ask(app, "it/lookup", {"data": {"item": "a"}}).headers["x-tulle-data-commit"].endswith(commit)


def test_what_cannot_be_taken_leaves_what_was_there_and_is_told(mesh: Mesh) -> None:
    old = publish(mesh, 1)
    _, app, follows = following(mesh, LATEST)
    refreshed(mesh, follows)
    follows.look()
    (home,) = homes(mesh)
    for change, message in (
        ({"items": ("a", "a")}, r"the key \(item\) is not unique"),
        (
            {"kind": pa.float64()},
            "column 'left' of 'stock' is double now, the service was packaged with integer",
        ),
    ):
        commit = publish(mesh, 5, **change)  # type: ignore[arg-type]
        refreshed(mesh, follows)
        state = recorded(home)
        assert state.failed is not None
        assert (state.commit, state.failed.commit) == (old, commit)
        assert re.search(message, state.failed.message)
        assert not follows.look()
        assert ask(app, "it/lookup", {"data": {"item": "a"}}).json()["results"][0]["data"] == {"left": 1}
    mesh.lake.repository("customer-features").delete_prefix("main", "stock/")
    mesh.lake.repository("customer-features").commit("main", "none is left")
    refreshed(mesh, follows)
    state = recorded(home)
    assert state.failed is not None
    assert "publishes no data set 'stock' any more" in state.failed.message
    good = publish(mesh, 7)
    refreshed(mesh, follows)
    state = recorded(home)
    assert (state.commit, state.failed) == (good, None)
    app.renew(follows.look())
    assert ask(app, "it/lookup", {"data": {"item": "a"}}).json()["results"][0]["data"] == {"left": 7}


def test_a_worker_that_starts_takes_what_is_newer_than_its_package_and_nothing_older(mesh: Mesh) -> None:
    publish(mesh, 1)
    _, _, follows = following(mesh, LATEST)
    refreshed(mesh, follows)
    publish(mesh, 2)
    # A package built after the last refresh is newer than it.
    built = mesh.build(LATEST)
    loaded = load(mesh.unpacked(built))
    (home,) = homes(mesh)
    state = recorded(home)
    old = time.time() - 100
    live.write(home / live.STATE, live.State(**{**_fields(state), "noticed_at": old}))
    again = Following(loaded, live_folder(mesh.settings))
    again.begin()
    assert _left(loaded) == 2
    publish(mesh, 3)
    time.sleep(1.0 - time.time() % 1 + 0.01)  # a package tells the second in which it was made
    refreshed(mesh, again)
    later = load(mesh.unpacked(built))
    Following(later, live_folder(mesh.settings)).begin()
    assert _left(later) == 3


def test_what_is_published_while_a_package_is_built_is_newer_than_it(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(mesh, 1)
    _, _, follows = following(mesh, LATEST)  # somebody follows it already
    read = refresh.LakeSource.relation

    def slowly(*args: Any) -> Any:
        found = read(*args)
        monkeypatch.undo()
        time.sleep(1.0 - time.time() % 1 + 0.01)  # into the next second
        publish(mesh, 2)
        refreshed(mesh, follows)
        time.sleep(1.0 - time.time() % 1 + 0.01)
        return found

    monkeypatch.setattr(refresh.LakeSource, "relation", slowly)
    loaded = load(mesh.unpacked(mesh.build(LATEST.replace("service: newest", "service: slowly-built"))))
    assert _left(loaded) == 1
    Following(loaded, live_folder(mesh.settings)).begin()
    assert _left(loaded) == 2


def test_what_failed_and_could_not_be_written_down_is_not_tried_again_at_once(mesh: Mesh) -> None:
    publish(mesh, 1)
    following(mesh, LATEST)
    tried = []

    def full(home: Path) -> None:
        tried.append(home)
        raise OSError(28, "No space left on device")

    refresher = Refresher(mesh.settings, mesh.lake, full)
    for _ in range(3):
        refresher.look()
        while refresher._busy:
            time.sleep(0.001)
    refresher.stop()
    assert len(tried) == 1


def test_what_nobody_wants_any_more_is_removed_and_what_was_replaced_too(mesh: Mesh) -> None:
    publish(mesh, 1)
    _, app, follows = following(mesh, LATEST)
    (home,) = homes(mesh)
    (home / ".build-4194304-1").mkdir()  # no process has that number
    for left in (2, 3, 4):
        publish(mesh, left)
        refreshed(mesh, follows)
        app.renew(follows.look())
    assert list(home.glob(".build-*")) == []
    assert len(list(home.glob("*.mdb"))) == 2  # the newest, and the one before for who just read its name
    ago = time.time() - KEEP_SECONDS - 1
    os.utime(home / live.WANTED, (ago, ago))
    refreshed(mesh, follows)
    assert homes(mesh) == []
    # It is gone, and yet who has it open reads on; as soon as it is wanted again, it is built.
    assert ask(app, "it/lookup", {"data": {"item": "a"}}).json()["results"][0]["data"] == {"left": 4}


def test_a_record_that_names_a_file_that_is_gone_changes_nothing(mesh: Mesh) -> None:
    publish(mesh, 1)
    _, app, follows = following(mesh, LATEST)
    refreshed(mesh, follows)
    follows.look()
    (home,) = homes(mesh)
    live.write(home / live.STATE, live.State("c" * 64, "i", "gone.mdb", 1, time.time()))
    assert not follows.look()
    assert ask(app, "it/lookup", {"data": {"item": "a"}}).json()["results"][0]["data"] == {"left": 1}
    (home / live.STATE).write_bytes(b"{half a rec")
    assert not follows.look()
    (home / live.WANTED).write_bytes(b"no JSON")
    with pytest.raises(Broken, match="cannot be read"):
        live.read_wanted(home)


def test_features_of_a_prediction_follow_what_is_published(mesh: Mesh) -> None:
    _, app, follows = following(mesh, PREDICTS)
    before = ask(app, "it/predict", {"features": {"customer_id": "00003"}})
    features = mesh.lake.repository("customer-features")
    table = customers()
    spend = pa.array([decimal.Decimal("9000.00")] * 200, pa.decimal128(10, 2))
    changed = table.set_column(table.column_names.index("spend"), "spend", spend)
    features.delete_prefix("main", "customer_features/")
    features.put("main", "customer_features/part-0000.parquet", parquet(changed))
    commit = features.commit("main", "all are rich").id
    refreshed(mesh, follows)
    app.renew(follows.look())
    after = ask(app, "it/predict", {"features": {"customer_id": "00003"}})
    assert before.json()["result"]["probas"] != after.json()["result"]["probas"]
    assert f"customer-features/customer_features@{commit}" in after.headers["x-tulle-data-commit"]
    many = ask(app, "it/predict-multi", {"items": [{"features": {"customer_id": "00003"}}]}).json()
    assert many["apiContext"]["dataCommits"] == after.json()["apiContext"]["dataCommits"]


def test_a_pinned_look_up_is_of_its_version_whatever_is_published(mesh: Mesh) -> None:
    old = publish(mesh, 1)
    features = mesh.lake.repository("customer-features")
    features.create_tag("spring", "main")
    new = publish(mesh, 2)
    text = LATEST.replace("source: latest", "version: spring")
    loaded = load(mesh.unpacked(mesh.build(text)))
    app = App(loaded, max_request_bytes=10_000)
    pinned = ask(app, "it/lookup", {"data": {"item": "a"}})
    assert pinned.json()["results"][0]["data"] == {"left": 1}
    assert pinned.headers["x-tulle-data-commit"] == f"customer-features/stock:spring@{old}"
    assert ask(app, "bundled/lookup", {"data": {"item": "a"}}).headers["x-tulle-data-commit"].endswith(new)
    with pytest.raises(Invalid, match="has no release, tag or commit 'summer'"):
        mesh.build(text.replace("spring", "summer"))
    with pytest.raises(Invalid, match="cannot follow what is published"):
        mesh.build(text.replace("version: spring", "version: spring, source: latest"))
    by_commit = load(mesh.unpacked(mesh.build(text.replace("spring", old))))
    assert _left(by_commit) == 1


@pytest.mark.system
def test_a_worker_answers_without_a_gap_while_data_is_published_and_names_the_commit_it_read(
    mesh: Mesh,
) -> None:
    (mesh.settings.folder / "mesh.yaml").write_text("name: test\n")
    commits = {publish(mesh, 0): 0}
    folder = mesh.unpacked(mesh.build(LATEST))
    refresher = Refresher(mesh.settings, mesh.lake)  # builds in processes of its own
    process = start(folder, "--port", "0", "--live-folder", str(live_folder(mesh.settings)))
    stop, failed, seen = threading.Event(), [], set[int]()
    try:
        url = "http://" + first_line(process).rsplit(" answers on ", 1)[1].strip()
        refresher.start()

        def call() -> None:
            with httpx.Client(base_url=url) as client:
                while not stop.is_set():
                    answer = client.post(
                        "/public/api/v1/newest/it/lookup", content=b'{"data": {"item": "a"}}'
                    )
                    left = answer.json()["results"][0]["data"]["left"] if answer.is_success else None
                    commit = answer.headers["x-tulle-data-commit"].rpartition("@")[2]
                    seen.add(left)
                    if commits.get(commit, left) != left:
                        failed.append((left, commit))

        callers = [threading.Thread(target=call) for _ in range(2)]
        for caller in callers:
            caller.start()
        for left in (1, 2):
            commits[publish(mesh, left)] = left
            deadline = time.monotonic() + 30
            while left not in seen and time.monotonic() < deadline:
                time.sleep(0.05)
        stop.set()
        for caller in callers:
            caller.join()
    finally:
        stop.set()
        refresher.stop()
        process.terminate()
        process.communicate(timeout=60)
    assert (failed, seen) == ([], {0, 1, 2})


def _left(loaded: Loaded) -> int:
    _, answer = asyncio.run(loaded.ask("it", {"data": {"item": "a"}}))
    return int(json.loads(answer)["results"][0]["data"]["left"])


def _fields(state: live.State) -> dict[str, Any]:
    return {name: getattr(state, name) for name in ("commit", "identity", "file", "rows", "noticed_at")}
