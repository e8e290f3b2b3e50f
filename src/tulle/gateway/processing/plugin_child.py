"""The process in which a policy of somebody's own runs: beside the processor, behind a pool.

    python -m tulle.gateway.processing.plugin_child --plugin NAME --socket N --life N --memory BYTES

Its class is the one that an installed package names. Settings come with each request, so that none is on a command
line. Knows nothing of connections and of what is done with its answers.
"""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Sequence
from importlib.metadata import entry_points
from typing import Any, Final

import msgspec

from tulle.errors import NotFound
from tulle.sdk.policy import Call, Change, Policy, Refuse, Reply
from tulle.serving.beside import Handler, answer_requests, with_options

GROUP: Final = "tulle.processor_policies"


def installed() -> Sequence[str]:
    """The names of the policies that packages bring which are installed here."""
    return sorted({entry.name for entry in entry_points(group=GROUP)})


class Asked(msgspec.Struct, array_like=True):
    """What a policy is asked: about a request, or with a reply about an answer."""

    settings: dict[str, Any]
    call: Call
    reply: Reply | None = None


class Said(msgspec.Struct, array_like=True):
    """What it says: nothing, a change, a reply, a refusal (status, type, message, detail), or that it failed."""

    change: Change | None = None
    reply: Reply | None = None
    refusal: tuple[int, str, str, str] | None = None
    failure: str = ""
    sees_answers: bool = False


def main() -> int:
    """Answer until the socket closes."""
    parser = argparse.ArgumentParser(prog="tulle.gateway.processing.plugin_child")
    parser.add_argument("--plugin", required=True)
    options = with_options(parser)
    return answer_requests(options, lambda: _handler(options.plugin))


def _handler(name: str) -> Handler:
    found = [entry for entry in entry_points(group=GROUP) if entry.name == name]
    if not found:
        raise NotFound(f"no installed package brings the policy '{name}'")
    made: dict[bytes, Policy] = {}
    loaded = found[0].load()

    def handle(data: bytes) -> bytes:
        asked = msgspec.msgpack.decode(data, type=Asked)
        try:
            key = msgspec.msgpack.encode(asked.settings, order="sorted")
            if key not in made:
                made.clear()
                made[key] = loaded(asked.settings)
            said = _said(made[key], asked)
        except Refuse as exc:
            said = Said(refusal=(exc.status, exc.error_type, exc.message, exc.detail))
        except Exception as exc:  # noqa: BLE001  whatever users' code raises
            traceback.print_exc()
            said = Said(failure=type(exc).__name__)
        return msgspec.msgpack.encode(said)

    return handle


def _said(policy: Policy, asked: Asked) -> Said:
    if asked.reply is not None:
        found: Any = policy.answer(asked.call, asked.reply)
    else:
        found = policy.request(asked.call)
    sees = bool(policy.sees_answers)
    if found is None:
        return Said(sees_answers=sees)
    if isinstance(found, Change):
        return Said(change=found, sees_answers=sees)
    if isinstance(found, Reply) and asked.reply is None:
        return Said(reply=found)
    raise TypeError(f"a policy gives None, a Change or, for a request, a Reply, not {type(found).__name__}")


if __name__ == "__main__":
    sys.exit(main())
