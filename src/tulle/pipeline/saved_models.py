"""The models that products have published: what is kept of them in the lake, at a branch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tulle.errors import Broken, NotFound, did_you_mean
from tulle.lake.repository import Lake, Repository
from tulle.pipeline.model_signature import SIGNATURE, Signature, read_signature

HOME = "models/"


@dataclass(frozen=True, slots=True)
class SavedModel:
    """A model as it is published; `changed_at`: since when its signature is as it is."""

    product: str
    environment: str
    name: str
    signature: Signature
    bytes: int  # of all its files
    files: tuple[str, ...]
    changed_at: float


def models_of(lake: Lake, product: str, environment: str = "main") -> Iterator[SavedModel]:
    """The models of a product, by name; none where it has no repository yet, or no such branch."""
    try:
        repository = lake.repository(product)
        names = names_of(repository, environment)
    except NotFound:
        return
    for name in names:
        try:
            yield _model(repository, product, environment, name)
        except (NotFound, Broken):  # what somebody put there by hand
            continue


def model_of(lake: Lake, product: str, name: str, environment: str = "main") -> SavedModel:
    """One model. NotFound with the nearest name."""
    repository = lake.repository(product)
    names = names_of(repository, environment)
    if name not in names:
        hint = did_you_mean(name, names) or (
            f"it has {', '.join(names)}" if names else f"`tulle model train {product} {name} …` trains one"
        )
        raise NotFound(f"product '{product}' has no model '{name}' on '{environment}'", hint=hint)
    return _model(repository, product, environment, name)


def names_of(repository: Repository, environment: str) -> list[str]:
    """The names of the models at a branch."""
    page = repository.list(repository.resolve(environment), HOME, delimiter="/")
    return [prefix.removeprefix(HOME).rstrip("/") for prefix in page.prefixes]


def _model(repository: Repository, product: str, environment: str, name: str) -> SavedModel:
    commit = repository.resolve(environment)
    home = f"{HOME}{name}/"
    entries = list(repository.entries(commit, home))
    signature = read_signature(repository.get(commit, home + SIGNATURE))
    changed = max((entry.modified for entry in entries), default=0.0)
    return SavedModel(
        product,
        environment,
        name,
        signature,
        sum(entry.size for entry in entries),
        tuple(entry.path.removeprefix(home) for entry in entries),
        changed,
    )
