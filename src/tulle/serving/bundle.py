"""Filling a package: models and data sets copied, indexes built, each once however many endpoints want it.

Reads through a `Source`, one consistent view of the products' repositories; writes into one folder. Runs in
the control plane and never loads a model. What each kind of endpoint puts into a package is in the modules beside it
(`bundle_models`, `bundle_look_ups`, `bundle_calls`). Knows nothing of versions, digests or the database.
"""

from __future__ import annotations

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
from tulle.pipeline.model_signature import MODEL, ONNX, SAMPLE, SIGNATURE, Signature, read_signature
from tulle.serving.declared import TestQuery
from tulle.serving.explain import BACKGROUND, usual_values
from tulle.serving.fill_marker import demand_own
from tulle.serving.function_code import FUNCTIONS
from tulle.serving.index_build import Wish, build_index
from tulle.serving.key_form import check_keys
from tulle.serving.keyed_rows import KeyedRows, Store
from tulle.serving.request import Record, RequestError
from tulle.serving.store import demand_postgres
from tulle.spec.source import SQL

if TYPE_CHECKING:
    from tulle.engine.duck import DuckEngine  # a worker imports this module and needs no engine
    from tulle.state.connections import Connection


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
                raise invalid(
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
            raise invalid(f"product '{self.product}' has no model '{name}'", place, hint) from None
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
            raise invalid(exc.message, place, exc.hint) from exc

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
            raise invalid(exc.message, place, exc.hint) from exc
        return rows.store.types

    def filled(self, rows: KeyedRows, known: Mapping[str, str]) -> None:
        """Refuse a store that the lake is to fill and may not, or cannot; Invalid. `known`: the data set's columns."""
        assert rows.store is not None
        place = rows.places.get("source")
        from tulle.pipeline.sources.address import demand_fillable  # noqa: PLC0415  a worker imports this module
        from tulle.pipeline.sources.redis_server import parameters_of  # noqa: PLC0415

        try:
            if rows.store.types:
                hint = "leave `types` out"
                raise Invalid("columns of what the lake fills have the types of its data set", hint=hint)
            opened = self.connection(rows.store.connection)
            if rows.store.keys:
                demand_own(rows.store.keys)
                check_keys(replace(rows, store=replace(rows.store, types=known)))
                parameters_of(opened)
            else:
                demand_postgres(opened)
            demand_fillable(opened, self.product)
        except TulleError as exc:
            raise invalid(exc.message, place, exc.hint) from exc

    def _table(self, store: Store, place: Place | None) -> Mapping[str, str]:
        from tulle.pipeline.sources.describe import described  # noqa: PLC0415

        try:
            opened = self.connection(store.connection)
            if opened.kind == SQL:
                demand_postgres(opened)
            found = described(opened, store.table)["columns"]
        except TulleError as exc:
            raise invalid(f"table '{store.table}': {exc.message}", place, exc.hint) from exc
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
                    raise invalid(exc.message, place, None) from None
                known = [name for name in self.source.names(product) if name not in {"models", "_tulle"}]
                hint = did_you_mean(data_set, known) or f"no run of '{product}' has published data yet"
                raise invalid(f"product '{product}' has no data set '{data_set}'", place, hint) from None
        return self._relations[wanted]


def check_queries(
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


def answered(queries: Sequence[TestQuery]) -> Mapping[str, Any]:
    """The body of a test query that is there to be answered; empty where there is none."""
    return next((q.body for q in queries if q.expect is None or "error" not in q.expect), {})


def invalid(message: str, place: Place | None, hint: str | None) -> Invalid:
    """What is wrong with a service's file, and where."""
    return Invalid(message, hint=hint, problems=[Problem(message, place, hint)])


def _is_left_out(path: Path) -> bool:
    """What Python and editors leave beside files."""
    return any(part == "__pycache__" or part.startswith(".") for part in path.parts)


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except UnicodeDecodeError as exc:
        raise invalid(f"{FUNCTIONS}/{file.name} is not UTF-8 text", Place(file.name), None) from exc


def _no_connection(name: str) -> Connection:
    raise NotFound(f"there is no connection '{name}'")
