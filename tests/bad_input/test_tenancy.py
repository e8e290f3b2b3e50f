"""Settings nobody can mean: each is told at its line, and no command goes on with half of them."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from tests.bad_input.conftest import tulle

# What is replaced in mesh.yaml, by what, and what is said. An empty text to replace: it is added at the end.
SETTINGS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "a setting nobody knows": (
        "",
        "warehose: {threads: 2}",
        ("unknown setting 'warehose'", "did you mean 'warehouse'?"),
    ),
    "a setting twice": ("", "name: b", ("the key 'name' is given twice: first at line 1",)),
    "a name that is a number": ("name: shop", "name: 17", (":1:1: 'name' is 17, expected text",)),
    "a port of words": ("8080", "eighty", ("'control_plane_port' is 'eighty', expected a whole number",)),
    "port 0": ("8080", "0", ("'control_plane_port' is 0, expected a port between 1 and 65535",)),
    "a port too far": ("8000", "70000", ("'gateway_port' is 70000, expected a port between 1 and 65535",)),
    "no memory": ("2GB", "lots", ("'warehouse.memory' is 'lots', expected a size such as 512MB or 2GB",)),
    "a byte of memory": ("2GB", "1B", ("'warehouse.memory' is '1B', expected a size",)),
    "memory without end": (
        "2GB",
        "99999999999999TB",
        ("'warehouse.memory' is '99999999999999TB', expected a size",),
    ),
    "no threads": ("threads: 2", "threads: 0", ("'warehouse.threads' is 0, expected 1 to 1,000,000",)),
    "no runs": (
        "concurrent_runs: 2",
        "concurrent_runs: -1",
        ("'warehouse.concurrent_runs' is -1, expected 1 to",),
    ),
    "bounds that are a number": (
        "",
        "warehouses: {sales: 3}",
        ("'warehouses.sales' must be a mapping of bounds",),
    ),
    "a bound nobody knows": (
        "",
        "warehouses: {sales: {thread: 3}}",
        ("unknown setting 'thread' in 'warehouses.sales'", "did you mean 'threads'?"),
    ),
    "an environment that falls back on nobody": (
        "{fallback: prod}",
        "{fallback: prd}",
        ("'environments.dev.fallback' is 'prd', which is no environment", "did you mean 'prod'?"),
    ),
    "environments in a circle": (
        "{fallback: prod}",
        "{after: prod}",
        ("leads in a circle: dev → prod → dev",),
    ),
    "two environments of one branch": (
        "dev: {fallback: prod}",
        "dev: {branch: main}",
        ("has the branch 'main' of",),
    ),
    "an environment's name that is none": (
        "dev: {fallback: prod}",
        '"de v": {}',
        ("is no name of an environment",),
    ),
    "an environment's setting nobody knows": (
        "{fallback: prod}",
        "{falback: prod}",
        ("unknown setting 'falback' in 'environments.dev'", "did you mean 'fallback'?"),
    ),
    "an approver who is a word": (
        "[ann, bob]",
        "ann",
        ("'environments.prod.approvers' must be a list of texts",),
    ),
    "more approvals than approvers": (
        "approvers: [ann, bob]",
        "approvers: [ann, bob], approvals: 3",
        ("'environments.prod.approvals' is 3, and 2 people may approve",),
    ),
    "a store that is none": (
        "",
        'object_stores: ["ftp://x"]',
        ("'object_stores' has 'ftp://x', expected local:///",),
    ),
    "channels as a list": ("", "alerts: [1]", ("'alerts' must map names to channels",)),
}


@pytest.mark.parametrize("kind", SETTINGS)
def test_a_setting_that_cannot_be_meant(folder: Path, kind: str) -> None:
    old, new, said = SETTINGS[kind]
    mesh = folder / "mesh.yaml"
    text = mesh.read_text()
    assert old in text
    mesh.write_text(text.replace(old, new, 1) if old else f"{text}\n{new}\n")
    for command in ("validate", "status"):
        tulle(folder, command).refuses("mesh.yaml:", *said)


def test_ports_that_are_the_same_are_told_once(folder: Path) -> None:
    mesh = folder / "mesh.yaml"
    mesh.write_text(mesh.read_text().replace("8000", "8080"))
    said = tulle(folder, "validate")
    said.refuses("mesh.yaml:2:1: settings 'control_plane_port' and 'gateway_port' are the same")
    assert said.text.count("are the same") == 1


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"- a\n", "mesh.yaml:1:1: mesh.yaml must be a mapping of settings to values"),
        (b"name: [", "mesh.yaml:"),
        (b"name: caf\xe9\n", "mesh.yaml:1:10: byte 0xe9 is not UTF-8"),
    ],
)
def test_settings_that_are_no_document(folder: Path, content: bytes, said: str) -> None:
    (folder / "mesh.yaml").write_bytes(content)
    tulle(folder, "validate").refuses(said)


@pytest.mark.parametrize("content", [b"this is not a database" * 100, b"SQLite format 3\0" + b"\xff" * 4000])
def test_a_damaged_state_is_told_and_left_as_it_is(folder: Path, content: bytes) -> None:
    state = folder / ".tulle" / "state.db"
    before = state.read_bytes() if state.exists() else None
    state.parent.mkdir(exist_ok=True)
    state.write_bytes(content)
    try:
        for command in ("plan", "runs", "apply"):
            tulle(folder, command).refuses("the control-plane database")
        assert state.read_bytes() == content
        with sqlite3.connect(state) as connection, pytest.raises(sqlite3.DatabaseError):
            connection.execute("SELECT 1 FROM sqlite_master")
    finally:
        state.unlink()
        for beside in state.parent.glob("state.db-*"):
            beside.unlink()
        if before is not None:
            state.write_bytes(before)
