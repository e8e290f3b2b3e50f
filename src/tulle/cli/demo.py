"""`tulle demo`: an example mesh, built and started with the same calls a user makes by hand.

What to build stands in the example's own `demo.yaml`; nothing here knows a product.
"""

from __future__ import annotations

import json
import shlex
import shutil
import time
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import click

from tulle.cli import credentials
from tulle.cli.connect import client_of
from tulle.cli.deployment_told import follow, show_deployment
from tulle.cli.mesh import start_detached
from tulle.cli.plan import show_plan
from tulle.cli.run import build
from tulle.cli.service import show_package
from tulle.cli.terminal import mark, relative
from tulle.config import Settings
from tulle.deploy import local
from tulle.errors import Invalid, NotFound, Unavailable, did_you_mean
from tulle.sdk.applications import ApplicationClient
from tulle.sdk.client import Client
from tulle.sdk.deployments import DeploymentClient
from tulle.sdk.services import ServiceClient
from tulle.spec.load import load_document
from tulle.spec.mesh import load_settings

Script = Mapping[str, Any]


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), default="demo-mesh")
@click.option("--example", help="A folder below examples/, or any folder. Default: the first of examples/.")
@click.option("--no-start", is_flag=True, help="Build only; do not start the mesh.")
def demo(folder: Path, example: str | None, no_start: bool) -> None:
    """Build the example mesh in FOLDER, start it in the background, and show how to use it.

    Doing it again changes only what is not up to date.
    """
    began = time.monotonic()
    _copy(_example(example), folder)
    settings = load_settings(folder)
    script: Script = load_document(folder / "demo.yaml").value
    if not no_start and local.supervisor_pid(settings) is None:
        local.check_ports(settings)  # better now than after a minute of work
    with client_of(settings) as client:
        _heading("products")
        show_plan(client.apply())
        _heading("runs")
        for product in script["runs"]:
            result = build(client, product)
            if result["status"] in {"failed", "stopped"}:
                raise Invalid(f"the run of '{product}' {result['status']}", hint="what it says stands above")
        _heading("services")
        services = [item["service"] for item in script["services"]]
        for service in services:
            show_package(ServiceClient(client).package(service))
            newest = ServiceClient(client).service(service)
            if (
                newest["deployment"] is None
                or newest["deployment"]["desired_version"] != newest["newest_version"]
            ):
                DeploymentClient(client).deploy(service)
        _heading("applications")
        for application in script["applications"]:
            _register(client, settings, application)
    if no_start:
        return
    _heading("processes")
    if local.supervisor_pid(settings) is None:
        start_detached(settings)
    with client_of(settings) as client:
        for service in services:
            show_deployment(follow(client, service, ServiceClient(client).service(service)["deployment"]))
        _wait_for_first_answer(settings, script)
        _summary(settings, client, script, time.monotonic() - began)


def _example(name: str | None) -> Path:
    if name is not None and (Path(name) / "mesh.yaml").is_file():
        return Path(name)
    installed = Path(str(resources.files("tulle"))) / "examples"
    source_tree = Path(__file__).resolve().parents[3] / "examples"
    home = installed if installed.is_dir() else source_tree
    examples = {path.parent.name: path.parent for path in sorted(home.glob("*/mesh.yaml"))}
    if name is None and examples:
        return next(iter(examples.values()))
    if name not in examples:
        hint = did_you_mean(name or "", examples) or "name a folder that holds a mesh.yaml"
        raise NotFound(f"there is no example '{name}'", hint=hint)
    return examples[name]


def _copy(source: Path, folder: Path) -> None:
    if folder.resolve() == source.resolve():
        return
    new = 0
    for path in sorted(source.rglob("*")):
        target = folder / path.relative_to(source)
        if path.is_dir() or ".tulle" in path.parts or "__pycache__" in path.parts or target.exists():
            continue  # what the user changed in the copy stays as it is
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
        new += 1
    where = relative(folder.resolve())
    where = where if Path(where).is_absolute() else f"./{where}"
    click.echo(
        f"  {mark('succeeded' if new else 'unchanged')} example '{source.name}' in {where}: {new} new file(s)"
    )


def _heading(text: str) -> None:
    click.secho(f"\n{text}", bold=True)


def _register(client: Client, settings: Settings, application: Mapping[str, Any]) -> None:
    name = application["name"]
    known = {a["name"]: a for a in ApplicationClient(client).applications()}
    if name in known and not known[name]["revoked_at"]:
        try:
            credentials.saved_credentials(settings, name)
        except NotFound:
            credentials.save(settings, ApplicationClient(client).rotate(name, overlap="0"))
        click.echo(f"  {mark('unchanged')} {name} is registered")
        return
    made = ApplicationClient(client).create(
        name, services=application["services"], owner=application.get("owner", "")
    )
    credentials.save(settings, made)
    click.echo(f"  {mark('succeeded')} {name} may call {', '.join(application['services'])}")


def _wait_for_first_answer(settings: Settings, script: Script) -> None:
    import httpx

    from tulle.gateway.own_call import calling

    first = script["requests"][0]
    kept = credentials.saved_credentials(settings, script["applications"][0]["name"])
    headers = {"client_id": kept["client_id"], "client_secret": kept["client_secret"]}
    answer: list[httpx.Response] = []

    def answers() -> bool:
        try:
            with calling(settings, timeout=5) as gateway:
                answer[:] = [gateway.post(_path(first), json=first["body"], headers=headers)]
        except httpx.TransportError:
            return False
        return answer[0].status_code == 200

    try:
        local.wait_until(answers, timeout=30, what="no answer through the gateway", hint="")
    except Unavailable:
        said = f"HTTP {answer[0].status_code}: {answer[0].text}" if answer else "no connection"
        raise Unavailable(
            f"the gateway does not answer '{first['title']}': {said}",
            hint="`tulle status`, `tulle logs gateway`",
        ) from None


def _url(settings: Settings, request: Mapping[str, Any]) -> str:
    return settings.gateway_url + _path(request)


def _path(request: Mapping[str, Any]) -> str:
    return f"/public/api/v1/{request['service']}/{request['endpoint']}/{request['action']}"


def _summary(settings: Settings, client: Client, script: Script, seconds: float) -> None:
    products = client.products()
    runs = {r["product"]: r for r in reversed(client.runs(limit=100))}
    portal = f"http://{settings.host}:{settings.control_plane_port}/"
    gateway = f"{settings.gateway_url}/"
    _heading(f"the mesh answers, after {seconds:.1f} s")
    for product in products:
        run = runs.get(product["name"], {})
        click.echo(
            f"  product  {product['domain']}/{product['name']}  (last run {run.get('status', 'none')})"
        )
    for service in ServiceClient(client).services():
        deployment = service["deployment"] or {}
        endpoints = ", ".join(e["name"] for e in service["endpoints"])
        click.echo(f"  service  {service['name']} {deployment.get('active_version') or ''}: {endpoints}")
    click.echo(f"  portal   {portal}")
    click.echo(f"  gateway  {gateway}")
    lake = relative(settings.state_folder / "lakectl.yaml")
    click.echo(
        f"  lake     {portal}api/v1 (lakeFS), http://{settings.host}:{settings.s3_port}/ (S3); key in {lake}"
    )
    for application in script["applications"]:
        kept = credentials.saved_credentials(settings, application["name"])
        click.echo(
            f"  application {kept['name']}: client_id {kept['client_id']}  client_secret {kept['client_secret']}"
        )
    kept = credentials.saved_credentials(settings, script["applications"][0]["name"])
    _heading("try it")
    for request in script["requests"]:
        click.echo(f"# {request['title']}")
        click.echo(_curl(settings, request, kept))
    click.echo("# what a caller without credentials is told")
    trusted = settings.trusted_file
    trust = "" if trusted is None else f"--cacert {shlex.quote(relative(trusted))} "
    click.echo(f"curl -s {trust}" + shlex.quote(_url(settings, script["requests"][0])) + " -d '{}'")
    click.echo(f"\nstop it with: tulle --mesh {relative(settings.folder)} down")


def _curl(settings: Settings, request: Mapping[str, Any], kept: Mapping[str, Any]) -> str:
    url = _url(settings, request) + request.get("suffix", "")
    trust = [] if settings.trusted_file is None else ["--cacert", relative(settings.trusted_file)]
    parts = ["curl", "-s", *trust, *map(str, request.get("options", ())), url]
    parts += ["-H", f"client_id: {kept['client_id']}", "-H", f"client_secret: {kept['client_secret']}"]
    parts += ["-d", json.dumps(request["body"])]
    return shlex.join(parts)
