"""Who may say what of an API: people rate and ask in their own name, owners reply, and everybody takes back their own.

With the mesh's token (no user) one is an owner of all, but no person: what people think they say with a key of theirs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final

from tulle.control.pace import Pace
from tulle.control.workspace import Workspace
from tulle.errors import Denied, NotFound
from tulle.gateway.apis import remarks
from tulle.gateway.apis.sight import Sight
from tulle.spec.environment import production

MOST_AN_HOUR: Final = 30  # remarks of one person


class Remarks:
    """Remarks about the APIs of one mesh; whoever asks has been found to see the API. Safe to share between threads."""

    def __init__(self, workspace: Workspace, sight: Sight) -> None:
        self._workspace = workspace
        self._database = workspace.database
        self._sight = sight
        self._pace = Pace(MOST_AN_HOUR)

    def rate(self, api: str, stars: int, text: str, *, user: str | None) -> dict[str, Any]:
        """Rate an API as oneself. Denied for who is no person, Invalid, LimitExceeded."""
        person = self._person(user, "a rating")
        return asdict(remarks.rate(self._database, api, person, stars, text))

    def unrate(self, api: str, whose: str | None, *, user: str | None, by: str) -> None:
        """Take back one's own rating; with the mesh's token anybody's. Denied, NotFound."""
        whose = whose if whose is not None else user
        if whose is None:
            raise Denied("whose rating it is is not said", hint="name the user")
        if user is not None and whose != user:
            raise Denied(f"the rating of '{whose}' is theirs", hint="an owner may reply to it")
        remarks.unrate(self._database, api, whose, by=by)

    def reply(
        self, api: str, product: str, whose: str, text: str, *, user: str | None, by: str
    ) -> dict[str, Any]:
        """Say something to somebody's rating, as an owner. Denied, NotFound, Invalid."""
        if not self.is_owner(product, user):
            raise Denied(
                f"user '{user}' is no owner of API '{api}'",
                hint=f"who may change what product '{product}' publishes replies to its ratings",
            )
        remarks.reply(self._database, api, whose, text, by=by)
        return self.ratings(api)

    def ratings(self, api: str) -> dict[str, Any]:
        """What is thought of an API."""
        return asdict(remarks.ratings(self._database, api))

    def ask(self, api: str, text: str, *, user: str | None) -> dict[str, Any]:
        """Ask something about an API; its owners are told. Denied, Invalid, LimitExceeded."""
        return asdict(remarks.ask(self._database, api, self._person(user, "a question"), text))

    def questions(self, api: str) -> dict[str, Any]:
        """What was asked about an API, with the answers."""
        return {"questions": [asdict(one) for one in remarks.questions(self._database, api)]}

    def answer(
        self, api: str, product: str, id_: str, text: str, *, user: str | None, by: str
    ) -> dict[str, Any]:
        """Answer a question. NotFound, Invalid, LimitExceeded."""
        found = self._question(api, id_)
        self._pace.demand(user, "wrote remarks")
        owns = self.is_owner(product, user)
        remarks.answer(self._database, found.id, by, text, by_owner=owns)
        return asdict(self._question(api, id_))

    def remove(
        self, api: str, product: str, id_: str, answer: str | None, *, user: str | None, by: str
    ) -> None:
        """Take back a question or an answer: one's own, or, as an owner, anybody's. Denied, NotFound."""
        found = self._question(api, id_)
        whose = found.user
        if answer is not None:
            given = next((one for one in found.answers if one.id == answer), None)
            if given is None:
                raise NotFound(f"question '{id_}' has no answer '{answer}'")
            whose = given.user
        if user != whose and not self.is_owner(product, user):
            raise Denied(
                f"what '{whose}' wrote is theirs", hint="its author or an owner of the API may remove it"
            )
        remarks.remove(self._database, found, answer, by=by)

    def is_owner(self, product: str, user: str | None) -> bool:
        """Whether somebody may change what the API's product publishes to consumers."""
        return self._sight.may_change(user, product, production(self._workspace.settings).branch)

    def _question(self, api: str, id_: str) -> remarks.Question:
        found = remarks.question(self._database, id_)
        if found.api != api:  # which may be one that who asks does not see
            raise NotFound(f"there is no question '{id_}'", hint=f"`tulle api questions {api}` lists them")
        return found

    def _person(self, user: str | None, what: str) -> str:
        if user is None:
            raise Denied(
                f"{what} is a person's, and the mesh's token is nobody's",
                hint="use an access key of your own: --key",
            )
        self._pace.demand(user, "wrote remarks")
        return user


def as_told(found: Mapping[str, Any]) -> dict[str, Any]:
    """What was thought of an API, as JSON: stars are texts there."""
    return {**found, "by_stars": {str(stars): count for stars, count in found["by_stars"].items()}}
