"""`tulle compare`: what changed in the rows, columns and values of data sets between refs of the lake."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from tulle.cli.terminal import OPTION_JSON, emit, mark, table

_SIGNS = {"added": ("+", "green"), "removed": ("-", "red"), "changed": ("~", "yellow")}
_LONGEST = 40


@click.command()
@click.argument("repository")
@click.argument("refs", nargs=-1, required=True, metavar="LEFT RIGHT [PREFIX]")
@click.option("--key", help="The columns that tell rows apart: a,b. Default: those the product declares.")
@click.option("--no-key", is_flag=True, help="Tell rows apart by all their values.")
@click.option("--tolerance", type=float, default=0.0, help="How far floats may be apart, such as 1e-9.")
@click.option("--limit", type=click.IntRange(1, 1000), default=5, show_default=True, help="Rows to show.")
@click.option("--no-profile", is_flag=True, help="Leave out how values are distributed; quicker.")
@click.option("--no-header", is_flag=True, help="CSV files have no line of names.")
@click.option("--masked", is_flag=True, help="Hide values that the portal would hide.")
@click.option("--experiments", is_flag=True, help="Set refs beside a base: BASE REF [REF …].")
@OPTION_JSON
@click.pass_obj
def compare(
    mesh: Path | None,
    /,
    repository: str,
    refs: Sequence[str],
    key: str | None,
    no_key: bool,
    experiments: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Compare data sets between two refs: rows, columns, values.

    Without PREFIX, every data set of REPOSITORY that differs. Whoever can run this sees all values.
    """
    from tulle.cli.connect import mesh_client

    if experiments:
        if len(refs) < 2:
            raise click.UsageError("give a base and at least one ref to set beside it")
        with mesh_client(mesh) as client:
            beside = client.experiments(repository, refs[0], refs[1:], profile=not options["no_profile"])
        emit(beside) if as_json else _show_experiments(beside)
        return
    if not 2 <= len(refs) <= 3:
        raise click.UsageError("give two refs, and a data set or none")
    if key and no_key:
        raise click.UsageError("--key and --no-key exclude one another")
    with mesh_client(mesh) as client:
        found = client.compare(
            repository,
            *refs,
            key="" if no_key else key,
            tolerance=options["tolerance"],
            limit=options["limit"],
            profile=not options["no_profile"],
            header=not options["no_header"],
            masked=options["masked"],
        )
    if as_json:
        emit(found)
        return
    for one in found:
        _show(one)
    if not found:
        click.echo(f"{mark('unchanged')} no data set differs")


def _show(found: Mapping[str, Any]) -> None:
    click.secho(f"{found['prefix']}  {found['left']} → {found['right']}", bold=True)
    files = found["files"]
    click.echo(
        f"  files  {files['shared']:,} shared, {len(files['left_only']):,} only left,"
        f" {len(files['right_only']):,} only right"
    )
    click.echo(f"  rows   {found['left_rows']:,} → {found['right_rows']:,}{_rows(found['rows'])}")
    if found["same"]:
        click.echo(f"  {mark('unchanged')} no difference")
    for change in found["columns"]:
        click.echo(f"  column {_column(change)}")
    if found["rows"]:
        _show_rows(found["rows"])
    moved = [_moved(column) for column in found["profile"] if column["changed"]]
    if moved:
        table(moved, ["column", "nulls", "distinct", "least", "most", "mean"], empty="")


def _rows(rows: Mapping[str, Any] | None) -> str:
    if rows is None:
        return ", not compared: no column in common"
    words = [f"{rows[kind]:,} {kind}" for kind in _SIGNS if rows["key"] or kind != "changed"]
    by = f" by {', '.join(rows['key'])}" if rows["key"] else " (no key: rows as they are)"
    return f": {', '.join(words)}{by}"


def _show_rows(rows: Mapping[str, Any]) -> None:
    if rows["duplicate_keys"]:
        first = rows["duplicate_samples"][0]
        click.echo(
            f"  {mark('warn')} {rows['duplicate_keys']:,} keys have several rows and were not compared,"
            f" such as {_values(first['key'])} ({first['left']} left, {first['right']} right)"
        )
    if any(rows["null_keys"]):
        click.echo(
            f"  {mark('warn')} keys with a null: {rows['null_keys'][0]:,} left, {rows['null_keys'][1]:,} right"
        )
    for column, count in sorted((rows["changed_by_column"] or {}).items(), key=lambda item: -item[1]):
        click.echo(f"  ~ {column} changed in {count:,} rows")
    for kind, (sign, colour) in _SIGNS.items():
        for row in rows[f"{kind}_rows"]:
            click.echo(f"  {click.style(sign, fg=colour)} {_row(kind, row)}")


def _row(kind: str, row: Mapping[str, Any]) -> str:
    if kind == "changed":
        moves = [f"{c}: {_value(row['left'][c])} → {_value(row['right'][c])}" for c in row["columns"]]
        return f"{_values(row['key'])}  {', '.join(moves)}"
    times = f"  ×{row['times']:,}" if row["times"] > 1 else ""
    return _values(row["right"] if kind == "added" else row["left"]) + times


def _values(values: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={_value(value)}" for name, value in values.items())


def _value(value: str | None) -> str:
    if value is None:
        return "null"
    text = value.replace("\n", "\\n")
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _column(change: Mapping[str, Any]) -> str:
    name = change["name"]
    return {
        "added": f"+ {name} {change['right']}",
        "removed": f"- {name} {change['left']}",
        "renamed": f"? {name} may be {change['right_name']} now ({change['right']})",
        "moved": f"~ {name} is column {change['right']}, was {change['left']}",
    }.get(change["kind"], f"~ {name} {change['left']} → {change['right']}")


def _moved(column: Mapping[str, Any]) -> dict[str, str]:
    def both(name: str) -> str:
        values = [column[side] and column[side][name] for side in ("left", "right")]
        texts = [
            "–" if v is None else f"{v:,.6g}" if isinstance(v, float) else _value(str(v)) for v in values
        ]
        return texts[0] if texts[0] == texts[1] else " → ".join(texts)

    row = {name: both(name) for name in ("nulls", "distinct", "least", "most", "mean")}
    return {"column": _value(column["name"]), **row}


def _show_experiments(found: Mapping[str, Any]) -> None:
    rows = []
    for experiment in found["experiments"]:
        whole = {
            "experiment": experiment["ref"],
            "ahead": experiment["ahead"],
            "behind": experiment["behind"],
            "paths": experiment["changed_paths"],
        }
        for change in experiment["data_sets"] or [None]:
            rows.append(whole | (_experiment(change) if change else {"data_set": "–"}))
            whole = dict.fromkeys(whole, "")
    columns = ["experiment", "ahead", "behind", "paths", "data_set", "rows", "columns", "values_moved"]
    table(rows, columns, empty="no experiments")


def _experiment(change: Mapping[str, Any]) -> dict[str, str]:
    if change["problem"]:
        return {"data_set": change["name"], "rows": change["problem"]}
    delta = change["right_rows"] - change["left_rows"]
    columns = {"added": "+", "removed": "-"}
    signs = [f"{columns.get(c['kind'], '~')}{c['name']}" for c in change["columns"] if c["kind"] != "renamed"]
    moved = []
    for column in change["profile"]:
        means = [column[side] and column[side]["mean"] for side in ("left", "right")]
        known = None not in means
        moved.append(f"{column['name']} {means[0]:,.4g} → {means[1]:,.4g}" if known else column["name"])
    return {
        "data_set": change["name"],
        "rows": f"{change['right_rows']:,} ({delta:+,})",
        "columns": ", ".join(signs) or "–",
        "values_moved": ", ".join(moved) or "–",
    }
