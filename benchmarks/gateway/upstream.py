"""What answers behind every side: one nginx that says one sentence, or, where there is none, a worker's bare server."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from benchmarks.serving.processes import free_port, posts, server

ANSWER = (
    '{"result":{"prediction":"1","probas":{"0":0.25,"1":0.75}},"customer":{"name":"Ann","ssn":"078-05-1120"}}'
)
HELLO = Path(__file__).parent.parent / "serving" / "hello.py"
_FRAME = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections 2048; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  keepalive_requests 100000000;
{content}
}}
"""
_SAYING = """
  server {{
    listen 127.0.0.1:{port};
    default_type application/json;
    location / {{ return 200 '{answer}'; }}
  }}
"""
# The access log as the gateway's, a line a request, written when a buffer is full.
_PROXY = """
  limit_req_zone $http_client_id zone=clients:10m rate=1000000r/s;
  access_log {folder}/access.log combined buffer=64k;
  upstream behind {{ server 127.0.0.1:{upstream}; keepalive 64; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      {limit}
      proxy_pass http://behind;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
    }}
  }}
"""


def has_nginx() -> bool:
    """Whether nginx is there to be held against; says how to get it."""
    found = _nginx() is not None
    if not found:
        print("  nginx is missing and left out: apt-get install nginx-light", file=sys.stderr)
    return found


@contextmanager
def upstream(folder: Path) -> Iterator[int]:
    """The port at which the sentence is said."""
    port = free_port()
    folder.mkdir(parents=True)
    if _nginx() is None:
        argv = [sys.executable, str(HELLO), str(port)]
        with server(argv, folder, posts(f"http://127.0.0.1:{port}/x", "{}")):
            yield port
        return
    with _serving(folder, port, _SAYING.format(port=port, answer=ANSWER)):
        yield port


@contextmanager
def nginx_proxy(folder: Path, behind: int, *, limited: bool) -> Iterator[tuple[int, psutil.Process]]:
    """An nginx that sends on, with a limit for each client or without: its port and its process."""
    port = free_port()
    folder.mkdir(parents=True)
    limit = "limit_req zone=clients burst=100000 nodelay;" if limited else ""
    content = _PROXY.format(folder=folder, port=port, upstream=behind, limit=limit)
    with _serving(folder, port, content) as process:
        yield port, process


@contextmanager
def _serving(folder: Path, port: int, content: str) -> Iterator[psutil.Process]:
    file = folder / "nginx.conf"
    file.write_text(_FRAME.format(folder=folder, content=content))
    argv = [str(_nginx()), "-c", str(file), "-p", str(folder), "-e", str(folder / "error.log")]
    with server(argv, folder, posts(f"http://127.0.0.1:{port}/x", "{}")) as process:
        yield process


def _nginx() -> str | None:
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
