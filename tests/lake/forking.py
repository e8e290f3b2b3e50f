"""Work that kills itself, each time in a process of its own, without a second of imports each time.

A process that has carried out some imports, and has no threads, forks a child for every turn:

    with forking("from tulle.lake import collect") as turn:
        ended = turn("…what the child does, in Python…", "its", "arguments")

`ended` is the exit code, negative where a signal ended it.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def forking(imports: str) -> Iterator[Callable[..., int]]:
    """A function that carries out a text in a forked child and says how that ended."""
    command = [sys.executable, str(Path(__file__)), imports]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        asked, told = parent.stdin, parent.stdout
        assert asked is not None
        assert told is not None

        def turn(text: str, *arguments: str) -> int:
            print(json.dumps([text, *arguments]), file=asked, flush=True)
            return int(told.readline())

        try:
            yield turn
        finally:
            parent.kill()  # its child ends by itself


def _serve(imports: str) -> None:
    known: dict[str, object] = {}
    exec(imports, known)
    gc.freeze()  # what is there already stays: a child that walked over it would have to copy it
    for line in sys.stdin:
        text, *arguments = json.loads(line)
        child = os.fork()
        if child == 0:
            _work(text, known, arguments)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def _work(text: str, known: dict[str, object], arguments: list[str]) -> None:
    os.dup2(2, 1)  # what it prints is no answer
    sys.argv = ["", *arguments]
    try:
        exec(text, known)
    except Exception:  # noqa: BLE001  told, whatever it is
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    _serve(sys.argv[1])
