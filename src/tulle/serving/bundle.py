"""Filling a package: models copied, data sets turned into indexes, every name checked against what is there.

Reads through a `Source`, one consistent view of the products' repositories; writes into one folder. Runs in
the control plane and never loads a model. Knows nothing of versions, digests or the database.
"""

from __future__ import annotations

import datetime as dt
import decimal
import hashlib
import io
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from tulle.engine.engine import Relation, quoted
from tulle.errors import Invalid, NotFound, Place, Problem, TulleError, did_you_mean
from tulle.pipeline.model_signature import MODEL, ONNX, SAMPLE, SIGNATURE, Series, Signature, read_signature
from tulle.serving import decide
from tulle.serving.compose import ComposeEntry
from tulle.serving.compose_declared import ComposeSpec, reaches_out
from tulle.serving.declared import FunctionSpec, LookupSpec, PredictSpec, TestQuery
from tulle.serving.explain import BACKGROUND, usual_values
from tulle.serving.finder import FinderEntry
from tulle.serving.forecast import ForecastEntry, record_of_series
from tulle.serving.forecast_declared import ForecastSpec
from tulle.serving.function import FunctionEntry
from tulle.serving.function_code import FUNCTIONS, signature_of
from tulle.serving.index import KEY_TYPES, Column, Form, open_index
from tulle.serving.index_build import Wish, build_index
from tulle.serving.key_form import check_keys
from tulle.serving.keyed_rows import BUNDLED, KeyedRows, Store
from tulle.serving.lookup import LookupEntry
from tulle.serving.predict import PredictEntry, record_of
from tulle.serving.query import QueryEntry
from tulle.serving.query import record_of as record_of_query
from tulle.serving.query_declared import QueryParameter, QuerySpec
from tulle.serving.request import Field, Record, RequestError

if TYPE_CHECKING:
    from tulle.engine.duck import DuckEngine  # a worker imports this module and needs no engine
    from tulle.state.connections import Connection

# Values like those that callers send, to see which columns a query gives.
_EXAMPLES: Mapping[str, Any] = {
    "string": "",
    "integer": 1,
    "double": 1.0,
    "decimal": decimal.Decimal(1),
    "boolean": True,
    "date": dt.date(2000, 1, 1),
    "timestamp": dt.datetime(2000, 1, 1),  # noqa: DTZ001
}
_NUMBERS = {"integer", "double", "decimal", "boolean"}


class Source(Protocol):
    """One consistent view of the repositories: every read of a product is of the same commit."""

    def commit(self, product: str) -> str:
        """The commit that is read. NotFound when there is no such repository or branch."""

    def read(self, product: str, path: str) -> bytes:
        """The bytes of one object. NotFound."""

    def names(self, product: str, prefix: str = "") -> Sequence[str]:
        """The folders directly under `prefix` (which is empty or ends with a slash)."""

    def relation(self, product: str, data_set: str, folder: Path, commit: str = "") -> Relation:
        """The files of a data set; what is not on this machine is copied to `folder`. NotFound when it has none.

        They are those at `commit`, if that is given.
        """

    def version(self, product: str, version: str) -> str:
        """The commit of a release, a tag or a commit of a product. NotFound."""


class Bundle:
    """A package being filled."""

    def __init__(
        self,
        folder: Path,
        source: Source,
        product: str,
        engine: DuckEngine,
        product_folder: Path,
        connection: Callable[[str], Connection] | None = None,
    ) -> None:
        """`folder` is what the package will hold; beside it, data that is elsewhere is copied."""
        self.product_folder = product_folder
        self.folder = folder
        self.source = source
        self.product = product
        self.engine = engine
        self.connection = connection or _no_connection
        self.endpoints: dict[str, str] = {}  # of the service: name → kind
        self.others: Mapping[str, Mapping[str, str]] = {}  # of the services it uses: name → kind, by service
        self.commits: dict[str, str] = {}
        self.models: dict[str, Signature] = {}
        self._relations: dict[tuple[str, str, str], Relation] = {}
        self._columns: dict[tuple[str, str, str], Mapping[str, str]] = {}
        self._indexes: dict[str, int] = {}

    def callable_from(self, name: str) -> list[str]:
        """The endpoints a composition may call: all that are none, and compositions before it."""
        names = list(self.endpoints)
        before = names[: names.index(name)]
        return [each for each in names if self.endpoints[each] != "compose" or each in before]

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
        for file in (SIGNATURE, form, *(signature.files if form == MODEL else ())):
            (target / file).parent.mkdir(parents=True, exist_ok=True)
            (target / file).write_bytes(self.source.read(self.product, f"{home}/{file}"))
        self.models[name] = signature
        return signature

    def background(self, model: str, signature: Signature) -> None:
        """Add the usual values of a model's features (once): a few quantiles each, and no row of the sample."""
        target = self.folder / "models" / model / BACKGROUND
        if not target.exists():
            import pyarrow.parquet as pq  # noqa: PLC0415

            table = pq.read_table(io.BytesIO(self.source.read(self.product, f"models/{model}/{SAMPLE}")))
            columns = [table.column(name).to_pylist() for name in signature.feature_names]
            encoder = msgspec.json.Encoder(decimal_format="number")
            target.write_bytes(encoder.encode(usual_values(columns)))

    def sample(self, model: str) -> Mapping[str, Any]:
        """The features of the first row of a model's sample, as a request has them."""
        import pyarrow.parquet as pq  # noqa: PLC0415  heavy, and the worker imports this module's siblings only

        table = pq.read_table(io.BytesIO(self.source.read(self.product, f"models/{model}/{SAMPLE}")))
        row = table.slice(0, 1).to_pylist()[0]
        plain: Mapping[str, Any] = msgspec.json.decode(
            msgspec.json.Encoder(decimal_format="number").encode(row)
        )
        return plain

    def sample_rows(self, model: str) -> list[dict[str, Any]]:
        """All rows of a model's sample, as a request has them."""
        import pyarrow.parquet as pq  # noqa: PLC0415

        table = pq.read_table(io.BytesIO(self.source.read(self.product, f"models/{model}/{SAMPLE}")))
        encoder = msgspec.json.Encoder(decimal_format="number")
        return list(msgspec.json.decode(encoder.encode(table.to_pylist())))

    def functions(self) -> Mapping[str, str]:
        """Copy the product's `functions/` (once); the text of each Python file directly in it, by its name."""
        home, target = self.product_folder / FUNCTIONS, self.folder / FUNCTIONS
        if not target.exists() and home.is_dir():
            for file in sorted(home.rglob("*")):
                inner = file.relative_to(home)
                if file.is_file() and not file.is_symlink() and not _is_left_out(inner):
                    (target / inner).parent.mkdir(parents=True, exist_ok=True)
                    (target / inner).write_bytes(file.read_bytes())
        return {file.name: _text(file) for file in sorted(target.glob("*.py"))}

    def data(self, product: str, data_set: str, place: Place | None) -> tuple[Relation, tuple[str, ...]]:
        """Copy the files of a data set (once); where they are, and their names in the package."""
        relation = self._relation(product, data_set, place)
        names = tuple(f"data/{product}/{data_set}/{n:05}.parquet" for n in range(len(relation.files)))
        for file, name in zip(relation.files, names, strict=True):
            target = self.folder / name
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, target)
        return relation, names

    def version(self, product: str, version: str, place: Place | None) -> str:
        """The commit of a version of a product; Invalid at `place` when there is no such version."""
        try:
            return self.source.version(product, version)
        except NotFound as exc:
            raise _invalid(exc.message, place, exc.hint) from exc

    def stored(self, rows: KeyedRows) -> Mapping[str, str]:
        """The columns with their mesh types of what is looked up in a database; Invalid when it cannot be asked."""
        assert rows.store is not None
        place = rows.places.get("source")
        if not rows.store.keys:
            return self._table(rows.store, place)
        from tulle.pipeline.sources.redis_server import parameters_of  # noqa: PLC0415  a worker imports this module

        try:
            check_keys(rows)
            parameters_of(self.connection(rows.store.connection))
        except TulleError as exc:
            raise _invalid(exc.message, place, exc.hint) from exc
        return rows.store.types

    def _table(self, store: Store, place: Place | None) -> Mapping[str, str]:
        from tulle.pipeline.sources.describe import described  # noqa: PLC0415

        try:
            found = described(self.connection(store.connection), store.table)["columns"]
        except TulleError as exc:
            raise _invalid(f"table '{store.table}': {exc.message}", place, exc.hint) from exc
        return {str(column["name"]): str(column["type"]) for column in found if column["type"]}

    def columns(
        self, product: str, data_set: str, place: Place | None, commit: str = ""
    ) -> Mapping[str, str]:
        """The columns of a data set with their mesh types; Invalid at `place` when there is no such data set."""
        if (product, data_set, commit) not in self._columns:
            relation = self._relation(product, data_set, place, commit)
            found = self.engine.describe(f"SELECT * FROM {quoted(relation.name)}", [relation])  # noqa: S608
            self._columns[product, data_set, commit] = {column.name: column.type for column in found}
        return self._columns[product, data_set, commit]

    def index(self, product: str, data_set: str, wish: Wish, commit: str = "") -> tuple[str, int]:
        """Build an index (once for equal wishes); its path in the package and its number of rows."""
        what = [product, data_set, wish] + ([commit] if commit else [])
        text = msgspec.json.encode(what, order="deterministic")
        path = f"indexes/{data_set}-{hashlib.blake2b(text, digest_size=4).hexdigest()}.mdb"
        if path not in self._indexes:
            (self.folder / "indexes").mkdir(exist_ok=True)
            relation = self._relation(product, data_set, None, commit)
            name = f"data set '{data_set}' of '{product}'"
            self._indexes[path] = build_index(self.folder / path, self.engine, relation, wish, what=name)
        return path, self._indexes[path]

    def _relation(self, product: str, data_set: str, place: Place | None, commit: str = "") -> Relation:
        self.commit(product, place)
        wanted = (product, data_set, commit)
        if wanted not in self._relations:
            elsewhere = self.folder.parent / "data" / product / data_set / commit
            try:
                self._relations[wanted] = self.source.relation(product, data_set, elsewhere, commit)
            except NotFound as exc:
                if commit:
                    raise _invalid(exc.message, place, None) from None
                known = [name for name in self.source.names(product) if name not in {"models", "_tulle"}]
                hint = did_you_mean(data_set, known) or f"no run of '{product}' has published data yet"
                raise _invalid(f"product '{product}' has no data set '{data_set}'", place, hint) from None
        return self._relations[wanted]


def bundle_predict(spec: PredictSpec, bundle: Bundle) -> PredictEntry:
    """Add what a prediction endpoint needs; Invalid, with places, when model, data sets or columns are not there."""
    signature = bundle.model(spec.model, spec.places.get("model"))
    if signature.series is not None:
        message = f"endpoint '{spec.name}': model '{spec.model}' forecasts series"
        raise _invalid(message, spec.places.get("model"), "make the endpoint one of `type: forecast`")
    commits = {bundle.product: bundle.commits[bundle.product]}
    entries = []
    for enrichment in spec.enrich:
        product = enrichment.product or bundle.product
        entry, commit = _enrich(enrichment, product, signature, bundle)
        entries.append(entry)
        if commit:
            commits[entry.origin] = commit
    for prop, wrong, hint in decide.problems(spec.threshold, spec.overrides, signature):
        raise _invalid(f"endpoint '{spec.name}': {wrong}", spec.places.get(prop), hint)
    if spec.explaining is not None:
        bundle.background(spec.model, signature)
    record = record_of(signature, entries)
    _check_queries(spec.test_queries, "features", record, spec.places)
    return PredictEntry(
        name=spec.name,
        model=f"models/{spec.model}",
        commits=dict(sorted(commits.items())),
        enrich=tuple(entries),
        bounds=spec.bounds,
        explaining=spec.explaining,
        threshold=spec.threshold,
        overrides=spec.overrides,
        description=spec.description,
        test_queries=spec.test_queries,
        probe=_probe(spec, entries, bundle),
    )


def bundle_forecast(spec: ForecastSpec, bundle: Bundle) -> ForecastEntry:
    """Add what an endpoint needs that forecasts; Invalid, with places, when there is no such model."""
    place = spec.places.get("model")
    signature = bundle.model(spec.model, place)
    if signature.series is None:
        message = (
            f"endpoint '{spec.name}': model '{spec.model}' does not forecast, its task is {signature.task}"
        )
        raise _invalid(message, place, "make the endpoint one of `type: predict`")
    record = record_of_series(signature)
    for query in spec.test_queries:
        if query.expect is not None and "error" in query.expect:
            continue
        try:
            for row in query.body["items"]:
                record.convert(row)
        except RequestError as error:
            message = f"test query '{query.name}': {error.message}"
            raise _invalid(message, spec.places.get("test_queries"), None) from None
    return ForecastEntry(
        name=spec.name,
        model=f"models/{spec.model}",
        commits={bundle.product: bundle.commits[bundle.product]},
        bounds=spec.bounds,
        description=spec.description,
        test_queries=spec.test_queries,
        probe=_answered(spec.test_queries)
        or {"items": _past(bundle.sample_rows(spec.model), signature.series)},
    )


def _past(rows: Sequence[dict[str, Any]], series: Series) -> list[dict[str, Any]]:
    """The rows of a series of the sample as a request has them: where there are externals, the last are the future."""
    if not series.externals:
        return list(rows)
    future = [{**row, series.target: None} for row in rows[-series.horizon :]]
    return [*rows[: -series.horizon], *future]


def bundle_compose(spec: ComposeSpec, bundle: Bundle) -> ComposeEntry:
    """Check what a composition calls; Invalid, with places, for endpoints that are not there or come after it."""
    problems = list(spec.problems(bundle.callable_from(spec.name), bundle.others))
    callees = {} if problems else _callees(spec, bundle, problems)
    if problems:
        raise Invalid(problems[0].message, hint=problems[0].hint, problems=problems)
    _check_queries(spec.test_queries, "", record_of_query(spec.input), spec.places)
    return ComposeEntry(
        name=spec.name,
        steps=spec.steps,
        output=spec.output,
        callees=callees,
        input=spec.input,
        description=spec.description,
        test_queries=spec.test_queries,
        # Whether it is well must not depend on what is elsewhere.
        probe=None if reaches_out(spec.steps) else _answered(spec.test_queries) or None,
    )


def _callees(spec: ComposeSpec, bundle: Bundle, problems: list[Problem]) -> dict[str, str]:
    """The kinds of what a composition calls of other services; what is not there is added to `problems`."""
    found: dict[str, str] = {}
    for callee in spec.callees:
        service, _, endpoint = callee.partition("/")
        known = bundle.others.get(service, {})
        if endpoint in known:
            found[callee] = known[endpoint]
            continue
        message = f"endpoint '{spec.name}': service '{service}' has no endpoint '{endpoint}'"
        hint = did_you_mean(endpoint, known) or "no product declares that service"
        problems.append(Problem(message, spec.places.get("steps"), hint))
    return found


def bundle_function(spec: FunctionSpec, bundle: Bundle) -> FunctionEntry:
    """Add the product's functions; Invalid, with places, when file or function are not there."""
    texts = bundle.functions()
    if spec.file not in texts:
        hint = did_you_mean(spec.file, texts) or f"put it into {FUNCTIONS}/ of the product"
        raise _invalid(
            f"product '{bundle.product}' has no file {FUNCTIONS}/{spec.file}", spec.places.get("file"), hint
        )
    place = spec.places.get("function", spec.places.get("name"))
    file = f"{FUNCTIONS}/{spec.file}"
    parameters, is_open, told = signature_of(texts[spec.file], file, spec.function, place)
    return FunctionEntry(
        name=spec.name,
        file=file,
        function=spec.function,
        parameters=parameters,
        is_open=is_open,
        bounds=spec.bounds,
        again=spec.retry,
        description=spec.description or told,
        test_queries=spec.test_queries,
    )


def bundle_query(spec: QuerySpec, bundle: Bundle) -> QueryEntry:
    """Copy the data a query reads; Invalid, with places, when it is no SELECT, or does not fit the data."""
    from tulle.engine.statement import read_statement  # noqa: PLC0415  a worker imports this module and reads no SQL

    places = spec.places
    statement = read_statement(spec.sql, f"the SQL of endpoint '{spec.name}'")
    if statement.problems:
        problem = statement.problems[0]
        raise _invalid(f"endpoint '{spec.name}': {problem.message}", places.get("sql"), problem.hint)
    declared = {parameter.name: parameter for parameter in spec.parameters}
    if "?" in statement.parameters:
        raise _invalid(f"endpoint '{spec.name}': '?' stands for nothing", places.get("sql"), "name it: $name")
    if unused := [name for name in declared if name not in statement.parameters]:
        hint = did_you_mean(unused[0], statement.parameters) or f"write ${unused[0]} where its value is meant"
        raise _invalid(f"the SQL has no parameter '{unused[0]}'", places.get("parameters"), hint)
    parameters = tuple(declared.get(name, QueryParameter(name)) for name in statement.parameters)
    relations, files, commits = [], {}, {}
    for name in statement.reads:
        said, data_set = spec.data_sets.get(name, ("", name))
        product = said or bundle.product
        relation, files[name] = bundle.data(product, data_set, places.get("data_sets", places.get("sql")))
        relations.append(replace(relation, name=name))
        commits[product] = bundle.commits[product]
    examples = {parameter.name: _EXAMPLES[parameter.type] for parameter in parameters}
    try:
        record_of_query(parameters, exact=True).convert(
            {p.name: p.default for p in parameters if not p.required and p.default is not None}
        )
        columns = bundle.engine.describe(spec.sql, relations, parameters=examples)
    except RequestError as error:
        raise _invalid(f"a default does not fit: {error.message}", places.get("parameters"), None) from None
    except Invalid as exc:
        raise _invalid(f"endpoint '{spec.name}': {exc.message}", places.get("sql"), exc.hint) from exc
    _check_queries(spec.test_queries, "", record_of_query(parameters, exact=True), places)
    needed = any(parameter.required for parameter in parameters)
    return QueryEntry(
        name=spec.name,
        sql=spec.sql,
        parameters=parameters,
        files=files,
        columns=tuple(Column(c.name, c.type) for c in columns),
        most_rows=spec.most_rows,
        commits=dict(sorted(commits.items())),
        bounds=spec.bounds,
        description=spec.description,
        test_queries=spec.test_queries,
        probe=_answered(spec.test_queries) or (None if needed else {}),
    )


def _is_left_out(path: Path) -> bool:
    """What Python and editors leave beside files."""
    return any(part == "__pycache__" or part.startswith(".") for part in path.parts)


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except UnicodeDecodeError as exc:
        raise _invalid(f"{FUNCTIONS}/{file.name} is not UTF-8 text", Place(file.name), None) from exc


def bundle_lookup(spec: LookupSpec, bundle: Bundle) -> LookupEntry:
    """Add the index of a lookup endpoint; Invalid, with places, when data set or columns are not there."""
    rows = spec.rows
    product = rows.product or bundle.product
    pinned = _pinned(rows, product, bundle)
    known = _known(rows, product, bundle, pinned)
    columns = rows.columns or tuple((name, name) for name in known)
    finder = _finder(rows, product, known, columns, bundle, "object", pinned)
    record = Record("key", [Field(column.name, column.type, exact=True) for column in finder.key])
    _check_queries(spec.test_queries, "data", record, spec.places)
    return LookupEntry(
        name=spec.name,
        rows=finder,
        commits={} if rows.store else {finder.origin: pinned or bundle.commits[product]},
        description=spec.description,
        test_queries=spec.test_queries,
        probe=None if rows.store else _answered(spec.test_queries) or {"data": _first_key(finder, bundle)},
    )


def _pinned(rows: KeyedRows, product: str, bundle: Bundle) -> str:
    """The commit that rows are pinned to; empty where they are of what is published."""
    if not rows.version:
        return ""
    if rows.source != BUNDLED:
        message = "what is pinned to a version cannot follow what is published, or be in a database"
        raise _invalid(message, rows.places.get("version"), "leave 'version' or 'source' out")
    bundle.commit(product, rows.places.get("product"))
    return bundle.version(product, rows.version, rows.places.get("version"))


def _known(rows: KeyedRows, product: str, bundle: Bundle, pinned: str) -> Mapping[str, str]:
    """The columns of what is looked up in, with their types."""
    if rows.store is not None:
        return bundle.stored(rows)
    return bundle.columns(product, rows.data_set, rows.places.get("data_set"), pinned)


def _no_connection(name: str) -> Connection:
    raise NotFound(f"there is no connection '{name}'")


def _enrich(rows: KeyedRows, product: str, signature: Signature, bundle: Bundle) -> tuple[FinderEntry, str]:
    """Where features are found, and of which commit they are."""
    places, data_set = rows.places, rows.data_set
    place = places.get("product" if rows.product else "data_set")
    if rows.store is None:
        bundle.commit(product, place)
    pinned = _pinned(rows, product, bundle)
    known = _known(rows, product, bundle, pinned)
    wanted = rows.columns or tuple((name, name) for name in signature.feature_names if name in known)
    if not wanted:
        raise _invalid(
            f"data set '{data_set}' has none of the features of model '{signature.name}'",
            places.get("data_set"),
            "its features are: " + ", ".join(signature.feature_names),
        )
    features = {feature.name: feature.type for feature in signature.features}
    for name, _ in wanted:
        if name not in features:
            hint = did_you_mean(name, features)
            where = places.get("columns", places.get("data_set"))
            raise _invalid(f"'{name}' is no feature of model '{signature.name}'", where, hint)
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
            raise _invalid(
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
            raise _invalid(message, places.get("event_time"), None)
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
        raise _invalid(exc.message, places.get("key"), exc.hint) from exc
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
        store=rows.store,
        wish=wish,
    )


def _defaults(rows: KeyedRows, columns: Sequence[Column]) -> Mapping[str, Any]:
    """The defaults as answers have them; Invalid for one of no column, or of another type."""
    record = Record("default", [Field(c.name, c.type, nullable=True) for c in columns])
    try:
        record.convert(dict(rows.defaults))
    except RequestError as error:
        raise _invalid(error.message, rows.places.get("defaults"), None) from None
    return dict(rows.defaults)


def _check_feature(
    column: Column, features: Mapping[str, str], data_set: str, places: Mapping[str, Place]
) -> None:
    found, wanted = column.type.partition("(")[0], features[column.name].partition("(")[0]
    if found != wanted and not {found, wanted} <= _NUMBERS:
        raise _invalid(
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


def _check_queries(
    queries: Sequence[TestQuery], values: str, record: Record, places: Mapping[str, Place]
) -> None:
    """Refuse a test query that no caller could send, unless it is there to be refused."""
    problems = []
    for query in queries:
        if query.expect is not None and "error" in query.expect:
            continue
        try:
            record.convert(dict(query.body[values] if values else query.body))
        except RequestError as error:
            problems.append(
                Problem(f"test query '{query.name}': {error.message}", places.get("test_queries"))
            )
    if problems:
        raise Invalid(problems[0].message, problems=problems)


def _probe(spec: PredictSpec, entries: Sequence[FinderEntry], bundle: Bundle) -> Mapping[str, Any]:
    """A request that is sure to be answered: a test query, else a looked-up key, else a row of the sample."""
    if (chosen := _answered(spec.test_queries)) and not any(entry.store for entry in entries):
        return chosen
    sample = dict(bundle.sample(spec.model))
    for entry in entries:
        if entry.store:  # a database that is lost does not make the worker ill
            continue
        key = _first_key(entry, bundle)
        if key:
            looked_up = {column.name for column in entry.columns}
            sample = {name: value for name, value in sample.items() if name not in looked_up} | key
    return {"features": sample}


def _answered(queries: Sequence[TestQuery]) -> Mapping[str, Any]:
    return next((q.body for q in queries if q.expect is None or "error" not in q.expect), {})


_KEY = msgspec.json.Decoder(float_hook=str)  # a decimal as text keeps every digit


def _first_key(entry: FinderEntry, bundle: Bundle) -> dict[str, Any]:
    first = open_index(bundle.folder / entry.index).first()
    if first is None or first[0].startswith(b"\0"):
        return {}
    values = _KEY.decode(first[0])
    return dict(zip((column.name for column in entry.key), values, strict=True))


def _invalid(message: str, place: Place | None, hint: str | None) -> Invalid:
    return Invalid(message, hint=hint, problems=[Problem(message, place, hint)])
