"""Packages are signed, tell what they were built with, and are made again byte for byte."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tests.serving.conftest import LOOKUPS, PREDICTOR, Mesh

from tulle.errors import Broken, Denied
from tulle.serving import package
from tulle.serving.manifest import MANIFEST, SIGNATURE
from tulle.serving.seal import check_seal, public_key


@pytest.fixture
def folder(mesh: Mesh) -> Path:
    return mesh.unpacked(mesh.build(PREDICTOR))


def test_a_package_is_signed_by_its_mesh(mesh: Mesh, folder: Path) -> None:
    mine = public_key(mesh.settings)
    assert check_seal(folder, {mine}) == mine
    with pytest.raises(Denied, match=f"signed with the key {mine}, which this mesh does not trust"):
        check_seal(folder, {"00" * 32})
    before = (folder / MANIFEST).read_bytes()
    (folder / MANIFEST).write_bytes(before.replace(b"high-value", b"high-valuf", 1))
    with pytest.raises(Broken, match="was changed after it was signed"):
        check_seal(folder, {mine})
    (folder / MANIFEST).write_bytes(before)
    for text in ("{", "{}", json.dumps({"public_key": "zz", "signature": "00"})):
        (folder / SIGNATURE).write_text(text)
        with pytest.raises(Broken):
            check_seal(folder, {mine})
    (folder / SIGNATURE).unlink()
    with pytest.raises(Denied, match="is not signed"):
        check_seal(folder, {mine})


def test_an_archive_is_made_again_byte_for_byte(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    built = mesh.build(LOOKUPS)
    archive = mesh.settings.state_folder / built.path
    before = archive.read_bytes()
    archive.unlink()
    monkeypatch.setattr(package, "environment", lambda _folder, _models: {"python": {"version": "9.9"}})
    again = mesh.build(LOOKUPS)  # in an environment that has changed since
    assert again == built
    assert archive.read_bytes() == before
    other = replace(built.manifest, software={"python": {"version": "9.9"}})
    assert other.content_digest() == built.digest
