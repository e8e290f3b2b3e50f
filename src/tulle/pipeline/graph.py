"""A product's code as a graph: the jobs that make its data sets, in an order that works, and all that is wrong.

Reads files, executes nothing of the user's; ordering and naming are pure.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from tulle.engine.duck import DuckEngine
from tulle.errors import Invalid, NotFound, Place, Problem, did_you_mean
from tulle.pipeline.columns import Derived, derive_columns, type_problems
from tulle.pipeline.job import RESERVED, Job, dbt_jobs, port_jobs, seed_jobs, transform_jobs
from tulle.pipeline.macros import read_macros
from tulle.pipeline.model_kind import THIS, VIEW
from tulle.pipeline.model_test import ModelTest, read_tests
from tulle.quality.check import Check, check_names, declared_checks, read_checks
from tulle.quality.upstream import upstream_problems
from tulle.spec.dbt_project import dbt_projects
from tulle.spec.mesh import MeshSpec
from tulle.spec.product import DataProduct


@dataclass(frozen=True, slots=True)
class ProductCode:
    """A product's jobs, each after those it takes from, its checks, and what is wrong with them.

    `digest` identifies document, transformations and checks together: equal digest, equal code.
    """

    product: DataProduct
    jobs: tuple[Job, ...]
    checks: tuple[Check, ...]
    digest: str
    problems: tuple[Problem, ...]
    shared: tuple[tuple[str, str], ...] = ()  # transform/_*.py: name and text, importable by Python models
    macros: tuple[str, ...] = ()  # of macros/*.sql, for SQL models and checks
    tests: tuple[ModelTest, ...] = ()  # of tests/*.yaml
    columns: Derived = field(default_factory=dict, hash=False)  # by data set, where they were followed

    def job(self, name: str) -> Job:
        """The job that makes a data set. Raises NotFound with the nearest name."""
        for job in self.jobs:
            if job.name == name:
                return job
        hint = did_you_mean(name, [job.name for job in self.jobs])
        raise NotFound(f"nothing in product '{self.product.name}' makes '{name}'", hint=hint)

    def checks_of(self, data_set: str) -> tuple[Check, ...]:
        """All checks of a data set: those its columns declare, then the written ones."""
        declared = [
            check for d in self.product.data_sets if d.name == data_set for check in declared_checks(d)
        ]
        return (*declared, *(check for check in self.checks if check.data_set == data_set))

    def require_valid(self) -> None:
        """Raise Invalid with all problems, if there are any."""
        if self.problems:
            count = "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
            raise Invalid(f"the code of product '{self.product.name}' has {count}", problems=self.problems)


def load_code(
    product: DataProduct, *, spec: MeshSpec | None = None, engine: DuckEngine | None = None
) -> ProductCode:
    """Read a product's transformations and checks, with an engine that is open anyway if there is one.

    With `spec`, input ports are followed to the data sets of other products, and types are checked through
    every SQL model as far as columns are declared. Never raises for what files say: see `problems`.
    """
    label = str(Path(product.place.file).parent) if product.place else product.folder.name
    problems: list[Problem] = []
    jobs = [*port_jobs(product, spec)]
    transforms, shared, wrong = transform_jobs(product.folder / "transform", f"{label}/transform")
    problems += wrong
    jobs += transforms
    seeds, wrong = seed_jobs(product, f"{label}/seeds")
    jobs += seeds
    problems += wrong
    projects, wrong = dbt_projects(product, label, spec.settings if spec is not None else None)
    problems += wrong
    jobs += [*dbt_jobs(projects, product, jobs)]
    macros, wrong = read_macros(product.folder / "macros", f"{label}/macros")
    problems += wrong
    problems += _made_twice(jobs)
    problems += (
        Problem(f"a data set cannot be named '{job.name}'", job.place, RESERVED[job.name])
        for job in jobs
        if job.name in RESERVED
    )
    unique = {job.name: job for job in reversed(jobs)}
    problems += _unknown_inputs(unique.values(), unique)
    problems += _unmade(product, unique)
    ordered, cycles = _in_order(unique)
    problems += cycles
    checks, wrong_checks = read_checks(product.folder / "checks", f"{label}/checks")
    problems += wrong_checks
    derived: Derived = {}
    known: Mapping[str, Sequence[str] | None] = dict.fromkeys(_names(product, unique))
    if spec is not None and not problems:
        derived, wrong = derive_columns(ordered, product, spec, macros, engine)
        problems += wrong
        problems += type_problems(product, ordered, derived)
        known = {**known, **{n: [c.name for c in cols] for n, cols in derived.items() if cols is not None}}
    problems += check_names(checks, known)
    if spec is not None:
        problems += upstream_problems(checks, product, spec)
    problems += _views_handed_out(product, unique)
    tests, wrong = read_tests(product.folder / "tests", f"{label}/tests", ordered)
    problems += wrong
    digest = _digest(product, ordered, checks, shared, macros)
    told = tuple(_unique(problems))
    return ProductCode(product, tuple(ordered), checks, digest, told, shared, macros, tests, derived)


def _names(product: DataProduct, jobs: Mapping[str, Job]) -> Iterator[str]:
    yield from jobs
    if not jobs:  # documented only: nothing is made yet, so nothing can be misspelt
        yield from (d.name for d in product.data_sets)


def _unique(problems: Iterable[Problem]) -> Iterable[Problem]:
    return {(p.place, p.message): p for p in problems}.values()


# ── the graph ────────────────────────────────────────────────────────────────────────────────────────────


def _made_twice(jobs: Sequence[Job]) -> Iterator[Problem]:
    first: dict[str, Job] = {}
    for job in jobs:
        if job.name in first:
            hint = f"{first[job.name].place or first[job.name].kind} makes it already"
            yield Problem(f"data set '{job.name}' is made twice", job.place, hint)
        first.setdefault(job.name, job)


def _unknown_inputs(jobs: Iterable[Job], made: Mapping[str, Job]) -> Iterator[Problem]:
    for job in jobs:
        known = [name for name in made if name != job.name]
        if job.dbt is not None:
            yield from job.dbt.unknown_sources(known)
            continue
        if job.statement is not None:
            yield from job.statement.check_names({*known, job.name, *((THIS,) if job.way.grows else ())})
            continue
        for name in job.inputs:
            if name not in made:
                word, place = ("rows", job.score.place) if job.score else ("inputs", _line_of(job, name))
                message = f"'{word}' names the unknown data set '{name}'"
                yield Problem(message, place, did_you_mean(name, known))


def _line_of(job: Job, word: str) -> Place | None:
    """Where the word stands in quotes in the job's text."""
    for number, line in enumerate(job.text.splitlines(), 1):
        if match := re.search(rf"""["']{re.escape(word)}["']""", line):
            return Place(job.file, number, match.start() + 1)
    return job.place


def _unmade(product: DataProduct, made: Mapping[str, Job]) -> Iterator[Problem]:
    if not made:
        return
    for data_set in product.data_sets:
        if data_set.name not in made:
            hint = f"write transform/{data_set.name}.sql, or bring it in with an input port"
            near = did_you_mean(data_set.name, made)
            if near and "mean" in near:
                hint = f"{near} Otherwise {hint}"
            yield Problem(
                f"data set '{data_set.name}' is declared, but nothing makes it", data_set.place, hint
            )


def _views_handed_out(product: DataProduct, made: Mapping[str, Job]) -> Iterator[Problem]:
    for port in product.output_ports:
        for name in port.offers:
            if name in made and made[name].way.kind == VIEW:
                hint = f"write '-- kind: table' in {made[name].file}, or hand out another data set"
                message = f"output port '{port.title}' hands out '{name}', a view, which keeps no rows"
                yield Problem(message, port.place, hint)


def _in_order(made: Mapping[str, Job]) -> tuple[list[Job], list[Problem]]:
    """The jobs, each after its inputs; jobs in a circle come last, with a problem that names the circle."""
    before = {name: [i for i in job.inputs if i in made] for name, job in made.items()}
    problems: list[Problem] = []
    while True:
        try:
            return [made[name] for name in TopologicalSorter(before).static_order()], problems
        except CycleError as exc:
            circle = list(exc.args[1])  # each is an input of the next
            job = made[circle[0]]
            around = " → ".join(circle)
            hint = "a data set cannot be made from itself; read one of them from elsewhere"
            problems.append(Problem(f"data sets are made from each other: {around}", job.place, hint))
            before[circle[0]] = [i for i in before[circle[0]] if i not in circle]


def _digest(
    product: DataProduct,
    jobs: Sequence[Job],
    checks: Sequence[Check],
    shared: Sequence[tuple[str, str]],
    macros: Sequence[str],
) -> str:
    parts = [product.digest, *sorted(job.digest_text() for job in jobs)]
    parts += sorted(check.digest_text() for check in checks)
    parts += [json.dumps(item) for item in (*shared, *macros)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
