"""Reading ahead: what is slow to arrive is fetched by a thread of its own while the last of it is still worked on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from queue import Empty, Queue
from threading import Event, Thread
from typing import TypeVar

T = TypeVar("T")
_ROOM = 2  # of what is fetched and not yet taken
_LOOK_SECONDS = 0.2


class _Ended:
    """What comes after the last one; `error` is why there is no more."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


def ahead(items: Iterable[T], cancel: Callable[[], None]) -> Iterator[T]:
    """The items in their order; an error of theirs is raised in its turn.

    When no more are wanted, `cancel` is called from the wanting thread, to end a wait of the fetching one.
    """
    waiting: Queue[T | _Ended] = Queue(_ROOM)
    unwanted = Event()

    def fetch() -> None:
        error: BaseException | None = None
        try:
            for item in items:
                waiting.put(item)
                if unwanted.is_set():
                    break
        except BaseException as exc:  # noqa: BLE001  raised again where the items are wanted
            error = exc
        waiting.put(_Ended(error))

    thread = Thread(target=fetch, name="reading ahead", daemon=True)
    thread.start()
    ended = False
    try:
        while True:
            found = waiting.get()
            if isinstance(found, _Ended):
                ended = True
                if found.error is not None:
                    raise found.error
                return
            yield found
    finally:
        if not ended:
            unwanted.set()
            cancel()
        while thread.is_alive():
            with suppress(Empty):
                waiting.get(timeout=_LOOK_SECONDS) if not ended else thread.join()
