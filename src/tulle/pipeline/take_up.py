"""Going on from what an earlier run had made before it failed, if what is published did not move since.

What still holds is kept. What does not, as a file was repaired or a model changed, begins again from what is published:
what the failed run put down may hold rows of what was wrong. Knows the run's branch, and nothing of how jobs are made.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tulle.errors import Invalid
from tulle.lake.dag import RunBranch
from tulle.lake.draft import Draft
from tulle.pipeline.dbt_make import STATE
from tulle.pipeline.keep import REJECTED_SUFFIX
from tulle.pipeline.record import read_record, record_of, record_path
from tulle.pipeline.run import Run


@dataclass(frozen=True, slots=True)
class TakenUp:
    """What a run begins with of an earlier one, over what is published."""

    branches: RunBranch
    run: str  # the earlier one

    def put_back(self, draft: Draft, name: str) -> bool:
        """Draft what is published of a job, where the earlier run had made something else; whether it had."""
        base, repository = self.branches.base, self.branches.repository
        there, published = record_of(draft, name), read_record(repository, base, name)
        if there == published:
            return False
        models = {model for record in (there, published) if record for model in record.models}
        prefixes = [
            f"{name}/",
            f"{name}{REJECTED_SUFFIX}/",
            f"{STATE}{name}/",
            record_path(name),
            *(f"models/{model}/" for model in models),
        ]
        for prefix in prefixes:
            draft.delete_prefix(prefix)
            draft.take(repository.entries(base, prefix))
        return True


def take_up(earlier: Run, run: Run, branches: RunBranch, say: Callable[[str], None]) -> TakenUp | None:
    """Put what an earlier run had made on this one's branch; None when there is nothing, or it began elsewhere.

    Invalid for a run of another product or environment.
    """
    repository, base = branches.repository, branches.base
    there = {branch.name for branch in repository.branches(prefix=str(earlier.branch))}
    if earlier.product != run.product or earlier.environment != run.environment:
        raise Invalid(f"run {earlier.id} is one of '{earlier.product}' on '{earlier.environment}'")
    if earlier.branch not in there or earlier.base_commit != base:
        say(f"run {earlier.id} cannot be taken up: what is published has moved, so all is looked at")
        return None
    if repository.resolve(str(earlier.branch)) == base:
        return None  # it had made nothing
    merged = repository.merge(
        str(earlier.branch),
        branches.branch,
        message=f"Take up run {earlier.id}",
        committer=f"run {run.id}",
    )
    say(f"taking up run {earlier.id} at {merged.commit.id[:12]}")
    return TakenUp(branches, earlier.id)
