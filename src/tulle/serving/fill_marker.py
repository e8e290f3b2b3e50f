"""What a store that is filled from the lake says of itself: what it holds, of which commit, and where newer rows wait.

In PostgreSQL it is the comment of the table, which changes with the rows. In Redis it is a key of its own. There the
rows of the next commit are laid beside those of the last one, and one write of the marker makes them count: from then
on a row that lies beside is the one that counts, until all have taken their places. So whoever reads marker, place and
side of a key at once reads one commit. Pure: knows nothing of drivers.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from tulle.errors import Invalid

_BEGINS = "Filled by Tulle, do not change: "
OURS = "tulle:"  # no key of rows begins so
GONE = b"tulle:gone"  # the one field of a hash that stands for a row that is gone


class Marker(msgspec.Struct, frozen=True, kw_only=True):
    """What a store holds; `types` are its columns, those of the key first, as the data set calls them."""

    product: str
    data_set: str
    ref: str  # whose commits it follows
    commit: str
    identity: str  # of the data set's content
    key: tuple[str, ...]
    types: Mapping[str, str]
    form: str
    is_turning: bool = False  # Redis: rows that lie beside count, and take their places one after the other


_encoder, _decoder = msgspec.json.Encoder(order="deterministic"), msgspec.json.Decoder(Marker)


def comment_of(marker: Marker) -> str:
    """The marker as a table's comment."""
    return _BEGINS + _encoder.encode(marker).decode()


def of_comment(text: str | None) -> Marker | None:
    """The marker that a comment is; None where it is none."""
    if text is None or not text.startswith(_BEGINS):
        return None
    return of_value(text.removeprefix(_BEGINS).encode())


def value_of(marker: Marker) -> bytes:
    """The marker as the value of a key."""
    return _encoder.encode(marker)


def of_value(value: bytes | None) -> Marker | None:
    """The marker that a value is; None where it is none."""
    if value is None:
        return None
    try:
        return _decoder.decode(value)
    except msgspec.MsgspecError:
        return None


def marker_key(keys: str) -> str:
    """Where the marker of the keys of a form lies."""
    return f"{OURS}filled:{keys}"


def side_key(keys: str, text: str) -> str:
    """Where the newer row of a key of a form lies until it takes its place."""
    return f"{OURS}next:{keys}:{text}"


def demand_own(keys: str) -> None:
    """Refuse keys of which nobody could tell whether they are the lake's to fill and to remove. Invalid."""
    if keys.startswith(("{", OURS)):
        raise Invalid(
            f"the keys '{keys[:80]}' have no text of their own before the first column",
            hint="what is filled from the lake owns all keys that begin so, such as 'customer:{customer_id}'",
        )
