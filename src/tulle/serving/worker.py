"""The process that answers for one generation of a service: one thread, one socket, `app` behind it.

    python -m tulle.serving.worker --package-folder DIR --socket PATH [--generation v1]

It loads the unpacked package, answers a saved query of every endpoint, and only then accepts. On SIGTERM it
stops accepting, finishes what is in flight, and ends. Who may call is the gateway's business: the socket is
for the owner of the process only. What users wrote, models that are not converted among it, runs beside it (`pool`).
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import signal
import socket
import sys
import time
from pathlib import Path

import msgspec

from tulle.errors import AlreadyExists, Broken, TulleError
from tulle.serving.answers import Question
from tulle.serving.app import App
from tulle.serving.connection import Callers
from tulle.serving.elsewhere import connect_in
from tulle.serving.index import READ_ERRORS
from tulle.serving.listening import BACKLOG, open_socket
from tulle.serving.live import Following
from tulle.serving.loaded import Loaded, Verdict, check_files, load
from tulle.serving.recorder import Recorder
from tulle.serving.tracing import Tracer

WARM_UP = 50
ASKED_AGAIN = 3  # of a question, for its time: the first call of a model costs more
WARM_UP_SECONDS = 5.0  # after which it is warm enough: some questions take long
DRAIN_SECONDS = 10
EXIT_DAMAGED = 3  # the package is not whole: who started the worker may unpack it again
_log = logging.getLogger("tulle.serving")
_found_damaged: list[bool] = []  # of this process


async def warm_up(service: Loaded, times: int = WARM_UP) -> None:
    """Start what endpoints need and answer their probes many times; Broken, naming endpoint and reason.

    READ_ERRORS where what they read is damaged.
    """
    failed = await service.ready()
    until = time.monotonic() + WARM_UP_SECONDS
    for number in range(times):
        if failed or (number and time.monotonic() > until):
            break
        failed = await service.probe()
    if failed:
        told = "; ".join(f"endpoint '{name}': {why}" for name, why in failed.items())
        raise Broken(f"service '{service.manifest.service}' does not answer: {told}")


async def serve(
    app: App,
    listening: socket.socket,
    drain_seconds: float = DRAIN_SECONDS,
    tracer: Tracer | None = None,
) -> None:
    """Answer until SIGTERM or SIGINT, then finish what is in flight, for so long at most."""
    loop = asyncio.get_running_loop()
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    answer = app.ask if tracer is None else tracer.around(app.ask, app.routes)
    callers = Callers(answer, max_request_bytes=app.max_request_bytes)
    if listening.family == socket.AF_UNIX:
        server = await loop.create_unix_server(callers.connection, sock=listening, backlog=BACKLOG)
    else:
        server = await loop.create_server(callers.connection, sock=listening, backlog=BACKLOG)
    await told.wait()
    server.close()
    await callers.end(drain_seconds)


def main(arguments: list[str] | None = None) -> int:
    """Run a worker; 0 when it was told to stop, 1 when it could not start, 3 when its package is damaged."""
    options = _options(arguments)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        check_files(options.package_folder)
        service = load(options.package_folder, options.generation, options.outside)
        if options.mesh:
            connect_in(service, options.mesh)
    except Broken as exc:
        _refused(exc)
        return EXIT_DAMAGED
    except TulleError as exc:
        return _refused(exc)
    import uvloop  # noqa: PLC0415  only the process needs it

    try:
        if options.ask:
            questions = msgspec.json.decode(sys.stdin.buffer.read(), type=list[Question])
            sys.stdout.buffer.write(msgspec.json.encode(uvloop.run(_asked(service, questions))))
            return 0
        if options.test:
            sys.stdout.buffer.write(msgspec.json.encode(uvloop.run(_tested(service))))
            return 0
        return uvloop.run(_answering(service, options))
    except READ_ERRORS as exc:  # before it answered anybody: it may start once the package is unpacked again
        _log.error("what an endpoint of '%s' reads is damaged: %s", service.manifest.service, exc)
        return EXIT_DAMAGED


async def _tested(service: Loaded) -> tuple[Verdict, ...]:
    try:
        return await service.test()
    finally:
        service.close()
        await service.door.close()


async def _asked(service: Loaded, questions: list[Question]) -> tuple[Verdict, ...]:
    try:
        return await service.answers(questions, again=ASKED_AGAIN)
    finally:
        service.close()
        await service.door.close()


async def _answering(service: Loaded, options: argparse.Namespace) -> int:
    try:
        following = Following(service, options.live_folder) if options.live_folder else None
        if following is not None and following.is_needed:
            following.begin()
        await warm_up(service)
        recorder = _recorder(service, options.log_folder)
        app = App(
            service, max_request_bytes=options.max_request_bytes, recorder=recorder, damaged=_end_as_damaged
        )
        listening = open_socket(options.socket) if options.socket else _open_port(options.port)
    except TulleError as exc:
        service.close()
        return _refused(exc)
    except READ_ERRORS:
        service.close()
        raise
    # What lives now lives as long as the process: keep the collector from walking over it again and again.
    gc.collect()
    gc.freeze()
    trace = service.trace
    where = options.socket or "{}:{}".format(*listening.getsockname())
    _log.info("service '%s' %s answers on %s", trace.service, trace.generation, where)
    inode = options.socket.stat().st_ino if options.socket else None
    keeper = None
    if following is not None and following.is_needed:
        keeper = asyncio.get_running_loop().create_task(following.keep(app.renew))
    if recorder is not None:
        recorder.start()
    tracer = Tracer(options.traces, trace) if options.traces else None
    if tracer is not None:
        tracer.start()
    await serve(app, listening, options.drain_seconds, tracer)
    await service.door.close()
    if keeper is not None:
        keeper.cancel()
    service.close()
    if recorder is not None:
        recorder.close()
    if tracer is not None:
        tracer.close()
    if options.socket and options.socket.exists() and options.socket.stat().st_ino == inode:
        options.socket.unlink()
    _log.info("service '%s' %s has stopped", trace.service, trace.generation)
    return EXIT_DAMAGED if _found_damaged else 0


def _end_as_damaged() -> None:
    """End in order, as if told to stop, and say so by the exit code."""
    if not _found_damaged:
        _found_damaged.append(True)
        os.kill(os.getpid(), signal.SIGTERM)


def _recorder(service: Loaded, folder: Path | None) -> Recorder | None:
    if folder is None:
        return None
    trace = service.trace
    return Recorder(folder, trace.service, trace.version, trace.generation)


def _refused(exc: TulleError) -> int:
    _log.error("%s%s", exc.message, f" ({exc.hint})" if exc.hint else "")
    return 1


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tulle.serving.worker", description=__doc__.partition("\n")[0])
    parser.add_argument("--package-folder", type=Path, required=True, help="an unpacked package")
    parser.add_argument(
        "--generation", help="what answers call this generation; default: the package's version"
    )
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--socket", type=Path, help="the unix socket to answer on")
    where.add_argument(
        "--port", type=int, help="a port of 127.0.0.1, for tests and benchmarks; 0: any free one"
    )
    where.add_argument("--test", action="store_true", help="print the verdicts of the saved test queries")
    where.add_argument(
        "--ask", action="store_true", help="print the answers to the questions on standard input"
    )
    parser.add_argument("--mesh", type=Path, help="the mesh folder, whose connections look-ups may need")
    parser.add_argument(
        "--outside", type=Path, help="the file by which its compositions call other services and HTTP APIs"
    )
    parser.add_argument(
        "--live-folder",
        type=Path,
        help="where the newest indexes are of look-ups that follow what is published",
    )
    parser.add_argument(
        "--drain-seconds", type=int, default=DRAIN_SECONDS, help="what is in flight may take after SIGTERM"
    )
    parser.add_argument(
        "--max-request-bytes", type=int, default=1_048_576, help="a larger body is answered 413"
    )
    parser.add_argument("--traces", default="", help="where spans are sent to; default: there are none")
    parser.add_argument(
        "--log-folder", type=Path, help="where queries are left to be collected; default: none is kept"
    )
    return parser.parse_args(arguments)


def _open_port(port: int) -> socket.socket:
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(("127.0.0.1", port))
    except OSError as exc:
        raise AlreadyExists(f"port {port} cannot be used: {exc.strerror}") from exc
    listening.listen(BACKLOG)
    listening.setblocking(False)
    return listening


if __name__ == "__main__":
    sys.exit(main())
