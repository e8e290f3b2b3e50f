"""`tulle up | down | status | logs`: the mesh as processes."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import click

from tulle.cli.terminal import OPTION_JSON, emit, mark, relative
from tulle.config import Settings
from tulle.deploy import local, readiness, room
from tulle.errors import Invalid, NotFound, Unavailable, did_you_mean
from tulle.gateway.faults import read_faults
from tulle.gateway.versions.told import told
from tulle.spec.mesh import find_mesh, load_settings


def _settings(mesh: Path | None) -> Settings:
    return load_settings(mesh if mesh is not None else find_mesh(Path.cwd()))


@click.command()
@click.option("--detach", "-d", is_flag=True, help="Run in the background; return when it is ready.")
@click.pass_obj
def up(mesh: Path | None, detach: bool) -> None:
    """Start the mesh and keep its processes running, until Ctrl-C or `tulle down`.

    It is ready when its processes run and what was recorded before is in force at the gateway, or told as a fault.
    """
    settings = _settings(mesh)
    if detach:
        start_detached(settings)
        show_status(settings)
        return
    from tulle.server.supervisor import supervise

    supervise(settings, announce=lambda: show_status(settings))
    click.echo("stopped")


def start_detached(settings: Settings) -> None:
    """Start the mesh in the background and wait until it answers, and what is recorded is in force at its gateway.

    Unavailable where it does not start, or is not ready in time.
    """
    if (pid := local.supervisor_pid(settings)) is not None:
        raise Unavailable(
            f"the mesh in {settings.folder} is up already (process {pid})",
            hint="`tulle status` shows its processes, `tulle down` stops it",
        )
    room.check_room(settings)
    local.check_ports(settings)
    settings.log_folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    log = settings.log_folder / "supervisor.log"
    with log.open("ab") as out:
        process = subprocess.Popen(  # noqa: S603  argv is ours
            [sys.executable, "-m", "tulle.server.supervisor", "--mesh", str(settings.folder)],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    local.note_start(settings, process.pid)

    def look() -> None:
        if process.poll() is not None:
            last = log.read_text(errors="replace").strip().splitlines()[-3:]
            raise Unavailable("the mesh did not start: " + " ".join(last), hint=f"see {relative(log)}")

    readiness.await_ready(settings, look=look)


@click.command()
@click.pass_obj
def down(mesh: Path | None) -> None:
    """Stop everything the mesh started; nothing is left running."""
    folder = mesh if mesh is not None else find_mesh(Path.cwd())
    try:
        settings = load_settings(folder)
    except Invalid:  # where the database is, is not known; what runs can be ended all the same
        if local.stop(Settings(folder=folder.resolve())):
            click.echo(
                "stopped; runs that commands began go on until mesh.yaml is mended and this is said again"
            )
        raise
    stopped = local.stop(settings)
    if settings.database or (settings.state_folder / "state.db").exists():
        from tulle.server.supervisor import stop_runs
        from tulle.state.db import open_database

        database = open_database(settings.database_url)
        stopped = bool(stop_runs(database)) or stopped
        database.close()
    click.echo("stopped" if stopped else "nothing was running")


@click.command()
@OPTION_JSON
@click.pass_obj
def status(mesh: Path | None, as_json: bool) -> None:
    """Show every process of the mesh with its state and URL."""
    settings = _settings(mesh)
    if not as_json:
        show_status(settings)
        return
    running, pin = local.processes(settings), told(settings)
    emit(
        {
            "mesh": settings.name,
            "folder": str(settings.folder),
            "up": bool(running),
            "pin": {"version": pin.version, "reason": pin.reason, "by": pin.by, "at": pin.at}
            if pin
            else None,
            "drift": _drifted(settings),
            "waiting": list(readiness.waiting(settings)) if running else [],
            "troubles": list(readiness.troubles(settings)) if running else [],
            "room": room.told_short(settings),
            "faults": [asdict(fault) for fault in read_faults(settings)] if running else [],
            "certificates": [*_failing_certificates(settings), *_failing_door(settings)] if running else [],
            "processes": {
                p.name: {
                    "kind": p.kind,
                    "state": p.state,
                    "url": p.url,
                    "pid": p.pid,
                    "restarts": p.restarts,
                    "log": p.log,
                    "why": p.why,
                }
                for p in running.values()
            },
        }
    )


def show_status(settings: Settings) -> None:
    """Print the processes as a list."""
    running = local.processes(settings)
    if not running:
        unasked = ", though nobody stopped it: its supervisor was killed, or the machine was"
        why = unasked if local.ended_unasked(settings) else ""
        click.echo(f"mesh '{settings.name}' is down{why}: start it with `tulle up`")
        return
    click.secho(f"mesh '{settings.name}' in {relative(settings.folder)}", bold=True)
    width = max(len(name) for name in running)
    for process in running.values():
        again = f"  (started again {process.restarts}×)" if process.restarts else ""
        click.echo(
            f"  {mark(process.state)} {process.name:<{width}}  {process.state:<10}  {process.url or ''}{again}"
        )
        if process.why:
            click.echo(f"    {process.why} (`tulle logs {process.name.split('/')[0]}`)")
    if short := room.told_short(settings):
        click.echo(f"  {mark('warn')} {short}")
    is_older = local.runs_by_older_settings(settings)
    if is_older:
        said = "`tulle gateway reload` takes up what it can and tells what needs `tulle down`, `tulle up`"
        click.echo(f"  {mark('warn')} mesh.yaml was changed since it was read: {said}")
    for said in _not_ready(settings):
        click.echo(f"  {mark('warn')} {said}")
    for fault in read_faults(settings):
        place = f" in {fault.environment}" if fault.environment else ""
        click.echo(f"  {mark('warn')} service '{fault.service}'{place}: {fault.sentence}")
    if (pin := told(settings)) is not None:
        click.echo(f"  {mark('warn')} {pin.sentence} (`tulle gateway resume`)")
    for said in _failing_certificates(settings):
        click.echo(f"  {mark('warn')} {said} (`tulle trust show`)")
    for said in [] if is_older else _failing_door(settings):  # which knows the settings of the file alone
        click.echo(f"  {mark('warn')} {said}")
    drifted = _drifted(settings)
    if drifted:
        names = ", ".join(name or "the mesh" for name in drifted)
        count = sum(drifted.values())
        said = f"{count} difference{'s' if count > 1 else ''} from what was applied: {names}"
        click.echo(f"  {mark('warn')} {said} (`tulle drift`)")


def _not_ready(settings: Settings) -> list[str]:
    """What is recorded and not in force yet; what the list of processes tells by itself is left out."""
    names = tuple(f"{name} " for name in local.processes(settings))
    told = [said for said in readiness.waiting(settings) if not said.startswith(names)]
    return [*told, *(f"not yet as it should be: {said}" for said in readiness.troubles(settings))]


def _failing_certificates(settings: Settings) -> list[str]:
    """What is to be said of certificates that should have been made anew; read from files, as no database is opened."""
    if not settings.mutual_tls:
        return []
    from tulle.gateway.trust.held import certificates_of

    at = time.time()
    told = []
    for one in certificates_of(settings.state_folder):
        if (state := one.state(at)) == "ended":
            told.append(f"the certificate of {one.facts.uri} has ended, so nobody talks to it")
        elif state == "late":
            hours = (one.facts.ends_at - at) / 3600
            told.append(
                f"the certificate of {one.facts.uri} could not be made anew; it ends in {hours:.1f} h"
            )
    return told


def _failing_door(settings: Settings) -> list[str]:
    """What is to be said of the certificate that callers are shown; read from files."""
    if settings.gateway_tls is None:
        return []
    from tulle.gateway.door_certificate import shown

    found, at = shown(settings), time.time()
    if found is None:
        return ["the gateway has no certificate to show to its callers (`tulle logs control_plane`)"]
    told = [f"{found.trouble}; the gateway shows the one before"] if found.trouble else []
    if found.uncovered:
        hosts = ", ".join(found.uncovered)
        told.append(f"the gateway's certificate is not for {hosts}, where APIs are called: {found.advice}")
    if (state := found.state(at)) == "ended":
        told.append("the certificate that the gateway shows has ended, so no caller believes it")
    elif state == "late":
        days = (found.ends_at - at) / 86_400
        told.append(
            f"the certificate that the gateway shows ends in {days:.1f} days, and there is no newer one"
        )
    return told


def _drifted(settings: Settings) -> dict[str, int]:
    """How many differences the control plane found last, by product; a file, for no database is opened here."""
    try:
        value = json.loads((settings.run_folder / "drift.json").read_text())
        return {str(name): int(count) for name, count in value["findings"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


@click.command()
@click.argument("process", required=False)
@click.option(
    "--lines", "-n", type=click.IntRange(1), default=40, show_default=True, help="How many of the last lines."
)
@click.option("--follow", "-f", is_flag=True, help="Keep showing what comes.")
@click.pass_obj
def logs(mesh: Path | None, process: str | None, lines: int, follow: bool) -> None:
    """Show what PROCESS wrote: control_plane, s3_door, gateway, gateway-access, supervisor, a service, a run."""
    settings = _settings(mesh)
    files = (
        {p.stem: p for p in sorted(settings.log_folder.glob("*.*"))} if settings.log_folder.is_dir() else {}
    )
    if process is None:
        for name, path in files.items():
            click.echo(f"  {name:<40} {path.stat().st_size:>10,} bytes")
        if not files:
            click.echo("no logs yet: nothing has run in this mesh")
        return
    name = process.split("/")[0]
    found = files.get(name) or files.get(f"service-{name}") or files.get(f"run-{name}")
    if found is None:
        raise NotFound(f"there is no log of '{process}'", hint=did_you_mean(name, files))
    with found.open(encoding="utf-8", errors="replace") as file:
        for line in _last(file.read(), lines):
            click.echo(line)
        while follow:
            if new := file.read():
                click.echo(new, nl=False)
            time.sleep(0.2)


def _last(text: str, lines: int) -> list[str]:
    return text.splitlines()[-lines:]
