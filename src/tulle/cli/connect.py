"""How a command reaches its mesh: over the network when it is up, else through the application in this process.

Either way it is the same HTTP API, so there is one path to test.
"""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import httpx

from tulle.cli.environment import who
from tulle.config import Settings
from tulle.deploy import local
from tulle.errors import Invalid, Unavailable
from tulle.sdk.client import Client, asking
from tulle.sdk.lake import LakeClient
from tulle.spec.mesh import find_mesh, load_settings


def settings_of(folder: Path | None) -> Settings:
    """The settings of the mesh a command is about."""
    return load_settings(folder if folder is not None else find_mesh(Path.cwd()))


@contextmanager
def client_of(settings: Settings) -> Iterator[Client]:
    """A client for the mesh, whether it is up or not."""
    with http_of(settings) as http:
        yield Client(http)


def key_of(file: Path) -> str:
    """The Authorization header of the access key in a file such as `.tulle/lakectl.yaml`. Invalid."""
    import yaml

    try:
        value = yaml.safe_load(file.read_text())
        known, secret = (value["credentials"][name] for name in ("access_key_id", "secret_access_key"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError):
        raise Invalid(
            f"{file} holds no access key",
            hint="`tulle user key NAME` makes one; write it as `credentials: {access_key_id: …, secret_access_key: …}`",
        ) from None
    return "Basic " + base64.b64encode(f"{known}:{secret}".encode()).decode()


@contextmanager
def http_of(settings: Settings, key: Path | None = None) -> Iterator[httpx.Client]:
    """HTTP to the mesh's control plane, or to the same application in this process.

    With the mesh's token, or the access key in a file.
    """
    from tulle.server.token import read_token

    credential = key_of(key) if key is not None else f"Bearer {read_token(settings)}"
    headers = {"authorization": credential, **(asking(_typist()) if key is None else {})}
    if local.supervisor_pid(settings) is not None:
        url = f"http://{settings.host}:{settings.control_plane_port}"
        local.wait_until(
            lambda: local.processes(settings).get("control_plane", _NONE).state == "running",
            timeout=30,
            what="the control plane does not answer",
            hint="`tulle logs control_plane` shows what it says",
        )
        # Whatever proxy the environment names: it is this machine, and no token leaves it.
        with httpx.Client(base_url=url, timeout=120.0, headers=headers, trust_env=False) as http:
            yield http
        return
    from tulle.server.app import application

    _log_to_file(settings)
    app = application(settings)
    with InProcess(app) as transport:
        http = httpx.Client(
            transport=transport,
            base_url=f"http://{settings.host}:{settings.control_plane_port}",
            headers=headers,
        )
        app.work.start()  # what a command asks for in the background is done while it waits
        try:
            yield http
        finally:
            app.work.stop()
            http.close()
            app.state.close()


def _typist() -> str:
    """Who types the command, for the trail; "" where the system's name of them is none to write down."""
    name = who()[:64].strip()
    return name if name.isprintable() else ""


def _log_to_file(settings: Settings) -> None:
    """What the application logs is for a file; a terminal is for the command."""
    settings.log_folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    handler = logging.FileHandler(settings.log_folder / "command.log", delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logging.getLogger().addHandler(handler)


@contextmanager
def lake_client(folder: Path | None) -> Iterator[LakeClient]:
    """A client of the mesh's lake."""
    with http_of(settings_of(folder)) as http:
        yield LakeClient(http)


@contextmanager
def mesh_client(folder: Path | None, key: Path | None = None) -> Iterator[Client]:
    """Settings and client in one; with the access key in a file, if given."""
    with http_of(settings_of(folder), key) as http:
        yield Client(http)


_NONE = local.Process("", "", "down", None, None, 0, "")


class InProcess(httpx.BaseTransport):
    """An httpx transport that calls an ASGI application in this process."""

    def __init__(self, app: object) -> None:
        self._inner = httpx.ASGITransport(app=app, raise_app_exceptions=False)  # type: ignore[arg-type]
        self._runner = asyncio.Runner()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Answer one request."""
        return self._runner.run(self._handle(request))

    async def _handle(self, request: httpx.Request) -> httpx.Response:
        content = request.read()
        inner = httpx.Request(request.method, request.url, headers=request.headers, content=content)
        answer = await self._inner.handle_async_request(inner)
        body = await answer.aread()
        return httpx.Response(answer.status_code, headers=answer.headers, content=body, request=request)

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        """Close the event loop."""
        self._runner.close()


def needs_up(settings: Settings) -> None:
    """Refuse what only a running mesh can do."""
    if local.supervisor_pid(settings) is None:
        raise Unavailable("the mesh is not up", hint="start it with `tulle up --detach`")
