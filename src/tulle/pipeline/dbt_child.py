"""What runs in dbt's own process, which may be of another Python environment than ours.

Run as a file of its own by `dbt_run`, with what that environment has: dbt, its DuckDB adapter and DuckDB. Reads from
one JSON file what to do, builds the project in a fresh database, or only its tests on what is published, leaves what it
made as Parquet files and tells in another JSON file how it ended. Ends with whoever started it.
"""

# ruff: noqa: S608, BLE001  SQL of quoted names is this file's work, and whatever goes wrong has to be told

import ctypes
import gc
import json
import os
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

MOST_FAILING = 100_000
MOST_SHOWN = 20
# Parquet has no integers of that width; as a column of a data set they are integers like all others.
WIDE = {"HUGEINT", "UHUGEINT", "UBIGINT", "BIGNUM"}
KEPT = {"incremental", "snapshot"}  # what dbt goes on from the next time
MADE = {"model", "seed", "snapshot"}


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


class Told(Exception):
    """Something to tell, at some stage."""

    def __init__(self, stage: str, message: str) -> None:
        super().__init__(message)
        self.stage = stage


def opened(spec: dict[str, Any]) -> Any:
    import duckdb  # noqa: PLC0415

    connection = duckdb.connect(spec["database"], config=spec["settings"])
    connection.execute("SET TimeZone = 'UTC'")
    return connection


def invoked(runner: Any, arguments: list[str]) -> Any:
    """What dbt gives for a command. Told, in its own words, when it cannot even begin."""
    result = runner.invoke(arguments)
    if result.exception is not None:
        raise Told(arguments[0], str(result.exception))
    return result


# ── before ───────────────────────────────────────────────────────────────────────────────────────────────


def put_in(spec: dict[str, Any], manifest: Any) -> list[dict[str, Any]]:
    """The rows of the sources, and what earlier runs left, where the project expects them.

    Gives the sources that the project reads.
    """
    connection = opened(spec)
    name = Path(spec["database"]).stem
    read = {used for node in manifest.nodes.values() for used in getattr(node.depends_on, "nodes", ())}
    sources = []
    try:
        for unique_id, source in manifest.sources.items():
            key = f"{source.source_name}.{source.name}"
            if key not in spec["sources"]:
                if unique_id in read:
                    raise Told("sources", key)
                continue
            source.database = name  # whatever it is called where the project ran before
            for place in (source.meta, source.source_meta, source.config.meta, source.config.extra):
                if isinstance(place, dict):
                    place.pop("external_location", None)
            relation = f"{quoted(source.schema)}.{quoted(source.identifier)}"
            given = spec["sources"][key]
            columns = ", ".join(
                f"CAST(NULL AS {kind}) AS {quoted(column)}" for column, kind in given["columns"]
            )
            files = ", ".join(map(literal, given["files"]))
            rows = f"FROM read_parquet([{files}], hive_partitioning = false)"
            if not files:
                rows = f"SELECT {columns or '1 AS none'} WHERE false"
            connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted(source.schema)}")
            connection.execute(f"CREATE OR REPLACE VIEW {relation} AS {rows}")
            sources.append(
                {
                    "unique_id": unique_id,
                    "data_set": given["data_set"],
                    "place": [source.schema, source.identifier],
                }
            )
        if spec["state"]:
            put_back(connection, spec["state"], manifest)
    finally:
        connection.close()
    return sources


def put_back(connection: Any, state: str, manifest: Any) -> None:
    """The tables that dbt goes on from, as the last run left them."""
    try:
        connection.execute(f"ATTACH {literal(state)} AS tulle_state (READ_ONLY)")
    except Exception as exc:
        raise Told("state", str(exc)) from exc
    there = set(
        connection.execute(
            "SELECT schema_name, table_name FROM duckdb_tables() WHERE database_name = 'tulle_state'"
        ).fetchall()
    )
    for node in going_on(manifest):
        if (node.schema, node.alias) in there:
            table = f"{quoted(node.schema)}.{quoted(node.alias)}"
            connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted(node.schema)}")
            connection.execute(f"CREATE TABLE {table} AS FROM tulle_state.{table}")
    connection.execute("DETACH tulle_state")


def going_on(manifest: Any) -> list[Any]:
    return [n for n in manifest.nodes.values() if str(n.config.get("materialized")) in KEPT]


# ── after ────────────────────────────────────────────────────────────────────────────────────────────────


def told(result: Any) -> dict[str, Any]:
    """One node as plain values."""
    node = result.node
    test = getattr(node, "test_metadata", None)
    return {
        "unique_id": node.unique_id,
        "name": node.name,
        "kind": str(node.resource_type.value),
        "materialized": str(node.config.get("materialized") or ""),
        "file": node.original_file_path,
        "package": node.package_name,
        "place": [getattr(node, "schema", None), getattr(node, "alias", None)],
        "status": str(getattr(result.status, "value", result.status)),
        "message": result.message or "",
        "failures": result.failures,
        "seconds": result.execution_time,
        "compiled": getattr(node, "compiled_code", None) or "",
        "language": str(getattr(node, "language", "sql")),
        "description": getattr(node, "description", "") or "",
        "documented": {
            name: {"description": column.description or "", "type": column.data_type or ""}
            for name, column in (getattr(node, "columns", None) or {}).items()
        },
        "reads": list(getattr(getattr(node, "depends_on", None), "nodes", ())),
        "attached": getattr(node, "attached_node", None) or getattr(node, "tested_node_unique_id", None),
        "severity": str(node.config.get("severity") or "error").lower(),
        "test": test.name if test is not None else "",
        "column": getattr(node, "column_name", None) or "",
        "tags": [str(tag) for tag in getattr(node, "tags", ())],
    }


def take_out(
    spec: dict[str, Any], nodes: list[dict[str, Any]], sources: list[dict[str, Any]], manifest: Any
) -> None:
    """Files of what is wanted, of failing rows, and of what dbt goes on from."""
    connection = opened(spec)
    folder = Path(spec["out"])
    try:
        kinds: dict[tuple[str, str], list[list[str]]] = {}
        found = connection.execute(
            "SELECT schema_name, table_name, column_name, data_type FROM duckdb_columns() "
            "WHERE database_name = current_database() AND NOT internal ORDER BY table_oid, column_index"
        )
        for schema, table, column, kind in found.fetchall():
            kinds.setdefault((schema, table), []).append([column, kind])
        for source in sources:
            source["columns"] = kinds.get(tuple(source["place"]), [])
        wanted = set(spec["wanted"])
        for number, node in enumerate(nodes):
            columns = kinds.get(tuple(node["place"]))
            node["columns"] = columns or []
            if columns is None:
                continue
            relation = ".".join(map(quoted, node["place"]))
            if node["name"].lower() in wanted and node["kind"] in MADE:
                node["rows"], node["rows_file"] = copied(
                    connection, relation, columns, folder / f"{number}.parquet"
                )
            elif node["kind"] == "test" and node["status"] in {"fail", "warn"}:
                show(connection, node, relation, columns, folder / f"failing-{number}.parquet")
        if spec["published"] is None:
            keep(connection, spec, manifest, kinds)
    finally:
        connection.close()


def copied(
    connection: Any, relation: str, columns: list[list[str]], file: Path, more: str = ""
) -> tuple[int, str]:
    parts = [f"CAST({quoted(c)} AS BIGINT) AS {quoted(c)}" if k in WIDE else quoted(c) for c, k in columns]
    sql = f"COPY (SELECT {', '.join(parts)} FROM {relation}{more}) TO {literal(str(file))}"
    sql += " (FORMAT parquet, COMPRESSION zstd)"
    (rows,) = connection.execute(sql).fetchone()
    return int(rows), str(file)


def show(connection: Any, node: dict[str, Any], relation: str, columns: list[list[str]], file: Path) -> None:
    """The rows that failed a test: some to look at, many to keep."""
    try:
        parts = ", ".join(f"CAST({quoted(column)} AS VARCHAR)" for column, _ in columns)
        rows = connection.execute(f"SELECT {parts} FROM {relation} LIMIT {MOST_SHOWN}").fetchall()
        node["shown"] = [dict(zip([c for c, _ in columns], row, strict=True)) for row in rows]
        _, node["rows_file"] = copied(connection, relation, columns, file, f" LIMIT {MOST_FAILING}")
    except Exception:  # the verdict stands without its rows
        traceback.print_exc()


def keep(connection: Any, spec: dict[str, Any], manifest: Any, kinds: dict[tuple[str, str], Any]) -> None:
    tables = [(n.schema, n.alias) for n in going_on(manifest) if (n.schema, n.alias) in kinds]
    if not tables:
        return
    connection.execute(f"ATTACH {literal(spec['kept'])} AS tulle_kept")
    for place in tables:
        table = ".".join(map(quoted, place))
        connection.execute(f"CREATE SCHEMA IF NOT EXISTS tulle_kept.{quoted(place[0])}")
        connection.execute(f"CREATE TABLE tulle_kept.{table} AS FROM {table}")
    connection.execute("DETACH tulle_kept")


# ── tests alone ──────────────────────────────────────────────────────────────────────────────────────────


def put_published(spec: dict[str, Any], manifest: Any) -> set[str]:
    """The rows that are published where the project's models have them; the ids of all nodes whose rows are there."""
    connection = opened(spec)
    try:
        there = {(n.schema, n.alias): n.unique_id for n in going_on(manifest)}
        tables = set(connection.execute("SELECT schema_name, table_name FROM duckdb_tables()").fetchall())
        found = {unique_id for place, unique_id in there.items() if place in tables}
        for node in manifest.nodes.values():
            files = spec["published"].get(node.name.lower())
            if files is None or str(node.resource_type.value) not in MADE:
                continue
            relation = f"{quoted(node.schema)}.{quoted(node.alias)}"
            rows = f"FROM read_parquet([{', '.join(map(literal, files))}], hive_partitioning = false)"
            connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted(node.schema)}")
            if node.unique_id in found:  # with all that dbt goes on from, but as it is published
                connection.execute(f"DROP TABLE {relation}")
            connection.execute(f"CREATE VIEW {relation} AS {rows}")
            found.add(node.unique_id)
        return found
    finally:
        connection.close()


def needed(manifest: Any, there: set[str]) -> set[str]:
    """The names of what has to be made, as tests look at it and it is kept nowhere, with what it is made from."""
    found: set[str] = set()
    units = getattr(manifest, "unit_tests", {})
    tests = [n for n in manifest.nodes.values() if str(n.resource_type.value) == "test"]
    left = [used for test in (*tests, *units.values()) for used in test.depends_on.nodes]
    while left:
        node = manifest.nodes.get(left.pop())
        if node is None or node.unique_id in there | found or str(node.resource_type.value) not in MADE:
            continue
        found.add(node.unique_id)
        left += getattr(node.depends_on, "nodes", ())
    return {manifest.nodes[unique_id].name for unique_id in found}


def of_manifest(node: Any) -> dict[str, Any]:
    """What is told of a node that dbt did not come by."""
    kind = str(node.resource_type.value)
    return {
        "unique_id": node.unique_id,
        "name": node.name,
        "kind": kind if kind in MADE else "",
        "status": "",
    }


def chosen(spec: dict[str, Any]) -> list[str]:
    """The words that choose parts of the project."""
    return [w for word in ("select", "exclude") if spec[word] for w in (f"--{word}", *spec[word])]


# ── the process ──────────────────────────────────────────────────────────────────────────────────────────


def build(spec: dict[str, Any]) -> dict[str, Any]:
    # What dbt brings stays to the end: walking over it again and again, and once more then, took a tenth of the time.
    gc.set_threshold(50_000, 20, 100)
    try:
        import dbt.adapters.duckdb  # noqa: F401, PLC0415
        from dbt.cli.main import dbtRunner  # noqa: PLC0415
        from dbt.version import __version__ as version  # noqa: PLC0415
    except ImportError as exc:
        raise Told("import", str(exc)) from exc
    gc.freeze()
    common = [
        *("--project-dir", spec["project"], "--profiles-dir", spec["profiles"], "--profile", "tulle"),
        *("--target-path", spec["target_path"], "--log-path", spec["log_path"]),
        *(
            "--log-level-file",
            "none",
            "--no-use-colors",
            "--no-version-check",
            "--no-send-anonymous-usage-stats",
        ),
        *("--no-partial-parse", "--vars", json.dumps(spec["variables"])),
    ]
    manifest = invoked(dbtRunner(), ["parse", *common, "--quiet"]).result
    sources = put_in(spec, manifest)
    arguments = ["build", *common, "--store-failures", "--threads", str(spec["threads"])]
    if spec["full"]:
        arguments.append("--full-refresh")
    if spec["published"] is not None:
        there = put_published(spec, manifest)
        missing = sorted(needed(manifest, there))
        if missing:
            kinds = [word for kind in ("model", "seed", "snapshot") for word in ("--resource-type", kind)]
            invoked(dbtRunner(manifest=manifest), [*arguments, *kinds, "--select", *missing])
        arguments[0] = "test"
    done = invoked(dbtRunner(manifest=manifest), [*arguments, *chosen(spec)])
    nodes = [told(result) for result in done.result.results]
    take_out(spec, nodes, sources, manifest)
    if spec["published"] is not None:
        nodes += [of_manifest(node) for node in manifest.nodes.values()]
    return {"version": version, "nodes": nodes, "sources": sources}


def end_with(parent: int) -> None:
    """End when whoever started this does: by the kernel where it can and may be asked, else by looking."""
    try:
        held = ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0) == 0
    except (OSError, AttributeError):  # of Linux alone
        held = False
    if not held:
        threading.Thread(target=look_after, args=(parent,), daemon=True).start()


def look_after(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def main() -> int:
    place = Path(sys.argv[1])
    spec = json.loads(place.read_text())
    end_with(spec["parent"])
    if os.getppid() != spec["parent"]:
        return 1
    try:
        answer = build(spec)
    except Told as exc:
        answer = {"stage": exc.stage, "error": str(exc)}
    except Exception as exc:
        traceback.print_exc()
        answer = {"stage": "work", "error": f"{type(exc).__name__}: {exc}"}
    place.with_name("answer.json").write_text(json.dumps(answer, default=str))
    sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
