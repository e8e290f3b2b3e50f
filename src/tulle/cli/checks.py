"""`tulle check | checks | profile`: judge what is published, list checks with what they found, show what data holds."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from tulle.cli.terminal import OPTION_JSON, emit, mark, table
from tulle.errors import Invalid

ENVIRONMENT = click.option("--environment", "-e", default="main", show_default=True, help="The branch.")


@click.command(epilog="Example: tulle check sales --tag nightly")
@click.argument("product")
@ENVIRONMENT
@click.option("--tag", "tags", multiple=True, help="Only checks with this tag. Repeatable.")
@OPTION_JSON
@click.pass_obj
def check(mesh: Path | None, product: str, environment: str, tags: tuple[str, ...], as_json: bool) -> None:
    """Carry out the checks of PRODUCT on what is published, without making anything."""
    from tulle.cli.connect import mesh_client
    from tulle.cli.run import ENDED, show_steps

    with mesh_client(mesh) as client:
        run_id = client.start_check(product, environment=environment, tags=tags)
        shown: dict[str, str] = {}
        try:
            while (result := client.run(run_id))["status"] not in ENDED:
                if not as_json:
                    show_steps(result, shown)
                time.sleep(0.1)
        except KeyboardInterrupt:
            client.stop_run(run_id)
            raise
    if as_json:
        emit(result)
    else:
        show_steps(result, shown)
    if result["status"] in {"failed", "stopped"}:
        error = result["error"] or {}
        raise Invalid(error.get("message") or f"the checks {result['status']}", hint=error.get("hint"))
    if not as_json:
        judged = sum(len(step["checks"]) for step in result["steps"])
        checks = "1 check" if judged == 1 else f"{judged} checks"
        click.echo(f"  {mark('succeeded')} {checks} on '{environment}', none stops anything")


@click.group(invoke_without_command=True, epilog="Example: tulle checks --product sales")
@click.option("--product", help="Only those of this product.")
@ENVIRONMENT
@OPTION_JSON
@click.pass_context
def checks(ctx: click.Context, product: str | None, environment: str, as_json: bool) -> None:
    """List all checks with their last result; `checks history` shows what they found before."""
    if ctx.invoked_subcommand is not None:
        return
    from tulle.cli.connect import mesh_client

    with mesh_client(ctx.obj) as client:
        found = client.checks(product=product, environment=environment)
    if as_json:
        emit(found)
        return
    columns = ["", "product", "data set", "check", "kind", "result", "judged at"]
    table([_line(one) for one in found], columns, empty="no checks: they live in a product's folder checks/")


@checks.command("history", epilog="Example: tulle checks history sales 'id is the key'")
@click.argument("product")
@click.argument("check", required=False)
@click.option("--data-set", help="Only those of this data set.")
@ENVIRONMENT
@click.option(
    "--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="How many results."
)
@OPTION_JSON
@click.pass_obj
def history(
    mesh: Path | None,
    product: str,
    check: str | None,
    data_set: str | None,
    environment: str,
    limit: int,
    as_json: bool,
) -> None:
    """Show what the checks of PRODUCT found in earlier runs, newest first; only CHECK, when it is named."""
    from tulle.cli.connect import mesh_client

    with mesh_client(mesh) as client:
        found = client.check_history(product, check, data_set=data_set, environment=environment, limit=limit)
    if as_json:
        emit(found)
        return
    columns = ["", "judged at", "data set", "check", "failing", "rows", "value", "run"]
    rows = [{**_line(one), "rows": one["total"], "value": _number(one["value"])} for one in found]
    table(rows, columns, empty="nothing was judged yet: `tulle run` does, or `tulle check`")


@click.command(epilog="Example: tulle profile sales purchases")
@click.argument("product")
@click.argument("data_set")
@ENVIRONMENT
@OPTION_JSON
@click.pass_obj
def profile(mesh: Path | None, product: str, data_set: str, environment: str, as_json: bool) -> None:
    """Show what the columns of DATA_SET hold as it is published: nulls, different values, extremes, the usual."""
    from tulle.cli.connect import mesh_client

    with mesh_client(mesh) as client:
        found = client.profile(product, data_set, environment=environment)
    if as_json:
        emit(found)
        return
    told = found["profile"]
    looked_at = "" if told["looked_at"] == told["rows"] else f", {told['looked_at']:,} of them looked at"
    click.echo(f"{told['rows']:,} rows at {found['commit'][:12]}{looked_at}")
    columns = ["column", "type", "nulls", "distinct", "min", "max", "mean", "most frequent"]
    table([_column(one) for one in told["columns"]], columns, empty="no columns")


def _column(one: dict[str, Any]) -> dict[str, Any]:
    about = "" if one["distinct_exact"] else "about "
    top = ", ".join(str(each["value"]) for each in one["top"][:3])
    hidden = {"min": "•••", "max": "•••", "most frequent": "•••"} if one["hidden"] else {}
    return {
        **one,
        "column": one["name"],
        "distinct": None if one["distinct"] is None else f"{about}{one['distinct']:,}",
        "min": _short(one["min"]),
        "max": _short(one["max"]),
        "mean": _number(one["mean"]),
        "most frequent": _short(top),
        **hidden,
    }


def _short(value: Any) -> str | None:
    text = None if value is None else str(value)
    return text if text is None or len(text) <= 40 else text[:39] + "…"


def _line(one: dict[str, Any]) -> dict[str, Any]:
    message = one["message"] if len(one["message"]) <= 70 else one["message"][:69] + "…"
    return {
        **one,
        "": mark(one["state"]),
        "data set": one["data_set"],
        "result": message,
        "judged at": one["at"],
    }


def _number(value: float | None) -> str | None:
    return None if value is None else f"{value:,.6g}"
