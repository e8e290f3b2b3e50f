"""What `tulle service compare --recorded` prints."""

from __future__ import annotations

import json
from typing import Any

import click

from tulle.cli.terminal import mark


def show_recorded(found: dict[str, Any]) -> None:
    """Print a comparison of recorded answers, the worst differences first."""
    left, right = found["left"], found["right"]
    for one in found["worst"]:
        item = f"[{one['item']}]" if one["item"] else ""
        apart = "answered by one only" if one["apart"] is None else f"apart by {one['apart']:.6g}"
        click.echo(f"  {mark('failed')} {one['endpoint']} {one['request_id']}{item}: {apart}")
        for side, number in ((left, 0), (right, 1)):
            said = one["errors"][number] or json.dumps(one["results"][number], ensure_ascii=False)
            click.echo(f"      {side}: {said[:200]}")
    share = found["equal"] / found["asked"]
    click.echo(
        f"  {found['equal']:,} of {found['asked']:,} equal ({share:.1%}); {found['predictions']:,} predicted otherwise"
    )
    if found["apart"]:
        click.echo(
            "  numbers apart: " + ", ".join(f"{name} {value:.6g}" for name, value in found["apart"].items())
        )
    for side, key in ((left, "left"), (right, "right")):
        times = ", ".join(f"{name} {value:,.0f} µs" for name, value in found["microseconds"][key].items())
        click.echo(f"  {side}: {times}")
