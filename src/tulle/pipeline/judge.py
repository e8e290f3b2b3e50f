"""Judging what a job made: its checks with all they look at, and the failing rows kept where they can be read.

Knows the run and its lake; what a failed check means is the run's to decide.
"""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Any

from tulle.engine.engine import Engine, Relation
from tulle.errors import NotFound, TulleError
from tulle.lake.hooks.sandbox import Sandbox
from tulle.lake.links import Link
from tulle.lake.repository import Lake, Repository
from tulle.pipeline.run import Run
from tulle.pipeline.table import PARQUET, DataAt, data_at
from tulle.quality import history, program, suite
from tulle.quality.check import Check
from tulle.quality.kind import Finding, Past
from tulle.quality.verdict import CheckResult, Circumstances, evaluate, failing_query
from tulle.state.db import Database

FAILING = "_tulle/failing/"
MOST_ROWS = 100_000  # of each check


class Judge:
    """Carries out the checks of one run."""

    def __init__(
        self,
        database: Database,
        lake: Lake,
        repository: Repository,
        engine: Engine,
        run: Run,
        upstream_branch: Callable[[Repository, str], str],
    ) -> None:
        self._database, self._lake, self._repository = database, lake, repository
        self._engine, self._run, self._upstream_branch = engine, run, upstream_branch
        self._elsewhere: dict[str, DataAt | None] = {}
        self._found: dict[tuple[str, str], object] = {}  # failing rows that programs gave
        self._lock = threading.Lock()
        self._program = threading.Lock()  # as with models: one at a time
        self.sandbox = Sandbox()  # for suites; whoever knows the mesh's environments sets another
        self._around = Circumstances(past=self._past, program=self._carry_out, say=self._say)

    def elsewhere(self, checks: Sequence[Check]) -> dict[str, DataAt]:
        """What the checks look at in other products, at one commit for the whole run; what is not published is
        not among it, and the check says so."""
        wanted = {name: source for check in checks for name, source in check.elsewhere.items()}
        with self._lock:
            for name, (product, data_set) in wanted.items():
                if name not in self._elsewhere:
                    self._elsewhere[name] = self._published(name, product, data_set)
            return {name: at for name in wanted if (at := self._elsewhere[name]) is not None}

    def _published(self, name: str, product: str, data_set: str) -> DataAt | None:
        try:
            upstream = self._lake.repository(product)
            commit = upstream.resolve(self._upstream_branch(upstream, data_set))
        except NotFound:
            return None
        at = data_at(upstream, commit, data_set, product=product)
        return replace(at, name=name, relation=replace(at.relation, name=name)) if at else None

    def results(self, checks: Sequence[Check], data: Mapping[str, DataAt]) -> tuple[CheckResult, ...]:
        """The verdicts on data."""
        relations = {name: at.relation for name, at in {**self.elsewhere(checks), **data}.items()}
        return evaluate(self._engine, checks, relations, around=self._around)

    def _say(self, line: str) -> None:
        sys.stdout.write(f"{line}\n")  # this process's output is the run's log
        sys.stdout.flush()

    def _past(self, check: Check) -> Sequence[Past]:
        return history.past(self._database, self._run.product, check, environment=self._run.environment)

    def _carry_out(
        self, check: Check, relations: Mapping[str, Relation]
    ) -> tuple[Finding, Sequence[Mapping[str, Any]]]:
        label = check.place.file if check.place else check.name
        if check.kind == "suite":
            relation = relations[check.data_set]
            return suite.carry_out(check.settings, relation, self._engine, self.sandbox, self._say), ()
        with self._program:
            finding, shown, rows = program.carry_out(
                check.settings, label, self._engine, relations[check.data_set]
            )
        if rows is not None:
            with self._lock:
                self._found[(check.data_set, check.name)] = rows.slice(0, MOST_ROWS)
        return finding, shown

    def keep_failing(
        self,
        branch: str,
        checks: Sequence[Check],
        results: Sequence[CheckResult],
        data: Mapping[str, DataAt],
    ) -> tuple[CheckResult, ...]:
        """Write the failing rows of every check that failed to a branch, one file a check; the results then say
        where. What cannot be written is left out: the verdict stands without it."""
        by_name = {(check.data_set, check.name): check for check in checks}
        relations = {name: at.relation for name, at in {**self.elsewhere(checks), **data}.items()}
        kept: list[CheckResult] = []
        links: list[Link] = []
        for result in results:
            check = by_name.get((result.data_set, result.name))
            link = self._written(check, relations) if check and not result.passed else None
            links += [link] if link else []
            kept.append(replace(result, kept=link.path) if link else result)
        if links:
            self._repository.link_many(branch, links)
            self._repository.commit(
                branch, "The rows that failed their checks", committer=f"run {self._run.id}"
            )
        return tuple(kept)

    def _written(self, check: Check, relations: Mapping[str, Relation]) -> Link | None:
        query = failing_query(check)
        rows = self._found.get((check.data_set, check.name))
        if query is None and rows is None:
            return None
        place = self._repository.new_data_path(".parquet")
        if place.path is None:
            return None
        try:
            if query is not None:
                wanted = [relations[name] for name in {check.data_set: (), **check.others}]
                sql = f"SELECT * FROM (\n{query}\n) LIMIT {MOST_ROWS}"  # noqa: S608  a query of our own kinds
                self._engine.write(sql, wanted, place.path, file=check.name)
            else:
                import pyarrow.parquet as pq  # noqa: PLC0415

                pq.write_table(rows, place.path, compression="zstd")
            content = place.path.read_bytes()
        except (TulleError, OSError, KeyError):
            place.path.unlink(missing_ok=True)
            return None
        name = f"{FAILING}{self._run.id}/{file_name(check)}.parquet"
        return Link(name, place.address, len(content), sha256(content).hexdigest(), content_type=PARQUET)


def file_name(check: Check) -> str:
    """A check's name as that of a file; names that would be alike end in a part of their digest."""
    full = f"{check.data_set}-{check.name}"
    plain = re.sub(r"[^a-z0-9]+", "-", full.lower()).strip("-")
    if plain == full and len(plain) <= 100:
        return plain
    return f"{plain[:100]}-{sha256(full.encode()).hexdigest()[:8]}"
