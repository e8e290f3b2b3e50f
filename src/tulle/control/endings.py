"""What ends with a product beside what is its own: told before it is retired or destroyed, in sentences.

Its backfills, promotions that wait, its APIs, and what agreements of other products give its people as such. Apply
carries that out in the transaction in which the product leaves (`apply.retire`).
"""

from __future__ import annotations

from collections.abc import Iterator

from tulle.control import grants
from tulle.control.impact import listed
from tulle.control.workspace import Workspace
from tulle.gateway.apis import records
from tulle.gateway.holders import holders
from tulle.pipeline import backfill, promotion

Ending = tuple[str, str, str]  # operation, subject, sentence


def endings(workspace: Workspace, name: str) -> Iterator[Ending]:
    """Each thing that ends with a product."""
    for one in backfill.open_of_product(workspace.database, name):
        told = f"backfill {one.id} in '{one.environment}' is cancelled: what it has not made yet is not made"
        yield "cancel-backfill", one.id, told
    for asked in promotion.recent(workspace.database, product=name, status=promotion.WAITING, limit=None):
        told = f"promotion {asked.id} to {asked.version} in '{asked.environment}' ends: nobody approves it any more"
        yield "end-promotion", asked.id, told
    for api in records.of_product(workspace.database, name):
        yield "end-api", api, f"API '{api}' ends{_who_calls(workspace, api)}"
    for other, lost in grants.taken_with(workspace, name).items():
        yield "take-grants", other, _lost(name, other, [change.whom for change in lost])


def _who_calls(workspace: Workspace, api: str) -> str:
    held = [one.application for one in holders(workspace.database).get(api, ())]
    return f", and the contracts of applications {listed(held)}" if held else ""


def _lost(name: str, other: str, users: list[str]) -> str:
    lose = f"{', '.join(users)} lose the role it gives" if users else "nobody has the role it gives"
    return (
        f"an agreement of product '{other}' names the people of '{name}': {lose}; while that document names "
        f"'{name}', a product that is called so again would be given it by the next apply"
    )
