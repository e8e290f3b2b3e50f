"""Python models: the `run` object they are given, and calling them so that their errors read like errors.

User code is executed here and only here, inside the run's own process. Knows the engine and relations, not
branches: what a model saves is left in a folder, which the run puts where it belongs.
"""

from __future__ import annotations

import linecache
import math
import sys
import traceback
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tulle.engine.engine import Engine, Relation, quoted
from tulle.engine.statement import read_statement
from tulle.errors import (
    Invalid,
    LimitExceeded,
    NotFound,
    Place,
    Problem,
    TulleError,
    Unavailable,
    did_you_mean,
)
from tulle.pipeline import by_service, model_file, model_mlflow, model_series
from tulle.pipeline.job import Job
from tulle.pipeline.model_score import optional
from tulle.pipeline.run import Metric

if TYPE_CHECKING:
    import pyarrow as pa

_MAX_LOG_LINES = 500


class ModelRun:
    """What a Python model may do: read its inputs, report, save models."""

    def __init__(
        self,
        run_id: str,
        job: Job,
        engine: Engine,
        relations: Mapping[str, Relation],
        models_folder: Path,
        say: Callable[[str], None],
        *,
        desk: by_service.Desk | None = None,
        origins: Mapping[str, tuple[str, str]] | None = None,
    ) -> None:
        """`desk`: where a service's definitions are asked; `origins`: product and data set of each input."""
        self.id = run_id
        self._desk = desk
        self._origins = origins or {}
        self._job = job
        self._engine = engine
        self._relations = relations
        self._models_folder = models_folder
        self._say = say
        self.logged: list[str] = []
        self.metrics: list[Metric] = []
        self.models: list[str] = []
        self._fetched: list[model_mlflow.Fetched] = []

    def read(self, name: str) -> pa.Table:
        """All rows of one of the model's inputs."""
        return self._engine.query(f"SELECT * FROM {quoted(self._known(name))}", [self._relations[name]])  # noqa: S608

    def read_pandas(self, name: str) -> Any:
        """All rows of one of the model's inputs, as a pandas DataFrame. Unavailable when pandas is not installed."""
        optional("pandas")
        return self.read(name).to_pandas()

    def read_polars(self, name: str) -> Any:
        """All rows of one of the model's inputs, as a Polars DataFrame. Unavailable when Polars is not installed."""
        return optional("polars").from_arrow(self.read(name))

    def scan_polars(self, name: str) -> Any:
        """One of the model's inputs as a Polars LazyFrame, which reads no more than what is asked of it."""
        polars = optional("polars")
        relation = self._relations[self._known(name)]
        if not relation.files or relation.sql:
            return self.read_polars(name).lazy()
        return polars.scan_parquet(list(relation.files), hive_partitioning=False, glob=False)

    def sql(self, query: str) -> pa.Table:
        """The rows of one SELECT over the model's inputs."""
        statement = read_statement(query, "the query")
        problems = [*statement.problems, *statement.check_names(self._relations)]
        if problems:
            raise Invalid(
                f"the query cannot be run: {problems[0].message}", hint=problems[0].hint, problems=problems
            )
        return self._engine.query(
            query, [self._relations[name] for name in statement.reads], file="the query"
        )

    def training_set(self, endpoint: str, *, version: str, entities: str, time: str) -> pa.Table:
        """The rows of an input, each with the features that an endpoint would have looked up at its time.

        `endpoint` is `service/endpoint` of this product, `version` one of the service's versions: keys, names,
        defaults, policies and ages are those it answers by. `time` is a column of `entities`. The data sets it looks
        up must be inputs of the model, and their rows are those that this run reads. Rows the endpoint would refuse
        are left out.
        """
        service, _, named = endpoint.partition("/")
        if not named:
            raise Invalid(f"'{endpoint}' is no endpoint", hint="write service/endpoint")
        if self._desk is None:
            raise Unavailable("a training set is made in a run", hint="give its rows to the test as an input")
        rows = self._relations[self._known(entities)]
        known = {
            self._origins.get(name, (self._desk.product, name)): relation
            for name, relation in self._relations.items()
        }
        target = self._desk.folder / f"{self._job.name}-learned.parquet"
        wanted = (service, version, named)
        told = by_service.training_set(self._desk, self._job.name, wanted, rows, time, known, target)
        self.log(
            f"{endpoint} {version}: {told['rows']:,} rows to learn from, {told['left_out']:,} of '{entities}' "
            "left out"
        )
        import pyarrow.parquet as pq  # noqa: PLC0415  only who reads rows needs it

        try:
            return pq.read_table(target)
        finally:
            target.unlink(missing_ok=True)

    def log(self, text: object) -> None:
        """Keep a line with the run."""
        for line in str(text).splitlines():
            self._say(line)
            if len(self.logged) < _MAX_LOG_LINES:
                self.logged.append(line[:1000])

    def metric(self, name: str, value: float) -> None:
        """Report a number under a name."""
        number = float(value)
        if not math.isfinite(number):
            raise Invalid(f"the metric '{name}' is {number}, expected a finite number")
        self.metrics.append(Metric(str(name), number))

    def save_model(
        self,
        name: str,
        model: Any,
        *,
        features: Sequence[str],
        sample: Any,
        metrics: Mapping[str, float],
        baseline: Mapping[str, float] | None = None,
        classes: Sequence[Any] | None = None,
        activation: Literal["softmax", "sigmoid"] | None = None,
        files: str | Path | None = None,
    ) -> None:
        """Keep a trained model with the data, as models/<name>; see `model_file.save_model`.

        It is published together with the data set, and only when a metric is not worse than in `baseline`.
        """
        if isinstance(model, model_mlflow.Fetched):
            model, files = model.model, model.files or files
        model_file.save_model(
            self._models_folder / name,
            name,
            model,
            features=features,
            sample=sample,
            metrics=metrics,
            baseline=baseline,
            classes=classes,
            activation=activation,
            files=files,
        )
        self._keep(name, metrics)

    def mlflow_model(self, address: str, *, tracking: str | None = None, registry: str | None = None) -> Any:
        """A model that MLflow keeps, to be given to `save_model`; see `model_mlflow.fetch`.

        Its address and version are kept with the run.
        """
        folder = self._models_folder.parent / "mlflow" / str(len(self._fetched))
        found = model_mlflow.fetch(address, folder=folder, tracking=tracking, registry=registry)
        self._fetched.append(found)
        self.log(
            f"{address} of MLflow is a {type(found.model).__name__ if found.files is None else 'pyfunc'}"
        )
        return found

    def save_forecaster(
        self,
        name: str,
        model: Any,
        *,
        sample: Any,
        time: str,
        target: str,
        horizon: int,
        step: str,
        metrics: Mapping[str, float],
        baseline: Mapping[str, float] | None = None,
        identifiers: Sequence[str] = (),
        externals: Sequence[str] = (),
    ) -> None:
        """Keep a model that forecasts with the data, as models/<name>; see `model_series.save_forecaster`."""
        model_series.save_forecaster(
            self._models_folder / name,
            name,
            model,
            sample=sample,
            time=time,
            target=target,
            horizon=horizon,
            step=step,
            metrics=metrics,
            baseline=baseline,
            identifiers=identifiers,
            externals=externals,
        )
        self._keep(name, metrics)

    def _keep(self, name: str, metrics: Mapping[str, float]) -> None:
        for metric, value in metrics.items():
            self.metric(f"{name}.{metric}" if name in self.models else metric, value)
        self.models.append(name)

    def _known(self, name: str) -> str:
        if name not in self._relations:
            hint = did_you_mean(name, self._relations) or "it has none"
            raise NotFound(
                f"the model reads '{name}', which is not among its inputs",
                hint=f"add it to inputs = […] at the top of {Path(self._job.file).name} ({hint})",
            )
        return name


def call_model(job: Job, shared: Sequence[tuple[str, str]], run: ModelRun) -> pa.Table:
    """Execute the model's file and call its `model(run)`; the table it returns.

    Raises Invalid for whatever goes wrong inside, at file and line of the user's code; the full trace goes to
    standard error.
    """
    import pyarrow as pa  # noqa: PLC0415

    path = str(job.path or job.file)
    with _user_code(job, path, run.id), _shared_modules(shared, Path(path).parent):
        module = types.ModuleType(f"tulle_model_{job.name}")
        module.__file__ = path
        exec(compile(job.text, path, "exec"), module.__dict__)  # noqa: S102  the product's own code, in its process
        result = module.__dict__["model"](run)
        result = _as_table(result)
    if not isinstance(result, pa.Table):
        what = "nothing" if result is None else f"a value of type {type(result).__name__}"
        hint = f"return the rows of '{job.name}' as a pyarrow.Table, or as a DataFrame of pandas or Polars"
        problem = Problem(f"model() returned {what}", job.place, hint)
        raise Invalid(f"{job.file}: model() returned {what}", hint=hint, problems=[problem])
    return result


def _as_table(result: Any) -> Any:
    """The rows of a DataFrame as a table; anything else as it is."""
    import pyarrow as pa  # noqa: PLC0415

    match type(result).__module__.partition(".")[0], type(result).__name__:
        case "pandas", "DataFrame":
            return pa.Table.from_pandas(result, preserve_index=False)
        case "polars", "LazyFrame":
            return result.collect(engine="streaming").to_arrow()  # in parts, where its plan can be
        case "polars", "DataFrame":
            return result.to_arrow()
        case _:
            return result


@contextmanager
def _shared_modules(shared: Sequence[tuple[str, str]], folder: Path) -> Iterator[None]:
    """transform/_*.py as importable modules, of the very text that was read with the code."""
    before = dict(sys.modules)
    finder = _Shared(dict(shared), folder)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name, _ in shared:
            sys.modules.pop(name, None)
            if name in before:
                sys.modules[name] = before[name]


class _Shared(Loader, MetaPathFinder):
    """Finds and loads the shared modules of one product."""

    def __init__(self, texts: Mapping[str, str], folder: Path) -> None:
        self.texts, self.folder = texts, folder

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:  # noqa: ARG002
        return ModuleSpec(fullname, self) if fullname in self.texts else None

    def create_module(self, spec: ModuleSpec) -> None:  # noqa: ARG002
        return None

    def exec_module(self, module: types.ModuleType) -> None:
        file = str(self.folder / f"{module.__name__}.py")
        module.__file__ = file
        exec(compile(self.texts[module.__name__], file, "exec"), module.__dict__)  # noqa: S102


@contextmanager
def _user_code(job: Job, path: str, run_id: str) -> Iterator[None]:
    """Give every exception the place in the user's code where it happened."""
    try:
        yield
    except MemoryError as exc:
        traceback.print_exc()
        raise LimitExceeded(
            f"{job.file} ran out of memory",
            hint="read less at once, or raise 'memory' of the domain's warehouse",
        ) from exc
    except (Exception, SystemExit) as exc:
        traceback.print_exc()
        raise _placed(exc, job, path, run_id) from exc


def _placed(exc: BaseException, job: Job, path: str, run_id: str) -> TulleError:
    folder = str(Path(path).parent)
    frames = [f for f in traceback.extract_tb(exc.__traceback__) if str(Path(f.filename).parent) == folder]
    frame = frames[-1] if frames else None
    if isinstance(exc, SyntaxError) and exc.filename and str(Path(exc.filename).parent) == folder:
        file, line, source = Path(exc.filename).name, exc.lineno or 0, exc.text
    elif frame is not None:
        file, line = Path(frame.filename).name, frame.lineno or 0
        source = frame.line or linecache.getline(frame.filename, line)
    else:
        file, line, source = Path(path).name, 0, None
    place = Place(str(Path(job.file).parent / file), line)
    source = source.rstrip("\n") if source else None
    if isinstance(exc, TulleError):
        first = Problem(exc.message, place, exc.hint, source)
        return type(exc)(f"{place}: {exc.message}", hint=exc.hint, problems=[first, *exc.problems])
    what = f"{type(exc).__name__}: {exc}" if str(exc) else type(exc).__name__
    problem = Problem(what, place, None, source)
    hint = f"the full trace is in the run's log: `tulle logs {run_id}`"
    return Invalid(f"{place}: {what}", hint=hint, problems=[problem])
