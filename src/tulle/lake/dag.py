"""Branches for a run of many jobs: one off an environment's branch for the run, one off that for every job.

    with run_branch(repository, "main", "2024-05-01") as run:
        with run.job("orders") as job:
            repository.put(job.branch, "orders/part-0.parquet", data)   # merged into the run's branch at the end
        with run.job("customers", gate=check) as job:
            ...                                                         # unless `check` raises
        run.publish("May", metadata={"code": digest})

Readers of the environment see all of a run, in one commit, or nothing. What fails merges nothing and keeps its
branches to look at; `discard` removes them. Jobs may run in other processes: `resume_run` finds the run's branch
again. A job of the run's own process need not have a branch: it makes a `draft`, which `land` puts on the run's
branch by one commit, alone or with others, or `keep` on a branch of its own where it was found wanting. Knows neither
what jobs do nor who starts them.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from tulle.errors import Conflict, Invalid, NotFound
from tulle.lake.draft import Draft
from tulle.lake.entry import Commit
from tulle.lake.moves import MergeResult
from tulle.lake.publish import Also, Gate
from tulle.lake.repository import Repository
from tulle.lake.stale import JOB

PREFIX = "run-"


def run_branch(
    repository: Repository, environment: str, run: str, *, branch: str = "", committer: str = ""
) -> RunBranch:
    """Start a run: a branch `run-<run>` (or `branch`) on the commit the environment's branch is on now.

    AlreadyExists when the run has its branch. Invalid for a name with two hyphens in a row: they set jobs apart.
    `committer` is who all commits and merges of the run are by.
    """
    name = branch or f"{PREFIX}{run}"
    if JOB in name:
        raise Invalid(f"'{name}' cannot be a run's branch", hint=f"'{JOB}' stands between a run and its jobs")
    base = repository.resolve(environment)
    repository.create_branch(name, base)
    return RunBranch(repository, environment, name, base, committer or f"run {run}")


def resume_run(
    repository: Repository, environment: str, run: str, *, branch: str = "", committer: str = ""
) -> RunBranch:
    """A run that was started before, perhaps in another process. NotFound."""
    name = branch or f"{PREFIX}{run}"
    head = repository.branch(name).commit_id
    return RunBranch(
        repository, environment, name, repository.merge_base(environment, head), committer or f"run {run}"
    )


@dataclass(slots=True)
class RunBranch:
    """A run on its way: its branch, and `base`, the commit of the environment it started from.

    As a context manager it ends the run's branches when the block is left in peace, publishing first what is not
    published; when it is left by an exception they stay.
    """

    repository: Repository
    environment: str
    branch: str
    base: str
    committer: str
    published: Commit | None = None
    job_branches: list[str] = field(default_factory=list)
    _turn: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def draft(self) -> Draft:
        """What a job of this process begins with in place of a branch: what earlier jobs have put down."""
        return self.repository.draft(self.branch)

    def land(self, drafts: Sequence[Draft], message: str) -> Commit:
        """Put what jobs drafted on the run's branch, as one commit: for jobs that were judged before."""
        first, *others = drafts
        for other in others:
            first.add(other)
        with self._turn:  # of jobs side by side, none finds the branch moved by another one
            return self.repository.commit_draft(self.branch, first, message, committer=self.committer)

    def keep(self, name: str, draft: Draft, message: str, *, branch: str = "") -> JobBranch:
        """Put what a job drafted, and may not land, on a branch of its own, to look at."""
        job = self.job(name, branch=branch)
        self.repository.commit_draft(job.branch, draft, message, committer=self.committer)
        return job

    def job(self, name: str, *, branch: str = "", gate: Gate | None = None, message: str = "") -> JobBranch:
        """Start a job: a branch `<run's branch>--<name>` (or `branch`) on what earlier jobs have merged.

        AlreadyExists when the job has its branch. `gate` is called with the commit that is about to be merged
        into the run's branch and keeps it out by raising.
        """
        made = JobBranch(self, name, branch or f"{self.branch}{JOB}{name}", gate, message)
        self.repository.create_branch(made.branch, self.branch)
        self.job_branches.append(made.branch)
        return made

    def resume_job(self, name: str, *, branch: str = "", gate: Gate | None = None) -> JobBranch:
        """A job that was started before, to be ended by another process or tried again. NotFound."""
        made = JobBranch(self, name, branch or f"{self.branch}{JOB}{name}", gate, "")
        self.repository.branch(made.branch)
        self.job_branches.append(made.branch)
        return made

    def commit(self, message: str, *, metadata: Mapping[str, str] | None = None) -> Commit:
        """Commit what is staged on the run's own branch."""
        return self.repository.commit(self.branch, message, committer=self.committer, metadata=metadata)

    def publish(
        self,
        message: str,
        *,
        metadata: Mapping[str, str] | None = None,
        gate: Gate | None = None,
        also: Also | None = None,
    ) -> MergeResult:
        """Merge the run into its environment, as one commit with what `metadata` tells of it.

        `also` is done in the transaction that publishes, or not at all. Conflict when somebody changed the same paths
        there meanwhile; then nothing is published.
        """
        merged = self.repository.merge(
            self.branch,
            self.environment,
            message=message,
            committer=self.committer,
            metadata=metadata,
            gate=gate,
            also=also,
        )
        self.published = merged.commit
        return merged

    def discard(self) -> None:
        """Remove the run's branches, and those of its jobs, with what is staged on them. Commits stay readable."""
        for name in (*self.job_branches, *self._left_over(), self.branch):
            with contextlib.suppress(NotFound):
                self.repository.delete_branch(name)

    def _left_over(self) -> list[str]:
        """Branches of jobs that other processes started."""
        return [branch.name for branch in self.repository.branches(prefix=f"{self.branch}{JOB}")]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            return
        if self.published is None and self.repository.resolve(self.branch) != self.base:
            self.publish(f"Publish {self.branch}")
        self.discard()


@dataclass(slots=True)
class JobBranch:
    """One job of a run and its branch, to write to.

    As a context manager it commits what is staged and merges when the block is left in peace, unless that was done
    in it; when it is left by an exception the branch stays as it is and nothing is merged.
    """

    run: RunBranch
    name: str
    branch: str
    gate: Gate | None = None
    message: str = ""
    merged: Commit | None = None

    def commit(self, message: str, *, metadata: Mapping[str, str] | None = None) -> Commit:
        """Commit what is staged on the job's branch."""
        return self.run.repository.commit(
            self.branch, message, committer=self.run.committer, metadata=metadata
        )

    def merge(
        self,
        message: str = "",
        *,
        metadata: Mapping[str, str] | None = None,
        gate: Gate | None = None,
    ) -> MergeResult:
        """Merge what the job committed into the run's branch, if its gate lets it.

        Conflict when another job of the run changed the same paths, or something is staged and not committed.
        """
        repository = self.run.repository
        if repository.status(self.branch):
            raise Conflict(
                f"branch '{self.branch}' has changes that are not committed", hint="commit the job first"
            )
        merged = repository.merge(
            self.branch,
            self.run.branch,
            message=message or self.message or f"Merge job {self.name}",
            committer=self.run.committer,
            metadata=metadata,
            gate=gate or self.gate,
        )
        self.merged = merged.commit
        return merged

    def discard(self) -> None:
        """Remove the job's branch, to start it anew."""
        with contextlib.suppress(NotFound):
            self.run.repository.delete_branch(self.branch)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None or self.merged is not None:
            return
        repository = self.run.repository
        if repository.status(self.branch):
            self.commit(self.message or f"Job {self.name}")
        if repository.resolve(self.branch) != repository.resolve(self.run.branch):
            self.merge()
