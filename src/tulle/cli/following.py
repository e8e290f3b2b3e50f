"""Waiting for work a mesh does in the background, and telling what came of it. Knows no command."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import click


def follow(status: Callable[[], dict[str, Any]], counter: str, noun: str) -> dict[str, Any]:
    """Poll until a task has ended, showing how far it is."""
    shows = sys.stderr.isatty()
    pause = 0.05
    while True:
        found = status()
        ended = found.get("completed") or found.get("status") in {"done", "failed", "cancelled"}
        if shows:
            click.echo(f"\r  … {found.get(counter) or 0:,} {noun} ", nl=False, err=True)
        if ended:
            if shows:
                click.echo("\r\033[K", nl=False, err=True)
            return found
        time.sleep(pause)
        pause = min(1.0, pause * 1.5)


def words(value: dict[str, Any]) -> str:
    """The numbers of a result in words."""
    found = value.get("result") or value
    numbers = {k: v for k, v in found.items() if isinstance(v, int) and not isinstance(v, bool)}
    return ", ".join(f"{v:,} {k.replace('_', ' ')}" for k, v in numbers.items()) or "nothing"
