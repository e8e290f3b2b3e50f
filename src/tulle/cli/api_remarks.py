"""`tulle api ratings | rate | unrate | reply | questions | ask | answer | remove`: what people say of an API."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from tulle.cli.environment import OPTION_KEY
from tulle.cli.terminal import OPTION_JSON, emit, mark
from tulle.sdk.apis import ApiClient


@click.command()
@click.argument("name")
@OPTION_KEY
@OPTION_JSON
@click.pass_obj
def ratings(mesh: Path | None, name: str, key: Path | None, as_json: bool) -> None:
    """Show what people think of API NAME."""
    found = _with(mesh, key, lambda apis: apis.ratings(name))
    if as_json:
        emit(found)
        return
    if not found["count"]:
        click.echo(f"nobody has rated {name} yet: `tulle api rate {name} 5 --key FILE`")
        return
    click.secho(f"{name}  {found['mean']:.1f} of 5 stars, {found['count']} in all", bold=True)
    for one in found["ratings"]:
        click.echo(f"  {one['stars']} of 5  {one['user']}, {_day(one['rated_at'])}")
        _indented(one["text"])
        if one["reply"]:
            click.echo(f"      {one['replied_by']} replies:")
            _indented(one["reply"], "        ")


@click.command()
@click.argument("name")
@click.argument("stars", type=click.IntRange(1, 5))
@click.option("--text", default="", help="Why, up to 2,000 characters.")
@OPTION_KEY
@OPTION_JSON
@click.pass_obj
def rate(mesh: Path | None, name: str, stars: int, text: str, key: Path | None, as_json: bool) -> None:
    """Rate API NAME with 1 to 5 STARS, as whoever the key is of; what you said before goes."""
    found = _with(mesh, key, lambda apis: apis.rate(name, stars, text))
    _told(found, f"{name} has {stars} of 5 stars from {found['user']}", as_json)


@click.command()
@click.argument("name")
@click.option("--user", help="Whose; needs the mesh's token. Default: your own.")
@OPTION_KEY
@OPTION_JSON
@click.pass_obj
def unrate(mesh: Path | None, name: str, user: str | None, key: Path | None, as_json: bool) -> None:
    """Take back a rating of API NAME."""
    found = _with(mesh, key, lambda apis: apis.unrate(name, user))
    _told(found, f"the rating of {name} is taken back", as_json)


@click.command()
@click.argument("name")
@click.argument("user")
@click.argument("text")
@OPTION_KEY
@OPTION_JSON
@click.pass_obj
def reply(mesh: Path | None, name: str, user: str, text: str, key: Path | None, as_json: bool) -> None:
    """Say TEXT to what USER thinks of API NAME, as one of its owners."""
    found = _with(mesh, key, lambda apis: apis.reply(name, user, text))
    _told(found, f"{user} is replied to", as_json)


@click.command()
@click.argument("name")
@OPTION_KEY
@OPTION_JSON
@click.pass_obj
def questions(mesh: Path | None, name: str, key: Path | None, as_json: bool) -> None:
    """List what was asked about API NAME, with the answers."""
    found = _with(mesh, key, lambda apis: apis.questions(name))
    if as_json:
        emit(found)
        return
    if not found:
        click.echo(f"nobody has asked anything about {name}: `tulle api ask {name} TEXT --key FILE`")
    for one in found:
        click.secho(f"{one['id']}  {one['user']}, {_day(one['asked_at'])}", bold=True)
        _indented(one["text"], "  ")
        for answer in one["answers"]:
            owner = ", an owner" if answer["by_owner"] else ""
            click.echo(f"    {answer['id']}  {answer['user']}{owner}, {_day(answer['answered_at'])}")
            _indented(answer["text"])


@click.command()
@click.argument("name")
@click.argument("text")
@OPTION_KEY
@OPTION_JSON
@click.pass_obj
def ask(mesh: Path | None, name: str, text: str, key: Path | None, as_json: bool) -> None:
    """Ask TEXT about API NAME; its owners are told."""
    found = _with(mesh, key, lambda apis: apis.ask(name, text))
    _told(found, f"asked as {found['id']}", as_json)


@click.command()
@click.argument("name")
@click.argument("question")
@click.argument("text")
@OPTION_KEY
@OPTION_JSON
@click.pass_obj
def answer(mesh: Path | None, name: str, question: str, text: str, key: Path | None, as_json: bool) -> None:
    """Answer QUESTION (its id) about API NAME with TEXT."""
    found = _with(mesh, key, lambda apis: apis.answer(name, question, text))
    _told(found, f"{question} is answered", as_json)


@click.command()
@click.argument("name")
@click.argument("question")
@click.argument("answer", required=False)
@OPTION_KEY
@OPTION_JSON
@click.pass_obj
def remove(
    mesh: Path | None, name: str, question: str, answer: str | None, key: Path | None, as_json: bool
) -> None:
    """Take back QUESTION about API NAME, or one ANSWER to it: your own, or any as an owner."""
    found = _with(mesh, key, lambda apis: apis.remove(name, question, answer))
    if as_json:
        emit(found)
        return
    click.echo(f"  {mark('succeeded')} {answer or question} is removed")


COMMANDS = (ratings, rate, unrate, reply, questions, ask, answer, remove)


def _with(mesh: Path | None, key: Path | None, ask: Callable[[ApiClient], Any]) -> Any:
    from tulle.cli.connect import mesh_client

    with mesh_client(mesh, key) as client:
        return ask(ApiClient(client))


def _told(found: Mapping[str, Any], sentence: str, as_json: bool) -> None:
    if as_json:
        emit(found)
        return
    click.echo(f"  {mark('succeeded')} {sentence}")


def _indented(text: str, by: str = "      ") -> None:
    for line in text.splitlines():
        click.echo(f"{by}{line}")


def _day(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at))
