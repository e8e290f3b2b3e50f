"""`tulle service log | feedback`: what was asked of a service, and what turned out."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import time
from pathlib import Path
from typing import Any

import click

from tulle.cli.environment import OPTION_KEY
from tulle.cli.terminal import OPTION_JSON, emit, mark
from tulle.errors import Invalid

POLL_SECONDS = 1.0
LATE_SECONDS = 60.0  # a row of another worker may come so much later


@click.command(epilog="For example: tulle service log next-offer --errors --since '2 hours'")
@click.argument("name")
@click.option("--follow", "-f", is_flag=True, help="Go on with what is asked from now on.")
@click.option("--endpoint", default="", help="Of this endpoint only.")
@click.option("--generation", default="", help="Answered by this version only.")
@click.option("--environment", default="", help="Asked in this environment. Default: that of consumers.")
@click.option("--request", default="", help="The request of this id.")
@click.option("--errors", is_flag=True, help="Only what failed.")
@click.option(
    "--since", default="", help="How far back, such as '2 hours'. Default: as far as there is something."
)
@click.option(
    "--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="At most so many rows."
)
@OPTION_KEY
@OPTION_JSON
@click.pass_obj
def log(
    mesh: Path | None,
    /,
    name: str,
    *,
    follow: bool,
    since: str,
    limit: int,
    key: Path | None,
    as_json: bool,
    **wanted: Any,
) -> None:
    """Print the latest queries of service NAME, the newest last; a line each, or JSON."""
    from tulle.cli.connect import mesh_client
    from tulle.sdk.service_log import ServiceLog

    given = {key: value for key, value in wanted.items() if value}
    begin = None if not since else max(0.0, time.time() - seconds_of(since))
    with mesh_client(mesh, key) as client:
        kept = ServiceLog(client, name)
        found = kept.queries(**given, since=begin, limit=limit)["queries"]
        if as_json and not follow:
            emit(found)
            return
        _show(found, as_json=as_json)
        if not found and not follow:
            click.echo("  nothing was asked yet, or nothing like it")
        if follow:
            _follow(kept, given, found, as_json=as_json)


def _follow(kept: Any, given: dict[str, Any], found: list[dict[str, Any]], *, as_json: bool) -> None:
    """Print what comes until interrupted."""
    seen = {_key(row): row["asked_at"] for row in found}
    latest = max([*seen.values(), time.time() - LATE_SECONDS])
    while True:
        time.sleep(POLL_SECONDS)
        rows = kept.queries(**given, since=latest - LATE_SECONDS, limit=10_000)["queries"]
        new = [row for row in rows if _key(row) not in seen]
        _show(new, as_json=as_json)
        seen |= {_key(row): row["asked_at"] for row in new}
        latest = max([latest, *(row["asked_at"] for row in new)])
        seen = {key: at for key, at in seen.items() if at >= latest - 2 * LATE_SECONDS}


def _show(rows: list[dict[str, Any]], *, as_json: bool) -> None:
    for row in reversed(rows):
        click.echo(json.dumps(row, ensure_ascii=False) if as_json else _line(row))


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["request_id"], row["item"], row["generation"], row["shadow"]


def _who(row: dict[str, Any]) -> str:
    """A caller's name means something only together with the way by which they came in."""
    way = f" by {row['way']}" if row["way"] else ""
    return f"{row['caller'] or '-'}{way}"


def _line(row: dict[str, Any]) -> str:
    at = dt.datetime.fromtimestamp(row["asked_at"], dt.UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
    is_bad = row["status"] != 200 or row["error"]
    said = row["error"] or json.dumps(row["result"], ensure_ascii=False)
    where = f"{row['endpoint']}/{row['action']} {row['generation']}{' shadow' if row['shadow'] else ''}"
    item = f"[{row['item']}]" if row["item"] else ""
    took = f"{row['microseconds']:,} µs"
    state = mark("failed" if is_bad else "passed")
    return f"  {state} {at} {where} {row['status']} {took} {_who(row)} {row['request_id']}{item} {said}"


@click.command(epilog="For example: tulle service feedback next-offer outcomes.csv")
@click.argument("name")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option(
    "--from", "source", default="", metavar="PRODUCT/DATA_SET", help="From a published data set instead."
)
@OPTION_KEY
@OPTION_JSON
@click.pass_obj
def feedback(
    mesh: Path | None, name: str, file: Path | None, source: str, key: Path | None, as_json: bool
) -> None:
    """Tell what turned out of answers of service NAME; without FILE, show what was told, and what of it is unknown.

    FILE is CSV with the columns request_id, outcome and maybe item, or JSON: a list, or a line each, of objects with
    requestId, outcome and maybe item. Telling the same twice does no harm.
    """
    from tulle.cli.connect import mesh_client
    from tulle.sdk.service_log import ServiceLog

    if file is not None and source:
        raise Invalid("give a file or --from, not both")
    items = _items(file) if file is not None else []
    if source and source.count("/") != 1:
        raise Invalid(f"--from is '{source}'", hint="write PRODUCT/DATA_SET, such as sales/outcomes")
    with mesh_client(mesh, key) as client:
        kept = ServiceLog(client, name)
        if source:
            result = kept.tell_from(*source.split("/"))
        else:
            result = kept.tell(items) if file is not None else kept.feedback()
    if as_json:
        emit(result)
        return
    if "taken" in result:
        click.echo(f"  {mark('succeeded')} {result['taken']:,} taken, {result['new']:,} of them new")
        if result["unknown"]:
            ids = ", ".join(one["request_id"] for one in result["unknown_ids"][:5])
            click.echo(
                f"  {mark('warned')} {result['unknown']:,} are of requests the log does not have: {ids}"
            )
        return
    _show_told(result)


def _show_told(state: dict[str, Any]) -> None:
    """What was told of answers, by whom, and what of it is of none."""
    click.echo(f"  {state['told']:,} outcomes told, {state['known']:,} of them of answers in the log")
    if state["not_kept"]:
        click.echo(f"  {state['not_kept']:,} are of requests that the log does not keep: it has a sample")
    if state["repeated"] or state["corrected"]:
        click.echo(
            f"  {state['repeated']:,} were told again as before, {state['corrected']:,} otherwise: the last counts"
        )
    for one in state["callers"]:
        if one["unknown"]:
            ids = [row["request_id"] for row in state["unknown_ids"] if _who(row) == _who(one)]
            told = f": {', '.join(ids[:5])}" if ids else ""
            click.echo(
                f"  {mark('warned')} {one['unknown']:,} of {one['told']:,} by {_who(one)}"
                f" are of requests the log does not have{told}"
            )


def _items(file: Path) -> list[dict[str, Any]]:
    """What a file tells. Invalid, naming the line."""
    text = file.read_text(encoding="utf-8")
    if file.suffix.lower() == ".csv":
        return [_of_csv(row, number) for number, row in enumerate(csv.DictReader(io.StringIO(text)), start=2)]
    try:
        whole = json.loads(text)
    except ValueError:
        return [
            _of_line(line, number) for number, line in enumerate(text.splitlines(), start=1) if line.strip()
        ]
    return whole if isinstance(whole, list) else [whole]


def _of_csv(row: dict[str, Any], number: int) -> dict[str, Any]:
    if not row.get("request_id") or not row.get("outcome"):
        raise Invalid(
            f"line {number}: 'request_id' or 'outcome' is missing", hint="both are columns of the first line"
        )
    try:
        outcome = json.loads(row["outcome"])
    except ValueError:
        outcome = row["outcome"]
    item = str(row.get("item") or "0")
    if not item.isdigit():
        raise Invalid(f"line {number}: 'item' is '{item}', expected a whole number")
    return {"requestId": row["request_id"], "item": int(item), "outcome": outcome}


def _of_line(line: str, number: int) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError as exc:
        raise Invalid(f"line {number} is no JSON: {exc}") from None
    if not isinstance(found, dict):
        raise Invalid(f"line {number} is no object", hint='{"requestId": "…", "outcome": …}')
    return found


def seconds_of(period: str) -> float:
    """A span of time as an option has it. Invalid."""
    from tulle.spec.period import minutes_of

    if not (minutes := minutes_of(period)):
        raise Invalid(f"'{period}' is no span of time", hint="write one such as '30 minutes' or '2 days'")
    return minutes * 60.0
