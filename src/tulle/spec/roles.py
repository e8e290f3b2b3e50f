"""What a product's roles may do in the lake and who has them, as its document says. Pure.

Three roles a product, in lakeFS's form of policies: its owners rule its repository, its developers work on every
branch but the published one (which only runs and releases move), its consumers read what its output ports offer, on
the published branch. Owners and developers, the product's people, also read what was asked of
its services. Consumers are whom an agreement in force names.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tulle.spec.details import Contact
from tulle.spec.product import DataProduct

OWNER, DEVELOPER, CONSUMER = "owner", "developer", "consumer"
ROLES = (OWNER, DEVELOPER, CONSUMER)
PUBLISHED = "main"
GROUP, PRODUCT = "group:", "product:"  # before a name among an agreement's consumers; without, it is a user
_OWN_WORDS = frozenset({"owner", "steward"})
_DEVELOP_WORDS = frozenset({"developer", "engineer", "maintainer"})
_MOST_RESOURCES = 450  # of one statement, some of two names; a policy may have no more than 1,000

_READ = ("fs:List*", "fs:Read*")
_WRITE = (
    "fs:WriteObject",
    "fs:DeleteObject",
    "fs:RevertBranch",
    "fs:CreateBranch",
    "fs:DeleteBranch",
    "fs:CreateTag",
    "fs:CreateCommit",
    "fs:CreateMetaRange",
    "pr:*",
)
_MOVES = ("fs:WriteObject", "fs:DeleteObject", "fs:RevertBranch", "fs:DeleteBranch", "fs:CreateCommit")
_LOOK = ("fs:ReadRepository", "fs:ListObjects", "fs:ReadBranch", "fs:ReadCommit", "fs:ListCommits")


@dataclass(frozen=True, slots=True)
class Role:
    """One role: a group of the lake and its policy, both called `name`.

    `users` are names or addresses of people, `groups` further groups of the lake that have the policy.
    """

    name: str
    says: str
    statements: tuple[Mapping[str, Any], ...]
    users: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()


def role_name(product: str, role: str) -> str:
    """What a role of a product is called."""
    return f"{product}-{role}"


def roles_of(
    product: DataProduct,
    others: Mapping[str, DataProduct],
    today: str | None = None,
    logs: Sequence[str] = (),
) -> tuple[Role, ...]:
    """The roles of a product; `others` are the products that agreements may name.

    `today` (an ISO date) leaves out whoever is not in place on that day; None asks for all who ever are. `logs`: the
    repositories in which queries of its services are kept.
    """
    top, _ = _whole(product.name)
    main = f"{top}/branch/{PUBLISHED}"
    offered = sorted({name for port in product.output_ports for name in port.offers})
    people, groups = _consumers(product, others, today)
    read_logs = tuple(
        _statement("allow", _READ, [each for log in some for each in _whole(log)]) for some in _parts(logs)
    )
    says = f", and read {', '.join(logs)}" if logs else ""
    return (
        Role(
            role_name(product.name, OWNER),
            f"everything in repository '{product.name}'{says}",
            (
                _statement("allow", ("fs:*", "pr:*", "ci:*", "retention:*", "branches:*"), (top, f"{top}/*")),
                *read_logs,
            ),
            tuple(_owners(product, today)),
        ),
        Role(
            role_name(product.name, DEVELOPER),
            f"read, branch and write in repository '{product.name}', its branch '{PUBLISHED}' excepted{says}",
            (
                _statement("allow", (*_READ, *_WRITE), (top, f"{top}/*")),
                _statement("deny", _MOVES, (main, f"{main}/*")),
                *read_logs,
            ),
            tuple(_developers(product, today)),
        ),
        Role(
            role_name(product.name, CONSUMER),
            f"read {', '.join(offered) if offered else 'nothing'} on branch '{PUBLISHED}'",
            (
                _statement("allow", _LOOK, (top, main)),
                *(
                    _statement("allow", ("fs:ReadObject",), [f"{main}/object/{name}/*" for name in some])
                    for some in _parts(offered)
                ),
            ),
            people,
            groups,
        ),
    )


def reads_logs(statement: Mapping[str, Any]) -> bool:
    """Whether a statement of a role is the one by which services' logs are read."""
    return statement["effect"] == "allow" and list(statement["action"]) == list(_READ)


def _whole(repository: str) -> tuple[str, str]:
    top = f"arn:lakefs:fs:::repository/{repository}"
    return top, f"{top}/*"


def _statement(effect: str, actions: Sequence[str], resources: Sequence[str]) -> dict[str, Any]:
    resource = resources[0] if len(resources) == 1 else json.dumps(list(resources))
    return {"effect": effect, "action": list(actions), "resource": resource}


def _parts(names: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(names), _MOST_RESOURCES):
        yield names[start : start + _MOST_RESOURCES]


# ── who ──────────────────────────────────────────────────────────────────────────────────────────────────


def _owners(product: DataProduct, today: str | None) -> Iterable[str]:
    named = [name for name in (product.owner, product.domain_owner) if name]
    contacts = (*product.contacts, *product.domain_contacts)
    return dict.fromkeys([*named, *_with_role(contacts, _OWN_WORDS, today)])


def _developers(product: DataProduct, today: str | None) -> Iterable[str]:
    return dict.fromkeys(_with_role(product.contacts, _DEVELOP_WORDS, today))


def _with_role(contacts: Iterable[Contact], words: frozenset[str], today: str | None) -> Iterator[str]:
    for contact in contacts:
        here = today is None or (contact.since or today) <= today <= (contact.until or today)
        if here and words & set(re.findall("[a-z]+", contact.role.casefold())):
            yield contact.username


def _consumers(
    product: DataProduct, others: Mapping[str, DataProduct], today: str | None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Users and groups that an agreement in force names; a product stands for its owners and developers."""
    people: list[str] = []
    groups: list[str] = []
    for agreement in product.agreements:
        if today is not None and not (agreement.starts or today) <= today <= (agreement.expires or today):
            continue
        for consumer in agreement.consumers:
            if consumer.startswith(GROUP):
                groups.append(consumer.removeprefix(GROUP))
            elif not consumer.startswith(PRODUCT):
                people.append(consumer)
            elif (other := others.get(consumer.removeprefix(PRODUCT))) is not None:
                people += [*_owners(other, today), *_developers(other, today)]
    return tuple(dict.fromkeys(people)), tuple(dict.fromkeys(groups))
