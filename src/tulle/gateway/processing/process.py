"""The process that carries out what Envoy cannot: one thread, one socket, between two of Envoy's listeners.

    python -m tulle.gateway.processing.process [--number 0]

It runs in the mesh's state folder, as Envoy does. On SIGTERM it takes no new connections, finishes what is in flight,
writes down what it has counted, and ends. Its socket is for the owner of the process only.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from tulle.errors import TulleError
from tulle.gateway.envoy_values import FOLDER, INNER_SOCKET, processor_socket
from tulle.gateway.processing import handed, plan
from tulle.gateway.processing.body_log import BodyLogFile
from tulle.gateway.processing.exchange import Answer
from tulle.gateway.processing.handed import Hands
from tulle.gateway.processing.hop import Hops
from tulle.gateway.processing.inner import Pool
from tulle.gateway.processing.kinds import Stores
from tulle.gateway.processing.loaded import Loaded
from tulle.gateway.processing.used_tokens import UsedTokens
from tulle.gateway.processing.window_file import WindowFile
from tulle.gateway.processors import State
from tulle.serving.listening import BACKLOG, open_socket
from tulle.state.secrets import open_secrets

LOOK_SECONDS: Final = (
    0.1  # how often the plan's file is looked at; whoever publishes has it looked at at once
)
TIDY_SECONDS: Final = 10.0
DRAIN_SECONDS: Final = 10.0
BODIES: Final = "log/gateway-bodies-{number}.jsonl"  # of .tulle/
COUNTS: Final = "gateway/counts-{number}.db"  # of .tulle/
USED: Final = "gateway/tokens-{number}.db"  # of .tulle/
_log = logging.getLogger("tulle.processing")


async def run(number: int, listening: socket.socket) -> None:
    """Process requests until SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    told = asyncio.Event()
    for one in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(one, told.set)
    counts = WindowFile(Path(COUNTS.format(number=number)))
    secrets = open_secrets(Path(handed.KEY_FILE))
    stores = Stores(
        counts.windows,
        secrets.derived,
        note=BodyLogFile(Path(BODIES.format(number=number))).note,
        hands=Hands(Path(handed.FILE), secrets),
        used=UsedTokens(Path(USED.format(number=number))),
    )
    loaded = Loaded(Path(FOLDER) / f"{plan.FILE}.json", stores)
    loaded.look()

    def about() -> Answer:
        loaded.look()
        state = State(loaded.version, loaded.refused, loaded.problem, os.getpid())
        return Answer(200, [(b"content-type", b"application/json")], msgspec.json.encode(state), is_ours=True)

    hops = Hops(loaded.chain, about, Pool(INNER_SOCKET))
    server = await loop.create_unix_server(hops.hop, sock=listening, backlog=BACKLOG)
    keepers = [
        loop.create_task(counts.keep()),
        loop.create_task(_every(LOOK_SECONDS, loaded.look)),
        loop.create_task(_every(TIDY_SECONDS, hops.pool.tidy)),
    ]
    # What lives now lives as long as the process: keep the collector from walking over it again and again.
    gc.collect()
    gc.freeze()
    _log.info("processor %d answers, with plan %s", number, loaded.version or "none yet")
    await told.wait()
    server.close()
    await hops.end(DRAIN_SECONDS)
    for keeper in keepers:
        keeper.cancel()
    await asyncio.gather(*keepers, return_exceptions=True)
    loaded.close()
    counts.close()
    stores.used.close()
    _log.info("processor %d has stopped", number)


async def _every(seconds: float, act: Callable[[], None]) -> None:
    while True:
        await asyncio.sleep(seconds)
        try:
            act()
        except Exception:  # noqa: BLE001  whatever it was, the next look may go better
            _log.exception("something that is done now and then failed")


def main(arguments: list[str] | None = None) -> int:
    """Run a processor; 0 when it was told to stop, 1 when it could not start."""
    parser = argparse.ArgumentParser(
        prog="tulle.gateway.processing.process", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--number", type=int, default=0, help="which one of several")
    options = parser.parse_args(arguments)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        listening = open_socket(Path(processor_socket(options.number)))
    except (TulleError, OSError) as exc:
        _log.error("%s", exc)
        return 1
    import uvloop  # noqa: PLC0415  only the process needs it

    inode = Path(processor_socket(options.number)).stat().st_ino
    uvloop.run(run(options.number, listening))
    with contextlib.suppress(OSError):
        path = Path(processor_socket(options.number))
        if path.stat().st_ino == inode:
            path.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())
