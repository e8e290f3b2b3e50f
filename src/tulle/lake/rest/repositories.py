"""Repositories: making, listing, forgetting, and what is said about them."""

from __future__ import annotations

import msgspec

from tulle.lake.door import Outgoing
from tulle.lake.repository import Repository
from tulle.lake.rest.call import Call, cut, json_answer, no_content, page_of
from tulle.lake.rest.forms import repository_form
from tulle.lake.rest.router import Route

NAMESPACE = "arn:lakefs:fs:::namespace/"

_README = """# Sample data

This repository was made with sample data. `animals.csv` is on its default branch, committed.
"""
_ANIMALS = "name,legs\nspider,8\ncat,4\nhen,2\nsnake,0\n"


class _Creation(msgspec.Struct):
    name: str
    storage_namespace: str
    storage_id: str | None = None
    default_branch: str = "main"
    sample_data: bool = False
    read_only: bool = False


class _MetadataSet(msgspec.Struct):
    metadata: dict[str, str]


class _MetadataKeys(msgspec.Struct):
    keys: list[str]


def list_repositories(call: Call) -> Outgoing:
    """A page of repositories by name."""
    call.demand("fs:ListRepositories", "*")
    amount, after = call.amount(), call.query("after")
    found: list[Repository] = []
    while len(found) <= amount:  # what a caller may not see is not there
        some = call.lake.repositories(
            prefix=call.query("prefix"), after=after, limit=amount + 1, search=call.query("search")
        )
        found += [r for r in some if call.may("fs:ReadRepository", call.access.resource_repository(r.name))]
        if len(some) <= amount:
            break
        after = some[-1].name
    kept, more = cut(found, amount)
    return json_answer(
        page_of(
            [repository_form(repository) for repository in kept],
            has_more=more,
            next_offset=kept[-1].name if kept else "",
        )
    )


def create(call: Call) -> Outgoing:
    """A new repository."""
    wanted = call.json(_Creation)
    call.demand("fs:CreateRepository", call.access.resource_repository(wanted.name))
    call.demand("fs:AttachStorageNamespace", NAMESPACE + wanted.storage_namespace)
    repository = call.lake.create_repository(
        wanted.name,
        namespace=wanted.storage_namespace,
        default_branch=wanted.default_branch or "main",
        read_only=wanted.read_only and not wanted.sample_data,
        bare=call.flag("bare"),
        actor=call.user,
    )
    call.note("repository.created", wanted.name, storage_namespace=repository.storage_namespace)
    if wanted.sample_data and not call.flag("bare"):
        _add_sample(repository)
        if wanted.read_only:
            repository.set_read_only(True)
    return json_answer(repository_form(repository), 201)


def _add_sample(repository: Repository) -> None:
    branch = repository.default_branch
    repository.put(branch, "README.md", _README.encode(), content_type="text/markdown")
    repository.put(branch, "animals.csv", _ANIMALS.encode(), content_type="text/csv")
    repository.commit(branch, "Add sample data")


def get(call: Call) -> Outgoing:
    """One repository."""
    call.demand_repository("fs:ReadRepository")
    return json_answer(repository_form(call.repository()))


def delete(call: Call) -> Outgoing:
    """Forget a repository."""
    call.demand_repository("fs:DeleteRepository")
    call.lake.delete_repository(call["repository"], force=call.flag("force"))
    call.note("repository.deleted", call["repository"])
    return no_content()


def get_metadata(call: Call) -> Outgoing:
    """What is said about a repository."""
    call.demand_repository("fs:ReadRepository")
    return json_answer(call.repository().metadata)


def set_metadata(call: Call) -> Outgoing:
    """Say more about a repository."""
    call.demand_repository("fs:UpdateRepository")
    call.repository().set_metadata(call.json(_MetadataSet).metadata)
    return no_content()


def delete_metadata(call: Call) -> Outgoing:
    """Say less about a repository."""
    call.demand_repository("fs:UpdateRepository")
    call.repository().set_metadata({}, remove=call.json(_MetadataKeys).keys)
    return no_content()


ROUTES = [
    Route("GET", "/repositories", list_repositories, "listRepositories"),
    Route("POST", "/repositories", create, "createRepository"),
    Route("GET", "/repositories/{repository}", get, "getRepository"),
    Route("DELETE", "/repositories/{repository}", delete, "deleteRepository"),
    Route("GET", "/repositories/{repository}/metadata", get_metadata, "getRepositoryMetadata"),
    Route("POST", "/repositories/{repository}/metadata", set_metadata, "setRepositoryMetadata"),
    Route("DELETE", "/repositories/{repository}/metadata", delete_metadata, "deleteRepositoryMetadata"),
]
