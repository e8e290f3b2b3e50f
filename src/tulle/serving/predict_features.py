"""The features of one prediction: as the caller sent them, what is missing looked up by the key that was sent.

What the caller sends wins, also null. Knows nothing of models, and not what an answer is.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from msgspec import UNSET

from tulle.pipeline.model_signature import Signature
from tulle.serving.finder import NO_KEY, PRESENT, Finder, FinderEntry, Found, Ignored
from tulle.serving.keyed_rows import DEFAULT, FORBIDDEN, IGNORE
from tulle.serving.request import Field, Record, RequestError


@dataclass(frozen=True, slots=True)
class Told:
    """What an answer says of one lookup."""

    data_set: str
    status: str
    event_time: str | None


def told_text(told: Sequence[Told] | None) -> str:
    """What a result says of the lookups behind it, as a further member of its object."""
    if not told:
        return ""
    lookups = [
        {"dataSet": one.data_set, "status": one.status}
        | ({"eventTime": one.event_time} if one.event_time else {})
        for one in told
    ]
    return f',"lookups":{msgspec.json.encode(lookups).decode()}'


class Enrichment:
    """One opened index, and which of its columns fill which features."""

    def __init__(
        self, entry: FinderEntry, folder: Path, fields: Sequence[str], features: Sequence[str]
    ) -> None:
        self.entry = entry
        self.finder = Finder(entry, folder, "array")
        self.key = tuple(fields.index(column.name) for column in entry.key)
        names = [column.name for column in entry.columns]
        # (position among the features, position in the looked-up row)
        self.fills = tuple((i, names.index(name)) for i, name in enumerate(features) if name in names)
        self.is_whole = names == list(features)  # its row is the model's row
        self.decode = msgspec.json.Decoder(tuple[tuple(row_type(c.type) for c in entry.columns)]).decode  # type: ignore[misc]

    def row(self, key: Sequence[Any], told: list[Told] | None) -> Sequence[Any]:
        """The looked-up row of a key; `told` is told of it. RequestError, or Ignored."""
        if self.finder.is_plain and (stored := self.finder.get(key)) is not None:
            row: Sequence[Any] = self.decode(stored)
            return row
        return self._row(self.finder.find(key), told)

    def default(self, told: list[Told] | None) -> Sequence[Any]:
        """The row of defaults, where no key was sent."""
        return self._row(self.finder.default(), told)

    def _row(self, found: Found, told: list[Told] | None) -> Sequence[Any]:
        is_usual = found.status == PRESENT and self.entry.several == FORBIDDEN and not self.entry.timed
        if told is not None and not is_usual:
            told.append(Told(self.entry.data_set, found.status, found.event_time))
        row: Sequence[Any] = self.decode(found.rows[0])
        return row


class Features:
    """What a model is given, in its order."""

    def __init__(self, signature: Signature, enrich: Sequence[FinderEntry], folder: Path) -> None:
        """`folder` is the package's, where the indexes are."""
        self.names = [feature.name for feature in signature.features]
        self._count = len(self.names)
        self._strict = [i for i, feature in enumerate(signature.features) if not feature.nullable]
        self.record = record_of(signature, enrich)
        sent = [one.name for one in self.record.fields]
        self.enrichments = [Enrichment(one, folder, sent, self.names) for one in enrich]
        self.finders = tuple(one.finder for one in self.enrichments)
        self.tells = any(  # whether there is something to tell of look-ups
            one.timed
            or DEFAULT in {one.missing_key, one.no_match, one.store.unavailable if one.store else ""}
            for one in enrich
        )

    def example(self) -> str:
        """A body that could be sent, for errors."""
        key = next((e.entry.key[0].name for e in self.enrichments), self.names[0])
        return f'{{"features": {{"{key}": …}}}}'

    def completed(self, values: Sequence[Any], told: list[Told] | None) -> list[Any]:
        """The features in order, looked up where they were not sent; `told` is told of the lookups."""
        row = list(values[: self._count])
        if UNSET in row:
            for enrichment in self.enrichments:
                self._fill(row, values, enrichment, told)
            if UNSET in row:
                self._refuse_missing(row)
            if None in row:
                self._refuse_null(row, values)
        return row

    def keys_of(self, values: Sequence[Any]) -> list[tuple[int, list[Any]]]:
        """The keys by which features would be looked up, with the numbers of the look-ups, whether or not needed."""
        keys = []
        for number, enrichment in enumerate(self.enrichments):
            key = [values[position] for position in enrichment.key]
            if UNSET not in key and None not in key and any(values[i] is UNSET for i, _ in enrichment.fills):
                keys.append((number, key))
        return keys

    def _fill(
        self, row: list[Any], values: Sequence[Any], enrichment: Enrichment, told: list[Told] | None
    ) -> None:
        whole = enrichment.is_whole and row.count(UNSET) == self._count
        wanted = enrichment.fills if whole else [pair for pair in enrichment.fills if row[pair[0]] is UNSET]
        if not wanted:
            return
        key = [values[position] for position in enrichment.key]
        if UNSET not in key:
            found = enrichment.row(key, told)
        elif enrichment.entry.missing_key == DEFAULT:
            found = enrichment.default(told)
        else:
            return
        if whole:  # by far the most frequent request: a key alone
            row[:] = found
            return
        for i, source in wanted:
            row[i] = found[source]

    def _refuse_missing(self, row: Sequence[Any]) -> None:
        """Say which features are missing, and which key would have had them looked up."""
        keys = []
        for enrichment in self.enrichments:
            if any(row[i] is UNSET for i, _ in enrichment.fills):
                if enrichment.entry.missing_key == IGNORE:
                    raise Ignored(NO_KEY)
                names = [self.record.fields[position].name for position in enrichment.key]
                keys.append(" and ".join(f"'{name}'" for name in names))
        missing = ", ".join(name for name, value in zip(self.names, row, strict=True) if value is UNSET)
        advice = f"Send them, or {' or '.join(keys)} to have them looked up" if keys else "Send them"
        raise RequestError(400, "MissingFeatures", f"features are missing: {missing}", advice)

    def _refuse_null(self, row: Sequence[Any], values: Sequence[Any]) -> None:
        names = [self.names[i] for i in self._strict if row[i] is None and values[i] is UNSET]
        if names:
            raise RequestError(
                422,
                "FeatureIsNull",
                f"looked-up features have no value: {', '.join(names)}",
                "The model takes no nulls there: send a value",
            )


def record_of(signature: Signature, enrich: Sequence[FinderEntry]) -> Record:
    """What a caller may send: the features, and the keys they can be looked up by."""
    single = signature.conversion.input == "float"
    fields = [Field(f.name, f.type, f.nullable, single) for f in signature.features]
    names = {field.name for field in fields}
    for column in (column for entry in enrich for column in entry.key):
        if column.name not in names:
            fields.append(Field(column.name, column.type, exact=True))
            names.add(column.name)
    return Record("feature", fields)


def row_type(mesh_type: str) -> Any:
    kinds: dict[str, Any] = {
        "string": str,
        "integer": int,
        "boolean": bool,
        "date": dt.date,
        "timestamp": dt.datetime,
    }
    return kinds.get(mesh_type.partition("(")[0], float) | None
