"""`tulle ci github | gitlab`: the workflow that checks changes of this mesh and releases what is merged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

from tulle.cli.terminal import mark, relative
from tulle.errors import AlreadyExists, Invalid

_FILES = {"github": ".github/workflows/tulle.yml", "gitlab": ".gitlab-ci.yml"}


@click.group(epilog="For example: tulle ci github --write && git add .github")
def ci() -> None:
    """Make the workflow that checks changes and releases what is merged."""


def _service(service: str, title: str) -> Callable[..., None]:
    @ci.command(service, help=f"Print the workflow for {title}, or write {_FILES[service]}.")
    @click.option("--write", is_flag=True, help="Write it where the service looks for it.")
    @click.option("--force", is_flag=True, help="Write it over one that is there.")
    @click.option("--package", help="What is installed. Default: this version of tulle.")
    @click.pass_obj
    def command(mesh: Path | None, write: bool, force: bool, package: str | None) -> None:
        text, root = _made(mesh, service, package)
        if not write:
            click.echo(text, nl=False)
            return
        target = root / _FILES[service]
        if target.exists() and target.read_text(encoding="utf-8") != text and not force:
            raise AlreadyExists(
                f"{relative(target)} exists and is another one", hint="--force writes over it"
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
        click.echo(f"{mark('succeeded')} {relative(target)}")

    return command


def _made(mesh: Path | None, service: str, package: str | None) -> tuple[str, Path]:
    """The workflow's text, and the folder of the Git repository the mesh is in."""
    from importlib.metadata import version

    from tulle.cli.connect import settings_of
    from tulle.spec import workflow
    from tulle.spec.environment import environments
    from tulle.spec.mesh import load_mesh

    if package is not None and (not package.strip() or not package.isprintable()):
        raise Invalid(f"--package {package!r} is nothing to install", hint="such as tulle[ml]==0.1.0")
    settings = settings_of(mesh)
    products = load_mesh(settings).order()
    root = next(
        (f for f in (settings.folder, *settings.folder.parents) if (f / ".git").exists()), settings.folder
    )
    made = workflow.Pipeline(
        products=[product.name for product in products],
        released=[product.name for product in products if product.version],
        environment=environments(settings)[0].name,
        package=package or f"tulle=={version('tulle')}",
        folder="" if root == settings.folder else settings.folder.relative_to(root).as_posix(),
    )
    text = workflow.github(made) if service == "github" else workflow.gitlab(made)
    return text, root


_service("github", "GitHub Actions")
_service("gitlab", "GitLab CI")
