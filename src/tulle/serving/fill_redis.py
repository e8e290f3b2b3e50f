"""Filling keys of a Redis from the lake, so that whoever reads them sees the rows of one commit, or of the next.

Rows are first laid beside their places, where nobody looks. One write of the marker makes them count (`fill_marker`),
and then each takes its place. What is interrupted goes on from there. Where nothing was filled before, nobody looks
anywhere yet, so rows are laid in their places at once, and the marker is written at the end. All that is written is
bound to a lock: who has lost it writes nothing more. Knows nothing of commits but their names.
"""

from __future__ import annotations

import contextlib
import itertools
import re
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec

from tulle.errors import Conflict, Denied, Invalid, LimitExceeded, TulleError
from tulle.pipeline.sources.hidden import without_secrets
from tulle.pipeline.sources.redis_server import demand_redis, is_encrypted, parameters_of
from tulle.pipeline.sources.sql import unreachable
from tulle.serving.fill_marker import GONE, OURS, Marker, marker_key, of_value, side_key, value_of
from tulle.serving.fill_rows import FillRows
from tulle.serving.key_form import KeyForm, key_form
from tulle.serving.keyed_rows import HASH

if TYPE_CHECKING:
    from tulle.state.connections import Connection

CHUNK = 2_000  # keys that are written together; others are answered between two of them
MOST_OF_A_KEY = 1000  # rows
_LOCK_SECONDS = 60
_SECONDS = 30  # that one answer may take
_FORMS = f"{OURS}forms"  # all forms of keys that the lake fills there
_MOST_KEPT = 1_000_000  # keys, in mind
Command = tuple[Any, ...]
Told = Callable[[int, int], None]


class RedisFill:
    """The keys of one form while they are filled; nobody else fills them meanwhile."""

    def __init__(self, client: Any, keys: str, token: str) -> None:
        self._client, self.keys, self._token = client, keys, token
        self._marker = marker_key(keys)
        self._lock = f"{OURS}lock:{keys}"
        self._begun = f"{OURS}filling:{keys}"  # what is being laid beside, and how far that is
        self._first = keys.partition("{")[0]

    def marker(self) -> Marker | None:
        """What the keys say that they hold; None where nothing was filled yet. Conflict where others lie there."""
        for form in _texts(self._client.smembers(_FORMS)):
            first = form.partition("{")[0]
            if form != self.keys and (first.startswith(self._first) or self._first.startswith(first)):
                raise Conflict(
                    f"the lake fills keys '{form}' already, and '{self.keys}' begin alike",
                    hint="begin them otherwise: nobody could tell whose a key is",
                )
        marker = of_value(self._client.get(self._marker))
        if marker is None and self._client.exists(self._begun) == 0:
            for found in self._scanned(self._first):
                raise Conflict(
                    f"there are keys that begin with '{self._first}' already, such as '{_shown(found)}', and they were "
                    "not filled from the lake",
                    hint="begin the keys otherwise: all that begin as those that the lake fills are the lake's",
                )
        return marker

    def fill(self, rows: FillRows, wanted: Marker, there: Marker | None, told: Told) -> None:
        """Bring the rows that count under their keys, and let them say `wanted`. `told`: rows done, of how many."""
        if there is not None and there.is_turning:  # one before was interrupted when its rows counted already
            self._turn(there, None)
        most, removed = rows.count()
        is_first = there is None
        content = (
            value_of(wanted).decode()
            + f" {there.commit if there else ''} {most} {removed} {rows.changed is None}"
        )
        done = self._resumed(content, is_first=is_first)
        texts: list[str] | None = [] if rows.changed is not None and not done else None
        told(done, most)
        form = key_form(self.keys, {column.name: column.type for column in rows.filled.key})
        asked = rows.as_texts() if wanted.form == HASH else rows.as_json()
        with rows.rows(asked, CHUNK * 5, done) as batches:
            for number, chunk in _chunks(_of_keys(rows, form, batches, is_hash=wanted.form == HASH)):
                done += number
                self._write(
                    [c for text, found in chunk for c in self._laid(text, found, wanted, is_first)],
                    content,
                    done,
                )
                texts = _more(texts, [text for text, _ in chunk])
                told(done, most)
        if rows.changed is not None:
            with rows.gone(CHUNK) as batches:
                for batch in batches:
                    found = [form.text(list(row.values())) for row in batch.to_pylist()]
                    known = [text for text in found if text is not None]
                    self._write([self._tombstone(text, wanted.form) for text in known], content, done)
                    texts = _more(texts, known)
        elif not is_first:
            self._remove_others(wanted.form, content, done)
        if is_first:
            self._write([("SET", self._marker, value_of(wanted)), ("DEL", self._begun)])
        else:
            self._turn(wanted, texts)

    def say(self, wanted: Marker) -> None:
        """Let the keys name another commit whose rows are the same."""
        there = of_value(self._client.get(self._marker))
        if there is not None and there.is_turning:
            self._turn(there, None)
        self._write([("SET", self._marker, value_of(wanted))])

    # ── laying rows beside ───────────────────────────────────────────────────────────────────────────────

    def _resumed(self, content: str, *, is_first: bool) -> int:
        """How many rows an interrupted fill of the same has laid; what another one has is removed."""
        found = self._client.hgetall(self._begun)
        if found.get(b"content") == content.encode() and found.get(b"done", b"").isdigit():
            return int(found[b"done"])
        if found:
            begins = self._first if is_first else side_key(self.keys, "")
            for keys in _some(self._scanned(begins), CHUNK):
                self._write([("UNLINK", *keys)])
        begun = ("HSET", self._begun, "content", content, "done", 0)
        self._write([("DEL", self._begun), begun, ("SADD", _FORMS, self.keys)])
        return 0

    def _laid(self, text: str, found: Any, wanted: Marker, is_first: bool) -> Iterator[Command]:
        """The commands that lay the rows of one key, in its place or beside it."""
        key = text if is_first else side_key(self.keys, text)
        if wanted.form != HASH:
            yield ("SET", key, found)
            return
        yield ("DEL", key)
        names = wanted.types
        pairs = [(n, value) for n, value in zip(names, found, strict=True) if value is not None]
        yield ("HSET", key, *itertools.chain.from_iterable(pairs))

    def _tombstone(self, text: str, form: str) -> Command:
        side = side_key(self.keys, text)
        return ("HSET", side, GONE, 1) if form == HASH else ("SET", side, b"")

    def _remove_others(self, form: str, content: str, done: int) -> None:
        """Say of every key that no row was laid beside that it is gone."""
        for keys in _some(_texts(self._scanned(self._first)), CHUNK):
            there = self._read([("EXISTS", side_key(self.keys, key)) for key in keys])
            gone = [key for key, known in zip(keys, there, strict=True) if not known]
            self._write([self._tombstone(text, form) for text in gone], content, done)

    # ── taking places ────────────────────────────────────────────────────────────────────────────────────

    def _turn(self, wanted: Marker, texts: Sequence[str] | None) -> None:
        """Let the rows that lie beside count, and take their places; without `texts` they are looked for."""
        turning = msgspec.structs.replace(wanted, is_turning=True)
        self._write([("SET", self._marker, value_of(turning)), ("DEL", self._begun)])
        if texts is None:
            first = len(side_key(self.keys, ""))
            found: Iterable[str] = (key[first:] for key in _texts(self._scanned(side_key(self.keys, ""))))
        else:
            found = texts
        for some in _some(found, CHUNK):
            self._write(self._placed(some, wanted.form))
        self._write([("SET", self._marker, value_of(msgspec.structs.replace(wanted, is_turning=False)))])

    def _placed(self, texts: Sequence[str], form: str) -> list[Command]:
        sides = [side_key(self.keys, text) for text in texts]
        asked = [("HEXISTS", side, GONE) if form == HASH else ("STRLEN", side) for side in sides]
        there = self._read([("EXISTS", side) for side in sides])
        made: list[Command] = []
        for text, side, is_there, found in zip(texts, sides, there, self._read(asked), strict=True):
            if not is_there:  # it took its place before this was interrupted
                continue
            is_gone = bool(found) if form == HASH else not found
            made.append(("UNLINK", text, side) if is_gone else ("RENAME", side, text))
        return made

    # ── the server ───────────────────────────────────────────────────────────────────────────────────────

    def _scanned(self, begins: str) -> Iterator[bytes]:
        """Every key that begins so."""
        pattern = re.sub(r"([\[\]*?\\^-])", r"\\\1", begins) + "*"
        yield from self._client.scan_iter(match=pattern, count=1000)

    def _read(self, commands: Sequence[Command]) -> list[Any]:
        pipeline = self._client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        found: list[Any] = pipeline.execute()
        return found

    def _write(self, commands: Sequence[Command], content: str = "", done: int = 0) -> None:
        """Carry commands out, all or none, if the lock is still ours. Conflict."""
        import redis  # noqa: PLC0415

        lost = Conflict(
            f"another process has begun to fill the keys '{self.keys}'",
            hint="wait until it is done, and publish again",
        )
        while True:
            with self._client.pipeline(transaction=True) as pipeline:
                pipeline.watch(self._lock)
                if pipeline.get(self._lock) != self._token.encode():
                    raise lost
                pipeline.multi()
                for command in commands:
                    pipeline.execute_command(*command)
                if content:
                    pipeline.execute_command("HSET", self._begun, "content", content, "done", done)
                try:
                    pipeline.execute()
                except redis.WatchError:  # it was made to hold longer just then, or is another's
                    continue
                return


def _of_keys(
    rows: FillRows, form: KeyForm, batches: Any, *, is_hash: bool
) -> Iterator[tuple[int, str | None, Any]]:
    """For each key: how many rows it has, its text (None for one that nobody could ask for), and what is laid there."""
    count = len(rows.filled.key)
    key: tuple[Any, ...] = ()
    found: list[Any] = []
    for batch in batches:
        columns = [batch.column(i).to_pylist() for i in range(batch.num_columns)]
        for row in zip(*columns, strict=True):
            if row[:count] != key and found:
                yield len(found), form.text(key), _of_key(rows, key, found, is_hash=is_hash)
                found = []
            key = row[:count]
            found.append(row[count:])
    if found:
        yield len(found), form.text(key), _of_key(rows, key, found, is_hash=is_hash)


def _of_key(rows: FillRows, key: Sequence[Any], found: Sequence[Any], *, is_hash: bool) -> Any:
    if is_hash:
        return found[0]
    if len(found) > MOST_OF_A_KEY:
        names = ", ".join(f"{c.name} {value}" for c, value in zip(rows.filled.key, key, strict=True))
        raise Invalid(
            f"{rows.filled.what} has {len(found):,} rows of {names}; a key of Redis has {MOST_OF_A_KEY:,} at most",
            hint="take in a table of PostgreSQL what has more, or more columns into the key",
        )
    return found[0][0] if len(found) == 1 else b"[" + b",".join(one for (one,) in found) + b"]"


def _chunks(
    keys: Iterable[tuple[int, str | None, Any]],
) -> Iterator[tuple[int, list[tuple[str, Any]]]]:
    """So many keys together, with the number of their rows."""
    for some in _some(keys, CHUNK):
        yield (
            sum(number for number, _, _ in some),
            [(text, found) for _, text, found in some if text is not None],
        )


def _some(items: Iterable[Any], number: int) -> Iterator[list[Any]]:
    """So many together."""
    rest = iter(items)
    while found := list(itertools.islice(rest, number)):
        yield found


def _more(texts: list[str] | None, found: Sequence[str]) -> list[str] | None:
    """Keys that are kept in mind; None where they are too many, and looked for instead."""
    if texts is None or len(texts) + len(found) > _MOST_KEPT:
        return None
    texts += found
    return texts


def _texts(keys: Iterable[bytes]) -> Iterator[str]:
    """Keys as text, but for those that are none, which are not the lake's."""
    for key in keys:
        with contextlib.suppress(UnicodeDecodeError):
            yield key.decode()


def _shown(key: bytes) -> str:
    return key.decode(errors="replace")[:60]


@contextmanager
def opened(connection: Connection, keys: str) -> Iterator[RedisFill]:
    """Keys to be filled. Conflict when somebody else is filling them; Denied, Unavailable, LimitExceeded, Invalid."""
    demand_redis()
    import redis  # noqa: PLC0415  an extra
    from redis.backoff import NoBackoff  # noqa: PLC0415
    from redis.retry import Retry  # noqa: PLC0415

    client = redis.Redis(
        **parameters_of(connection),
        ssl=is_encrypted(connection),
        socket_timeout=_SECONDS,
        socket_connect_timeout=_SECONDS,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
    )
    token, lock = secrets.token_hex(16), f"{OURS}lock:{keys}"
    try:
        with client:
            if not client.set(lock, token, nx=True, px=_LOCK_SECONDS * 1000):
                hint = f"wait until it is done; a process that was killed holds them for {_LOCK_SECONDS} s"
                raise Conflict(f"the keys '{keys}' are being filled by another process", hint=hint)
            ended = threading.Event()
            keeper = threading.Thread(target=_hold, args=(client, lock, token, ended), daemon=True)
            keeper.start()
            try:
                yield RedisFill(client, keys, token)
            finally:
                ended.set()
                keeper.join()
                _let_go(client, lock, token)
    except redis.RedisError as exc:
        raise _told(exc, connection) from None


def _hold(client: Any, lock: str, token: str, ended: threading.Event) -> None:
    """Make a lock of ours hold on, again and again: putting rows in order may take long before any is laid."""
    import redis  # noqa: PLC0415

    while not ended.wait(_LOCK_SECONDS / 4):
        with contextlib.suppress(redis.RedisError):
            if client.get(lock) == token.encode():
                client.pexpire(lock, _LOCK_SECONDS * 1000)


def _let_go(client: Any, lock: str, token: str) -> None:
    """Let others fill the keys. Where the server does not answer, the lock ends by itself."""
    import redis  # noqa: PLC0415

    try:
        with client.pipeline(transaction=True) as pipeline:
            pipeline.watch(lock)
            if pipeline.get(lock) == token.encode():
                pipeline.multi()
                pipeline.delete(lock)
                pipeline.execute()
    except redis.RedisError:
        return


def _told(exc: Exception, connection: Connection) -> TulleError:
    """A failure of the server in our own kinds."""
    import redis  # noqa: PLC0415

    # The driver tells the command as well, and with it what the row holds.
    said = without_secrets(connection, str(exc).rpartition("of pipeline caused error: ")[2])
    if isinstance(exc, redis.AuthenticationError | redis.exceptions.NoPermissionError):
        hint = f"its user reads and writes the keys themselves and those that begin with '{OURS}'"
        return Denied(f"Redis refuses: {said}", hint=hint)
    if isinstance(exc, redis.exceptions.OutOfMemoryError) or "maxmemory" in said:
        hint = "give it more room and publish again: what is laid already is kept, and answers are those of before"
        return LimitExceeded(f"Redis has no room left: {said}", hint=hint)
    return unreachable(connection, said)
