"""What a look-up puts into a package: an index, or where rows are asked for, and how they are found there.

For lookup endpoints and for the features of predictions alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from tulle.errors import Invalid, Place, Problem, did_you_mean
from tulle.pipeline.model_signature import Signature
from tulle.serving.bundle import Bundle, answered, check_queries, invalid
from tulle.serving.declared import LookupSpec, rows_of
from tulle.serving.finder import Finder, FinderEntry, Ignored
from tulle.serving.index import KEY_TYPES, Column, Form, open_index
from tulle.serving.index_build import Wish
from tulle.serving.keyed_rows import BUNDLED, KeyedRows, Store, clash, columns_beside
from tulle.serving.lookup import LookupEntry, key_record
from tulle.serving.request import Field, Record, RequestError

_NUMBERS = {"integer", "double", "decimal", "boolean"}


def bundle_lookup(spec: LookupSpec, bundle: Bundle) -> LookupEntry:
    """Add the indexes of a lookup endpoint; Invalid, with places, when data sets or columns are not there."""
    finders: list[FinderEntry] = []
    commits: dict[str, str] = {}
    for rows in rows_of(spec):
        product = rows.product or bundle.product
        pinned = _pinned(rows, product, bundle)
        known = _known(rows, product, bundle, pinned)
        taken = {column.name: one.data_set for one in finders for column in one.columns}
        columns = columns_beside(rows, known, taken)
        for name, _ in columns:
            if name in taken:
                message, hint = clash(name, taken[name], rows)
                raise invalid(message, rows.places.get("columns", rows.places.get("")), hint)
        finder = _finder(rows, product, known, columns, bundle, "object", pinned)
        _demand_same_types(finder, finders, rows)
        finders.append(finder)
        if not rows.store:
            commits[finder.origin] = pinned or bundle.commits[product]
    record = key_record(finders)
    check_queries(spec.test_queries, "data", record, spec.places)
    return LookupEntry(
        name=spec.name,
        rows=finders[0],
        joined=tuple(finders[1:]),
        commits=dict(sorted(commits.items())),
        description=spec.description,
        test_queries=spec.test_queries,
        probe=None if any(one.store for one in finders) else _probe(spec, finders, bundle),
    )


def _demand_same_types(finder: FinderEntry, others: Sequence[FinderEntry], rows: KeyedRows) -> None:
    """Refuse a key that is sent under one name for columns of several types."""
    known = {column.name: (column.type, one.data_set) for one in others for column in one.key}
    for column in finder.key:
        kind, data_set = known.get(column.name, (column.type, ""))
        if kind != column.type:
            message = f"key '{column.name}' is {kind} in '{data_set}' and {column.type} in '{rows.data_set}'"
            hint = "send it under two names: `key: {name sent: column}`"
            raise invalid(message, rows.places.get("key"), hint)


def _probe(spec: LookupSpec, finders: Sequence[FinderEntry], bundle: Bundle) -> Mapping[str, Any] | None:
    """A request that is sure to be answered; None where none is known of several data sets together."""
    if chosen := answered(spec.test_queries):
        return chosen
    key: dict[str, Any] = {}
    for finder in finders:
        key = first_key(finder, bundle) | key
    if len(finders) > 1:
        record = key_record(finders)
        names = [one.name for one in record.fields]
        try:
            values = record.convert(key)
            for finder in finders:
                Finder(finder, bundle.folder, "object").find(
                    [values[names.index(c.name)] for c in finder.key]
                )
        except (RequestError, Ignored):
            return None
    return {"data": key}


def _pinned(rows: KeyedRows, product: str, bundle: Bundle) -> str:
    """The commit that rows are pinned to; empty where they are of what is published."""
    if not rows.version:
        return ""
    if rows.source != BUNDLED:
        message = "what is pinned to a version cannot follow what is published, or be in a database"
        raise invalid(message, rows.places.get("version"), "leave 'version' or 'source' out")
    bundle.commit(product, rows.places.get("product"))
    return bundle.version(product, rows.version, rows.places.get("version"))


def _known(rows: KeyedRows, product: str, bundle: Bundle, pinned: str) -> Mapping[str, str]:
    """The columns of what is looked up in, with their types."""
    if rows.store is not None and not rows.store.fill:
        return bundle.stored(rows)
    known = bundle.columns(product, rows.data_set, rows.places.get("data_set"), pinned)
    if rows.store is not None:
        bundle.filled(rows, known)
    return known


def bundle_enrichment(
    rows: KeyedRows, product: str, signature: Signature, bundle: Bundle
) -> tuple[FinderEntry, str]:
    """Where features of a model are found, and of which commit they are; Invalid, with places, as for a lookup."""
    places, data_set = rows.places, rows.data_set
    place = places.get("product" if rows.product else "data_set")
    if rows.store is None:
        bundle.commit(product, place)
    pinned = _pinned(rows, product, bundle)
    known = _known(rows, product, bundle, pinned)
    wanted = rows.columns or tuple((name, name) for name in signature.feature_names if name in known)
    if not wanted:
        raise invalid(
            f"data set '{data_set}' has none of the features of model '{signature.name}'",
            places.get("data_set"),
            "its features are: " + ", ".join(signature.feature_names),
        )
    features = {feature.name: feature.type for feature in signature.features}
    for name, _ in wanted:
        if name not in features:
            hint = did_you_mean(name, features)
            where = places.get("columns", places.get("data_set"))
            raise invalid(f"'{name}' is no feature of model '{signature.name}'", where, hint)
    entry = _finder(rows, product, known, wanted, bundle, "array", pinned)
    for column in (*entry.columns, *(one for one in entry.key if one.name in features)):
        _check_feature(column, features, data_set, places)
    return entry, "" if rows.store else pinned or bundle.commits[product]


def _finder(
    rows: KeyedRows,
    product: str,
    known: Mapping[str, str],
    wanted: Sequence[tuple[str, str]],
    bundle: Bundle,
    form: Form,
    pinned: str,
) -> FinderEntry:
    """Build the index of keyed rows; Invalid, with places, for columns that are not there or do not do."""
    places, data_set = rows.places, rows.data_set
    key = _columns(rows.key, known, data_set, places, "key")
    for column in key:
        if column.type.partition("(")[0] not in KEY_TYPES:
            raise invalid(
                f"column '{column.name}' of '{data_set}' is {column.type}, which cannot be a key",
                places.get("key"),
                "a key is " + ", ".join(KEY_TYPES[:-1]) + f" or {KEY_TYPES[-1]}",
            )
    columns = _columns(wanted, known, data_set, places, "columns")
    ordered = [name.removeprefix("-") for name in rows.order_by]
    _columns([(name, name) for name in ordered], known, data_set, places, "order_by")
    if rows.event_time:
        (event_time,) = _columns([(rows.event_time,) * 2], known, data_set, places, "event_time")
        if event_time.type not in {"timestamp", "date"}:
            message = f"column '{rows.event_time}' of '{data_set}' is {event_time.type}, not a date or a time"
            raise invalid(message, places.get("event_time"), None)
    wish = Wish(
        key=key,
        columns=columns,
        form=form,
        key_sources={name: column for name, column in rows.key if name != column},
        sources={name: column for name, column in wanted if name != column},
        defaults=_defaults(rows, columns),
        several=rows.several,
        most_rows=rows.most_rows,
        order_by=rows.order_by,
        event_time=rows.event_time,
    )
    path, number = "", 0
    try:
        if rows.store is None:
            path, number = bundle.index(product, data_set, wish, pinned)
    except Invalid as exc:
        raise invalid(exc.message, places.get("key"), exc.hint) from exc
    return FinderEntry(
        index=path,
        product=product,
        data_set=data_set,
        key=key,
        columns=columns,
        rows=number,
        defaults=wish.defaults,
        missing_key=rows.missing_key,
        no_match=rows.no_match,
        several=rows.several,
        timed=bool(rows.event_time),
        max_age_seconds=rows.max_age_seconds,
        too_old=rows.too_old,
        source=rows.source,
        version=rows.version,
        store=_store(rows.store, wish, known),
        wish=wish,
    )


def _store(store: Store | None, wish: Wish, known: Mapping[str, str]) -> Store | None:
    """Where rows are asked for; what the lake fills has columns of the types that the data set has."""
    if store is None or not store.fill:
        return store
    return replace(store, types={name: known[name] for name in wish.reads})


def _defaults(rows: KeyedRows, columns: Sequence[Column]) -> Mapping[str, Any]:
    """The defaults as answers have them; Invalid for one of no column, or of another type."""
    record = Record("default", [Field(c.name, c.type, nullable=True) for c in columns])
    try:
        record.convert(dict(rows.defaults))
    except RequestError as error:
        raise invalid(error.message, rows.places.get("defaults"), None) from None
    return dict(rows.defaults)


def _check_feature(
    column: Column, features: Mapping[str, str], data_set: str, places: Mapping[str, Place]
) -> None:
    found, wanted = column.type.partition("(")[0], features[column.name].partition("(")[0]
    if found != wanted and not {found, wanted} <= _NUMBERS:
        raise invalid(
            f"column '{column.name}' of '{data_set}' is {column.type}, the model was trained with {wanted}",
            places.get("columns", places.get("data_set")),
            "run the model again on this data, or leave the column out",
        )


def _columns(
    pairs: Sequence[tuple[str, str]],
    known: Mapping[str, str],
    data_set: str,
    places: Mapping[str, Place],
    property_name: str,
) -> tuple[Column, ...]:
    """The columns of pairs of a name and the column it stands for, under their names."""
    problems = [
        Problem(
            f"data set '{data_set}' has no column '{column}'",
            places.get(property_name),
            did_you_mean(column, known),
        )
        for _, column in pairs
        if column not in known
    ]
    if problems:
        raise Invalid(problems[0].message, problems=problems)
    return tuple(Column(name, known[column]) for name, column in pairs)


_KEY = msgspec.json.Decoder(float_hook=str)  # a decimal as text keeps every digit


def first_key(entry: FinderEntry, bundle: Bundle) -> dict[str, Any]:
    """A key that is there, as a request has it; empty where there is none that can be told."""
    first = open_index(bundle.folder / entry.index).first()
    if first is None or first[0].startswith(b"\0"):
        return {}
    values = _KEY.decode(first[0])
    return dict(zip((column.name for column in entry.key), values, strict=True))
