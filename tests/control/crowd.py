"""A mesh of many APIs and applications, as fast as it can be made: rows as the library writes them, in one transaction."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

from sqlalchemy import Connection, insert
from tests.control.bazaar import Bazaar

from tulle import events
from tulle.events import Event
from tulle.gateway import contract_step
from tulle.gateway.apis import records
from tulle.gateway.apis.load import Loaded, load_apis
from tulle.gateway.secret import hash_secret, new_secret
from tulle.spec.tier import Offer
from tulle.state import log, products
from tulle.state.db import now
from tulle.state.tables import applications
from tulle.state.tables import contracts as contract_table
from tulle.state.tables import last_used as last_used_table

DOMAINS: Final = 20
APIS_A_PRODUCT: Final = 20
WAITS: Final = 20  # each so many'th contract waits for somebody to decide


def api_name(number: int) -> str:
    """Of one of the APIs, counted from 0."""
    return f"api-{number:04}"


def application_name(number: int) -> str:
    """Of one of the applications, counted from 0; its client id too."""
    return f"app-{number:05}"


def crowd(bazaar: Bazaar, *, apis: int, applications_: int) -> str:
    """Fill the mesh: APIs of products in twenty domains, applications with two contracts each; the secret of the first.

    Every API is like the bazaar's own, with three versions and tiers; some are of one domain only. `ann` owns the first
    ten applications. Of the contracts some wait.
    """
    workspace = bazaar.workspace
    sales = products.applied_product(workspace.database, "sales").product
    (orders,) = (one for one in load_apis(sales) if one.api.name == "orders")
    secret = new_secret()
    with workspace.database.write() as cx:
        for number in range(0, apis, APIS_A_PRODUCT):
            domain = f"domain-{number // APIS_A_PRODUCT % DOMAINS:02}"
            name = f"product-{number // APIS_A_PRODUCT:03}"
            made = replace(sales, name=name, title=name, domain=domain, digest=name, input_ports=())
            products.save(cx, made, code_digest="c", services={})
            several = [
                _api(orders, n, name, domain) for n in range(number, min(number + APIS_A_PRODUCT, apis))
            ]
            records.save(cx, name, several)
            for one in several:
                contract_step.record_offer(cx, one.api.name, one.api.offer, product=name)
        _applications(cx, orders.api.offer, apis, applications_, hash_secret(secret))
        log.append(cx, Event(events.APPLICATION_REGISTERED, "application:crowd", {}))
    return secret


def _api(like: Loaded, number: int, product: str, domain: str) -> Loaded:
    name = api_name(number)
    versions = tuple(replace(one, path=f"/{name}/{one.version}") for one in like.api.versions)
    seen = {"visibility": "restricted", "visible_to": (f"domain:{domain}",)} if number % 10 == 8 else {}
    tags = (*like.api.tags, f"tag-{number % 60:02}")
    api = replace(
        like.api, name=name, product=product, title=f"Title {number}", tags=tags, versions=versions, **seen
    )
    return replace(like, api=api)


def _applications(cx: Connection, offer: Offer, apis: int, count: int, secret_hash: str) -> None:
    at, drawn = now(), random.Random(1)
    some: list[dict[str, Any]] = []
    agreed: list[dict[str, Any]] = []
    used: list[dict[str, Any]] = []
    for number in range(count):
        name = application_name(number)
        some.append(
            {
                "client_id": name,
                "name": name,
                "owner": "",
                "owners": ["ann"] if number < 10 else [f"team-{number % 500:03}"],
                "purpose": "to see what is there",
                "secret_hash": secret_hash if number == 0 else hash_secret(f"{number:040x}"),
                "secret_made_at": at,
                "created_at": at,
            }
        )
        for row in _contracts(number, apis, at, offer):
            agreed.append(row)
            if row["state"] == "approved":
                used.append(
                    {
                        "client_id": name,
                        "service": row["subject"],
                        "environment": "",
                        "at": at - drawn.random() * 86_400,
                    }
                )
    for table, rows in ((applications, some), (contract_table, agreed), (last_used_table, used)):
        cx.execute(insert(table), rows)


def _contracts(number: int, apis: int, at: float, offer: Offer) -> Iterator[dict[str, Any]]:
    for nth in (0, 1):
        waits = (2 * number + nth) % WAITS == WAITS - 1
        yield {
            "id": f"c-{2 * number + nth:016x}",
            "client_id": application_name(number),
            "kind": "api",
            "subject": api_name((number + nth * apis // 2) % apis),
            "tier": "gold",
            "limits": ["100/1s"],
            "terms_version": offer.terms.version if offer.terms else "",
            "terms_digest": offer.terms.digest if offer.terms else "",
            "purpose": "to know what was ordered",
            "state": "pending" if waits else "approved",
            "requested_by": f"team-{number % 500:03}",
            "requested_at": at - number,
            "decided_by": "" if waits else "ann",
            "decided_at": None if waits else at,
            "since": None if waits else at,
            "changed_at": at,
        }
