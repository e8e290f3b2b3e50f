"""Policies of somebody's own, as a package would bring them."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from tulle.sdk.policy import Call, Change, Policy, Refuse, Reply


class Acme(Policy):
    """Does what the body of a request says, and shouts if it is to."""

    sees_answers = True

    def request(self, call: Call) -> Change | Reply | None:
        """By the member `do`."""
        said: Any = call.json()
        match said.get("do"):
            case "refuse":
                raise Refuse(418, "Teapot", "This is no coffee", "Ask for tea")
            case "reply":
                return Reply(203, {"x-from": "acme"}, b'{"from": "acme"}')
            case "tell":
                told = {
                    "method": call.method,
                    "path": call.path,
                    "query": list(call.query),
                    "client": call.client,
                }
                told |= {"tier": call.tier, "headers": dict(call.headers), "settings": dict(self.settings)}
                return Reply(
                    200, {"content-type": "application/json"}, __import__("json").dumps(told).encode()
                )
            case "change":
                return Change({"x-added": "1", "x-mine": None}, b'{"changed": true}')
            case "raise":
                raise KeyError("secret words")
            case "sleep":
                time.sleep(30)
            case "die":
                os._exit(7)
            case "header":
                return Change({said["name"]: said["value"]})
            case "nonsense":
                return said  # type: ignore[no-any-return]
        return None

    def answer(self, call: Call, reply: Reply) -> Change | None:
        """Where the settings say so."""
        if not self.settings.get("shout"):
            return None
        if reply.json().get("a") == 2:
            raise Refuse(502, "TooQuiet", "Nobody hears this")
        return Change({"x-shout": call.client}, reply.body.upper())


class Other:
    """Is no policy."""

    def __init__(self, settings: Any) -> None:
        del settings


class Like(Other):
    """Does what one does."""

    def request(self, call: Call) -> None:
        """Lets everything on."""


class Greedy(Policy):
    """Takes what its settings say, in bytes."""

    def __init__(self, settings: Any) -> None:
        self.held = bytearray(settings["bytes"])
        super().__init__(settings)


class Quits(Policy):
    """Ends its process."""

    def __init__(self, settings: Any) -> None:
        print("made", flush=True)
        os._exit(0)


class Slow(Policy):
    """Is not made in a time that anybody waits."""

    def __init__(self, settings: Any) -> None:
        time.sleep(60)
        super().__init__(settings)


class Busy(Policy):
    """Starts a thread and a process, and tells of that where its settings say."""

    def __init__(self, settings: Any) -> None:
        threading.Thread(target=lambda: time.sleep(60)).start()
        os.system("echo made")
        started = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        Path(settings["told"]).write_text(str(started.pid))
        super().__init__(settings)


class Unmade(Policy):
    """Cannot be made."""

    def __init__(self, settings: Any) -> None:
        raise ValueError("never")
