"""Filling a package: models copied, data sets turned into indexes, every name checked against what is there.

Reads through a `Source`, one consistent view of the products' repositories; writes into one folder. Runs in
the control plane and never loads a model. Knows nothing of versions, digests or the database.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from tulle.errors import Invalid, NotFound, Place, Problem, did_you_mean
from tulle.pipeline.model_signature import MODEL, ONNX, SAMPLE, SIGNATURE, Signature, read_signature
from tulle.serving.declared import Enrichment, LookupSpec, PredictSpec, TestQuery
from tulle.serving.index import KEY_TYPES, Column, Form, build_index, open_index
from tulle.serving.lookup import LookupEntry
from tulle.serving.predict import EnrichEntry, PredictEntry, record_of
from tulle.serving.request import Field, Record, RequestError

if TYPE_CHECKING:
    import pyarrow as pa

_NUMBERS = {"integer", "double", "decimal", "boolean"}


class Source(Protocol):
    """One consistent view of the repositories: every read of a product is of the same commit."""

    def commit(self, product: str) -> str:
        """The commit that is read. NotFound when there is no such repository or branch."""

    def read(self, product: str, path: str) -> bytes:
        """The bytes of one object. NotFound."""

    def names(self, product: str, prefix: str = "") -> Sequence[str]:
        """The folders directly under `prefix` (which is empty or ends with a slash)."""

    def table(self, product: str, data_set: str) -> pa.Table:
        """The rows of a data set. NotFound when it has no files."""


class Bundle:
    """A package being filled."""

    def __init__(self, folder: Path, source: Source, product: str) -> None:
        self.folder = folder
        self.source = source
        self.product = product
        self.commits: dict[str, str] = {}
        self.models: dict[str, Signature] = {}
        self._tables: dict[tuple[str, str], pa.Table] = {}
        self._indexes: dict[str, int] = {}

    def commit(self, product: str, place: Place | None) -> str:
        """The commit read of a product; Invalid at `place` when there is no such product."""
        if product not in self.commits:
            try:
                self.commits[product] = self.source.commit(product)
            except NotFound as exc:
                raise _invalid(
                    f"product '{product}' has nothing published: {exc.message}", place, exc.hint
                ) from exc
        return self.commits[product]

    def model(self, name: str, place: Place | None) -> Signature:
        """Copy the form of a model that answers, with its signature; Invalid when there is no such model."""
        if name in self.models:
            return self.models[name]
        self.commit(self.product, place)
        home = f"models/{name}"
        try:
            signature = read_signature(self.source.read(self.product, f"{home}/{SIGNATURE}"))
        except NotFound:
            known = self.source.names(self.product, "models/")
            hint = did_you_mean(name, known) or f"no run of '{self.product}' has saved a model yet"
            raise _invalid(f"product '{self.product}' has no model '{name}'", place, hint) from None
        form = ONNX if signature.conversion.form == "onnx" else MODEL
        target = self.folder / home
        target.mkdir(parents=True)
        for file in (SIGNATURE, form):
            (target / file).write_bytes(self.source.read(self.product, f"{home}/{file}"))
        self.models[name] = signature
        return signature

    def sample(self, model: str) -> Mapping[str, Any]:
        """The features of the first row of a model's sample, as a request has them."""
        import pyarrow.parquet as pq  # noqa: PLC0415  heavy, and the worker imports this module's siblings only

        table = pq.read_table(io.BytesIO(self.source.read(self.product, f"models/{model}/{SAMPLE}")))
        row = table.slice(0, 1).to_pylist()[0]
        plain: Mapping[str, Any] = msgspec.json.decode(
            msgspec.json.Encoder(decimal_format="number").encode(row)
        )
        return plain

    def columns(self, product: str, data_set: str, place: Place | None) -> Mapping[str, str]:
        """The columns of a data set with their mesh types; Invalid at `place` when there is no such data set."""
        from tulle.pipeline.model_file import mesh_type  # noqa: PLC0415  imports pyarrow

        table = self._table(product, data_set, place)
        return {field.name: mesh_type(field.type) or str(field.type) for field in table.schema}

    def index(
        self, product: str, data_set: str, key: Sequence[Column], columns: Sequence[Column], form: Form
    ) -> tuple[str, int]:
        """Build an index (once for equal wishes); its path in the package and its number of rows."""
        wish = msgspec.json.encode([product, data_set, key, columns, form])
        path = f"indexes/{data_set}-{hashlib.blake2b(wish, digest_size=4).hexdigest()}.mdb"
        if path not in self._indexes:
            (self.folder / "indexes").mkdir(exist_ok=True)
            table = self._table(product, data_set, None)
            what = f"data set '{data_set}' of '{product}'"
            self._indexes[path] = build_index(self.folder / path, table, key, columns, form, what=what)
        return path, self._indexes[path]

    def _table(self, product: str, data_set: str, place: Place | None) -> pa.Table:
        self.commit(product, place)
        if (product, data_set) not in self._tables:
            try:
                self._tables[product, data_set] = self.source.table(product, data_set)
            except NotFound:
                known = [name for name in self.source.names(product) if name not in {"models", "_tulle"}]
                hint = did_you_mean(data_set, known) or f"no run of '{product}' has published data yet"
                raise _invalid(f"product '{product}' has no data set '{data_set}'", place, hint) from None
        return self._tables[product, data_set]


def bundle_predict(spec: PredictSpec, bundle: Bundle) -> PredictEntry:
    """Add what a prediction endpoint needs; Invalid, with places, when model, data sets or columns are not there."""
    signature = bundle.model(spec.model, spec.places.get("model"))
    commits = {bundle.product: bundle.commits[bundle.product]}
    entries = []
    for enrichment in spec.enrich:
        product = enrichment.product or bundle.product
        entries.append(_enrich(enrichment, product, signature, bundle))
        commits[product] = bundle.commits[product]
    record = record_of(signature, entries)
    _check_queries(spec.test_queries, "features", record, spec.places)
    return PredictEntry(
        name=spec.name,
        model=f"models/{spec.model}",
        commits=dict(sorted(commits.items())),
        enrich=tuple(entries),
        description=spec.description,
        test_queries=spec.test_queries,
        probe=_probe(spec, entries, bundle),
    )


def bundle_lookup(spec: LookupSpec, bundle: Bundle) -> LookupEntry:
    """Add the index of a lookup endpoint; Invalid, with places, when data set or columns are not there."""
    product = spec.product or bundle.product
    known = bundle.columns(product, spec.data_set, spec.places.get("data_set"))
    key = _key(spec.key, known, spec.data_set, spec.places)
    columns = _columns(spec.columns or tuple(known), known, spec.data_set, spec.places)
    record = Record("key", [Field(column.name, column.type) for column in key])
    _check_queries(spec.test_queries, "data", record, spec.places)
    path, rows = _at(spec.places.get("key"), bundle, product, spec.data_set, key, columns, "object")
    return LookupEntry(
        name=spec.name,
        index=path,
        product=product,
        data_set=spec.data_set,
        key=key,
        columns=columns,
        commits={product: bundle.commits[product]},
        rows=rows,
        description=spec.description,
        test_queries=spec.test_queries,
        probe=_answered(spec.test_queries) or {"data": _first_key(bundle.folder / path, key)},
    )


def _enrich(enrichment: Enrichment, product: str, signature: Signature, bundle: Bundle) -> EnrichEntry:
    places, data_set = enrichment.places, enrichment.data_set
    place = places.get("product" if enrichment.product else "data_set")
    bundle.commit(product, place)
    known = bundle.columns(product, data_set, places.get("data_set"))
    key = _key(enrichment.key, known, data_set, places)
    wanted = enrichment.columns or tuple(name for name in signature.feature_names if name in known)
    if not wanted:
        raise _invalid(
            f"data set '{data_set}' has none of the features of model '{signature.name}'",
            places.get("data_set"),
            "its features are: " + ", ".join(signature.feature_names),
        )
    columns = _columns(wanted, known, data_set, places)
    features = {feature.name: feature.type for feature in signature.features}
    for column in (*columns, *(one for one in key if one.name in features)):
        _check_feature(column, features, signature.name, data_set, places)
    path, _ = _at(places.get("key"), bundle, product, data_set, key, columns, "array")
    return EnrichEntry(path, product, data_set, key, columns, enrichment.missing_key, enrichment.no_match)


def _check_feature(
    column: Column, features: Mapping[str, str], model: str, data_set: str, places: Mapping[str, Place]
) -> None:
    place = places.get("columns", places.get("data_set"))
    if column.name not in features:
        hint = did_you_mean(column.name, features)
        raise _invalid(f"'{column.name}' is no feature of model '{model}'", place, hint)
    found, wanted = column.type.partition("(")[0], features[column.name].partition("(")[0]
    if found != wanted and not {found, wanted} <= _NUMBERS:
        raise _invalid(
            f"column '{column.name}' of '{data_set}' is {column.type}, the model was trained with {wanted}",
            place,
            "run the model again on this data, or leave the column out",
        )


def _at(
    place: Place | None,
    bundle: Bundle,
    product: str,
    data_set: str,
    key: Sequence[Column],
    columns: Sequence[Column],
    form: Form,
) -> tuple[str, int]:
    """Build the index; what is wrong with the rows of the key is told at the place where the key is declared."""
    try:
        return bundle.index(product, data_set, key, columns, form)
    except Invalid as exc:
        raise _invalid(exc.message, place, exc.hint) from exc


def _key(
    names: Sequence[str], known: Mapping[str, str], data_set: str, places: Mapping[str, Place]
) -> tuple[Column, ...]:
    columns = _columns(names, known, data_set, places, "key")
    for column in columns:
        if column.type.partition("(")[0] not in KEY_TYPES:
            raise _invalid(
                f"column '{column.name}' of '{data_set}' is {column.type}, which cannot be a key",
                places.get("key"),
                "a key is " + ", ".join(KEY_TYPES[:-1]) + f" or {KEY_TYPES[-1]}",
            )
    return columns


def _columns(
    names: Sequence[str],
    known: Mapping[str, str],
    data_set: str,
    places: Mapping[str, Place],
    property_name: str = "columns",
) -> tuple[Column, ...]:
    problems = [
        Problem(
            f"data set '{data_set}' has no column '{name}'",
            places.get(property_name),
            did_you_mean(name, known),
        )
        for name in names
        if name not in known
    ]
    if problems:
        raise Invalid(problems[0].message, problems=problems)
    return tuple(Column(name, known[name]) for name in names)


def _check_queries(
    queries: Sequence[TestQuery], values: str, record: Record, places: Mapping[str, Place]
) -> None:
    """Refuse a test query that no caller could send, unless it is there to be refused."""
    problems = []
    for query in queries:
        if query.expect is not None and "error" in query.expect:
            continue
        try:
            record.convert(dict(query.body[values]))
        except RequestError as error:
            problems.append(
                Problem(f"test query '{query.name}': {error.message}", places.get("test_queries"))
            )
    if problems:
        raise Invalid(problems[0].message, problems=problems)


def _probe(spec: PredictSpec, entries: Sequence[EnrichEntry], bundle: Bundle) -> Mapping[str, Any]:
    """A request that is sure to be answered: a test query, else a looked-up key, else a row of the sample."""
    if chosen := _answered(spec.test_queries):
        return chosen
    sample = dict(bundle.sample(spec.model))
    for entry in entries:
        key = _first_key(bundle.folder / entry.index, entry.key)
        if key:
            looked_up = {column.name for column in entry.columns}
            sample = {name: value for name, value in sample.items() if name not in looked_up} | key
    return {"features": sample}


def _answered(queries: Sequence[TestQuery]) -> Mapping[str, Any]:
    return next((q.body for q in queries if q.expect is None or "error" not in q.expect), {})


def _first_key(path: Path, key: Sequence[Column]) -> dict[str, Any]:
    first = open_index(path).first()
    if first is None or first[0].startswith(b"\0"):
        return {}
    return dict(zip((column.name for column in key), msgspec.json.decode(first[0]), strict=True))


def _invalid(message: str, place: Place | None, hint: str | None) -> Invalid:
    return Invalid(message, hint=hint, problems=[Problem(message, place, hint)])
